package engine_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/deploy"
	"weir/internal/deploy/engine"
)

// elsewhere is another registry that may be down.
type elsewhere struct {
	mu     sync.Mutex
	down   string
	copied []string
}

func (e *elsewhere) copy(_ context.Context, r deploy.Release, to string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down != "" {
		return fault.New(fault.Unavailable, "%s", e.down)
	}
	e.copied = append(e.copied, r.Digest()+" "+to)
	return nil
}

func (e *elsewhere) is(down string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = down
}

func (e *elsewhere) got() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.copied, ", ")
}

var withRegistry = strings.Replace(weirYAML, "  production:\n", "  production:\n    registry: registry.example/prod/checkout\n", 1)

func (r *rig) startCopying(to *elsewhere) {
	r.t.Helper()
	r.startWith(func(c *engine.Config) { c.Copy = to.copy })
}

func (r *rig) promotion(environment string) deploy.Promotion {
	r.t.Helper()
	ps, err := r.store.Promotions(r.t.Context(), deploy.Filter{Environment: environment, Limit: 1})
	if err != nil || len(ps) == 0 {
		r.t.Fatalf("promotions to %s: %v, %v", environment, ps, err)
	}
	return ps[0]
}

func TestARolloutBeginsOnlyOnceTheReleaseLiesInTheRegistryOfItsEnvironment(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.trunk.lands(t, "rev1.0.0", withRegistry)
		to := &elsewhere{down: "sha256:1.0.0 was not copied to registry.example/prod/checkout: no answer."}
		r.startCopying(to)
		r.admit("1.0.0")
		r.until("staging to run 1.0.0", r.runs("staging", "1.0.0"))
		if got := to.got(); got != "" {
			t.Errorf("staging, which names no registry, was copied to %s", got)
		}
		r.approve("1.0.0")
		r.until("the promotion to say why it waits", func() bool {
			p := r.promotion("production")
			return p.State == deploy.Waiting && len(p.Blocks) == 1 && p.Blocks[0].Rule == "copy" && strings.Contains(p.Blocks[0].Message, "no answer. It is tried again.")
		})
		if e, _ := r.store.Environment(t.Context(), "svc_1", "production"); e.Rollout != "" || e.Current != "" {
			t.Errorf("production is %+v before the copy is there", e)
		}
		// The server dies meanwhile; the next one makes the copy that the rows ask for.
		r.stop()
		to.is("")
		r.startCopying(to)
		r.until("production to run 1.0.0", r.runs("production", "1.0.0"))
		if got := to.got(); got != "sha256:1.0.0 registry.example/prod/checkout" {
			t.Errorf("copied %s; want the release once, to production's registry", got)
		}
		if p := r.promotion("production"); p.State != deploy.Allowed || p.Copy == nil || p.Copy.Verified.IsZero() || p.Copy.Failure != "" {
			t.Errorf("the promotion is %+v", p)
		}
	})
}

func TestAServerThatCannotCopySaysSo(t *testing.T) {
	r := newRig(t, dbtest.SQLite(t))
	r.trunk.lands(t, "rev1.0.0", strings.Replace(withRegistry, "    approvals: {count: 1}\n", "", 1))
	r.start()
	r.admit("1.0.0")
	r.until("the promotion to say that there is no way", func() bool {
		p := r.promotion("production")
		return len(p.Blocks) == 1 && strings.Contains(p.Blocks[0].Message, "This server cannot copy to other registries, so 1.0.0 cannot be copied to registry.example/prod/checkout.")
	})
}
