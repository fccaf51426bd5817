package pipelinedb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"weir/internal/base/blob"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/pipeline"
)

// PutArtifact names a blob in a run. The same job may put it again, as a second attempt does; another job may not unless it overwrites.
func (s *Store) PutArtifact(ctx context.Context, org string, run pipeline.RunID, a pipeline.Artifact, overwrite bool) error {
	return s.db.Write(ctx, func(tx *db.Tx) error {
		var owner pipeline.JobID
		err := tx.QueryRow(ctx, "select job_id from pipeline_artifact where run_id = ? and name = ?", run, a.Name).Scan(&owner)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return fmt.Errorf("put artifact %s: %w", a.Name, err)
		case owner != a.JobID && !overwrite:
			return fault.New(fault.Conflict, "Another job of this run has already uploaded an artifact named %q. Choose another name, or set overwrite: true.", a.Name)
		}
		_, err = tx.Exec(ctx, `insert into pipeline_artifact (org, run_id, name, job_id, digest, size, created) values (?, ?, ?, ?, ?, ?, ?)
			on conflict (run_id, name) do update set job_id = excluded.job_id, digest = excluded.digest, size = excluded.size, created = excluded.created`,
			org, run, a.Name, a.JobID, a.Digest, a.Size, db.Micros(a.Created))
		return err
	})
}

// Artifacts lists the artifacts of a run by name.
func (s *Store) Artifacts(ctx context.Context, run pipeline.RunID) ([]pipeline.Artifact, error) {
	rows, err := s.db.Query(ctx, "select name, job_id, digest, size, created from pipeline_artifact where run_id = ? order by name", run)
	return db.Collect(rows, err, func(r *sql.Rows) (a pipeline.Artifact, err error) {
		var created int64
		err = r.Scan(&a.Name, &a.JobID, &a.Digest, &a.Size, &created)
		a.Created = db.Time(created)
		return a, err
	})
}

// PutCache keeps a blob under a key of a scope, unless the key is taken: entries never change.
func (s *Store) PutCache(ctx context.Context, org, repositoryID, scope, key string, d blob.Digest, size int64, now time.Time) error {
	return s.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `insert into pipeline_cache (org, repository_id, scope, key, digest, size, created) values (?, ?, ?, ?, ?, ?, ?)
			on conflict (org, repository_id, scope, key) do nothing`, org, repositoryID, scope, key, d, size, db.Micros(now))
		return err
	})
}

// FindCache looks for key in the scopes in order, then for the newest key with one of the prefixes.
func (s *Store) FindCache(ctx context.Context, org, repositoryID string, scopes []string, key string, prefixes []string) (found string, d blob.Digest, err error) {
	for _, scope := range scopes {
		err = s.db.QueryRow(ctx, "select key, digest from pipeline_cache where org = ? and repository_id = ? and scope = ? and key = ?",
			org, repositoryID, scope, key).Scan(&found, &d)
		if err == nil {
			err = s.touch(ctx, org, repositoryID, scope, found, time.Now())
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return found, d, err
		}
	}
	for _, p := range append([]string{key}, prefixes...) {
		if p == "" {
			continue
		}
		for _, scope := range scopes {
			err = s.db.QueryRow(ctx, `select key, digest from pipeline_cache where org = ? and repository_id = ? and scope = ? and substr(key, 1, ?) = ?
				order by created desc limit 1`, org, repositoryID, scope, utf8.RuneCountInString(p), p).Scan(&found, &d)
			if err == nil {
				err = s.touch(ctx, org, repositoryID, scope, found, time.Now())
			}
			if !errors.Is(err, sql.ErrNoRows) {
				return found, d, err
			}
		}
	}
	return "", "", nil
}
