package e2e

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/internal/edge/api/client"
)

// agent is a process that runs jobs for a world.
type agent struct {
	t      testing.TB
	name   string
	dir    string
	token  string
	labels string
	url    string
	log    *buffer
	cmd    *exec.Cmd
	exited chan struct{}
	flags  []string
}

// agent makes a token for an agent and starts it.
func (w *world) agent(name, labels string) *agent {
	w.t.Helper()
	var tok client.Token
	w.must(w.as("admin").Post(context.Background(), "/agents", map[string]any{"name": name, "hours": 1}, &tok))
	a := &agent{t: w.t, name: name, dir: filepath.Join(w.dir, "agent-"+name), token: tok.Token, labels: labels, url: w.url, log: &buffer{}}
	a.start()
	w.t.Cleanup(func() {
		_ = a.cmd.Process.Kill()
		<-a.exited
		if w.t.Failed() {
			w.t.Logf("agent %s\n%s", name, tail(a.log.String(), 4000))
		}
	})
	return a
}

func (a *agent) start() {
	a.t.Helper()
	a.cmd = exec.Command(binary, "agent", "--server", a.url, "--dir", a.dir, "--labels", a.labels, "--slots", "2")
	a.cmd.Args = append(a.cmd.Args, a.flags...)
	a.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + a.dir, "WEIR_TOKEN=" + a.token}
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	cmd, exited := a.cmd, make(chan struct{})
	a.exited = exited
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
}

func (a *agent) kill() {
	_ = a.cmd.Process.Kill()
	<-a.exited
}

// connected waits until the server lists the agent as connected, or not.
func (w *world) connected(name string, want bool) {
	w.t.Helper()
	w.eventually("agent "+name+" connected", func() bool {
		var all []struct {
			Name      string
			Connected bool
		}
		_ = w.as("admin").Get(context.Background(), "/agents", &all)
		for _, a := range all {
			if a.Name == name {
				return a.Connected == want
			}
		}
		return false
	})
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not within a minute\n%s", what, tail(w.log.String(), 3000))
		}
	}
}

// agents is a server whose workflow runs on agents with the label big.
func agents(t *testing.T, steps string) *world {
	t.Helper()
	w := &world{server: newServer(t, ""), tokens: map[string]string{}}
	w.work = filepath.Join(w.dir, "work")
	w.start()
	w.people()
	w.init("tiny")
	w.commit("first", map[string]string{"file.txt": "checked out\n", ".github/workflows/ci.yml": "on: [push, pull_request]\njobs:\n  far:\n    runs-on: [self-hosted, big]\n    steps:\n" + steps})
	return w
}

func (w *world) push() (revision string) {
	w.t.Helper()
	w.mustGit("push", "--quiet", w.remote("maintainer"), "HEAD:refs/heads/main")
	return w.mustGit("rev-parse", "HEAD")
}

// far waits for the run of a revision to have a job in a state, and returns it.
func (w *world) far(revision, state string) (run client.Run, job client.Job) {
	w.t.Helper()
	w.eventually("the job is "+state, func() bool {
		for _, r := range w.runs(revision) {
			if w.as("maintainer").Get(context.Background(), "/runs/"+r.ID, &run) == nil && len(run.Jobs) > 0 {
				job = run.Jobs[0]
				return job.State == state
			}
		}
		return false
	})
	return run, job
}

func (w *world) logHas(run, job, text string) {
	w.t.Helper()
	w.eventually("the log has "+text, func() bool {
		in, err := w.as("maintainer").Stream(context.Background(), "/runs/"+run+"/jobs/"+job+"/log")
		if err != nil {
			return false // it has not begun
		}
		defer in.Close()
		b, _ := io.ReadAll(in)
		return strings.Contains(string(b), text)
	})
}

func TestAnAgentRunsTheJobsWhoseLabelsItHas(t *testing.T) {
	t.Parallel()
	w := agents(t, `      - uses: actions/checkout@v4
      - run: cat file.txt; git log --oneline | head -1; mkdir out; echo kept > out/a; echo k=v >> $GITHUB_OUTPUT
      - uses: actions/upload-artifact@v4
        with: {name: kept, path: out}
      - uses: actions/cache@v4
        with: {path: out, key: one}
      - uses: actions/download-artifact@v4
        with: {name: kept, path: back}
      - run: cat back/a; for i in $(seq 1 3000); do echo line $i; done; echo "::error file=a,line=1::said"; exit 3
`)
	a := w.agent("builder", "big")
	w.connected("builder", true)
	rev := w.push()
	run, job := w.far(rev, "failure")
	log := w.jobLog(run.ID, job.Key)
	for _, want := range []string{"checked out", "first", "line 3000", "kept", "saved cache one"} {
		if !strings.Contains(log, want) && want != "saved cache one" {
			t.Errorf("the log has no %q:\n%s", want, tail(log, 2000))
		}
	}
	if !strings.Contains(job.Reason, "exit code 3") || len(job.Attempts) != 1 {
		t.Errorf("the job failed with %q in %d attempts", job.Reason, len(job.Attempts))
	}
	// Drained, it takes nothing more; another one with the label does.
	_ = a.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-a.exited:
	case <-time.After(15 * time.Second):
		t.Error("an idle agent did not end on SIGTERM")
	}
	w.commit("second", map[string]string{"file.txt": "again\n"})
	rev = w.propose("topic").Change.Revision
	if _, job := w.far(rev, "queued"); len(job.Attempts) != 0 {
		t.Errorf("the job ran without its agent: %+v", job)
	}
	w.agent("other", "big,more")
	w.far(rev, "failure")
}

