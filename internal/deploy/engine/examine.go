package engine

import (
	"context"
	"log/slog"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
	"weir/internal/deploy"
	"weir/internal/source"
)

// between is the longest between two looks at what runs: time alone ends
// exceptions, and makes data old.
const between = time.Hour

// examine asks policy about what runs whenever the answer may be another one:
// more is known of published vulnerabilities, other rules landed, another
// release runs, or time went by. Environments are asked about one by one, and
// what cannot be asked about now is logged and comes again.
func (e *Engine) examine(ctx context.Context, l lease.Lease) {
	wake := make(chan struct{}, 1) // a wake-up
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		err := e.Journal.Follow(ctx, "deploy/exposure", func(_ context.Context, f journal.Fact) error {
			if f.Type == artifact.FactAdvisories || f.Type == deploy.FactRolloutFinished || f.Type == source.FactPushed || f.Type == source.FactChangeEnded {
				select {
				case wake <- struct{}{}:
				default:
				}
			}
			return nil
		})
		if err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, "facts not followed", "error", err)
		}
	}()
	defer func() { <-followed }()
	for {
		next := between
		envs, err := e.Store.Environments(ctx, "default")
		if err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, "what runs is not compared with published vulnerabilities", "error", err)
			next = time.Minute
		}
		for _, env := range envs {
			if err := e.Service.Examine(ctx, l.Check, env.ServiceID, env.Environment); err != nil && ctx.Err() == nil {
				slog.ErrorContext(ctx, "what runs is not compared with published vulnerabilities", "service", env.Service, "environment", env.Environment, "error", err)
				next = time.Minute
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-time.After(next):
		}
	}
}
