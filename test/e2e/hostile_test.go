package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/base/confine"
	"weir/internal/base/id"
	"weir/internal/edge/api/client"
)

// hostile is the attacker's program, aimed at a server.
func hostile(w *world, mark string) string {
	raw, err := os.ReadFile("testdata/hostile/main.go.txt")
	w.must(err)
	e, _ := w.environment("staging")
	return strings.NewReplacer("@DATA@", w.data, "@PID@", fmt.Sprint(w.cmd.Process.Pid), "@HOST@", fmt.Sprint(w.hostPID()),
		"@SERVER@", w.listen, "@PROXY@", e.Address, "@MARK@", mark).Replace(string(raw))
}

// refused checks what the attacker says: every attempt was refused.
func refused(t *testing.T, said string) {
	t.Helper()
	n := 0
	for line := range strings.Lines(said) {
		switch {
		case strings.Contains(line, "SUCCEEDED"):
			t.Errorf("an attempt was not refused: %s", line)
		case strings.Contains(line, "refused "):
			n++
		}
	}
	if n < 20 {
		t.Errorf("%d attempts were refused; want all of more than 20:\n%s", n, said)
	}
	t.Logf("%d attempts refused", n)
}

func TestHostileJobAndHostileServiceReachNothing(t *testing.T) {
	t.Parallel()
	if s := confine.Probe(); !s.OK {
		t.Skipf("this machine cannot confine: %s", strings.Join(s.Missing, "; "))
	}
	w := newWorld(t, "")
	w.stop()
	w.env = []string{"WEIR_TEST_MARK=hunter2"}
	w.start()
	w.bootstrap(tiny("first", ""))
	w.serves("production", "1.0.0")
	before := w.hostPID()
	mark := id.New("daemon")

	files := tiny("", "")
	files["main.go"] = hostile(w, mark)
	files[".github/workflows/ci.yml"] = strings.Replace(tinyWorkflow, `- run: "true"`, "- uses: actions/checkout@v4\n      - run: CGO_ENABLED=0 go build -trimpath -o /tmp/hostile . && /tmp/hostile job", 1)
	revision := w.commit("feat: hostile", files)
	w.landed(w.propose("hostile"))
	run := w.ended(revision, "landed")
	if run.State != "success" {
		t.Fatalf("the run is %s: %s\n%s", run.State, run.Reason, w.jobLog(run.ID, "test"))
	}
	said := w.jobLog(run.ID, "test")
	refused(t, said)
	if !strings.Contains(said, "processes behind") {
		t.Errorf("the job left nothing behind:\n%s", said)
	}
	await(t, 10*time.Second, "what the job left behind to be gone", func() bool { return !running(mark) })

	// The same as a service.
	w.serves("production", "1.1.0")
	refused(t, w.says("staging"))
	if now := w.hostPID(); now != before {
		t.Errorf("the host was process %d and is %d", before, now)
	}
	if _, err := get(w.url + "/readyz"); err != nil {
		t.Errorf("the server after the attack: %v", err)
	}
	if _, err := os.Stat(filepath.Join(w.data, "planted")); err == nil {
		t.Error("something was planted in the data folder")
	}
}

// running reports whether any process of the machine has a mark on its command line.
func running(mark string) bool {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	return slices.ContainsFunc(all, func(path string) bool {
		raw, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(raw), mark)
	})
}

const looseRules = `weir: 1
name: tiny
repository: {reviews: {required: 0}, required_checks: []}
artifact: {build: {go: .}}
run: {web: {port: 8080, ready: /, drain: 1s}}
environments:
  staging: {config: {GREETING: hello staging}}
  production: {config: {GREETING: hello production}}
`

func TestChangeCannotLoosenItsOwnGate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	files := tiny("first", guardedRules)
	files["CODEOWNERS"] = "* @maintainer\n"
	files[".github/workflows/ci.yml"] = strings.Replace(tinyWorkflow, `"true"`, "echo trunk says so", 1)
	w.bootstrap(files)
	w.serves("staging", "1.0.0")

	files = tiny("loose", looseRules)
	files["CODEOWNERS"] = ""
	files[".github/workflows/ci.yml"] = strings.Replace(strings.Replace(tinyWorkflow, "test:", "nothing:", 1), `"true"`, "echo the change says so", 1)
	loose := w.commit("feat: loosen everything", files)

	// As a mere branch it is nobody's release, and changes no rule.
	w.mustGit("push", "--quiet", w.remote("author"), "HEAD:refs/heads/elsewhere")
	c := w.propose("loose")
	run := w.ended(loose, "change")
	if run.State != "success" || len(run.Jobs) != 1 || run.Jobs[0].Key != "test" {
		t.Errorf("the change's run is %s with jobs %+v; want the trunk's job test alone, and no job that releases", run.State, run.Jobs)
	}
	if said := w.jobLog(run.ID, "test"); !strings.Contains(said, "trunk says so") || strings.Contains(said, "the change says so") {
		t.Errorf("the change's own workflow ran:\n%s", said)
	}
	err := w.land(c.Change.ID)
	if err == nil {
		t.Fatal("the change landed without a review")
	}
	denied := map[string]bool{}
	for _, r := range w.change(c.Change.ID).Gate {
		denied[r.Rule] = !r.Allow
	}
	if !denied["change.reviewed"] || !denied["change.code_owners"] {
		t.Errorf("gate %+v, %v; want the trunk's review and owner", w.change(c.Change.ID).Gate, err)
	}
	w.must(w.review("reviewer", c.Change.ID, "approve"))
	if err := w.land(c.Change.ID); err == nil || !strings.Contains(err.Error(), "maintainer") {
		t.Errorf("landing without the trunk's code owner: %v", err)
	}
	rels := w.releases()
	if len(rels) != 1 || rels[0].Revision == loose {
		t.Errorf("releases %+v; want the first alone", rels)
	}
	waits := func(r client.Release) bool {
		return slices.ContainsFunc(r.Promotions, func(p client.Promotion) bool {
			return p.Environment == "production" && p.State == "waiting"
		})
	}
	if !waits(rels[0]) {
		t.Errorf("the first release needs an approval by the trunk's rules: %+v", rels[0].Promotions)
	}

	// Once it has landed by the old rules, its rules are the current ones, for
	// the release that waits as well.
	w.must(w.review("maintainer", c.Change.ID, "approve"))
	w.landed(c)
	w.released(loose)
	w.serves("production", "1.1.0")
	for _, r := range w.runs(loose) {
		if r.Trust == "landed" && r.State != "success" {
			t.Errorf("landed run %s: %s", r.State, r.Reason)
		}
	}
}
