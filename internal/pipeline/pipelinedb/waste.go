package pipelinedb

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/db"
	"weir/internal/pipeline"
)

// grace is how long bytes that nothing refers to stay: an upload of the same bytes may be about to refer to them.
const grace = time.Hour

// MayGo chooses from some runs those that have ended before a time, a run that built a release before another one, and that are not
// among the newest of their workflow.
func (s *Store) MayGo(ctx context.Context, ids []pipeline.RunID, before, releasesBefore time.Time, newest int) ([]pipeline.RunID, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	args := []any{db.Micros(releasesBefore), db.Micros(before), newest}
	for _, id := range ids {
		args = append(args, id)
	}
	rows, err := s.db.Query(ctx, `select r.id from pipeline_run r where r.finished > 0
		and r.finished < case when exists (select 1 from pipeline_job j where j.run_id = r.id and substr(j.key, 1, 8) = 'release-') then cast(? as bigint) else cast(? as bigint) end
		and (select count(*) from pipeline_run n where n.repository_id = r.repository_id and n.workflow = r.workflow and n.id > r.id) >= ?
		and r.id in (?`+strings.Repeat(", ?", len(ids)-1)+`) order by r.id`, args...)
	return db.Collect(rows, err, func(r *sql.Rows) (id pipeline.RunID, err error) { return id, r.Scan(&id) })
}

// WithArtifacts lists runs that have artifacts older than a time, from a run on.
func (s *Store) WithArtifacts(ctx context.Context, before time.Time, after pipeline.RunID, limit int) ([]pipeline.RunID, error) {
	rows, err := s.db.Query(ctx, "select distinct run_id from pipeline_artifact where created < ? and run_id > ? order by run_id limit ?", db.Micros(before), after, limit)
	return db.Collect(rows, err, func(r *sql.Rows) (id pipeline.RunID, err error) { return id, r.Scan(&id) })
}

// CountArtifacts says how many artifacts some runs have, and their bytes.
func (s *Store) CountArtifacts(ctx context.Context, runs []pipeline.RunID) (n int, bytes int64, err error) {
	for _, run := range runs {
		var k int
		var b int64
		if err := s.db.QueryRow(ctx, "select count(*), coalesce(sum(size), 0) from pipeline_artifact where run_id = ?", run).Scan(&k, &b); err != nil {
			return 0, 0, fmt.Errorf("count artifacts of %s: %w", run, err)
		}
		n, bytes = n+k, bytes+b
	}
	return n, bytes, nil
}

// RemoveArtifacts forgets the artifacts of some runs, in the caller's transaction.
func (s *Store) RemoveArtifacts(ctx context.Context, tx *db.Tx, runs []pipeline.RunID, now time.Time) error {
	for _, run := range runs {
		if _, err := tx.Exec(ctx, `insert into pipeline_waste (digest, since) select distinct digest, cast(? as bigint) from pipeline_artifact where run_id = ?
			on conflict (digest) do update set since = excluded.since`, db.Micros(now), run); err != nil {
			return fmt.Errorf("remove artifacts of %s: %w", run, err)
		}
		if _, err := tx.Exec(ctx, "delete from pipeline_artifact where run_id = ?", run); err != nil {
			return fmt.Errorf("remove artifacts of %s: %w", run, err)
		}
	}
	return nil
}

// ClearWaste deletes bytes that nothing has referred to for a while. What a crash leaves is deleted the next time.
func (s *Store) ClearWaste(ctx context.Context, blobs blob.Store, now time.Time) (n int, err error) {
	rows, err := s.db.Query(ctx, "select digest from pipeline_waste where since < ?", db.Micros(now.Add(-grace)))
	waste, err := db.Collect(rows, err, func(r *sql.Rows) (d blob.Digest, err error) { return d, r.Scan(&d) })
	if err != nil {
		return 0, err
	}
	for _, d := range waste {
		var refs int
		if err := s.db.QueryRow(ctx, "select (select count(*) from pipeline_artifact where digest = ?) + (select count(*) from pipeline_cache where digest = ?)", d, d).Scan(&refs); err != nil {
			return n, err
		}
		if refs == 0 {
			if err := blobs.Delete(ctx, d); err != nil {
				return n, fmt.Errorf("delete artifact: %w", err)
			}
			n++
		}
		if err := s.db.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, "delete from pipeline_waste where digest = ?", d)
			return err
		}); err != nil {
			return n, err
		}
	}
	return n, nil
}

// Known tells of some bytes which a row refers to, or is about to forget.
func (s *Store) Known(ctx context.Context, some []blob.Digest) (map[blob.Digest]bool, error) {
	return db.Known(ctx, s.db, `select digest from pipeline_artifact where digest = ? union all select digest from pipeline_cache where digest = ? union all select digest from pipeline_waste where digest = ?`, some)
}
