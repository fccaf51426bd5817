package catalog

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"weir/internal/base/strict"
)

// File is a parsed weir.yaml: defaults filled in, one service or many.
type File struct {
	Repository RepositoryRules
	Services   []Declared // sorted by name
}

// Declared is a service with its name. Environments are in the order in which
// a release passes them.
type Declared struct {
	Name string
	Service
	Order []string // names of Environments
}

var nameRe = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// Parse reads a weir.yaml. fallback names the service of the short form. With
// any diagnostic, the file is unusable.
func Parse(file string, src []byte, fallback string) (*File, []strict.Diagnostic) {
	var doc Document
	diags := strict.Decode(file, src, &doc)
	if open := unfinished(file, src); len(open) > 0 {
		return nil, open // Whatever else a TODO breaks, it is what must be mended.
	}
	if len(diags) > 0 {
		return nil, diags
	}
	p := parser{file: file, src: src}
	if doc.Weir != 1 {
		p.at("weir", "weir must be 1, the version of this file's format")
	}
	out := &File{Repository: doc.Repository}
	r := &out.Repository
	r.Trunk = cmpOr(r.Trunk, TrunkName)
	if r.Trunk != TrunkName {
		p.at("repository.trunk", "the trunk is main; another name such as %q is not supported yet", r.Trunk)
	}
	if !p.has("repository.reviews.required") {
		r.Reviews.Required = 1
	}
	if r.SignedCommits {
		p.at("repository.signed_commits", "signatures of commits are not verified yet; remove this key")
	}
	if r.Reviews.Required < 0 {
		p.at("repository.reviews.required", "required cannot be negative")
	}
	short := len(doc.Run) > 0 || len(doc.Environments) > 0 || doc.Artifact.Build != Build{} || doc.Path != "" || doc.Owner != "" || doc.Name != ""
	switch {
	case short && len(doc.Services) > 0:
		p.at("services", "services and the keys of a single service cannot both stand at the top; move them below services")
	case short:
		name := doc.Name
		if name == "" {
			name = fallback
		}
		out.Services = append(out.Services, p.service("", name, doc.Service))
	}
	for name, s := range doc.Services {
		out.Services = append(out.Services, p.service("services."+name, name, s))
	}
	slices.SortFunc(out.Services, func(a, b Declared) int { return strings.Compare(a.Name, b.Name) })
	if len(p.diags) > 0 {
		// Names in maps come in any order, lines do not.
		slices.SortStableFunc(p.diags, func(a, b strict.Diagnostic) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), strings.Compare(a.Message, b.Message))
		})
		return nil, p.diags
	}
	return out, nil
}

// advice says what belongs where `weir init` left a TODO.
var advice = map[string]string{
	"owner": "name the team that answers for the service",
	"port":  "write the port that the process listens on, such as 8080",
	"ready": "write a path that answers 200 once the process can take requests, such as /readyz",
	"live":  "write a path that answers 200 while the process works, such as /healthz, or remove the key",
	"group": "name the group of the people who may approve, or remove the key",
}

// unfinished finds what is still TODO, wherever it stands.
func unfinished(file string, src []byte) []strict.Diagnostic {
	var out []strict.Diagnostic
	for _, v := range strict.Values(src) {
		if v.Text != "TODO" {
			continue
		}
		key := v.Path[strings.LastIndexByte(v.Path, '.')+1:]
		what, ok := advice[key]
		if !ok {
			what = "write its value, or remove the key"
		}
		out = append(out, strict.Diagnostic{File: file, Line: v.Line, Column: v.Column, Path: v.Path, Message: key + " is still TODO; " + what})
	}
	return out
}

type parser struct {
	file  string
	src   []byte
	diags []strict.Diagnostic
}

// at reports at the place where a key stands.
func (p *parser) at(key, msg string, args ...any) {
	line, col := strict.Locate(p.src, key)
	p.diags = append(p.diags, strict.Diagnostic{File: p.file, Line: line, Column: col, Path: key, Message: fmt.Sprintf(msg, args...)})
}

func (p *parser) has(key string) bool { return strict.Has(p.src, key) }

