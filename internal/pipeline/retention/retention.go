// Package retention removes logs and artifacts of runs that are past their time.
//
// What goes is decided by rows alone: the end of a run, whether it built a release, and how many newer runs its workflow has. Rows
// go first, with an entry in the ledger, and bytes after, once nothing refers to them; a crash in between leaves bytes that the
// next look deletes. Runs, their results and the outcomes of their tests stay.
package retention

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/db"
	"weir/internal/base/lease"
	"weir/internal/pipeline"
	"weir/internal/pipeline/logs/logdb"
	"weir/internal/pipeline/pipelinedb"
)

// Collector implements pipeline.Collector and, run as a part, collects by itself.
type Collector struct {
	DB       *db.DB
	Rows     *pipelinedb.Store
	Logs     *logdb.Store
	Blobs    blob.Store // of artifacts
	LogBlobs blob.Store
	Ledger   pipeline.Ledger
	Rules    pipeline.Retention
	// Others are further stores that are searched for bytes which nothing refers to.
	Others []Share
	Holder string
	Now    func() time.Time
}

var _ pipeline.Collector = (*Collector)(nil)

const (
	batch = 100 // runs of one transaction
	every = 6 * time.Hour
	soon  = 5 * time.Minute // after a start, which has other things to do
)

// Name implements part.Service.
func (c *Collector) Name() string { return "retention" }

// Run implements part.Service: one replica looks now and then.
func (c *Collector) Run(ctx context.Context) error {
	return lease.Hold(ctx, c.DB, "pipeline/retention", c.Holder, func(ctx context.Context, _ lease.Lease) error {
		for wait := soon; ; wait = every {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(wait):
			}
			g, err := c.Collect(ctx, "system:pipeline", false)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				slog.ErrorContext(ctx, "retention failed; it will be tried again", "error", err)
			case !g.Nothing():
				slog.InfoContext(ctx, "retention removed", "logs", g.Logs, "artifacts", g.Artifacts, "orphans", g.Orphans, "bytes", g.LogBytes+g.ArtifactBytes+g.OrphanBytes)
			}
		}
	})
}

// Collect implements pipeline.Collector.
func (c *Collector) Collect(ctx context.Context, by string, dry bool) (g pipeline.Garbage, err error) {
	now := time.Now()
	if c.Now != nil {
		now = c.Now()
	}
	g = pipeline.Garbage{DryRun: dry, Before: now.Add(-c.Rules.Logs).UTC()}
	logs := kind{
		age: c.Rules.Logs, list: c.Logs.Sealed, remove: c.Logs.Remove,
		count: func(ctx context.Context, runs []pipeline.RunID) error {
			n, bytes, err := c.Logs.Kept(ctx, runs)
			g.Logs, g.LogBytes, g.LogRuns = g.Logs+int(n), g.LogBytes+bytes, g.LogRuns+len(runs)
			return err
		}}
	artifacts := kind{
		age: c.Rules.Artifacts, list: c.Rows.WithArtifacts, remove: c.Rows.RemoveArtifacts,
		count: func(ctx context.Context, runs []pipeline.RunID) error {
			n, bytes, err := c.Rows.CountArtifacts(ctx, runs)
			g.Artifacts, g.ArtifactBytes, g.ArtifactRuns = g.Artifacts+n, g.ArtifactBytes+bytes, g.ArtifactRuns+len(runs)
			return err
		}}
	for name, k := range map[string]kind{"logs": logs, "artifacts": artifacts} {
		if err := c.each(ctx, k, now, func(runs []pipeline.RunID) error {
			before := g
			if err := k.count(ctx, runs); err != nil || dry {
				return err
			}
			return c.DB.Write(ctx, func(tx *db.Tx) error {
				if err := k.remove(ctx, tx, runs, now); err != nil {
					return err
				}
				return c.Ledger(ctx, tx, pipeline.Entry{Actor: by, Action: "pipeline.garbage_removed", Subject: name, Data: map[string]any{
					"from": runs[0], "to": runs[len(runs)-1], "runs": len(runs), "logs": g.Logs - before.Logs, "artifacts": g.Artifacts - before.Artifacts,
					"bytes": g.LogBytes + g.ArtifactBytes - before.LogBytes - before.ArtifactBytes}})
			})
		}, &g); err != nil {
			return g, fmt.Errorf("remove %s: %w", name, err)
		}
	}
	if err := c.orphans(ctx, by, dry, &g); err != nil {
		return g, err
	}
	if dry {
		return g, nil
	}
	if _, err := c.Logs.Clear(ctx, c.LogBlobs); err != nil {
		return g, err
	}
	_, err = c.Rows.ClearWaste(ctx, c.Blobs, now)
	return g, err
}

// kind is one sort of things that runs leave.
type kind struct {
	age    time.Duration
	list   func(ctx context.Context, before time.Time, after pipeline.RunID, limit int) ([]pipeline.RunID, error)
	count  func(ctx context.Context, runs []pipeline.RunID) error
	remove func(ctx context.Context, tx *db.Tx, runs []pipeline.RunID, now time.Time) error
}

// each calls do with the runs whose things may go, some at a time, the oldest first.
func (c *Collector) each(ctx context.Context, k kind, now time.Time, do func([]pipeline.RunID) error, g *pipeline.Garbage) error {
	before, releases := now.Add(-k.age), now.Add(-max(k.age, c.Rules.Releases))
	for after := pipeline.RunID(""); ; {
		ids, err := k.list(ctx, before, after, batch)
		if err != nil || len(ids) == 0 {
			return err
		}
		after = ids[len(ids)-1]
		gone, err := c.Rows.MayGo(ctx, ids, before, releases, c.Rules.Newest)
		if err != nil {
			return err
		}
		if len(gone) == 0 {
			continue
		}
		if g.Oldest == "" || gone[0] < g.Oldest {
			g.Oldest = gone[0]
		}
		g.Newest = max(g.Newest, gone[len(gone)-1])
		if err := do(gone); err != nil {
			return err
		}
	}
}
