package live

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/fault"
	"weir/internal/check/vuln"
	"weir/internal/deploy"
	"weir/internal/edge/web"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
	"weir/internal/guard/policy"
)

const (
	artifactsShown = 100
	usesShown      = 200
)

// Artifacts implements web.Data.
func (d *Data) Artifacts(ctx context.Context, query string) (web.ArtifactList, error) {
	all, err := d.Config.Artifact.List(ctx, artifact.Filter{Text: query, Limit: artifactsShown + 1})
	l := web.ArtifactList{Query: query, More: len(all) > artifactsShown}
	if err != nil {
		return l, err
	}
	for _, a := range all[:min(len(all), artifactsShown)] {
		l.Rows = append(l.Rows, artifactRow(a))
	}
	if query == "" {
		return l, nil
	}
	if artifact.IsAdvisory(query) {
		return l, d.affected(ctx, query, &l)
	}
	name, version, _ := strings.Cut(query, "@")
	uses, err := d.Config.Artifact.Uses(ctx, artifact.ComponentQuery{Name: name, Version: version, Limit: usesShown + 1})
	if err != nil {
		return l, err
	}
	return l, d.uses(ctx, uses, &l)
}

// uses tells where artifacts run that contain something.
func (d *Data) uses(ctx context.Context, uses []artifact.Use, l *web.ArtifactList) error {
	if len(uses) == 0 {
		return nil
	}
	envs, err := d.Deploy.Environments(ctx)
	if err != nil {
		return err
	}
	runs := map[string][]string{}
	for _, e := range envs {
		if e.Current != "" {
			runs[e.Digest] = append(runs[e.Digest], e.Environment)
		}
	}
	l.MoreUses = len(uses) > usesShown
	for _, u := range uses[:min(len(uses), usesShown)] {
		l.Uses = append(l.Uses, web.ComponentUse{Name: u.Name, Version: u.Version, ArtifactID: string(u.ArtifactID), Service: u.Service, Tag: u.Tag, Runs: runs[u.Digest], Admitted: u.Admitted})
	}
	return nil
}

// affected tells of the vulnerability that was searched for, and what has it.
func (d *Data) affected(ctx context.Context, name string, l *web.ArtifactList) error {
	adv, found, err := d.Config.Artifact.Vulnerability(ctx, name)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	l.Advisory = &web.Advisory{Name: strings.ToUpper(name), ID: adv.ID, Severity: string(adv.Severity), Summary: adv.Summary, URL: adv.URL}
	var uses []artifact.Use
	for _, x := range found {
		uses = append(uses, x.Use)
	}
	return d.uses(ctx, uses, l)
}

// vulnerabilities compares an artifact with what is known, and that with the limits of its service.
func (d *Data) vulnerabilities(ctx context.Context, id artifact.ID) (web.Vulnerabilities, error) {
	a, f, err := d.Config.Artifact.Vulnerabilities(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return web.Vulnerabilities{}, nil
	}
	if err != nil {
		return web.Vulnerabilities{}, err
	}
	v := web.Vulnerabilities{Known: f.Database.Advisories, Imported: f.Database.Imported, Compared: f.Compared, Uncompared: f.Uncompared}
	for _, x := range f.List {
		v.Findings = append(v.Findings, web.Finding{Name: x.Name(), ID: x.ID, Severity: string(x.Severity), Summary: x.Summary, URL: x.URL, Component: x.Component, Version: x.Version, Fixed: x.Fixed, Score: x.Score})
	}
	for _, e := range f.Ecosystems {
		if e.Imported.IsZero() {
			v.Without = append(v.Without, e.Name)
		}
	}
	if d.Against == nil {
		return v, nil
	}
	all, err := d.Against(ctx, a.ServiceID, f)
	for _, l := range all {
		w := web.Limit{Where: l.Where, Words: l.Limit.Words(), Says: l.Says, Allow: l.Allow, Counts: map[string]bool{}}
		for _, s := range vuln.Severities {
			w.Counts[string(s)] = l.Limit.Counts(string(s))
		}
		v.Limits = append(v.Limits, w)
		for _, j := range l.Findings {
			for i := range v.Findings {
				if x := &v.Findings[i]; x.ID == j.ID && x.Component == j.Component && x.Version == j.Version {
					stand(x, l.Where, j)
				}
			}
		}
	}
	return v, err
}

