package e2e

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/edge/api/client"
)

// tinyMain is the smallest service that has a version and a configuration: it
// answers every request with them. Only package net, so that it builds fast.
const tinyMain = `package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
)

var version = "dev"

const flavour = "FLAVOUR"

func main() {
	l, err := net.Listen("tcp", ":"+os.Getenv("PORT"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go serve(c)
	}
}

func serve(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		for header := line; err == nil && strings.TrimSpace(header) != ""; {
			header, err = r.ReadString('\n')
		}
		if err != nil {
			return
		}
		body := "tiny " + version + " " + flavour + " " + os.Getenv("GREETING") + "\n"
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
}
`

const tinyWorkflow = `name: ci
on:
  push:
    branches: [main]
  pull_request:
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - run: "true"
`

// tinyRules has both environments; production is reached by rolling after
// staging, so that a delivery needs nobody.
const tinyRules = `weir: 1
name: tiny
repository:
  reviews: {required: 1}
  required_checks: [ci.yml/test]
artifact: {build: {go: .}}
run: {web: {port: 8080, ready: /, drain: 1s}}
environments:
  staging: {config: {GREETING: hello staging}}
  production:
    config: {GREETING: hello production}
    after: {staging: {healthy_for: 0s}}
`

// guardedRules ask for a person and go by canary.
const guardedRules = `weir: 1
name: tiny
repository:
  reviews: {required: 1, code_owners: true}
  required_checks: [ci.yml/test]
artifact: {build: {go: .}}
run: {web: {port: 8080, ready: /, drain: 1s}}
environments:
  staging: {config: {GREETING: hello staging}}
  production:
    config: {GREETING: hello production}
    after: {staging: {healthy_for: 0s}}
    approvals: {count: 1, group: release-managers}
    strategy: {canary: {steps: [25%, 100%], bake: 100ms}}
`

// tiny is the repository's content. Rules "" are tinyRules.
func tiny(flavour, rules string) map[string]string {
	if rules == "" {
		rules = tinyRules
	}
	return map[string]string{
		"go.mod": "module tiny\n\ngo 1.24\n", "main.go": strings.Replace(tinyMain, "FLAVOUR", flavour, 1),
		".github/workflows/ci.yml": tinyWorkflow, "weir.yaml": rules,
	}
}

// world is a server with people and one repository.
type world struct {
	*server
	tokens map[string]string
	work   string // the author's working tree
}

var people = []struct {
	name  string
	roles []string
	teams []string
}{
	{"author", []string{"developer"}, nil},
	{"reviewer", []string{"developer", "approver", "auditor"}, []string{"release-managers"}},
	{"maintainer", []string{"maintainer", "approver", "auditor"}, []string{"release-managers"}},
}

// newWorld starts a server and makes people and the repository tiny.
func newWorld(t testing.TB, conf string) *world {
	t.Helper()
	w := &world{server: newServer(t, conf), tokens: map[string]string{}}
	w.work = filepath.Join(w.dir, "work")
	w.start()
	w.people()
	w.init("tiny")
	return w
}

func (w *world) people() {
	w.t.Helper()
	ctx := context.Background()
	admin := w.admin()
	w.tokens["admin"] = admin.Token
	for _, p := range people {
		w.must(admin.Post(ctx, "/users", map[string]any{"name": p.name, "email": p.name + "@users.invalid", "roles": p.roles, "teams": p.teams}, nil))
		var tok client.Token
		w.must(admin.Post(ctx, "/tokens", map[string]any{"user": p.name, "name": "test", "hours": 24}, &tok))
		w.tokens[p.name] = tok.Token
	}
}

// init makes a repository on the server and an empty working tree for it.
func (w *world) init(name string) {
	w.t.Helper()
	w.must(w.as("maintainer").Post(context.Background(), "/repositories", map[string]string{"name": name}, nil))
	w.must(os.MkdirAll(w.work, 0o755))
	w.mustGit("init", "--quiet", "--initial-branch=main")
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) as(who string) *client.Client { return client.New(w.url, w.tokens[who]) }

func (w *world) cli(who string, args ...string) (stdout, stderr string, status int) {
	w.t.Helper()
	return weir(w.t, []string{"WEIR_SERVER=" + w.url, "WEIR_TOKEN=" + w.tokens[who]}, args...)
}

// remote is the repository's address with a person's token.
func (w *world) remote(who string) string {
	u, err := url.Parse(w.url)
	w.must(err)
	u.User, u.Path = url.UserPassword(who, w.tokens[who]), "/git/tiny.git"
	return u.String()
}

