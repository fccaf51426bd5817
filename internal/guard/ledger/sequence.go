package ledger

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"weir/internal/base/db"
	"weir/internal/base/lease"
)

// Sequence gives entries their place in the tree and signs checkpoints, until
// ctx ends. It runs on every replica; the lease lets one of them work.
func (l *Log) Sequence(ctx context.Context, holder string) error {
	for {
		if err := l.sequenceWhileAble(ctx, holder); !errors.Is(err, errLacks) {
			return err
		}
		// The lease is given back: a server that has the key takes it.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Second):
		}
	}
}

func (l *Log) sequenceWhileAble(ctx context.Context, holder string) error {
	return lease.Hold(ctx, l.db, "ledger/sequencer", holder, func(ctx context.Context, held lease.Lease) error {
		appended, cancel := l.db.Subscribe(topicAppended)
		defer cancel()
		// Another replica may have signed since this one started.
		if err := l.checkAnchors(ctx); err != nil {
			return err
		}
		for {
			n, err := l.sequence(ctx, held)
			switch {
			case errors.Is(err, lease.ErrFenced):
				return err
			case errors.Is(err, errLacks):
				slog.ErrorContext(ctx, "ledger not signed", "error", err)
				return err
			case err != nil && ctx.Err() == nil:
				slog.ErrorContext(ctx, "ledger entries not sequenced", "error", err)
			case n > 0:
				continue
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-appended:
			case <-time.After(time.Second):
			}
		}
	})
}

type pending struct{ id, leaf string }

// sequence extends the tree by what has been committed by now, signs a
// checkpoint in the same transaction, and returns how many entries it placed.
func (l *Log) sequence(ctx context.Context, held lease.Lease) (n int, err error) {
	var some int
	if err := l.db.QueryRow(ctx, "select count(*) from (select 1 from ledger_entry where position is null limit 1) pending").Scan(&some); err != nil || some == 0 {
		return 0, err
	}
	var cp Checkpoint
	err = l.db.Write(ctx, func(tx *db.Tx) error {
		if err := held.Check(ctx, tx); err != nil {
			return err
		}
		key, err := l.signer(ctx, tx)
		if err != nil {
			return err
		}
		old, _, err := l.head(ctx, tx)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "select id, leaf from ledger_entry where position is null order by id limit 256")
		entries, err := db.Collect(rows, err, func(r *sql.Rows) (p pending, err error) { return p, r.Scan(&p.id, &p.leaf) })
		if err != nil {
			return err
		}
		size := old.Size
		for _, e := range entries {
			hashes, err := tlog.StoredHashes(size, []byte(e.leaf), hashReader{ctx, tx})
			if err != nil {
				return err
			}
			for i, h := range hashes {
				if _, err := tx.Exec(ctx, "insert into ledger_hash (org, idx, hash) values (?, ?, ?)",
					org, tlog.StoredHashIndex(0, size)+int64(i), hex.EncodeToString(h[:])); err != nil {
					return err
				}
			}
			if _, err := tx.Exec(ctx, "update ledger_entry set position = ? where id = ?", size, e.id); err != nil {
				return err
			}
			size++
		}
		root, err := tlog.TreeHash(size, hashReader{ctx, tx})
		if err != nil {
			return err
		}
		if cp, err = key.sign(size, root); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "insert into ledger_checkpoint (org, size, note, key_id, at) values (?, ?, ?, ?, ?)",
			org, size, cp.Note, key.KeyID(), time.Now().UnixMicro()); err != nil {
			return err
		}
		n = len(entries)
		tx.Wake(topicSequenced)
		return nil
	})
	if err != nil || n == 0 {
		return 0, err
	}
	for _, a := range l.anchors {
		// After the commit: an anchor behind the database is normal after a
		// crash, one ahead of it would say that the database is an old copy.
		if err := a.Store(ctx, cp); err != nil {
			slog.WarnContext(ctx, "checkpoint not anchored", "anchor", a.Name(), "error", err)
		}
	}
	return n, nil
}
