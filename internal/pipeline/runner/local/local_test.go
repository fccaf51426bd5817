package local

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/internal/base/confine"
	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/runner"
	"weir/internal/pipeline/runner/runnertest"
)

func TestMain(m *testing.M) {
	confine.Main()
	os.Exit(m.Run())
}

func open(t *testing.T) *Runner {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { _ = remove(dir) }) // images may hold folders that nobody can write to
	r, err := New(Config{Data: dir, Network: confine.None})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestConformance(t *testing.T) { runnertest.Run(t, open(t)) }

func want(t *testing.T, res pipeline.Result, log string, state pipeline.State, texts ...string) {
	t.Helper()
	if res.State != state {
		t.Errorf("state %s (%s); want %s", res.State, res.Reason, state)
	}
	for _, s := range texts {
		if !strings.Contains(log+res.Reason, s) {
			t.Errorf("%q is neither in the log nor the reason", s)
		}
	}
	if t.Failed() {
		t.Logf("reason: %s\n%s", res.Reason, log)
	}
}

func TestStepsTalkThroughFilesAndCommands(t *testing.T) {
	j := runnertest.Steps(
		"echo V=1 >> $GITHUB_ENV; echo out=7 >> $GITHUB_OUTPUT; mkdir b; printf '#!/bin/sh\\necho tool-runs\\n' > b/tool; chmod +x b/tool; echo $PWD/b >> $GITHUB_PATH; printf 'M<<E\\na\\nb\\nE\\n' >> $GITHUB_ENV",
		"echo \"V=$V M=$M\"; tool; echo '# Sum' >> $GITHUB_STEP_SUMMARY",
		"echo '::error file=a.go,line=3,col=4,title=T::bad%0Athing'; echo '::add-mask::hunter22'; echo it is hunter22; echo '::group::G'; echo in; echo '::endgroup::'; printf '::not a command\\n'",
		"echo ${{ steps.one.outputs.out }}-${{ env.V }}-${{ matrix.x }}-${{ needs.dep.outputs.o }}-${{ github.event_name }}",
		"grep -q 'hello event' $GITHUB_EVENT_PATH && exit 1",
		"echo went on",
	)
	j.Plan.Steps[0].ID = "one"
	j.Plan.Steps[4].ContinueOnError = "true"
	j.Plan.Steps[5].If = "${{ always() && steps.one.outcome == 'success' }}"
	j.Plan.Matrix = `{"x": 5}`
	j.Plan.Env = map[string]string{"W": "${{ github.event_name }}"}
	j.Needs = map[string]pipeline.Need{"dep": {Result: pipeline.Success, Outputs: map[string]string{"o": "D"}}}
	j.GitHub = map[string]any{"event_name": "push", "event": map[string]any{"title": "hello event"}}
	j.Plan.Outputs = map[string]string{"final": "${{ steps.one.outputs.out }}!"}
	res, log := runnertest.Attempt(t, open(t), &runnertest.Host{}, j)
	want(t, res, log, pipeline.Success, "|V=1 M=a", "|tool-runs", "[G", "it is ***", "|7-1-5-D-push", "|went on", "|::not a command")
	if res.Outputs["final"] != "7!" || !strings.Contains(res.Summary, "# Sum") || !res.Steps[4].Ignored {
		t.Errorf("result %+v", res)
	}
	if len(res.Annotations) != 1 || res.Annotations[0].File != "a.go" || res.Annotations[0].Line != 3 || res.Annotations[0].Message != "bad\nthing" {
		t.Errorf("annotations %+v", res.Annotations)
	}
	if strings.Contains(log, "hunter22") {
		t.Error("the mask was added too late or shown itself")
	}
	if !res.Confined {
		t.Error("the result does not say that it was confined")
	}
}

