package pipelinedb

import (
	"context"
	"database/sql"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/db"
)

// cacheEntry is one row of a cache, as trimming looks at it.
type cacheEntry struct {
	Repository, Scope, Key string
	Digest                 blob.Digest
	Size                   int64
}

// trim decides which entries go, given all of them, the longest unused first: as many as it takes to have no more than most bytes,
// but a repository keeps at least floor bytes of what it used last, so that a busy one does not empty the others.
func trim(all []cacheEntry, most, floor int64) (gone []cacheEntry) {
	total, of := int64(0), map[string]int64{}
	for _, e := range all {
		total += e.Size
		of[e.Repository] += e.Size
	}
	for _, e := range all {
		if total <= most {
			break
		}
		if of[e.Repository]-e.Size < floor {
			continue
		}
		total -= e.Size
		of[e.Repository] -= e.Size
		gone = append(gone, e)
	}
	return gone
}

// TrimCaches removes entries until all caches together have no more than most bytes, or every repository is at its floor. The bytes
// are deleted later, once nothing refers to them.
func (s *Store) TrimCaches(ctx context.Context, org string, most, floor int64, now time.Time) (entries int, bytes int64, err error) {
	var total int64
	if err := s.db.QueryRow(ctx, "select coalesce(sum(size), 0) from pipeline_cache where org = ?", org).Scan(&total); err != nil || total <= most {
		return 0, 0, err
	}
	rows, err := s.db.Query(ctx, `select repository_id, scope, key, digest, size from pipeline_cache where org = ?
		order by case when used > created then used else created end, repository_id, scope, key`, org)
	all, err := db.Collect(rows, err, func(r *sql.Rows) (e cacheEntry, err error) {
		return e, r.Scan(&e.Repository, &e.Scope, &e.Key, &e.Digest, &e.Size)
	})
	if err != nil {
		return 0, 0, err
	}
	for _, e := range trim(all, most, floor) {
		err := s.db.Write(ctx, func(tx *db.Tx) error {
			if _, err := tx.Exec(ctx, "insert into pipeline_waste (digest, since) values (?, ?) on conflict (digest) do update set since = excluded.since", e.Digest, db.Micros(now)); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "delete from pipeline_cache where org = ? and repository_id = ? and scope = ? and key = ?", org, e.Repository, e.Scope, e.Key)
			return err
		})
		if err != nil {
			return entries, bytes, err
		}
		entries, bytes = entries+1, bytes+e.Size
	}
	return entries, bytes, nil
}

// touch notes that an entry was found, at most once an hour.
func (s *Store) touch(ctx context.Context, org, repositoryID, scope, key string, now time.Time) error {
	var used int64
	err := s.db.QueryRow(ctx, "select used from pipeline_cache where org = ? and repository_id = ? and scope = ? and key = ?", org, repositoryID, scope, key).Scan(&used)
	if err != nil || now.Sub(db.Time(used)) < time.Hour {
		return err
	}
	return s.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "update pipeline_cache set used = ? where org = ? and repository_id = ? and scope = ? and key = ?", db.Micros(now), org, repositoryID, scope, key)
		return err
	})
}
