package deploy

import (
	"strings"
	"testing"
	"time"

	"weir/internal/catalog"
)

var t0 = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func canary() Rollout {
	from := Spec{ReleaseID: "rel_1", Version: "1.0.0", Digest: "sha256:a", Workload: Workload{Replicas: 2}}
	return Rollout{
		ID: "rol_1", Environment: "production", ReleaseID: "rel_2", Version: "1.1.0", FromReleaseID: "rel_1", FromVersion: "1.0.0", State: Pending, From: &from,
		To: Spec{ReleaseID: "rel_2", Version: "1.1.0", Digest: "sha256:b", Workload: Workload{Replicas: 2}}, Plan: Plan{Strategy: Steps, Steps: []float64{.05, .25, .5}, Bake: time.Minute},
	}
}

// stored is what the engine does with a move.
func stored(m Move, generation *int64) Rollout {
	if m.Slots != nil {
		*generation++
		m.Rollout.Generation = *generation
	}
	return m.Rollout
}

func TestGoodCanaryPassesEveryStepWithAnEqualBaseline(t *testing.T) {
	r, gen, now := canary(), int64(7), t0
	var shares [][3]int
	for i := 0; r.State.Live(); i++ {
		if i > 500 {
			t.Fatalf("does not end: %s", r.State)
		}
		now = now.Add(time.Second)
		m := r.Next(now, Sight{Known: true, Applied: gen, Ready: true}, Verdict{Outcome: Pass})
		if m.Ask {
			m = r.Enter(now, "promoted", "", nil)
		}
		if m.Slots != nil {
			var s [3]int
			for _, slot := range m.Slots {
				s[map[Role]int{Stable: 0, Canary: 1, Baseline: 2}[slot.Role]] = slot.Weight
				if slot.Role == Baseline && (slot.Release.ReleaseID != "rel_1" || slot.Replicas != 2) {
					t.Errorf("baseline %+v; want the stable release with as many processes as the canary", slot)
				}
			}
			shares = append(shares, s)
		}
		if r.State == Baking && m.Rollout.State == Starting && now.Sub(r.StepSince) < time.Minute {
			t.Errorf("left a step after %s; want the bake time of a minute", now.Sub(r.StepSince))
		}
		r = stored(m, &gen)
	}
	want := [][3]int{{9000, 500, 500}, {5000, 2500, 2500}, {0, 5000, 5000}, {10000, 0, 0}}
	if len(shares) != len(want) {
		t.Fatalf("shares %v; want %v", shares, want)
	}
	for i := range want {
		if shares[i] != want[i] {
			t.Errorf("step %d: %v; want %v", i, shares[i], want[i])
		}
	}
	if r.State != Completed {
		t.Errorf("state %s; want completed", r.State)
	}
}

func baking(t *testing.T) (Rollout, *int64) {
	t.Helper()
	gen := int64(0)
	r := stored(canary().Next(t0, Sight{}, Verdict{}), &gen)
	r = stored(r.Next(t0, Sight{Known: true, Applied: gen}, Verdict{}), &gen)
	if r.State != Baking {
		t.Fatalf("state %s; want baking", r.State)
	}
	return r, &gen
}

func TestStopVerdictTakesRequestsBackAndIsRemembered(t *testing.T) {
	for _, paused := range []bool{false, true} {
		r, gen := baking(t)
		if paused {
			r = stored(r.Pause(t0), gen)
		}
		m := r.Next(t0.Add(time.Second), Sight{Known: true, Applied: *gen}, Verdict{Outcome: Stop, Words: "Worse than the baseline."})
		if m.Rollout.State != RollingBack || m.Bad != "Worse than the baseline." || len(m.Slots) != 1 || m.Slots[0].Release.ReleaseID != "rel_1" || m.Slots[0].Weight != 10000 {
			t.Fatalf("paused %v: move %+v; want all requests back on rel_1 and the digest remembered", paused, m)
		}
		r = stored(m, gen)
		if got := r.Next(t0.Add(2*time.Second), Sight{Known: true, Applied: *gen - 1}, Verdict{}); got.Rollout.State != RollingBack {
			t.Errorf("state %s before requests are back; want rolling_back", got.Rollout.State)
		}
		r = stored(r.Next(t0.Add(2*time.Second), Sight{Known: true, Applied: *gen}, Verdict{}), gen)
		if r.State != RolledBack || r.Reason != "Worse than the baseline." {
			t.Errorf("ended %s, %q", r.State, r.Reason)
		}
	}
}