// stand notes how a finding stands against a limit, unless it stands worse against another.
func stand(f *web.Finding, where string, j policy.Judged) {
	rank := map[string]int{"": 0, "ok": 1, "warn": 2, "bad": 3}
	s, note := web.Status{}, ""
	switch j.Standing {
	case policy.Over:
		s, note = web.Status{Kind: "bad", Word: "Over the limit"}, "of "+where
		if !j.Ended.IsZero() {
			note += "; its exception ended " + j.Ended.UTC().Format("2 Jan 2006")
		}
	case policy.Grace:
		s, note = web.Status{Kind: "warn", Word: "Due " + j.Until.UTC().Format("2 Jan")}, "in "+where
	case policy.Excepted:
		s, note = web.Status{Kind: "ok", Word: "Excepted until " + j.Until.Add(-time.Second).UTC().Format("2 Jan 2006")}, j.Reason
	}
	if rank[s.Kind] > rank[f.Due.Kind] {
		f.Due, f.DueNote = s, note
	}
}

// SBOM implements web.Data.
func (d *Data) SBOM(ctx context.Context, id string) ([]byte, string, error) {
	a, raw, err := d.Config.Artifact.SBOM(ctx, artifact.ID(id))
	return raw, a.Service + "-" + a.Tag + ".cdx.json", err
}

func artifactRow(a artifact.Artifact) web.ArtifactRow {
	return web.ArtifactRow{ID: string(a.ID), Service: a.Service, Version: a.Version, Tag: a.Tag, Digest: a.Digest, Revision: a.Revision, Size: a.Size, Created: a.Created}
}

// Artifact implements web.Data.
func (d *Data) Artifact(ctx context.Context, id string) (web.Artifact, error) {
	a, err := d.Config.Artifact.Details(ctx, artifact.ID(id))
	if err != nil {
		return web.Artifact{}, err
	}
	image := d.host + "/" + a.Image()
	v := web.Artifact{ArtifactRow: artifactRow(a.Artifact), Image: image, Author: a.Author, RunID: a.RunID, Verify: "weir verify " + image + " --trusted-root trusted_root.json"}
	chain := d.Config.Artifact.Chain(ctx, a, d.Trust())
	v.Chain = chainOf(chain)
	holds := map[int64]web.Status{}
	for _, l := range chain {
		holds[l.Index] = linkStatus(l)
	}
	for _, e := range append(a.Evidence, a.Revision...) {
		v.Evidence = append(v.Evidence, web.Evidence{State: holds[e.Index], ID: e.ID, Kind: e.PredicateType, About: strings.TrimPrefix(e.Subject, "gitCommit:"), Signer: e.Identity, Index: e.Index, At: e.Time})
	}
	for _, r := range a.Referrers {
		kind := r.ArtifactType
		if kind == "" {
			kind = r.MediaType
		}
		v.Referrers = append(v.Referrers, web.Referrer{Digest: r.Digest, Type: kind, Size: r.Size})
	}
	if err := d.made(ctx, a.Artifact, &v); err != nil {
		return v, err
	}
	for _, c := range a.Copies {
		v.Copies = append(v.Copies, copyOf(c))
	}
	v.Kept = d.keeping(ctx, a.Artifact)
	if v.Vulns, err = d.vulnerabilities(ctx, a.ID); err != nil {
		return v, err
	}
	decisions, err := d.Policy.Decisions(ctx, a.Digest)
	if err != nil {
		return v, err
	}
	for _, k := range decisions {
		v.Decisions = append(v.Decisions, web.Decision{ID: k.ID, Action: k.Action, Allow: k.Allow, Rules: rulesOf(k.Rules), At: k.Time})
	}
	envs, err := d.Deploy.Environments(ctx)
	if err != nil {
		return v, err
	}
	for _, e := range envs {
		w := web.Where{Environment: e.Service + " in " + e.Environment, State: healthOf(e)}
		switch {
		case e.Digest == a.Digest && e.Current != "":
			w.Note = "since " + e.Since.UTC().Format("2 Jan 15:04:05") + " UTC"
			if e.Last != "" {
				w.Href = "/rollouts/" + string(e.Last)
			}
			if e.Exposed() != "" {
				w.State, w.Note = web.Status{Kind: "bad", Word: "Over the limit"}, w.Note+". Its vulnerabilities are over the limit since "+e.Exposure.Since.UTC().Format("2 Jan 15:04")+" UTC"
			}
			v.Where = append(v.Where, w)
		case e.Rollout != "":
			if r, _, err := d.Deploy.Rollout(ctx, e.Rollout); err == nil && r.Digest == a.Digest && r.State != deploy.RollingBack {
				w.State, w.Note, w.Href = web.Status{Kind: "run", Word: "Rolling out"}, percent(r.Share())+" of the requests", "/rollouts/"+string(r.ID)
				v.Where = append(v.Where, w)
			}
		}
	}
	return v, nil
}

