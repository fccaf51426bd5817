package engine_test

import (
	"strings"
	"testing"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/control"
	"weir/internal/control/controldb"
	"weir/internal/control/engine"
	"weir/internal/deploy"
	"weir/internal/guard/identity"
)

var t0 = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

var rollout = deploy.Rollout{ID: "rol_1", ReleaseID: "rel_2", FromReleaseID: "rel_1", State: deploy.Baking, Plan: deploy.Plan{Strategy: deploy.Steps, Steps: []float64{.05}, Detect: .05}}

func counted(role deploy.Role, group string, requests, failed int64) deploy.Counters {
	c := deploy.Counters{Role: role, Group: group, Requests: requests, Errors: failed, ReleaseID: "rel_2", Buckets: make([]int64, len(deploy.LatencyBounds)+1)}
	if role != deploy.Canary {
		c.ReleaseID = "rel_1"
	}
	c.Buckets[0] = requests
	return c
}

func TestVerdictsFollowTheCounters(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		if err := controldb.Migrate(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		store := controldb.New(d)
		e := engine.New(store)
		look := func(after time.Duration, c ...deploy.Counters) deploy.Verdict {
			t.Helper()
			v, err := e.Look(t.Context(), rollout, c, t0.Add(after))
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		if v := look(0); v.Outcome != deploy.Hold {
			t.Errorf("without data: %+v; want hold", v)
		}
		if v := look(time.Second, counted(deploy.Canary, "c", 40, 1), counted(deploy.Baseline, "b", 40, 0), counted(deploy.Stable, "s", 900, 900)); v.Outcome != deploy.Hold || !strings.Contains(v.Words, "Too few requests") {
			t.Errorf("few requests: %+v; want hold", v)
		}
		if v := look(3*time.Second, counted(deploy.Canary, "c", 4000, 2), counted(deploy.Baseline, "b", 4000, 2)); v.Outcome != deploy.Pass {
			t.Errorf("as good: %+v; want pass", v)
		}
		// The host restarts: new groups from zero, and nothing is lost.
		look(5*time.Second, counted(deploy.Canary, "c2", 100, 0), counted(deploy.Baseline, "b2", 100, 0))
		s, found, err := store.State(t.Context(), "rol_1")
		if err != nil || !found || s.Canary.Requests != 4100 || s.Baseline.Errors != 2 {
			t.Errorf("state %+v, %v; want the counts of both groups", s, err)
		}
		// An old answer takes nothing away.
		look(6*time.Second, counted(deploy.Canary, "c2", 50, 0))
		if s, _, _ = store.State(t.Context(), "rol_1"); s.Canary.Requests != 4100 {
			t.Errorf("canary requests %d; want 4100", s.Canary.Requests)
		}
		v := look(7*time.Second, counted(deploy.Canary, "c2", 1000, 60), counted(deploy.Baseline, "b2", 1000, 0))
		if v.Outcome != deploy.Stop || !strings.Contains(v.Words, "Worse than the baseline: 62 of 5000 requests failed") || !strings.Contains(v.Words, "the limit was") {
			t.Errorf("worse: %+v; want stop, with figure and limit", v)
		}
		ctx := identity.With(t.Context(), identity.Actor{ID: "ann", Name: "ann", Kind: identity.User, Roles: []string{identity.Developer}})
		now, samples, looked, err := control.NewService(store).Rollout(ctx, "rol_1")
		if err != nil || !looked || now.Outcome != deploy.Stop || now.Metrics[0].Evidence < 1 {
			t.Errorf("service says %+v, %v; want what was decided by", now, err)
		}
		if len(samples) < 3 || samples[len(samples)-1].Outcome != deploy.Stop {
			t.Errorf("%d samples; want the chart with its last point", len(samples))
		}
	})
}