func TestUndecidedStepHoldsAndSaysSoOnce(t *testing.T) {
	r, gen := baking(t)
	v := Verdict{Outcome: Hold, Words: "Too few requests to tell a fault from chance: 212 of 420."}
	s := Sight{Known: true, Applied: *gen}
	if m := r.Next(t0.Add(30*time.Second), s, v); m.Changed(r) {
		t.Errorf("moved before the bake was over: %+v", m)
	}
	m := r.Next(t0.Add(2*time.Minute), s, v)
	if len(m.Decisions) != 1 || m.Decisions[0].Kind != "held" || m.Decisions[0].Reason != v.Words || m.Rollout.State != Baking {
		t.Fatalf("move %+v; want it held with the judge's words", m)
	}
	r = stored(m, gen)
	if m := r.Next(t0.Add(3*time.Minute), s, v); m.Changed(r) {
		t.Errorf("said it twice: %+v", m)
	}
	if m := r.Next(t0.Add(4*time.Minute), s, Verdict{Outcome: Pass}); !m.Ask {
		t.Error("does not go on once enough was seen")
	}
}

func TestReleaseThatCannotRunFailsAndLeavesWhatRan(t *testing.T) {
	gen := int64(0)
	r := stored(canary().Next(t0, Sight{}, Verdict{}), &gen)
	m := r.Next(t0, Sight{Known: true, Applied: 0, Failed: "exit code 3"}, Verdict{})
	if m.Rollout.State != RollingBack || m.Bad != "" || m.Slots[0].Release.ReleaseID != "rel_1" {
		t.Fatalf("move %+v", m)
	}
	r = stored(m, &gen)
	if r = r.Next(t0, Sight{Known: true, Applied: gen}, Verdict{}).Rollout; r.State != Failed || r.Reason != "exit code 3" {
		t.Errorf("ended %s, %q; want failed", r.State, r.Reason)
	}
}

func TestTargetThatDoesNotAnswerHolds(t *testing.T) {
	r, _ := baking(t)
	for _, st := range []State{Starting, Promoting, RollingBack} {
		r.State = st
		if m := r.Next(t0.Add(time.Hour), Sight{}, Verdict{Outcome: Hold}); m.Changed(r) {
			t.Errorf("%s moved without knowing anything: %+v", st, m)
		}
	}
}

func TestFirstReleaseSwitchesFullyAfterHealthAndSaysWhy(t *testing.T) {
	r, gen := canary(), int64(0)
	r.From, r.FromVersion, r.Plan = nil, "", Plan{Strategy: First}
	m := r.Next(t0, Sight{}, Verdict{})
	if len(m.Slots) != 1 || !strings.Contains(m.Decisions[0].Reason, "There is no baseline to compare it with") {
		t.Errorf("move %+v", m)
	}
	r = stored(m, &gen)
	if r = r.Next(t0, Sight{Known: true, Applied: gen}, Verdict{}).Rollout; r.State != Completed {
		t.Errorf("state %s", r.State)
	}
}

func TestPlanKeepsCanaryAndBaselineOfTheSameSize(t *testing.T) {
	p := planOf(catalog.Environment{Strategy: catalog.Strategy{Canary: &catalog.Canary{Steps: []catalog.Percent{.1, .6, .8, 1}}}}, false)
	if len(p.Steps) != 2 || p.Steps[0] != .1 || p.Steps[1] != .5 {
		t.Errorf("steps %v; want 10%% and 50%%", p.Steps)
	}
	if p := planOf(catalog.Environment{}, false); p.Strategy != Rolling {
		t.Errorf("strategy %s; want rolling", p.Strategy)
	}
}

func TestPreviousIsTheNewestGoodReleaseBeforeTheCurrent(t *testing.T) {
	e := Environment{}
	for _, v := range []string{"1", "2", "3"} {
		e = e.now(Spec{ReleaseID: ReleaseID("rel_" + v), Version: v, Digest: "sha256:" + v}, t0)
	}
	if s, _ := e.previous(); s.Version != "2" {
		t.Errorf("previous %s; want 2", s.Version)
	}
	e.Bad = map[string]string{"sha256:2": "worse"}
	s, _ := e.previous()
	if s.Version != "1" {
		t.Errorf("previous %s; want 1, since 2 is bad", s.Version)
	}
	if e = e.now(s, t0); len(e.Ran) != 3 {
		t.Errorf("ran %d; want no release twice", len(e.Ran))
	}
	if _, ok := e.previous(); ok {
		t.Error("there is something before the first")
	}
}
