package live

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/internal/catalog"
	"weir/internal/control"
	"weir/internal/deploy"
	"weir/internal/edge/web"
	"weir/internal/guard/identity"
	"weir/internal/pipeline"
)

var t0 = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

func canary() deploy.Rollout {
	from := deploy.Spec{ReleaseID: "rel_1", Version: "1.0.0", Revision: "aaaaaaaaaa"}
	return deploy.Rollout{ID: "rol_1", Service: "checkout", Environment: "production", ReleaseID: "rel_2", Version: "1.1.0", Revision: "bbbbbbbbbb", FromReleaseID: "rel_1", FromVersion: "1.0.0", From: &from,
		Plan: deploy.Plan{Strategy: deploy.Steps, Steps: []float64{.05, .25, .5}, Bake: 10 * time.Minute}, Created: t0}
}

func TestStepsFollowTheDecisionLog(t *testing.T) {
	r := canary()
	r.State, r.Step, r.StepSince = deploy.Baking, 1, t0.Add(11*time.Minute)
	log := []deploy.Decision{
		{At: t0, Kind: "started"}, {At: t0.Add(time.Second), Kind: "step"}, {At: t0.Add(10 * time.Minute), Kind: "held"},
		{At: t0.Add(11 * time.Minute), Kind: "promoted"}, {At: t0.Add(11 * time.Minute), Kind: "step"},
	}
	samples := []control.Sample{{Time: t0.Add(10 * time.Minute), Canary: control.Arm{Requests: 400}, Baseline: control.Arm{Requests: 390}}}
	s := steps(r, log, samples, t0.Add(14*time.Minute))
	if len(s) != 4 || s[3].Percent != 100 {
		t.Fatalf("steps = %v; want those of the plan and the whole", s)
	}
	if s[0].State.Word != "Passed" || s[0].Note != "10:59 baked, 790 requests compared" {
		t.Errorf("the first step is %q, %q", s[0].State.Word, s[0].Note)
	}
	if s[1].State.Word != "Baking" || !strings.HasPrefix(s[1].Note, "3:00 of 10:00") {
		t.Errorf("the second step is %q, %q", s[1].State.Word, s[1].Note)
	}
	r.State, r.Decided = deploy.RolledBack, t0.Add(12*time.Minute)
	s = steps(r, append(log, deploy.Decision{At: r.Decided, Kind: "verdict"}), samples, t0.Add(time.Hour))
	if s[1].State.Word != "Taken back" || !s[1].Left.IsZero() || s[2].State.Word != "Not started" {
		t.Errorf("after a rollback the second step is %q, the third %q", s[1].State.Word, s[2].State.Word)
	}
}

func TestMetricsCompareWithTheBoundaryOfTheSameBound(t *testing.T) {
	arm := func(n, errors, slow int64) control.Arm {
		a := control.Arm{Requests: n, Errors: errors, Slow: make([]int64, len(deploy.LatencyBounds))}
		a.Slow[4] = slow // over 100 ms
		return a
	}
	at := func(s int, bound int64, boundary float64) control.Sample {
		return control.Sample{Time: t0.Add(time.Duration(s) * time.Second), Canary: arm(100, 2, 5), Baseline: arm(100, 1, 4), Outcome: "too few", Have: 100, Need: 380,
			Metrics: []control.Metric{{Name: "errors", Evidence: .91, Boundary: boundary}, {Name: "latency", Evidence: .1, Bound: bound, Boundary: boundary}}}
	}
	empty := control.Sample{Time: t0, Outcome: "no data", Metrics: []control.Metric{{Name: "errors", Boundary: 1}}}
	m := metrics(canary(), nil, []control.Sample{empty, at(1, 50, .3), at(2, 100, .2)})
	if len(m) != 2 || m[0].Name != "Error rate" || m[1].Name != "Slower than 100 ms" {
		t.Fatalf("metrics = %v", m)
	}
	if m[0].Points[0].Canary != nil || m[0].Points[0].Bad != nil {
		t.Error("what was not measured has a value")
	}
	if m[0].Evidence != .91 || m[0].Seen != 100 || m[0].Needed != 380 || *m[0].Canary != 2 || m[0].CanaryOf != "2 of 100" {
		t.Errorf("the error rate is %+v", m[0])
	}
	if m[1].Points[1].Bad != nil || m[1].Points[2].Bad == nil || *m[1].Points[2].Bad != 20 {
		t.Error("a boundary of another bound was drawn")
	}
}

