package app

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"weir/internal/base/fault"
)

func workingTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const localWorkflow = `on: [push, workflow_dispatch]
jobs:
  make:
    runs-on: any
    outputs: {who: '${{ steps.s.outputs.who }}'}
    steps:
      - uses: actions/checkout@v4
      - {id: s, run: 'echo who=$(cat who.txt) >> $GITHUB_OUTPUT; test ! -e ignored.txt'}
  use:
    needs: make
    strategy: {matrix: {n: [1, 2]}}
    runs-on: any
    steps: [{run: 'echo "${{ needs.make.outputs.who }} ${{ matrix.n }} ${{ secrets.TOKEN }} ${{ vars.V }}"; test ${{ matrix.n }} = 1'}]
`

// The working tree is what runs: a file that is not committed is there, one that git ignores is not.
func TestALocalRunIsTheServersOnTheWorkingTree(t *testing.T) {
	dir := workingTree(t, map[string]string{".github/workflows/ci.yml": localWorkflow, "who.txt": "committed", ".gitignore": "ignored.txt\n"})
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "x"}} {
		if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v %s", args, err, out)
		}
	}
	for name, text := range map[string]string{"who.txt": "edited", "ignored.txt": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	all, err := RunLocal(t.Context(), LocalRun{Dir: dir, Network: "none", Secrets: map[string]string{"TOKEN": "hunter2hunter2"}, Vars: map[string]string{"V": "var"}, Matrix: map[string]string{"n": "1"}}, &out)
	if err != nil || OutcomeError(all) != nil {
		t.Fatalf("%+v, %v\n%s", all, err, out.String())
	}
	if got := out.String(); !strings.Contains(got, "[use (1)] edited 1 *** var\n") || strings.Contains(got, "hunter2") {
		t.Errorf("log:\n%s", got)
	}
	all, err = RunLocal(t.Context(), LocalRun{Dir: dir, Network: "none", Quiet: true}, &out)
	if err != nil {
		t.Fatal(err)
	}
	if err := OutcomeError(all); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), "ended in failure: job use (2): step 1") {
		t.Errorf("the outcome of a failed run: %v", err)
	}
}

func TestALocalRunSaysWhatItCannotFind(t *testing.T) {
	dir := workingTree(t, map[string]string{".github/workflows/ci.yml": localWorkflow, ".github/workflows/sub.yml": "on: workflow_call\njobs: {a: {runs-on: x, steps: [{run: x}]}}\n",
		".github/workflows/never.yml": "on: {push: {branches: [release]}}\njobs: {a: {runs-on: x, steps: [{run: x}]}}\n"})
	for want, o := range map[string]LocalRun{
		"There is no folder":                        {Dir: filepath.Join(dir, "none")},
		"There is no workflow in .github/workflows": {Dir: t.TempDir()},
		"There is no workflow x; there are":         {Dir: dir, Workflow: "x"},
		"has no job x; it has make, use":            {Dir: dir, Workflow: "ci", Job: "x"},
		"does not start on schedule":                {Dir: dir, Workflow: "ci", Event: "schedule"},
		"has no event that starts it by itself":     {Dir: dir, Workflow: "sub"},
		"No workflow starts on pull_request":        {Dir: dir, Event: "pull_request"},
		"Only workflow_dispatch has inputs":         {Dir: dir, Workflow: "ci", Inputs: map[string]string{"a": "1"}},
		"No combination of job use has":             {Dir: dir, Workflow: "ci", Matrix: map[string]string{"n": "9"}},
	} {
		if _, err := RunLocal(t.Context(), o, &bytes.Buffer{}); err == nil || !strings.Contains(fault.Sentence(err), want) {
			t.Errorf("%+v: %v; want %q", o, err, want)
		}
	}
}

func TestALocalRunUsesActionsOfClonesOnThisMachine(t *testing.T) {
	clone := func(dir string, files map[string]string) {
		t.Helper()
		for name, text := range files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "x"}, {"tag", "v1"}} {
			if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
				t.Fatalf("git %v: %v %s", args, err, out)
			}
		}
	}
	tools, many := t.TempDir(), t.TempDir()
	clone(tools, map[string]string{"hello/action.yml": "runs: {using: composite, steps: [{run: echo from the tools, shell: sh}, {uses: o/leaf@main}]}\n",
		".github/workflows/called.yml": "on: workflow_call\njobs: {c: {runs-on: x, steps: [{run: echo from the called}]}}\n"})
	clone(filepath.Join(many, "o", "leaf.git"), map[string]string{"action.yml": "runs: {using: composite, steps: [{run: cat $GITHUB_ACTION_PATH/leaf.txt, shell: sh}]}\n", "leaf.txt": "from the leaf\n"})
	dir := workingTree(t, map[string]string{".github/workflows/ci.yml": "on: push\njobs:\n  a: {runs-on: x, steps: [{uses: Acme/Tools/hello@v1}]}\n  b: {uses: acme/tools/.github/workflows/called.yml@v1}\n"})
	var out bytes.Buffer
	all, err := RunLocal(t.Context(), LocalRun{Dir: dir, Network: "none", Mirrors: []string{"acme/tools=" + tools}, MirrorDir: many}, &out)
	if err != nil || OutcomeError(all) != nil {
		t.Fatalf("%+v, %v\n%s", all, err, out.String())
	}
	for _, want := range []string{"from the tools", "from the leaf", "from the called"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	for want, o := range map[string]LocalRun{
		"does not name a mirror. Write owner/name=PATH":                {Mirrors: []string{"tools"}},
		"There is no folder /nowhere, which --mirror names for":        {Mirrors: []string{"a/b=/nowhere"}},
		"is no git repository":                                         {Mirrors: []string{"a/b=" + t.TempDir()}},
		"There is no folder /nowhere with mirrors in it.":              {MirrorDir: "/nowhere"},
		"There is no copy of acme/tools here, and nothing is fetched.": {},
		"has no v1. Fetch it there":                                    {Mirrors: []string{"acme/tools=" + filepath.Join(many, "o", "leaf.git")}},
	} {
		o.Dir, o.Network = dir, "none"
		if strings.Contains(want, "has no v1") {
			if out, err := exec.Command("git", "-C", filepath.Join(many, "o", "leaf.git"), "tag", "-d", "v1").CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
		}
		all, err := RunLocal(t.Context(), o, &out)
		if err == nil {
			err = OutcomeError(all)
		}
		if err == nil || !strings.Contains(fault.Sentence(err), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}
