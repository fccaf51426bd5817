package engine

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/lease"
)

// CopyKeeper brings to copies in other registries what is signed about their images later: how a rollout ended, a newer scan. It keeps nothing:
// what is behind is found by comparing what refers to an image here with what was copied.
type CopyKeeper struct {
	DB     *db.DB
	Rows   artifact.CopyRows
	Copies artifact.Copies
	Holder string
}

// Name makes the keeper a part of the process.
func (k *CopyKeeper) Name() string { return "artifact/copies" }

// Run works until ctx ends, on one replica at a time.
func (k *CopyKeeper) Run(ctx context.Context) error {
	return lease.Hold(ctx, k.DB, "artifact/copies", k.Holder, func(ctx context.Context, _ lease.Lease) error {
		for {
			if _, err := k.Pass(ctx, time.Now()); err != nil && ctx.Err() == nil {
				slog.ErrorContext(ctx, "copies in other registries not kept up to date", "error", err)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(5 * time.Second):
			}
		}
	})
}

// Pass brings what is behind at now up to date and returns how many copies that were. A registry that does not answer is asked again later
// and holds up no other. Two replicas that did the same would only send it twice.
func (k *CopyKeeper) Pass(ctx context.Context, now time.Time) (done int, err error) {
	behind, err := k.Rows.Behind(ctx, now, 4)
	if err != nil {
		return 0, fmt.Errorf("list copies that are behind: %w", err)
	}
	var all sync.WaitGroup
	errs := make([]error, len(behind))
	for i, c := range behind {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
			defer cancel()
			errs[i] = k.Copies.Copy(ctx, c.Repository, c.Digest, "", []string{c.To})
		})
	}
	all.Wait()
	for i, c := range behind {
		switch {
		case errs[i] == nil:
			done++
		case ctx.Err() != nil:
			return done, ctx.Err()
		default:
			sentence := "The copy could not be brought up to date: see the server's log."
			if fault.KindOf(errs[i]) != "" {
				sentence = fault.Sentence(errs[i])
			}
			slog.WarnContext(ctx, "copy in another registry is behind", "digest", c.Digest, "to", c.To, "error", errs[i])
			if err := k.Rows.Failed(ctx, c.Failed(sentence, time.Now())); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}