func TestShellsAndDirectories(t *testing.T) {
	j := runnertest.Steps("import os; print('py', os.getcwd().endswith('workspace'))", "false | true; echo piped", "echo $0 in $(basename $PWD)", "echo x")
	j.Plan.Steps[0].Shell = "python"
	j.Plan.Steps[1].Shell = "bash"
	j.Plan.Steps[2].Shell, j.Plan.Steps[2].WorkingDirectory, j.Plan.Steps[2].If = "sh", "sub", "always()"
	j.Plan.Steps[3].WorkingDirectory, j.Plan.Steps[3].If = "nowhere", "always()"
	j.Plan.Steps = append([]pipeline.StepPlan{{Uses: "checkout"}}, j.Plan.Steps...)
	res, log := runnertest.Attempt(t, open(t), &runnertest.Host{Files: map[string]string{"sub/f": "x"}}, j)
	want(t, res, log, pipeline.Failure, "|py True", "in sub", "its working directory nowhere does not exist")
	if strings.Contains(log, "|piped") {
		t.Error("shell: bash ran without pipefail")
	}
}

func TestMissingToolsAreNamedWithTheirInstallLine(t *testing.T) {
	res, log := runnertest.Attempt(t, open(t), &runnertest.Host{}, runnertest.Steps("export PATH=/nowhere; jq ."))
	want(t, res, log, pipeline.Failure, "the runner has no jq. Install it there: apt-get install jq")
	j := runnertest.Steps("print(1)")
	j.Plan.Steps[0].Shell, j.Plan.Steps[0].Env = "python", map[string]string{"PATH": "/nowhere"}
	res, log = runnertest.Attempt(t, open(t), &runnertest.Host{}, j)
	want(t, res, log, pipeline.Failure, "the runner has no python3. Install it there: apt-get install python3")
}

func TestTimeoutsEndStepsAndJobs(t *testing.T) {
	j := runnertest.Steps("sleep 50", "echo after")
	j.Plan.Steps[0].TimeoutMinutes = "0.005"
	j.Plan.Steps[1].If = "failure()"
	res, log := runnertest.Attempt(t, open(t), &runnertest.Host{}, j)
	want(t, res, log, pipeline.Failure, "timeout-minutes", "|after")
	j = runnertest.Steps("sleep 50")
	j.Plan.TimeoutMinutes = 0.005
	res, log = runnertest.Attempt(t, open(t), &runnertest.Host{}, j)
	want(t, res, log, pipeline.Failure, "longer than its timeout")
}

