package retention

import (
	"context"
	"fmt"
	"slices"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/pipeline"
)

// Share is one part's stored bytes, with what knows which of them are referred to.
type Share struct {
	Name  string
	Blobs blob.Store
	Known func(ctx context.Context, some []blob.Digest) (map[blob.Digest]bool, error)
}

// orphanAge is how long bytes without a row are left alone: far longer than anything takes from its first byte to its row.
const orphanAge = 48 * time.Hour

const (
	orphanBatch = 200
	orphanMost  = 100_000 // at one look
	orphanFew   = 1000    // up to here nobody wonders
)

// orphans removes bytes that were stored and whose row never came, because the server died in between. Only stores that can tell how old their bytes are
// are searched; in a bucket such bytes stay.
func (c *Collector) orphans(ctx context.Context, by string, dry bool, g *pipeline.Garbage) error {
	// By the machine's clock, as the bytes have it.
	before := time.Now().Add(-orphanAge)
	for _, s := range append([]Share{{"logs", c.LogBlobs, c.Logs.Known}, {"artifacts", c.Blobs, c.Rows.Known}}, c.Others...) {
		w, ok := s.Blobs.(blob.Sweeper)
		if !ok {
			continue
		}
		lost, bytes, seen, err := s.lost(ctx, w, before)
		if err != nil {
			return err
		}
		if len(lost) > orphanFew && len(lost) > seen/2 {
			return fault.New(fault.Conflict, "Of %d stored blobs of %s the database knows only %d. Is it the database of these bytes? Nothing of them was removed; look at database and blobs in the configuration.", seen, s.Name, seen-len(lost))
		}
		g.Orphans, g.OrphanBytes = g.Orphans+len(lost), g.OrphanBytes+bytes
		for some := range slices.Chunk(lost, orphanBatch) {
			if dry {
				break
			}
			// First what is said, then what is done: after a crash in between it is said twice.
			if err := c.DB.Write(ctx, func(tx *db.Tx) error {
				return c.Ledger(ctx, tx, pipeline.Entry{Actor: by, Action: "pipeline.garbage_removed", Subject: "orphans", Data: map[string]any{"of": s.Name, "blobs": some}})
			}); err != nil {
				return err
			}
			for _, d := range some {
				if _, err := w.DeleteOlder(ctx, d, before); err != nil {
					return fmt.Errorf("delete %s of %s: %w", d, s.Name, err)
				}
			}
		}
	}
	return nil
}

// lost lists old bytes of a share that nothing refers to, and how many old ones there are.
func (s Share) lost(ctx context.Context, w blob.Sweeper, before time.Time) (lost []blob.Digest, bytes int64, seen int, err error) {
	var some []blob.Digest
	sizes := map[blob.Digest]int64{}
	look := func() error {
		known, err := s.Known(ctx, some)
		if err != nil {
			return fmt.Errorf("look for rows of %s: %w", s.Name, err)
		}
		for _, d := range some {
			if !known[d] && len(lost) < orphanMost {
				lost, bytes = append(lost, d), bytes+sizes[d]
			}
		}
		some, sizes, seen = some[:0], map[blob.Digest]int64{}, seen+len(some)
		return nil
	}
	err = w.Older(ctx, before, func(d blob.Digest, size int64) error {
		if some, sizes[d] = append(some, d), size; len(some) < orphanBatch {
			return nil
		}
		return look()
	})
	if err == nil {
		err = look()
	}
	return lost, bytes, seen, err
}