func TestThinKeepsTheLastSample(t *testing.T) {
	var all []control.Sample
	for i := range 5000 {
		all = append(all, control.Sample{Time: t0.Add(time.Duration(i) * time.Second), Have: int64(i)})
	}
	got := thin(all)
	if len(got) > maxPoints+1 || got[len(got)-1].Have != 4999 {
		t.Errorf("%d samples, the last %d", len(got), got[len(got)-1].Have)
	}
}

func TestRollbacksAreMeasuredFromTheDecision(t *testing.T) {
	back := canary()
	back.State, back.Decided, back.Finished = deploy.RolledBack, t0.Add(time.Minute), t0.Add(time.Minute+412*time.Millisecond)
	direct := canary()
	direct.State, direct.Intent, direct.Decided, direct.Finished = deploy.Completed, deploy.Rollback, t0, t0.Add(22*time.Millisecond)
	planned := canary()
	planned.State, planned.Finished = deploy.Completed, t0.Add(time.Hour)
	got := rollbacks([]deploy.Rollout{planned, direct, back})
	if len(got) != 2 || got[0].Took != 412*time.Millisecond || got[1].Took != 22*time.Millisecond {
		t.Errorf("rollbacks = %v; want 412 ms, then 22 ms", got)
	}
}

func TestSpeakSaysWhatComesNext(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*deploy.Rollout)
		say    string
		next   string
	}{
		"baking": {func(r *deploy.Rollout) { r.State, r.StepSince = deploy.Baking, t0 }, "Too few requests", "Goes on to 25% by itself at 09:10:00"},
		"held":   {func(r *deploy.Rollout) { r.State, r.Held, r.StepSince = deploy.Baking, true, t0.Add(-time.Hour) }, "Too few requests", "It holds here until enough requests were seen"},
		"paused": {func(r *deploy.Rollout) { r.State = deploy.Paused }, "Paused. Too few requests", "until somebody resumes or promotes"},
		"rolled back": {func(r *deploy.Rollout) {
			r.State, r.Decided, r.Finished, r.Reason = deploy.RolledBack, t0, t0.Add(412*time.Millisecond), "Worse."
		}, "checkout is back on 1.0.0-aaaaaaa, 412 ms after the decision.", "Worse."},
	} {
		r := canary()
		c.change(&r)
		v := web.Rollout{RolloutRow: rolloutRow(r)}
		speak(r, []control.Sample{{Words: "Too few requests to tell a fault from chance: 60 of 380."}}, t0.Add(time.Minute), &v)
		if !strings.Contains(v.Say, c.say) || !strings.Contains(v.Next, c.next) {
			t.Errorf("%s: %q, %q; want %q, %q", name, v.Say, v.Next, c.say, c.next)
		}
	}
}

func TestMatrixShowsWhatIsHeld(t *testing.T) {
	s := state{now: t0, services: []catalog.Ref{{ID: "svc_1", Name: "checkout"}}, declared: map[string]catalog.Declared{"svc_1": {Name: "checkout", Order: []string{"staging", "production"}}},
		envs:       map[string]deploy.Environment{"svc_1/staging": {ServiceID: "svc_1", Environment: "staging", Current: "rel_2", Version: "1.1.0", Digest: "sha256:b", HealthySince: t0}},
		promotions: []deploy.Promotion{{ServiceID: "svc_1", Environment: "production", ReleaseID: "rel_2", Version: "1.1.0", Blocks: []deploy.Block{{Rule: approvalRule}}}}}
	names, rows := matrix(s)
	if len(names) != 2 || names[1] != "production" {
		t.Fatalf("environments = %v", names)
	}
	if c := rows[0].Cells[0]; c.To != "held" || c.State.Word != "Healthy" {
		t.Errorf("staging is %+v; want healthy and held", c)
	}
	if c := rows[0].Cells[1]; c.Version != "" || c.Note == nil || c.Note.Word != "1.1.0 awaits approval" {
		t.Errorf("production is %+v; want nothing yet, and what waits", c)
	}
}

