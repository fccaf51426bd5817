package pipeline

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// made is a run of jobs written as "key: need need".
func made(jobs ...string) Run {
	r := Run{ID: "run_1", State: Pending, Attempt: 1, Created: t0}
	for i, text := range jobs {
		key, needs, _ := strings.Cut(text, ":")
		id, _, _ := strings.Cut(key, "#")
		r.Plan.Jobs = append(r.Plan.Jobs, JobPlan{Key: key, JobID: id, Needs: strings.Fields(needs)})
		r.Jobs = append(r.Jobs, Job{ID: JobID(fmt.Sprintf("job_%d", i)), Key: key, State: Waiting})
	}
	return r
}

var never = Language{If: func(Question) (bool, error) { return false, errors.New("nobody asks") }}

func anyJob(int) bool { return true }

func states(r Run) string {
	var b strings.Builder
	for i := range r.Jobs {
		fmt.Fprintf(&b, "%s=%s ", r.Jobs[i].Key, r.Jobs[i].State)
	}
	return b.String() + string(r.State)
}

func check(t *testing.T, r Run, want string) {
	t.Helper()
	if got := states(r); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// step claims everything and finishes the named jobs.
func step(r Run, results map[string]State) Run {
	r, _ = r.Next(t0, never)
	r, _ = r.Claim(t0, 100, 1, anyJob)
	for i := range r.Jobs {
		if s, ok := results[r.Jobs[i].Key]; ok && r.Jobs[i].State == Running {
			r, _ = r.Finish(t0, r.Jobs[i].ID, r.Jobs[i].Current().Number, 1, Result{State: s})
		}
	}
	r, _ = r.Next(t0, never)
	return r
}

func TestJobsFollowTheirNeeds(t *testing.T) {
	r := made("a:", "b: a", "c: a", "d: b c")
	r = step(r, nil)
	check(t, r, "a=running b=waiting c=waiting d=waiting running")
	r = step(r, map[string]State{"a": Success})
	check(t, r, "a=success b=queued c=queued d=waiting running")
	r = step(r, map[string]State{"b": Success, "c": Failure})
	check(t, r, "a=success b=success c=failure d=skipped failure")
}

func TestRerunKeepsWhatSucceeded(t *testing.T) {
	r := made("a:", "b: a", "c: b")
	r = step(r, map[string]State{"a": Success})
	r = step(r, map[string]State{"b": Failure})
	check(t, r, "a=success b=failure c=skipped failure")
	r, ok := r.Rerun(t0)
	if !ok || r.Attempt != 2 {
		t.Fatalf("Rerun() = %v, attempt %d", ok, r.Attempt)
	}
	r = step(r, map[string]State{"b": Success})
	r = step(r, map[string]State{"c": Success})
	check(t, r, "a=success b=success c=success success")
	if n := len(r.Jobs[1].Attempts); n != 2 || r.Jobs[1].Attempts[0].State != Failure {
		t.Errorf("b has %d attempts; the first failure must stay", n)
	}
	if _, ok := r.Rerun(t0); ok {
		t.Error("a run that succeeded was run again")
	}
}

func TestLateResultsAreRefused(t *testing.T) {
	r, _ := made("a:").Next(t0, never)
	r, _ = r.Claim(t0, 1, 7, anyJob)
	for _, c := range []struct {
		attempt int
		epoch   int64
	}{{2, 7}, {1, 6}, {0, 7}} {
		if _, ok := r.Finish(t0, "job_0", c.attempt, c.epoch, Result{State: Success}); ok {
			t.Errorf("a result of attempt %d, epoch %d was taken", c.attempt, c.epoch)
		}
	}
	lost := r.Lose(t0, func(JobID, Attempt) bool { return true }, "gone")
	check(t, lost, "a=queued running")
	again, _ := lost.Claim(t0, 1, 8, anyJob)
	if _, ok := again.Finish(t0, "job_0", 1, 7, Result{State: Success}); ok {
		t.Error("the lost attempt came back and was taken")
	}
	done, ok := again.Finish(t0, "job_0", 2, 8, Result{State: Success})
	if !ok {
		t.Fatal("the second attempt was refused")
	}
	if _, ok := done.Finish(t0, "job_0", 2, 8, Result{State: Failure}); ok {
		t.Error("a second result was taken")
	}
	if r.Jobs[0].Attempts[0].State != Running {
		t.Error("a decision changed the run that it was made on")
	}
}

func TestAJobThatLosesEveryRunnerFails(t *testing.T) {
	r, _ := made("a:").Next(t0, never)
	for range MaxAttempts {
		r, _ = r.Claim(t0, 1, 1, anyJob)
		r = r.Lose(t0, func(JobID, Attempt) bool { return true }, "gone")
	}
	r, _ = r.Next(t0, never)
	check(t, r, "a=failure failure")
}

func TestCancelStopsWaitingAtOnceAndKillsWhatRuns(t *testing.T) {
	r := step(made("a:", "b: a"), nil)
	r.Cancel = &Cancellation{By: "user_1", Reason: "enough"}
	r, acts := r.Next(t0, never)
	if len(acts) != 1 || acts[0].Kind != Kill || acts[0].Attempt != 1 {
		t.Errorf("actions %v; want one kill", acts)
	}
	check(t, r, "a=running b=cancelled running")
	r, _ = r.Finish(t0, "job_0", 1, 1, Result{State: Cancelled, Reason: "the job was stopped"})
	r, _ = r.Next(t0, never)
	check(t, r, "a=cancelled b=cancelled cancelled")
	if !strings.Contains(r.Jobs[0].Reason, "enough") || r.Reason != "enough" {
		t.Errorf("reasons %q, %q; want the canceller's", r.Jobs[0].Reason, r.Reason)
	}
}

func TestMatrixFailFastAndMaxParallel(t *testing.T) {
	r := made("m#1:", "m#2:", "m#3:", "m#4:", "after: m")
	for i := range 4 {
		r.Plan.Jobs[i].FailFast, r.Plan.Jobs[i].MaxParallel = true, 2
	}
	r, _ = r.Next(t0, never)
	r, acts := r.Claim(t0, 10, 1, anyJob)
	if len(acts) != 2 {
		t.Fatalf("%d started; max-parallel is 2", len(acts))
	}
	r, _ = r.Finish(t0, "job_0", 1, 1, Result{State: Failure})
	r, acts = r.Next(t0, never)
	if len(acts) != 1 || acts[0].Job != "job_1" {
		t.Errorf("actions %v; want the other running one killed", acts)
	}
	check(t, r, "m#1=failure m#2=running m#3=cancelled m#4=cancelled after=waiting running")
}

func TestContinueOnErrorCountsAsSuccess(t *testing.T) {
	r := made("a:", "b: a")
	r.Plan.Jobs[0].ContinueOnError = true
	r = step(r, map[string]State{"a": Failure})
	r = step(r, map[string]State{"b": Success})
	check(t, r, "a=failure b=success success")
}

func TestConditionsSeeNeeds(t *testing.T) {
	r := made("a:", "b: a", "c: b")
	r.Plan.Jobs[1].If = "x"
	eval := func(q Question) (bool, error) {
		if q.Needs["a"].Result != Failure || q.Success || !q.Failure {
			t.Errorf("question %+v", q)
		}
		return true, nil
	}
	r = step(r, nil)
	r, _ = r.Finish(t0, "job_0", 1, 1, Result{State: Failure})
	r, _ = r.Next(t0, Language{If: eval})
	check(t, r, "a=failure b=queued c=waiting running")
}

func TestFactsTellEachTransitionOnce(t *testing.T) {
	var types []string
	prev := Run{}
	see := func(next Run) {
		for _, a := range Announce(prev, next) {
			types = append(types, strings.TrimPrefix(a.Type, "pipeline."))
		}
		prev = next
	}
	r := made("a:", "b: a")
	see(r)
	r = step(r, nil)
	see(r)
	r = r.Lose(t0, func(JobID, Attempt) bool { return true }, "gone")
	see(r)
	r = step(r, map[string]State{"a": Failure})
	see(r)
	see(r)
	want := "run_created run_started job_started job_finished job_started job_finished job_finished run_finished"
	if got := strings.Join(types, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWhyNamesWhatIsWaitedFor(t *testing.T) {
	r := step(made("a:", "b: a"), nil)
	w := Explain(r, nil, 2, nil)
	if len(w) != 2 || !strings.Contains(w[0].For, "attempt 1 to finish") || !strings.Contains(w[1].For, "a (running)") || w[1].Who == "" {
		t.Errorf("Explain() = %+v", w)
	}
	q, _ := made("a:").Next(t0, never)
	if w := Explain(q, nil, 2, nil); len(w) != 1 || !strings.Contains(w[0].For, "takes 2 jobs at a time") {
		t.Errorf("Explain() = %+v", w)
	}
}