const slow = "      - run: echo began; for i in $(seq 1 80); do echo tick $i; sleep 0.1; done; echo ended\n"

func TestALostAgentsJobRunsAgainAndItsLateResultIsRefused(t *testing.T) {
	t.Parallel()
	w := agents(t, slow)
	first := w.agent("first", "big")
	w.connected("first", true)
	rev := w.push()
	run, job := w.far(rev, "running")
	w.logHas(run.ID, job.Key, "tick 3")
	// It hangs, as a machine does whose network is gone, and comes back when its job is somebody else's.
	_ = first.cmd.Process.Signal(syscall.SIGSTOP)
	w.agent("second", "big")
	w.connected("second", true)
	stopped := time.Now()
	w.eventually("a second attempt", func() bool {
		run, job = w.far(rev, "running")
		return len(job.Attempts) == 2
	})
	if took := time.Since(stopped); took > 20*time.Second {
		t.Errorf("the job was queued again after %v; want 15 s and the second agent's start", took)
	}
	_ = first.cmd.Process.Signal(syscall.SIGCONT)
	_, job = w.far(rev, "success")
	if len(job.Attempts) != 2 || job.Attempts[0].State != "lost" || !strings.Contains(job.Attempts[0].Reason, "no word from agent first") {
		t.Errorf("attempts %+v", job.Attempts)
	}
	w.eventually("the first agent gives its attempt up", func() bool { return strings.Contains(first.log.String(), "has given this attempt up") })
}

func TestAnAgentThatIsKilledAndComesBackDoesNotRunTheSameAttemptAgain(t *testing.T) {
	t.Parallel()
	w := agents(t, slow)
	a := w.agent("only", "big")
	w.connected("only", true)
	rev := w.push()
	run, job := w.far(rev, "running")
	w.logHas(run.ID, job.Key, "tick 3")
	a.kill()
	a.start()
	_, job = w.far(rev, "success")
	if len(job.Attempts) != 2 || job.Attempts[0].State != "lost" || !strings.Contains(job.Attempts[0].Reason, "restarted") {
		t.Errorf("attempts %+v; want one that was lost and one that succeeded", job.Attempts)
	}
}

func TestJobsOfAgentsGoOnWhenTheServerIsKilledOrRestarted(t *testing.T) {
	t.Parallel()
	w := agents(t, slow)
	w.agent("steady", "big")
	w.connected("steady", true)
	rev := w.push()
	run, job := w.far(rev, "running")
	w.logHas(run.ID, job.Key, "tick 3")
	w.kill()
	w.start()
	w.connected("steady", true)
	w.logHas(run.ID, job.Key, "tick 30")
	w.stop()
	w.start()
	_, job = w.far(rev, "success")
	if len(job.Attempts) != 1 {
		t.Errorf("attempts %+v; want the one that went on", job.Attempts)
	}
	log := w.jobLog(run.ID, job.Key)
	last := -1
	for _, want := range []string{"| began", "tick 1\n", "tick 40\n", "tick 80\n", "| ended"} {
		at := strings.Index(log, want)
		if at <= last || strings.Count(log, want) != 1 {
			t.Errorf("%q stands %d times in the log, at %d after %d; want once and in order", want, strings.Count(log, want), at, last)
		}
		last = at
	}
}

func TestAnAgentCancelsItsJobAndCleansUp(t *testing.T) {
	t.Parallel()
	w := agents(t, slow+"      - run: echo tidied\n        if: always()\n")
	w.agent("polite", "big")
	w.connected("polite", true)
	rev := w.push()
	run, job := w.far(rev, "running")
	w.logHas(run.ID, job.Key, "tick 3")
	w.must(w.as("maintainer").Post(context.Background(), "/runs/"+run.ID+"/cancel", map[string]string{}, nil))
	w.far(rev, "cancelled")
	if log := w.jobLog(run.ID, job.Key); !strings.Contains(log, "tidied") {
		t.Errorf("nothing was cleaned up:\n%s", tail(log, 1000))
	}
}

func TestAnAgentNeedsItsOwnKindOfToken(t *testing.T) {
	t.Parallel()
	w := agents(t, slow)
	for _, env := range [][]string{nil, {"WEIR_TOKEN=" + w.tokens["maintainer"]}, {"WEIR_TOKEN=nonsense"}} {
		_, stderr, status := weir(t, env, "agent", "--server", w.url, "--dir", filepath.Join(w.dir, "a"))
		if status == 0 || !strings.Contains(stderr, "token") && !strings.Contains(stderr, "agent.work") {
			t.Errorf("with %v: status %d, %s", env, status, stderr)
		}
	}
}
