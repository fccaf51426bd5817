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

var rollout = deploy.Rollout{
	ID: "rol_1", ServiceID: "svc_1", Environment: "production", ReleaseID: "rel_2", FromReleaseID: "rel_1", State: deploy.Baking, Created: t0,
	Plan: deploy.Plan{Strategy: deploy.Steps, Steps: []float64{.05}, Detect: .05},
}

func counted(role deploy.Role, group string, requests, failed int64) deploy.Counters {
	c := deploy.Counters{
		ServiceID: "svc_1", Environment: "production", Role: role, Group: group, Since: t0, Requests: requests, Errors: failed,
		ReleaseID: "rel_2", Buckets: make([]int64, len(deploy.LatencyBounds)+1),
	}
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
		newest := func() control.Sample {
			t.Helper()
			all, err := store.Samples(t.Context(), "rol_1", time.Time{})
			if err != nil || len(all) == 0 {
				t.Fatal(all, err)
			}
			return all[len(all)-1]
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
		// The host and the server restart: new groups from zero, a new engine, and nothing is lost.
		e = engine.New(store)
		look(5*time.Second, counted(deploy.Canary, "c2", 100, 0), counted(deploy.Baseline, "b2", 100, 0))
		if s := newest(); s.Canary.Requests != 4100 || s.Baseline.Errors != 2 {
			t.Errorf("sample %+v; want the counts of both groups", s)
		}
		v := look(7*time.Second, counted(deploy.Canary, "c2", 1000, 60), counted(deploy.Baseline, "b2", 1000, 0))
		if v.Outcome != deploy.Stop || !strings.Contains(v.Words, "Worse than the baseline: 62 of 5000 requests failed") || !strings.Contains(v.Words, "the limit was") {
			t.Errorf("worse: %+v; want stop, with figure and limit", v)
		}
		ctx := identity.With(t.Context(), identity.Actor{ID: "ann", Name: "ann", Kind: identity.User, Roles: []string{identity.Developer}})
		samples, err := control.Service{Store: store}.Samples(ctx, "rol_1", time.Time{})
		if err != nil || len(samples) < 4 || samples[len(samples)-1].Outcome != "worse" || samples[len(samples)-1].Metrics[0].Evidence < 1 {
			t.Errorf("samples %+v, %v; want the chart, with what was decided by as its last point", samples, err)
		}
	})
}

// slow gives counts in which some requests were slower than every boundary.
func slow(role deploy.Role, requests, n int64) deploy.Counters {
	c := counted(role, string(role), requests, 0)
	c.Buckets[0], c.Buckets[len(c.Buckets)-1] = requests-n, n
	return c
}

func TestACanaryThatIsSlowForAMomentGoesOnAndOneThatStaysSlowIsStopped(t *testing.T) {
	d := dbtest.SQLite(t)
	if err := controldb.Migrate(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	e := engine.New(controldb.New(d))
	look := func(after time.Duration, canary, baseline deploy.Counters) deploy.Verdict {
		t.Helper()
		v, err := e.Look(t.Context(), rollout, []deploy.Counters{canary, baseline}, t0.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	look(0, slow(deploy.Canary, 100, 0), slow(deploy.Baseline, 100, 0))
	if v := look(2*time.Second, slow(deploy.Canary, 1000, 60), slow(deploy.Baseline, 1000, 1)); v.Outcome != deploy.Hold || !strings.Contains(v.Words, "only in 1 of 5 seconds") {
		t.Errorf("a burst: %+v; want hold", v)
	}
	var v deploy.Verdict
	for n := int64(1); n <= 4; n++ {
		v = look(2*time.Second+time.Duration(n)*time.Second, slow(deploy.Canary, 1000+100*n, 60+6*n), slow(deploy.Baseline, 1000+100*n, 1))
	}
	if v.Outcome != deploy.Stop || !strings.Contains(v.Words, "Slower than the baseline") {
		t.Errorf("after five seconds: %+v; want stop", v)
	}
}