func TestDeliveryIsNothingBeforeTheFirstRollout(t *testing.T) {
	s := state{now: t0, services: []catalog.Ref{{ID: "svc_1"}}, declared: map[string]catalog.Declared{"svc_1": {Order: []string{"production"}}}, past: map[string][]deploy.Rollout{}}
	if d := delivery(s); d != nil {
		t.Errorf("delivery = %v; want nothing", d)
	}
	ok, bad := canary(), canary()
	ok.State, ok.Finished, ok.CommitTime = deploy.Completed, t0.Add(time.Minute), t0.Add(-time.Hour)
	bad.State, bad.Decided, bad.Finished = deploy.RolledBack, t0.Add(time.Minute), t0.Add(90*time.Second)
	s.past["svc_1/production"] = []deploy.Rollout{ok, bad}
	d := delivery(s)
	if d == nil || d.Tiles[0].Value != "1" || d.Tiles[1].Value != "1 h 1 m" || d.Tiles[2].Value != "1 m 30 s" || d.Tiles[3].Of != "1 of 2" {
		t.Errorf("delivery = %+v", d)
	}
}

func TestJobsWaitFromWhenTheyCouldHaveStarted(t *testing.T) {
	r := pipeline.Run{Created: t0, Plan: pipeline.Plan{Jobs: []pipeline.JobPlan{{Key: "test (1)", JobID: "test"}, {Key: "test (2)", JobID: "test"}, {Key: "build", JobID: "build", Needs: []string{"test"}}}},
		Jobs: []pipeline.Job{
			{Key: "test (1)", State: pipeline.Success, Attempts: []pipeline.Attempt{{Number: 1, Started: t0.Add(time.Second), Finished: t0.Add(10 * time.Second)}}},
			{Key: "test (2)", State: pipeline.Success, Attempts: []pipeline.Attempt{{Number: 1, Started: t0.Add(time.Second), Finished: t0.Add(20 * time.Second)}}},
			{Key: "build", State: pipeline.Running, Attempts: []pipeline.Attempt{{Number: 1, Started: t0.Add(24 * time.Second)}}}}}
	j := jobs(r, t0.Add(30*time.Second))
	if got := strings.Join(j[2].Needs, " "); got != "test" || j[0].Group != "test" || j[1].Group != "test" {
		t.Errorf("build needs %q; want the group of both of the matrix", got)
	}
	if j[1].Used != 19*time.Second || j[2].Used != 6*time.Second {
		t.Errorf("used %s and %s; want 19s and 6s", j[1].Used, j[2].Used)
	}
	if j[2].Queued != 4*time.Second || j[0].Queued != time.Second {
		t.Errorf("waited %s and %s; want 4s and 1s", j[2].Queued, j[0].Queued)
	}
}

// looks is a store that counts what it is asked for.
type looks struct {
	all   []control.Sample
	given int
}

func (l *looks) Groups(context.Context, deploy.RolloutID) (map[deploy.Role]map[string]deploy.Counters, error) {
	return nil, nil
}
func (l *looks) Keep(context.Context, control.Sample, []deploy.Counters) error { return nil }
func (l *looks) Samples(_ context.Context, _ deploy.RolloutID, since time.Time) ([]control.Sample, error) {
	var out []control.Sample
	for _, s := range l.all {
		if s.Time.After(since) {
			out = append(out, s)
		}
	}
	l.given += len(out)
	return out, nil
}

func TestAPageThatLooksAgainReadsOnlyNewSamples(t *testing.T) {
	store := &looks{}
	d := New(Config{Control: control.Service{Store: store}})
	ctx := identity.With(t.Context(), identity.System("test"))
	for n := range 20 {
		store.all = append(store.all, control.Sample{Time: t0.Add(time.Duration(n) * time.Second), Have: int64(n)})
		for range 3 {
			got, err := d.samples(ctx, "rollout_1")
			if err != nil || len(got) != n+1 || got[n].Have != int64(n) {
				t.Fatalf("look %d has %d samples, %v", n, len(got), err)
			}
		}
	}
	if store.given != 20 {
		t.Errorf("%d samples were read; want each once", store.given)
	}
	for i := range 2 * keptRollouts {
		if _, err := d.samples(ctx, deploy.RolloutID(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.seen.of) > keptRollouts {
		t.Errorf("%d rollouts are kept", len(d.seen.of))
	}
}