func copyOf(c artifact.Copy) web.Copy {
	w := web.Copy{Place: c.To, State: web.Status{Kind: "ok", Word: "Verified"}, Verified: c.Verified, Note: "read back whole, with " + strconv.Itoa(c.Evidence) + " pieces of evidence"}
	if c.Evidence == 1 {
		w.Note = "read back whole, with one piece of evidence"
	}
	if c.Failure != "" { // the image is there; what was signed since is not
		w.State, w.Note = web.Status{Kind: "warn", Word: "Behind"}, c.Failure
	}
	return w
}

const entriesShown = 50

// Audit implements web.Data.
func (d *Data) Audit(ctx context.Context, f web.AuditFilter) (web.Audit, error) {
	if err := identity.Check(ctx, "ledger.read", org); err != nil {
		return web.Audit{}, err
	}
	head, err := d.Ledger.Head(ctx)
	if err != nil {
		return web.Audit{}, err
	}
	records, err := d.Ledger.List(ctx, ledger.Filter{Actor: f.Actor, Action: f.Action, Subject: f.Subject, Before: f.Before, Limit: entriesShown})
	if err != nil {
		return web.Audit{}, err
	}
	v := web.Audit{Origin: d.Ledger.Origin(), State: web.Status{Kind: "ok", Word: "Signed"}, Size: head.Size, Note: head.Note, Anchor: d.anchor(ctx)}
	if parts := strings.Split(d.Ledger.VerifierKey(), "+"); len(parts) > 1 {
		v.KeyID = parts[1]
	}
	if head.Size > 0 {
		v.Root = base64.StdEncoding.EncodeToString(head.Root[:])
	} else {
		v.State = web.Status{Kind: "off", Word: "Empty"}
	}
	for _, r := range records {
		e := entryOf(r)
		v.Entries = append(v.Entries, e)
		if r.ID == f.Open {
			d.prove(ctx, r, e, &v)
		}
	}
	if n := len(records); n == entriesShown && records[n-1].Position > 0 {
		v.Older = records[n-1].Position
	}
	return v, nil
}

func (d *Data) prove(ctx context.Context, r ledger.Record, e web.Entry, v *web.Audit) {
	p, err := d.Ledger.Prove(ctx, r.ID)
	if err != nil {
		v.ProofNote = "There is no proof yet: no checkpoint covers this entry. One is signed within a second."
		if errors.Is(err, context.Canceled) {
			v.ProofNote = ""
		}
		return
	}
	v.Proof = &web.Proof{Entry: e, Leaf: string(r.Leaf), Index: p.Index, TreeSize: p.TreeSize, Root: base64.StdEncoding.EncodeToString(p.RootHash)}
	for _, h := range p.Hashes {
		v.Proof.Hashes = append(v.Proof.Hashes, base64.StdEncoding.EncodeToString(h))
	}
}

func entryOf(r ledger.Record) web.Entry {
	e := web.Entry{ID: r.ID, Position: r.Position, At: r.Time, Actor: r.Actor, Action: r.Action, Subject: r.Subject, Kind: r.Kind, Hash: r.Hash}
	e.System = r.Actor == "" || strings.HasPrefix(r.Actor, "weir/") || strings.HasPrefix(r.Actor, "system")
	if r.Kind != "entry" {
		e.Actor, e.Action = "weir/evidence", "signature"
	}
	e.Href = pageOf(r.Subject)
	return e
}