func (w *world) git(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = w.work
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C",
		"GIT_AUTHOR_NAME=author", "GIT_AUTHOR_EMAIL=author@users.invalid", "GIT_COMMITTER_NAME=author", "GIT_COMMITTER_EMAIL=author@users.invalid"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("git %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (w *world) mustGit(args ...string) string {
	w.t.Helper()
	out, err := w.git(args...)
	w.must(err)
	return strings.TrimSpace(out)
}

// commit writes files and commits them; an empty text removes a file.
func (w *world) commit(message string, files map[string]string) (revision string) {
	w.t.Helper()
	for name, text := range files {
		path := filepath.Join(w.work, name)
		if text == "" {
			w.must(os.Remove(path))
			continue
		}
		w.must(writeTo(path, text))
	}
	w.mustGit("add", "--all")
	w.mustGit("commit", "--quiet", "--allow-empty", "--message", message)
	return w.mustGit("rev-parse", "HEAD")
}

// bootstrap pushes the first revision, as version 1.0.0.
func (w *world) bootstrap(files map[string]string) (revision string) {
	w.t.Helper()
	revision = w.commit("feat: tiny", files)
	w.mustGit("tag", "v1.0.0")
	w.mustGit("push", "--quiet", w.remote("author"), "HEAD:refs/heads/main", "refs/tags/v1.0.0")
	return revision
}

// propose pushes HEAD as a branch and opens a change.
func (w *world) propose(branch string) client.Change {
	w.t.Helper()
	w.mustGit("push", "--quiet", "-o", "change", w.remote("author"), "HEAD:refs/heads/"+branch)
	c, ok := w.openChange(w.mustGit("rev-parse", "HEAD"))
	if !ok {
		w.t.Fatal("the push opened no change")
	}
	return c
}

func (w *world) openChange(revision string) (client.Change, bool) {
	var all []struct{ ID, Revision string }
	if err := w.as("author").Get(context.Background(), "/changes?repository=tiny", &all); err != nil {
		return client.Change{}, false
	}
	for _, c := range all {
		if c.Revision == revision {
			var full client.Change
			err := w.as("author").Get(context.Background(), "/changes/"+c.ID, &full)
			return full, err == nil
		}
	}
	return client.Change{}, false
}

func (w *world) change(id string) client.Change {
	w.t.Helper()
	var c client.Change
	w.must(w.as("author").Get(context.Background(), "/changes/"+id, &c))
	return c
}

func (w *world) review(who, id, verdict string) error {
	return w.as(who).Post(context.Background(), "/changes/"+id+"/reviews", map[string]string{"verdict": verdict}, nil)
}

func (w *world) land(id string) error {
	return w.as("author").Post(context.Background(), "/changes/"+id+"/land", nil, nil)
}

// landed reviews a change and lands it once its checks have passed.
func (w *world) landed(c client.Change) {
	w.t.Helper()
	w.must(w.review("reviewer", c.Change.ID, "approve"))
	var last error
	if err := tryAwait(90*time.Second, "the change to land", func() bool { last = w.land(c.Change.ID); return last == nil }); err != nil {
		w.t.Fatalf("%v: %v\n%+v", err, last, w.change(c.Change.ID).Gate)
	}
}

func (w *world) runs(revision string) []client.Run {
	var all []client.Run
	_ = w.as("maintainer").Get(context.Background(), "/runs?repository=tiny&limit=200&revision="+revision, &all)
	return all
}

// ended waits until the run of a revision with a trust is over.
func (w *world) ended(revision, trust string) client.Run {
	w.t.Helper()
	var run client.Run
	await(w.t, 2*time.Minute, "the "+trust+" run of "+revision, func() bool {
		for _, r := range w.runs(revision) {
			if r.Trust == trust && !r.Finished.IsZero() {
				run = r
			}
		}
		return run.ID != ""
	})
	w.must(w.as("maintainer").Get(context.Background(), "/runs/"+run.ID, &run))
	return run
}

func (w *world) jobLog(run, job string) string {
	w.t.Helper()
	in, err := w.as("maintainer").Stream(context.Background(), "/runs/"+run+"/jobs/"+job+"/log")
	w.must(err)
	defer in.Close()
	var b strings.Builder
	buf := make([]byte, 32<<10)
	for {
		n, err := in.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			return b.String()
		}
	}
}

func (w *world) releases() []client.Release {
	var all []client.Release
	_ = w.as("maintainer").Get(context.Background(), "/releases", &all)
	return all
}

// released waits for the release of a revision.
func (w *world) released(revision string) client.Release {
	w.t.Helper()
	var rel client.Release
	if err := tryAwait(2*time.Minute, "the release of "+revision, func() bool {
		for _, r := range w.releases() {
			if r.Revision == revision {
				rel = r
			}
		}
		return rel.ID != ""
	}); err != nil {
		var in []client.Intake
		_ = w.as("maintainer").Get(context.Background(), "/intakes", &in)
		w.t.Fatalf("%v\nruns %+v\nintakes %+v", err, w.runs(revision), in)
	}
	return rel
}

func (w *world) environment(name string) (client.Environment, bool) {
	var all []client.Environment
	_ = w.as("maintainer").Get(context.Background(), "/environments", &all)
	for _, e := range all {
		if e.Environment == name && e.Service == "tiny" {
			return e, true
		}
	}
	return client.Environment{}, false
}

// serves waits until an environment is at a version, with no rollout under way.
func (w *world) serves(name, version string) client.Environment {
	w.t.Helper()
	var e client.Environment
	if err := tryAwait(90*time.Second, name+" to serve "+version, func() bool {
		var ok bool
		e, ok = w.environment(name)
		return ok && e.Version == version && e.Rollout == "" && !e.HealthySince.IsZero() && len(e.Slots) == 1 && e.Slots[0].Version == version && e.Slots[0].Ready > 0
	}); err != nil {
		w.t.Fatalf("%v\n%+v\n%+v\n%+v", err, e, w.releases(), w.rollouts())
	}
	return e
}

func (w *world) rollouts() []client.Rollout {
	var all []client.Rollout
	_ = w.as("maintainer").Get(context.Background(), "/rollouts", &all)
	return all
}

func (w *world) approve(who string, r client.Release, environment string) error {
	return w.as(who).Post(context.Background(), "/releases/"+r.ID+"/approvals", map[string]string{"environment": environment, "verdict": "approve"}, nil)
}

// says is what an environment answers to a request.
func (w *world) says(name string) string {
	w.t.Helper()
	e, _ := w.environment(name)
	body, err := get("http://" + e.Address + "/")
	w.must(err)
	return body
}
