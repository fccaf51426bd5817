package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"weir/internal/base/fault"
	"weir/internal/base/lease"
	"weir/internal/deploy"
)

// copiesAtOnce bounds copies under way, so that one registry that is slow does not stop the others, and many do not stop this server.
const copiesAtOnce = 4

// copies brings releases that policy has let in to the registries of their environments, until ctx ends. Which are wanted stands in the rows:
// after a crash the copy is made again, which sends only what is missing.
func (e *Engine) copies(ctx context.Context, l lease.Lease) {
	woken, cancel := e.Store.Subscribe()
	defer cancel()
	ended := make(chan struct{}, 1) // a wake-up
	var under sync.WaitGroup
	defer under.Wait()
	for ctx.Err() == nil {
		next := time.Minute
		waiting, err := e.Store.Promotions(ctx, deploy.Filter{Live: true, Limit: 500})
		if err != nil {
			slog.ErrorContext(ctx, "releases not copied", "error", err)
			next = time.Second
		}
		now := time.Now()
		for _, p := range waiting {
			if p.Copy == nil || !p.Copy.Verified.IsZero() {
				continue
			}
			if !p.Copy.Wanted(now) {
				next = min(next, p.Copy.Next.Sub(now))
				continue
			}
			if e.begin(p.ID) {
				under.Go(func() {
					e.bring(ctx, l, p)
					e.mu.Lock()
					delete(e.copying, p.ID)
					e.mu.Unlock()
					e.ask()
					select {
					case ended <- struct{}{}:
					default:
					}
				})
			}
		}
		select {
		case <-ctx.Done():
		case <-woken:
		case <-ended:
		case <-time.After(max(next, 10*time.Millisecond)):
		}
	}
}

func (e *Engine) begin(p deploy.PromotionID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.copying[p] || len(e.copying) >= copiesAtOnce {
		return false
	}
	e.copying[p] = true
	return true
}

// bring makes one copy and stores what came of it.
func (e *Engine) bring(ctx context.Context, l lease.Lease, p deploy.Promotion) {
	problem := fault.New(fault.Unavailable, "This server cannot copy to other registries, so %s cannot be copied to %s.", p.Version, p.Copy.To)
	if e.Copy != nil {
		problem = e.copy(ctx, p)
	}
	if ctx.Err() != nil {
		return // whoever has the lease next does it again
	}
	if problem != nil {
		slog.WarnContext(ctx, "release not copied", "promotion", p.ID, "to", p.Copy.To, "error", problem)
	}
	if err := e.Service.Copied(ctx, l.Check, p.ID, p.Copy.To, problem); err != nil && ctx.Err() == nil {
		slog.ErrorContext(ctx, "copy of a release not recorded", "promotion", p.ID, "error", err)
	}
}

func (e *Engine) copy(ctx context.Context, p deploy.Promotion) error {
	r, err := e.Store.Release(ctx, p.ReleaseID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Minute)
	defer cancel()
	return e.Config.Copy(ctx, r, p.Copy.To)
}
