package artifactdb

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"weir/internal/base/db"
)

// Quota returns the bytes that a repository may take, def if none was set for it.
func (r Registry) Quota(ctx context.Context, q db.Querier, repository string, def int64) (bytes int64, own bool, err error) {
	err = q.QueryRow(ctx, "select bytes from registry_quota where org = ? and repository = ?", org, repository).Scan(&bytes)
	if errors.Is(err, sql.ErrNoRows) {
		return def, false, nil
	}
	return bytes, true, err
}

// SetQuota stores a quota; 0 removes it.
func (r Registry) SetQuota(ctx context.Context, tx *db.Tx, repository string, bytes int64, by string, now time.Time) error {
	if bytes == 0 {
		_, err := tx.Exec(ctx, "delete from registry_quota where org = ? and repository = ?", org, repository)
		return err
	}
	_, err := tx.Exec(ctx, `insert into registry_quota (org, repository, bytes, actor, updated) values (?, ?, ?, ?, ?)
		on conflict (org, repository) do update set bytes = excluded.bytes, actor = excluded.actor, updated = excluded.updated`, org, repository, bytes, by, db.Micros(now))
	return err
}

// Used is what the blobs and manifests of a repository weigh.
func (r Registry) Used(ctx context.Context, q db.Querier, repository string) (n int64, err error) {
	err = q.QueryRow(ctx, `select (select coalesce(sum(size), 0) from registry_blob where org = ? and repository = ?) + (select coalesce(sum(size), 0) from registry_manifest where org = ? and repository = ?)`,
		org, repository, org, repository).Scan(&n)
	return n, err
}
