// Package logdb remembers which part of which log is where in the blob store. It is the only reader and writer of its tables.
package logdb

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/db"
	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
)

//go:embed migrations
var migrations embed.FS

// Migrate makes the tables.
func Migrate(ctx context.Context, d *db.DB) error {
	return db.Migrate(ctx, d, "pipeline_logs", migrations)
}

// Store implements logs.Index.
type Store struct{ db *db.DB }

// New returns the index in a database.
func New(d *db.DB) *Store { return &Store{d} }

var _ logs.Index = (*Store)(nil)

// Record implements logs.Index.
func (s *Store) Record(ctx context.Context, chunks []logs.Chunk, outlines map[pipeline.LogRef]pipeline.LogOutline, now time.Time) error {
	texts := make(map[pipeline.LogRef]string, len(outlines))
	for ref, o := range outlines {
		b, err := json.Marshal(o)
		if err != nil {
			return err
		}
		texts[ref] = string(b)
	}
	return s.db.Write(ctx, func(tx *db.Tx) error {
		for _, c := range chunks {
			if err := tx.Later(ctx, `insert into pipeline_log_chunk (run_id, job_id, attempt, start, bytes, line, lines, blob, place, stored)
				values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (run_id, job_id, attempt, start) do nothing`,
				c.Ref.Run, c.Ref.Job, c.Ref.Attempt, c.Offset, c.Bytes, c.Line, c.Lines, c.Blob, c.At, c.Stored); err != nil {
				return fmt.Errorf("record chunk: %w", err)
			}
		}
		for ref, text := range texts {
			if err := tx.Later(ctx, `insert into pipeline_log (run_id, job_id, attempt, outline, sealed, removed) values (?, ?, ?, ?, ?, 0)
				on conflict (run_id, job_id, attempt) do update set outline = excluded.outline, sealed = excluded.sealed`,
				ref.Run, ref.Job, ref.Attempt, text, db.Micros(now)); err != nil {
				return fmt.Errorf("record outline: %w", err)
			}
		}
		return nil
	})
}

// Chunks implements logs.Index.
func (s *Store) Chunks(ctx context.Context, ref pipeline.LogRef) ([]logs.Chunk, error) {
	rows, err := s.db.Query(ctx, `select start, bytes, line, lines, blob, place, stored from pipeline_log_chunk
		where run_id = ? and job_id = ? and attempt = ? order by start`, ref.Run, ref.Job, ref.Attempt)
	return db.Collect(rows, err, func(r *sql.Rows) (logs.Chunk, error) {
		c := logs.Chunk{Ref: ref}
		return c, r.Scan(&c.Offset, &c.Bytes, &c.Line, &c.Lines, &c.Blob, &c.At, &c.Stored)
	})
}

// Outline implements logs.Index.
func (s *Store) Outline(ctx context.Context, ref pipeline.LogRef) (o pipeline.LogOutline, removed time.Time, err error) {
	var text string
	var at int64
	err = s.db.QueryRow(ctx, "select outline, removed from pipeline_log where run_id = ? and job_id = ? and attempt = ?", ref.Run, ref.Job, ref.Attempt).Scan(&text, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return o, removed, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &o)
	}
	if err != nil {
		return o, removed, fmt.Errorf("read outline of %s: %w", ref.Job, err)
	}
	return o, db.Time(at), nil
}

// Kept says how many logs of some runs are kept, and their bytes in the blob store.
func (s *Store) Kept(ctx context.Context, runs []pipeline.RunID) (logs, bytes int64, err error) {
	for _, run := range runs {
		var n, b int64
		if err := s.db.QueryRow(ctx, "select count(*) from pipeline_log where run_id = ? and removed = 0", run).Scan(&n); err != nil {
			return 0, 0, err
		}
		if err := s.db.QueryRow(ctx, "select coalesce(sum(stored), 0) from pipeline_log_chunk where run_id = ?", run).Scan(&b); err != nil {
			return 0, 0, err
		}
		logs, bytes = logs+n, bytes+b
	}
	return logs, bytes, nil
}

// Remove forgets the logs of some runs: their outlines say when. Blobs that nothing refers to any more are waste from then on.
// It runs in the caller's transaction, so that the ledger's entry stands beside it.
func (s *Store) Remove(ctx context.Context, tx *db.Tx, runs []pipeline.RunID, now time.Time) error {
	for _, run := range runs {
		rows, err := tx.Query(ctx, "select distinct blob from pipeline_log_chunk where run_id = ?", run)
		blobs, err := db.Collect(rows, err, func(r *sql.Rows) (b string, err error) { return b, r.Scan(&b) })
		if err != nil {
			return fmt.Errorf("remove logs of %s: %w", run, err)
		}
		if _, err := tx.Exec(ctx, "delete from pipeline_log_chunk where run_id = ?", run); err != nil {
			return fmt.Errorf("remove logs of %s: %w", run, err)
		}
		for _, b := range blobs {
			if _, err := tx.Exec(ctx, `insert into pipeline_log_waste (blob) select cast(? as text) where not exists (select 1 from pipeline_log_chunk where blob = ?)
				on conflict (blob) do nothing`, b, b); err != nil {
				return fmt.Errorf("remove logs of %s: %w", run, err)
			}
		}
		if _, err := tx.Exec(ctx, "update pipeline_log set removed = ?, outline = '{}' where run_id = ? and removed = 0", db.Micros(now), run); err != nil {
			return fmt.Errorf("remove logs of %s: %w", run, err)
		}
	}
	return nil
}

// Clear deletes the blobs that are waste. What is not deleted before a crash is deleted the next time.
func (s *Store) Clear(ctx context.Context, blobs blob.Store) (n int, err error) {
	rows, err := s.db.Query(ctx, "select blob from pipeline_log_waste where not exists (select 1 from pipeline_log_chunk c where c.blob = pipeline_log_waste.blob)")
	waste, err := db.Collect(rows, err, func(r *sql.Rows) (b blob.Digest, err error) { return b, r.Scan(&b) })
	if err != nil {
		return 0, err
	}
	for _, b := range waste {
		if err := blobs.Delete(ctx, b); err != nil {
			return n, fmt.Errorf("delete log: %w", err)
		}
		if err := s.db.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, "delete from pipeline_log_waste where blob = ?", b)
			return err
		}); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Sealed lists runs with logs that were sealed before a time and are kept, from a run on.
func (s *Store) Sealed(ctx context.Context, before time.Time, after pipeline.RunID, limit int) ([]pipeline.RunID, error) {
	rows, err := s.db.Query(ctx, "select distinct run_id from pipeline_log where removed = 0 and sealed < ? and run_id > ? order by run_id limit ?", db.Micros(before), after, limit)
	return db.Collect(rows, err, func(r *sql.Rows) (id pipeline.RunID, err error) { return id, r.Scan(&id) })
}

// Known tells of some bytes which a row refers to, or is about to forget.
func (s *Store) Known(ctx context.Context, some []blob.Digest) (map[blob.Digest]bool, error) {
	return db.Known(ctx, s.db, `select blob from pipeline_log_chunk where blob = ? union all select blob from pipeline_log_waste where blob = ?`, some)
}
