package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"weir/internal/base/db"
)

// Finding is one thing that an audit found wrong.
type Finding struct {
	Kind     string `json:"kind"` // edited | removed | truncated | recomputed | unsigned
	Position int64  `json:"position"`
	Message  string `json:"message"`
}

// Report is the outcome of an audit.
type Report struct {
	Entries        int64     `json:"entries"`         // sequenced entries found
	Pending        int64     `json:"pending"`         // committed, not yet sequenced
	CheckpointSize int64     `json:"checkpoint_size"` // entries that the given checkpoint covers
	HeadSize       int64     `json:"head_size"`       // entries that the newest stored checkpoint covers
	Findings       []Finding `json:"findings"`
}

// OK reports whether nothing was found.
func (r Report) OK() bool { return len(r.Findings) == 0 }

// Audit recomputes the whole tree from the leaves in a database and holds it
// against a checkpoint that was kept elsewhere. It trusts nothing in the
// database: a holder of it can edit, remove, cut off or recompute everything,
// but cannot make another tree with the checkpoint's root, nor sign a new one.
// verifierKeys are those of all generations that are trusted.
func Audit(ctx context.Context, q db.Querier, checkpoint string, verifierKeys ...string) (Report, error) {
	kept, err := ParseCheckpoint(checkpoint, verifierKeys...)
	if err != nil {
		return Report{}, err
	}
	rep := Report{CheckpointSize: kept.Size}
	add := func(kind string, pos int64, msg string, args ...any) {
		if len(rep.Findings) < 20 {
			rep.Findings = append(rep.Findings, Finding{kind, pos, fmt.Sprintf(msg, args...)})
		}
	}
	if err := q.QueryRow(ctx, "select count(*) from ledger_entry where position is null").Scan(&rep.Pending); err != nil {
		return rep, err
	}

	// One pass: leaves in order, tree rebuilt in memory, stored hashes compared.
	tree := memory{}
	var atKept tlog.Hash
	haveKept := kept.Size == 0
	next := int64(0)
	for {
		rows, err := q.Query(ctx, "select position, leaf from ledger_entry where position >= ? order by position limit 1000", next)
		type row struct {
			pos  int64
			leaf string
		}
		page, err := db.Collect(rows, err, func(r *sql.Rows) (x row, err error) { return x, r.Scan(&x.pos, &x.leaf) })
		if err != nil {
			return rep, err
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			if e.pos != next {
				add("removed", next, "Entry %d is missing: the next one found is %d.", next, e.pos)
				next = -1
				break
			}
			hashes, err := tlog.StoredHashes(e.pos, []byte(e.leaf), tree)
			if err != nil {
				return rep, err
			}
			tree = append(tree, hashes...)
			if stored, err := (hashReader{ctx, q}).ReadHashes([]int64{tlog.StoredHashIndex(0, e.pos)}); err != nil || stored[0] != hashes[0] {
				add("edited", e.pos, "Entry %d does not have the hash that the tree holds for it: it was changed after it was written.", e.pos)
			}
			next++
			if next == kept.Size {
				haveKept = true
				if atKept, err = tlog.TreeHash(next, tree); err != nil {
					return rep, err
				}
			}
		}
		if next < 0 {
			return rep, nil
		}
	}
	rep.Entries = next

	switch {
	case !haveKept:
		add("truncated", next, "The ledger ends at entry %d, but the checkpoint covers %d: the newest %d entries were cut off.", next, kept.Size, kept.Size-next)
	case kept.Size > 0 && atKept != kept.Root && rep.OK():
		add("recomputed", 0, "The first %d entries hash to another root than the checkpoint's, though each agrees with the tree stored beside it: the ledger was rewritten and its tree recomputed.", kept.Size)
	}

	// The newest stored checkpoint must be signed and must cover what is there.
	var newest string
	switch err := q.QueryRow(ctx, "select note from ledger_checkpoint order by size desc limit 1").Scan(&newest); {
	case errors.Is(err, sql.ErrNoRows):
		if next > 0 {
			add("unsigned", 0, "The database holds no checkpoint for its %d entries.", next)
		}
		return rep, nil
	case err != nil:
		return rep, err
	}
	last, err := ParseCheckpoint(newest, verifierKeys...)
	if err != nil {
		add("unsigned", next, "The newest checkpoint in the database is not signed by the log: entries after %d cannot be trusted.", kept.Size)
		return rep, nil
	}
	rep.HeadSize = last.Size
	switch {
	case last.Size > next:
		add("truncated", next, "The ledger ends at entry %d, but its newest checkpoint covers %d.", next, last.Size)
	case last.Size < next:
		add("unsigned", last.Size, "Entries from %d on are in no signed checkpoint.", last.Size)
	case next > 0 && rep.OK():
		if root, err := tlog.TreeHash(next, tree); err != nil {
			return rep, err
		} else if root != last.Root {
			add("recomputed", kept.Size, "The entries after the checkpoint hash to another root than the newest signed one: they were rewritten.")
		}
	}
	return rep, nil
}

// memory is a tree under reconstruction, in the order of stored hashes.
type memory []tlog.Hash

func (m memory) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, idx := range indexes {
		if idx < 0 || idx >= int64(len(m)) {
			return nil, fmt.Errorf("tree hash %d is not there yet", idx)
		}
		out[i] = m[idx]
	}
	return out, nil
}