// pageOf is the page of a thing, by the form of its id.
func pageOf(id string) string {
	kind, _, ok := strings.Cut(id, "_")
	if !ok {
		return ""
	}
	switch kind {
	case "run":
		return "/runs/" + id
	case "rol":
		return "/rollouts/" + id
	case "change":
		return "/changes/" + id
	case "artifact":
		return "/artifacts/" + id
	}
	return ""
}

// made tells what an artifact is made of and how that differs from the one before.
func (d *Data) made(ctx context.Context, a artifact.Artifact, v *web.Artifact) error {
	_, now, err := d.Config.Artifact.Components(ctx, a.ID)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, c := range now {
		v.Components = append(v.Components, web.Component{Kind: c.Kind, Name: c.Name, Version: c.Version, Licence: c.Licence})
	}
	id, err := d.Config.Artifact.Before(ctx, a)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	earlier, before, err := d.Config.Artifact.Components(ctx, id)
	if err != nil {
		return err
	}
	v.Since = earlier.Tag
	for _, c := range artifact.Compare(before, now) {
		v.Changes = append(v.Changes, web.ComponentChange(c))
	}
	return nil
}

// repeats tells kinds of links of which only the last is shown.
func repeats(kind string) bool { return kind == "rollout" || kind == "scan" }

// chainOf shows the links of a chain: each that there is one of, every review,
// the last scan, and of each environment the last rollout.
func chainOf(chain []artifact.Link) []web.ChainLink {
	last := map[string]int64{}
	for _, l := range chain {
		if repeats(l.Kind) {
			last[l.Kind+l.Place] = max(last[l.Kind+l.Place], l.Index)
		}
	}
	titles := map[string]string{"commit": "Commit", "review": "Review", "build": "Build", "tests": "Tests", "sbom": "SBOM", "scan": "Scan", "signature": "Signature", "admission": "Admission"}
	var out []web.ChainLink
	for _, l := range chain {
		if l.Kind == "statement" { // no step of the way; it stands among the signatures
			continue
		}
		w := web.ChainLink{Kind: l.Kind, Title: titles[l.Kind], Says: l.Says, Signer: l.Signer, State: linkStatus(l), Verified: l.State == artifact.Verified, Index: l.Index}
		if repeats(l.Kind) && l.Index >= 0 && l.Index != last[l.Kind+l.Place] {
			continue
		}
		if l.Kind == "decision" { // its rollout stands beside it, and tells more
			continue
		}
		if l.Kind == "rollout" {
			w.Title = strings.ToUpper(l.Place[:min(1, len(l.Place))]) + l.Place[min(1, len(l.Place)):]
			if l.State == artifact.Verified && l.Outcome != "completed" {
				w.State = web.Status{Kind: "warn", Word: strings.ReplaceAll(l.Outcome, "_", " ")}
			}
		}
		if w.Href = pageOf(l.Of); w.Href != "" {
			w.Link, _, _ = strings.Cut(l.Of, "_")
			w.Link = map[string]string{"run": "the run", "rol": "the rollout", "change": "the change"}[w.Link]
		}
		out = append(out, w)
	}
	return out
}

func linkStatus(l artifact.Link) web.Status {
	switch l.State {
	case artifact.Verified:
		return web.Status{Kind: "ok", Word: "Verified"}
	case artifact.Broken:
		return web.Status{Kind: "bad", Word: "Does not hold"}
	}
	return web.Status{Kind: "off", Word: "None"}
}

// keeping tells what retention says of an artifact's image. Who may not look at
// the registry's contents is not told.
func (d *Data) keeping(ctx context.Context, a artifact.Artifact) web.Keeping {
	if d.Custodian == nil {
		return web.Keeping{}
	}
	all, err := d.Custodian.Contents(ctx, a.Repository)
	if err != nil {
		return web.Keeping{}
	}
	for _, k := range all {
		if k.Stored.Digest == a.Digest {
			return web.Keeping{Known: true, Stays: k.Keep, Why: k.Why, Hold: k.Hold, Damaged: len(k.Damaged)}
		}
	}
	return web.Keeping{}
}

// Notes implements web.Data.
func (d *Data) Notes(ctx context.Context, id string) (web.ReleaseNotes, error) {
	return d.Config.Notes(ctx, id)
}