func (p *parser) service(at, name string, s Service) Declared {
	key := func(k string) string { return strings.TrimPrefix(at+"."+k, ".") }
	if !nameRe.MatchString(name) {
		p.at(at, "%q is not a service name: lower-case letters, digits and hyphens, at most 40", name)
	}
	if s.Path != "" && !fs.ValidPath(path.Clean(s.Path)) {
		p.at(key("path"), "path %q leaves the repository; write it from the repository's root, such as services/app", s.Path)
	}
	s.Path = path.Clean("/" + s.Path)[1:]
	if s.Path == "" {
		s.Path = "."
	}
	if s.Artifact.Version == "" {
		s.Artifact.Version = "semver"
	}
	s.Artifact.Keep.AtLeastReleases = cmpOr(s.Artifact.Keep.AtLeastReleases, 10)
	s.Artifact.Keep.AtLeastDays = cmpOr(s.Artifact.Keep.AtLeastDays, 400)
	p.build(key("artifact.build"), s.Artifact.Build)
	s.Artifact.Vulnerabilities = p.vulnerabilities(key("artifact.vulnerabilities"), s.Artifact.Vulnerabilities)
	if len(s.Artifact.Copies) > 8 {
		p.at(key("artifact.copies"), "an image is copied to at most 8 repositories, not %d", len(s.Artifact.Copies))
	}
	for _, c := range s.Artifact.Copies {
		if !repositoryRe.MatchString(c) {
			p.at(key("artifact.copies"), "%q is not a repository in a registry; write it without a tag, such as ghcr.io/acme/shop", c)
		}
	}
	if len(s.Run) > 1 {
		p.at(key("run"), "run has %d workloads; only one is run yet", len(s.Run))
	}
	for name, w := range s.Run {
		s.Run[name] = p.workload(key("run."+name), w)
	}
	for name, e := range s.Environments {
		s.Environments[name] = p.environment(key("environments."+name), name, e, s.Environments)
	}
	order, cycle := orderOf(s.Environments)
	if cycle != "" {
		p.at(key("environments."+cycle+".after"), "%s waits for itself through after", cycle)
	}
	return Declared{Name: name, Service: s, Order: order}
}

func (p *parser) workload(at string, w Workload) Workload {
	switch w.Kind {
	case "http":
	case "":
		w.Kind = "http"
	default:
		p.at(at+".kind", "workloads of kind %s are not run yet; only http is", w.Kind)
	}
	w.Port = cmpOr(w.Port, 8080)
	if w.Port < 1 || w.Port > 65535 {
		p.at(at+".port", "port must be from 1 to 65535, not %d", w.Port)
	}
	w.Ready = cmpOr(w.Ready, "/readyz")
	for k, v := range map[string]string{"ready": w.Ready, "live": w.Live} {
		if v != "" && !strings.HasPrefix(v, "/") {
			p.at(at+"."+k, "%s must be a path that starts with /, not %q", k, v)
		}
	}
	w.Live = cmpOr(w.Live, w.Ready)
	w.Replicas = cmpOr(w.Replicas, 1)
	if w.Replicas < 1 || w.Replicas > 64 {
		p.at(at+".replicas", "replicas must be from 1 to 64, not %d", w.Replicas)
	}
	if _, err := w.Resources.Processors(); err != nil {
		p.at(at+".resources.cpu", "%s", err)
	}
	w.Drain = cmpOr(w.Drain, Duration(30*time.Second))
	w.Network = cmpOr(w.Network, "egress")
	return w
}