// A hostile job tries to make the server read or write outside the job's folder on its behalf, and to look around.
func TestHostileJobReachesNothing(t *testing.T) {
	r := open(t)
	secret := filepath.Join(r.cfg.Data, "secret.txt")
	if err := os.WriteFile(secret, []byte("top=secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"read the data folder":     "cat " + secret,
		"list the data folder":     "ls " + r.cfg.Data + "/cache/other",
		"output through a link":    "ln -sf " + secret + " $GITHUB_OUTPUT",
		"output through a pipe":    "rm $GITHUB_ENV; mkfifo $GITHUB_ENV",
		"signal the server":        "kill -9 " + "$PPID" + " 2>/dev/null; kill -0 " + itoa(os.Getpid()),
		"set what only Weir sets":  "echo GITHUB_SHA=x >> $GITHUB_ENV",
		"never end a value":        "printf 'A<<E\\nx' >> $GITHUB_ENV",
		"fill the environment":     "head -c 5000000 /dev/zero >> $GITHUB_ENV",
		"garbage instead of pairs": "echo nonsense >> $GITHUB_OUTPUT",
	} {
		t.Run(name, func(t *testing.T) {
			j := runnertest.Steps(script, "echo got=${{ steps.x.outputs.top }}")
			j.Plan.Steps[0].ID = "x"
			j.Plan.Steps[1].If = "always()"
			res, log := runnertest.Attempt(t, r, &runnertest.Host{}, j)
			want(t, res, log, pipeline.Failure)
			if strings.Contains(log, "got=secret") || strings.Contains(log, "top=secret") {
				t.Errorf("the secret is in the log:\n%s", log)
			}
		})
	}
	t.Run("checkout through a link", func(t *testing.T) {
		outside := filepath.Join(r.cfg.Data, "outside")
		if err := os.Mkdir(outside, 0o700); err != nil {
			t.Fatal(err)
		}
		j := runnertest.Steps("ln -s " + outside + " sub; ln -s ../../../outside rel")
		j.Plan.Steps = append(j.Plan.Steps, pipeline.StepPlan{Uses: "checkout", With: map[string]string{"path": "sub/x"}},
			pipeline.StepPlan{Uses: "checkout", With: map[string]string{"path": "rel/x"}, If: "always()"})
		res, log := runnertest.Attempt(t, r, &runnertest.Host{Files: map[string]string{"f": "x"}}, j)
		want(t, res, log, pipeline.Failure)
		if left, _ := os.ReadDir(outside); len(left) != 0 {
			t.Error("a checkout left the workspace")
		}
	})
	r.trash.remove(true)
	left, _ := os.ReadDir(filepath.Join(r.cfg.Data, "work", "gone"))
	if len(left) != 0 {
		t.Errorf("%d workspaces are left", len(left))
	}
}

func itoa(n int) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

func TestArtifactsAndCachesTravel(t *testing.T) {
	r, h := open(t), &runnertest.Host{}
	j := runnertest.Steps("mkdir -p dist/sub ~/c; echo a > dist/a; echo b > dist/sub/b; echo h > dist/.hidden; echo cached > ~/c/f; ln -s f ~/c/l")
	j.Plan.Steps = append(j.Plan.Steps,
		pipeline.StepPlan{Uses: "upload-artifact", With: map[string]string{"name": "d", "path": "dist/"}},
		pipeline.StepPlan{Uses: "upload-artifact", With: map[string]string{"name": "none", "path": "nope/*"}},
		pipeline.StepPlan{Uses: "cache", ID: "c", With: map[string]string{"path": "~/c", "key": "k-${{ hashFiles('dist/**') }}", "restore-keys": "k-"}},
	)
	res, log := runnertest.Attempt(t, r, h, j)
	want(t, res, log, pipeline.Success, "uploaded artifact d with 2 files", "nothing was uploaded", "no cache entry", "saved cache k-")
	first := res
	j2 := runnertest.Steps()
	j2.JobID = "job_2"
	j2.Plan.Steps = []pipeline.StepPlan{
		{Uses: "download-artifact", With: map[string]string{"name": "d", "path": "in"}},
		{Uses: "download-artifact", With: map[string]string{"pattern": "*"}},
		{Uses: "cache", ID: "c", With: map[string]string{"path": "~/c", "key": "k-other", "restore-keys": "k-"}},
		{Run: "cat in/a in/sub/b d/a ~/c/f ~/c/l; echo hit=${{ steps.c.outputs.cache-hit }}; test ! -e in/.hidden"},
		{Uses: "download-artifact", With: map[string]string{"name": "missing"}},
	}
	res, log = runnertest.Attempt(t, r, h, j2)
	want(t, res, log, pipeline.Failure, "|a\n", "|b\n", "|cached\n", "hit=false", `no artifact named "missing"`)
	if len(first.Caches) != 2 || first.Caches[0].Found != "" || !first.Caches[1].Kept || first.Caches[1].Saved == 0 {
		t.Errorf("caches of the first job %+v; want a miss and what was kept", first.Caches)
	}
	if len(res.Caches) == 0 || res.Caches[0].Key != "k-other" || !strings.HasPrefix(res.Caches[0].Found, "k-") || res.Caches[0].Restored == 0 {
		t.Errorf("caches of the second job %+v; want what it got", res.Caches)
	}
}

func TestReleaseHandsOverItsOutput(t *testing.T) {
	r := open(t)
	build := pipeline.Build{Job: "release-checkout", Service: "checkout", ServiceID: "svc_1", Version: "1.1.0", Script: "mkdir out; echo $V > out/bin", Env: map[string]string{"V": "1.1.0"}, Output: "out/bin"}
	j := runner.Job{Trust: pipeline.Landed, Plan: pipeline.ReleaseJob(build, nil)}
	h := &runnertest.Host{}
	res, log := runnertest.Attempt(t, r, h, j)
	want(t, res, log, pipeline.Success)
	if string(h.Outputs["checkout"]) != "1.1.0\n" || h.Output1.Version != "1.1.0" || !h.Output1.Confined || h.Output1.Network != "none" || h.Output1.Started.IsZero() {
		t.Errorf("output %q, %+v", h.Outputs["checkout"], h.Output1)
	}
	j.Attempt, h.Refuse = 2, fault.New(fault.Conflict, "Version 1.1.0 exists already.")
	res, log = runnertest.Attempt(t, r, h, j)
	want(t, res, log, pipeline.Failure, "Version 1.1.0 exists already.")
	j.Attempt, h.Refuse = 3, errors.New("database gone")
	j.Plan.Build.Output = "out/none"
	res, log = runnertest.Attempt(t, r, h, j)
	want(t, res, log, pipeline.Failure, "The job built no file out/none")
}

func TestSetupGoMatchesWhatIsInstalled(t *testing.T) {
	for _, c := range []struct {
		version, want string
		least, ok     bool
	}{
		{"1.26.8", "", false, true}, {"1.26.8", "1.26", false, true}, {"1.26.8", "1.26.x", false, true}, {"1.26.8", "1.2", false, false},
		{"1.26.8", "^1.25.1", false, true}, {"1.26.8", "~1.25", false, false}, {"1.26.8", ">=1.24 <1.27", false, true}, {"1.26.8", "1.25 || 1.26", false, true},
		{"1.26.8", "1.26.9", true, false}, {"1.26.8", "1.21", true, true}, {"1.26.8", "stable", false, true}, {"1.26rc1", "1.26", true, true}, {"1.26.8", "1.x", false, true},
	} {
		if got := satisfies(c.version, c.want, c.least); got != c.ok {
			t.Errorf("satisfies(%s, %q, %v) = %v; want %v", c.version, c.want, c.least, got, c.ok)
		}
	}
	if len(toolchains()) == 0 {
		t.Skip("no Go installation to set up")
	}
	j := runner.Job{Plan: pipeline.JobPlan{Steps: []pipeline.StepPlan{
		{Uses: "checkout"}, {Uses: "setup-go", ID: "go", With: map[string]string{"go-version-file": "go.mod"}},
		{Run: "go version; go run ."}, {Uses: "setup-go", With: map[string]string{"go-version": "1.99"}},
	}}}
	h := &runnertest.Host{Files: map[string]string{"go.mod": "module x\n\ngo 1.21\n", "main.go": "package main\nfunc main() { println(\"it runs\") }\n"}}
	res, log := runnertest.Attempt(t, open(t), h, j)
	want(t, res, log, pipeline.Failure, "|go version go1.", "it runs", "asks for Go 1.99, and the runner has")
}

func TestAChangeNeverWritesTheCacheOfLandedRuns(t *testing.T) {
	r := open(t)
	landed := runnertest.Steps("echo $GOCACHE; mkdir -p $GOCACHE; echo good > $GOCACHE/x")
	landed.Trust = pipeline.Landed
	res, log := runnertest.Attempt(t, r, &runnertest.Host{}, landed)
	want(t, res, log, pipeline.Success)
	dir := filepath.Join(r.cfg.Data, "cache", "repo_1", "landed", "go-build")
	change := runnertest.Steps("test ! -e $GOCACHE/x; echo evil > " + dir + "/x")
	change.Trust = pipeline.Change
	res, log = runnertest.Attempt(t, r, &runnertest.Host{}, change)
	want(t, res, log, pipeline.Failure)
	if b, _ := os.ReadFile(filepath.Join(dir, "x")); string(b) != "good\n" {
		t.Errorf("cache of landed runs holds %q", b)
	}
}

func TestUnconfinedIsRecorded(t *testing.T) {
	r, err := New(Config{Data: t.TempDir(), Unconfined: true})
	if err != nil {
		t.Fatal(err)
	}
	res, log := runnertest.Attempt(t, r, &runnertest.Host{}, runnertest.Steps("echo ok"))
	want(t, res, log, pipeline.Success)
	if res.Confined || res.Network != "host" {
		t.Errorf("result says confined %v, network %s", res.Confined, res.Network)
	}
}
