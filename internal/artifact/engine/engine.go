// Package engine carries what jobs hand in to admitted artifacts: image,
// evidence, policy, tags. One replica works at a time, under a lease.
//
// Each step reads the intake, acts, and stores the next state with what it
// decided. A step that was cut off is done again: building gives the same
// digest, pushing the same bytes and signing the same statement change nothing,
// a tag that points there already is no error. The artifact, its fact and its
// ledger entry are stored with the last state, in one transaction.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/lease"
	"weir/internal/guard/evidence"
)

// patience is how long policy is asked again before an intake is rejected.
const patience = 24 * time.Hour

// Engine works on intakes.
type Engine struct {
	DB      *db.DB
	Store   artifact.Store
	Bytes   artifact.Bytes
	Images  artifact.Images
	Signer  artifact.Signer
	Catalog artifact.Catalog
	Source  artifact.Source
	Runs    artifact.Runs
	Checks  artifact.Checks
	Gate    artifact.Gate
	Copies  artifact.Copies // nil copies nothing
	Dir     string          // for temporary files; "" means the system's
	// ModuleCaches are the Go module caches of a repository's jobs; nil is none.
	ModuleCaches func(repositoryID string) []string
	// Scan compares what an SBOM lists with published vulnerabilities; nil compares nothing.
	Scan func(ctx context.Context, sbom evidence.Evidence) (artifact.Findings, error)
	// Sweep removes bytes that nothing needs; nil does nothing.
	Sweep func(ctx context.Context, now time.Time) (removed int, err error)
	// Holder names this replica.
	Holder string
}

// Name makes the engine a part of the process.
func (e *Engine) Name() string { return "artifact/engine" }

// Run works until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	return lease.Hold(ctx, e.DB, "artifact/engine", e.Holder, func(ctx context.Context, l lease.Lease) error {
		changed, cancel := e.Store.Subscribe()
		defer cancel()
		var swept time.Time
		for {
			n, err := e.Work(ctx, l.Check, time.Now())
			if errors.Is(err, lease.ErrFenced) {
				return err
			}
			if err != nil && ctx.Err() == nil {
				slog.ErrorContext(ctx, "intakes not worked on", "error", err)
			}
			if e.Sweep != nil && time.Since(swept) > time.Hour {
				swept = time.Now()
				if removed, err := e.Sweep(ctx, swept); err != nil && ctx.Err() == nil {
					slog.ErrorContext(ctx, "registry not swept", "error", err)
				} else if removed > 0 {
					slog.InfoContext(ctx, "registry swept", "removed", removed)
				}
			}
			if n > 0 && err == nil {
				continue
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
			case <-time.After(250 * time.Millisecond):
			}
		}
	})
}

// Work takes every intake that wants attention as far as it goes now, and
// returns how many it moved.
func (e *Engine) Work(ctx context.Context, fence artifact.Fence, now time.Time) (moved int, err error) {
	open, err := e.Store.Open(ctx, now, 50)
	if err != nil {
		return 0, fmt.Errorf("list open intakes: %w", err)
	}
	for _, i := range open {
		for !i.State.Done() {
			from := i.State
			if i, err = e.step(ctx, fence, i); err != nil {
				return moved, fmt.Errorf("intake %s in state %s: %w", i.ID, from, err)
			}
			if i.State == from {
				break // it waits
			}
			moved++
		}
	}
	return moved, nil
}

// outcome is what a step has decided.
type outcome struct {
	next     artifact.State
	progress artifact.Progress
	admitted *artifact.Artifact
	reason   string // for a rejection
}

// waiting says what a step waits for; it is no error.
type waiting struct {
	sentence string
	soon     bool               // it is about to happen
	progress *artifact.Progress // to store meanwhile
}

func (w waiting) Error() string { return w.sentence }

// step does what i needs next and stores the result.
func (e *Engine) step(ctx context.Context, fence artifact.Fence, i artifact.Intake) (artifact.Intake, error) {
	act := map[artifact.State]func(context.Context, artifact.Intake) (outcome, error){
		artifact.Received: e.push, artifact.Pushed: e.sign, artifact.Signed: e.judge, artifact.Judged: e.tag, artifact.Tagged: e.admit,
	}[i.State]
	out, err := act(ctx, i)
	now := time.Now()
	if err != nil {
		return e.stay(ctx, fence, i, err, now)
	}
	from := i.State
	i.Progress = out.progress
	i = i.To(out.next, now)
	switch {
	case out.admitted != nil:
		f := out.admitted.Announce()
		return i, e.Store.Save(ctx, fence, from, i, out.admitted, &f, &artifact.Entry{Actor: "artifact", Action: artifact.FactAdmitted, Subject: string(out.admitted.ID),
			Data: map[string]any{"image": out.admitted.Image(), "service_id": out.admitted.ServiceID, "version": out.admitted.Version, "revision": out.admitted.Revision,
				"decision_id": out.admitted.DecisionID, "evidence": i.Progress.Evidence}})
	case out.next == artifact.Rejected:
		i.Failure = out.reason
		f := i.Announce(artifact.FactRejected, out.reason)
		return i, e.Store.Save(ctx, fence, from, i, nil, &f, &artifact.Entry{Actor: "artifact", Action: artifact.FactRejected, Subject: string(i.ID),
			Data: map[string]any{"digest": i.Progress.Digest, "blocks": i.Progress.Blocks}})
	}
	return i, e.Store.Save(ctx, fence, from, i, nil, nil, nil)
}

// stay stores why i did not move. Bytes that can never become an image end it.
func (e *Engine) stay(ctx context.Context, fence artifact.Fence, i artifact.Intake, cause error, now time.Time) (artifact.Intake, error) {
	if ctx.Err() != nil {
		return i, cause
	}
	from := i.State
	var w waiting
	switch {
	case errors.As(cause, &w):
		if w.progress != nil {
			i.Progress = *w.progress
		}
		if w.soon && i.Failure == w.sentence {
			return i, nil // looked at again by the next Work; the row says it already
		}
		if i = i.Waits(w.sentence, now); w.soon {
			i.Next = now
		}
	case fault.Is(cause, fault.Invalid) && (from == artifact.Received || from == artifact.Pushed):
		i = i.To(artifact.Refused, now)
		i.Failure = fault.Sentence(cause)
		f := i.Announce(artifact.FactRejected, i.Failure)
		return i, e.Store.Save(ctx, fence, from, i, nil, &f, &artifact.Entry{Actor: "artifact", Action: "artifact.refused", Subject: string(i.ID), Data: map[string]any{"reason": i.Failure}})
	default:
		slog.ErrorContext(ctx, "intake does not move; it will be tried again", "intake", i.ID, "state", i.State, "attempts", i.Attempts+1, "error", cause)
		i = i.Waits(fault.Sentence(cause), now)
	}
	return i, e.Store.Save(ctx, fence, from, i, nil, nil, nil)
}