func (p *parser) environment(at, name string, e Environment, all map[string]Environment) Environment {
	if !nameRe.MatchString(name) {
		p.at(at, "%q is not an environment name: lower-case letters, digits and hyphens, at most 40", name)
	}
	if e.Target != "" && len(e.Targets) > 0 {
		p.at(at+".targets", "target and targets cannot both be given")
	}
	if len(e.Targets) == 0 {
		e.Targets = []string{cmpOr(e.Target, "local")}
	}
	for _, a := range e.Accept {
		if a != "observed" && a != "asserted" {
			p.at(at+".accept", "accept takes observed and asserted, not %q; what Weir built is always accepted", a)
		}
	}
	for _, t := range e.Targets {
		if t != "local" {
			p.at(at+".targets", "target %q is not supported; only local is for now", t)
		}
	}
	if e.Registry != "" && !repositoryRe.MatchString(e.Registry) {
		p.at(at+".registry", "%q is not a repository in a registry; write it without a tag, such as ghcr.io/acme/shop", e.Registry)
	}
	for before := range e.After {
		if _, ok := all[before]; !ok {
			p.at(at+".after."+before, "there is no environment %q to come after", before)
		}
	}
	if len(e.Secrets) > 0 {
		p.at(at+".secrets", "secrets are not delivered to processes yet; remove this key")
	}
	if e.Approvals.Count < 0 || e.Approvals.Count > 20 {
		p.at(at+".approvals.count", "count must be from 0 to 20, not %d", e.Approvals.Count)
	}
	switch {
	case e.Strategy.Rolling != nil && e.Strategy.Canary != nil:
		p.at(at+".strategy", "strategy needs exactly one kind, not both rolling and canary")
	case e.Strategy.Rolling == nil && e.Strategy.Canary == nil:
		e.Strategy.Rolling = &Rolling{}
	case e.Strategy.Canary != nil:
		c := *e.Strategy.Canary
		if len(c.Steps) == 0 {
			c.Steps = []Percent{0.05, 0.25, 0.5, 1}
		}
		for i, s := range c.Steps {
			if s <= 0 || i > 0 && s <= c.Steps[i-1] {
				p.at(at+".strategy.canary.steps", "steps must grow from above 0%%, so %s cannot stand there", s)
			}
			if s > 0.5 && s < 1 {
				p.at(at+".strategy.canary.steps", "a step of %s leaves no room for a baseline of the same size; steps go up to 50%%, then 100%%", s)
			}
		}
		if c.Steps[len(c.Steps)-1] != 1 {
			p.at(at+".strategy.canary.steps", "the last step must be 100%%")
		}
		if !p.has(at + ".strategy.canary.bake") {
			c.Bake = Duration(10 * time.Minute)
		}
		c.IfUndecided = cmpOr(c.IfUndecided, "hold")
		c.Detect = cmpOr(c.Detect, 0.05)
		e.Strategy.Canary = &c
	}
	e.Vulnerabilities = p.vulnerabilities(at+".vulnerabilities", e.Vulnerabilities)
	e.SLO.Window = cmpOr(e.SLO.Window, Duration(30*24*time.Hour))
	e.Recovery.Objective = cmpOr(e.Recovery.Objective, Duration(time.Minute))
	return e
}

func cmpOr[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// orderOf sorts environments so that each comes after those it waits for, by
// name among equals, and names one that waits for itself, if any.
func orderOf(envs map[string]Environment) (order []string, cycle string) {
	state := map[string]int{} // 1 entered, 2 placed
	names := make([]string, 0, len(envs))
	for name := range envs {
		names = append(names, name)
	}
	slices.Sort(names)
	var visit func(string)
	visit = func(name string) {
		switch state[name] {
		case 1:
			cycle = name
			return
		case 2:
			return
		}
		state[name] = 1
		before := make([]string, 0, len(envs[name].After))
		for b := range envs[name].After {
			if _, ok := envs[b]; ok {
				before = append(before, b)
			}
		}
		slices.Sort(before)
		for _, b := range before {
			visit(b)
		}
		state[name] = 2
		order = append(order, name)
	}
	for _, name := range names {
		visit(name)
	}
	return order, cycle
}

// ConfigDigest names what a release pins besides its bytes: how the service is
// run, and the configuration of each environment.
func (d Declared) ConfigDigest() string {
	type env struct{ Config, Secrets map[string]string }
	pinned := struct {
		Run          map[string]Workload
		Environments map[string]env
	}{d.Run, map[string]env{}}
	for name, e := range d.Environments {
		pinned.Environments[name] = env{e.Config, e.Secrets}
	}
	raw, err := json.Marshal(pinned) // Maps are marshalled in the order of keys.
	if err != nil {
		panic(err) // Nothing in it can fail to marshal.
	}
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}
