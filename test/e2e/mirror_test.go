package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"weir/internal/edge/api/client"
)

// repository makes a git repository of files outside of the world's, and returns its path and revision.
func (w *world) repository(name string, files map[string]string) (path, revision string) {
	w.t.Helper()
	path = filepath.Join(w.dir, "elsewhere", name)
	for f, text := range files {
		w.must(writeTo(filepath.Join(path, f), text))
	}
	git := func(args ...string) string {
		cmd := exec.Command("git", append([]string{"-C", path, "-c", "user.name=x", "-c", "user.email=x@example.com"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "HOME="+w.dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			w.t.Fatalf("git %v: %v %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "--quiet", "--initial-branch=main")
	git("add", ".")
	git("commit", "--quiet", "-m", "first")
	git("tag", "v1")
	return path, git("rev-parse", "HEAD")
}

// TestActionsInsideOfMirroredActionsArePlannedAndProven: a missing mirror refuses the run by name; with it, the commit of the inner
// action runs, is in the provenance of what was built, and stays although its mirror has moved on.
func TestActionsInsideOfMirroredActionsArePlannedAndProven(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	outer, outerAt := w.repository("outer", map[string]string{"action.yml": "runs: {using: composite, steps: [{uses: o/inner/sub@v1}]}\n"})
	inner, innerAt := w.repository("inner", map[string]string{"sub/action.yml": "runs: {using: composite, steps: [{run: echo the inner one, shell: bash}]}\n"})
	if _, stderr, status := w.cli("maintainer", "mirror", "add", outer, "--name", "o/outer"); status != 0 {
		t.Fatal(stderr)
	}
	files := tiny("first", "")
	files[".github/workflows/ci.yml"] = "name: ci\non: {push: {branches: [main]}, pull_request: {}}\njobs:\n  test:\n    runs-on: x\n    steps:\n      - uses: o/outer@v1\n"
	revision := w.bootstrap(files)
	run := w.ended(revision, "landed")
	if want := "uses: o/outer@v1 -> o/inner/sub@v1: There is no mirror of o/inner."; run.State != "refused" || !strings.Contains(run.Reason, want) {
		t.Fatalf("%s %q; want refused with %q", run.State, run.Reason, want)
	}
	if _, stderr, status := w.cli("maintainer", "mirror", "add", inner, "--name", "o/inner"); status != 0 {
		t.Fatal(stderr)
	}
	next := w.commit("feat: next", map[string]string{"main.go": strings.Replace(tinyMain, "FLAVOUR", "second", 1)})
	change := w.propose("next")
	w.landed(change)
	w.released(next)
	var made []struct{ ID string }
	w.must(w.as("maintainer").Get(context.Background(), "/artifacts", &made))
	if len(made) != 1 {
		t.Fatalf("%d artifacts; want the one of the second revision", len(made))
	}
	var landed client.Run
	for _, x := range w.runs(next) {
		if x.Trust == "landed" {
			landed = x
		}
	}
	w.must(w.as("maintainer").Get(context.Background(), "/runs/"+landed.ID, &landed))
	for _, j := range landed.Jobs {
		if j.Key == "test" {
			if log := w.jobLog(landed.ID, j.ID); !strings.Contains(log, "the inner one") {
				t.Error(log)
			}
		}
	}
	proof := w.statement(made[0].ID, "https://slsa.dev/provenance/v1")
	for _, want := range []string{"git+mirror://o/outer@" + outerAt, "git+mirror://o/inner/sub@" + innerAt} {
		if !strings.Contains(proof, want) {
			t.Errorf("the provenance has no %s\n%s", want, proof)
		}
	}
}
