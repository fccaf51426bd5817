package artifactdb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/db"
	"weir/internal/base/fault"
)

// Edge is something that a manifest names.
type Edge struct {
	Child    string
	Manifest bool // else a blob
}

func (r Registry) addEdges(ctx context.Context, tx *db.Tx, repository, parent string, edges []Edge) error {
	for _, e := range edges {
		kind := "blob"
		if e.Manifest {
			kind = "manifest"
		}
		if _, err := tx.Exec(ctx, "insert into registry_edge (org, repository, parent, child, kind) values (?, ?, ?, ?, ?) on conflict do nothing", org, repository, parent, e.Child, kind); err != nil {
			return err
		}
	}
	return nil
}

// Unread lists manifests whose edges are not known yet.
func (r Registry) Unread(ctx context.Context, repository string, limit int) ([]ManifestRow, error) {
	rows, err := r.DB.Query(ctx, "select "+manifestColumns+" from registry_manifest where org = ? and repository = ? and indexed = 0 limit ?", org, repository, limit)
	return db.Collect(rows, err, func(rows *sql.Rows) (ManifestRow, error) { return scanManifest(rows) })
}

// SetEdges stores what a manifest names.
func (r Registry) SetEdges(ctx context.Context, repository, digest string, edges []Edge) error {
	return r.DB.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(ctx, "update registry_manifest set indexed = 1 where org = ? and repository = ? and digest = ?", org, repository, digest)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err // It was removed.
		}
		return r.addEdges(ctx, tx, repository, digest, edges)
	})
}

// Stored lists the manifests of a repository as retention looks at them, the newest first.
func (r Registry) Stored(ctx context.Context, repository string) ([]artifact.Stored, error) {
	rows, err := r.DB.Query(ctx, "select digest, media_type, artifact_type, size, subject, created from registry_manifest where org = ? and repository = ? order by created desc, digest", org, repository)
	all, err := db.Collect(rows, err, func(rows *sql.Rows) (m artifact.Stored, err error) {
		var created int64
		err = rows.Scan(&m.Digest, &m.MediaType, &m.Kind, &m.Size, &m.Subject, &created)
		m.Pushed = db.Time(created)
		return m, err
	})
	if err != nil {
		return nil, err
	}
	at := make(map[string]*artifact.Stored, len(all))
	for i := range all {
		at[all[i].Digest] = &all[i]
	}
	each := func(query string, scan func(*sql.Rows) error) error {
		rows, err := r.DB.Query(ctx, query, org, repository)
		_, err = db.Collect(rows, err, func(rows *sql.Rows) (struct{}, error) { return struct{}{}, scan(rows) })
		return err
	}
	return all, errors.Join(
		each("select tag, digest, updated from registry_tag where org = ? and repository = ? order by tag", func(rows *sql.Rows) error {
			var tag, digest string
			var updated int64
			err := rows.Scan(&tag, &digest, &updated)
			if m := at[digest]; m != nil {
				m.Tags = append(m.Tags, artifact.StoredTag{Name: tag, Since: db.Time(updated)})
			}
			return err
		}),
		each("select parent, child from registry_edge where org = ? and repository = ? and kind = 'manifest' order by parent, child", func(rows *sql.Rows) error {
			var parent, child string
			err := rows.Scan(&parent, &child)
			if m := at[parent]; m != nil {
				m.Names = append(m.Names, child)
			}
			return err
		}),
		each(`select e.parent, sum(b.size) from registry_edge e join registry_blob b on b.org = e.org and b.repository = e.repository and b.digest = e.child
			where e.org = ? and e.repository = ? group by e.parent`, func(rows *sql.Rows) error {
			var parent string
			var size int64
			err := rows.Scan(&parent, &size)
			if m := at[parent]; m != nil {
				m.Size += size
			}
			return err
		}),
		each("select digest, version, created from artifact where org = ? and repository = ? order by id", func(rows *sql.Rows) error {
			var digest, version string
			var created int64
			err := rows.Scan(&digest, &version, &created)
			if m := at[digest]; m != nil {
				m.Release, m.Released = version, db.Time(created)
			}
			return err
		}))
}

// Hold is a person's word that a manifest stays.
type Hold struct {
	Repository, Digest, Reason, By string
	Since                          time.Time
}

// Holds lists those of a repository, of all if it is "".
func (r Registry) Holds(ctx context.Context, repository string) ([]Hold, error) {
	rows, err := r.DB.Query(ctx, "select repository, digest, reason, actor, created from registry_hold where org = ? and (repository = ? or ? = '') order by repository, digest", org, repository, repository)
	return db.Collect(rows, err, func(rows *sql.Rows) (h Hold, err error) {
		var created int64
		err = rows.Scan(&h.Repository, &h.Digest, &h.Reason, &h.By, &created)
		h.Since = db.Time(created)
		return h, err
	})
}

// SetHold stores a hold; an earlier one of the same manifest is replaced.
func (r Registry) SetHold(ctx context.Context, tx *db.Tx, h Hold) error {
	_, err := tx.Exec(ctx, `insert into registry_hold (org, repository, digest, reason, actor, created) values (?, ?, ?, ?, ?, ?)
		on conflict (org, repository, digest) do update set reason = excluded.reason, actor = excluded.actor, created = excluded.created`,
		org, h.Repository, h.Digest, h.Reason, h.By, db.Micros(h.Since))
	return err
}

// RemoveHold reports whether there was one.
func (r Registry) RemoveHold(ctx context.Context, tx *db.Tx, repository, digest string) (bool, error) {
	res, err := tx.Exec(ctx, "delete from registry_hold where org = ? and repository = ? and digest = ?", org, repository, digest)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// Held returns the reason of a hold, "" if there is none.
func (r Registry) Held(ctx context.Context, q db.Querier, repository, digest string) (reason string, err error) {
	err = q.QueryRow(ctx, "select reason from registry_hold where org = ? and repository = ? and digest = ?", org, repository, digest).Scan(&reason)
	return reason, none(err)
}

// Unfinished lists, of the intakes that have not come to an end, the images they have pushed.
func (r Registry) Unfinished(ctx context.Context, q db.Querier) ([]artifact.Pin, error) {
	rows, err := q.Query(ctx, "select progress from intake where org = ? and state not in ('admitted', 'rejected', 'refused')", org)
	return db.Collect(rows, err, func(rows *sql.Rows) (artifact.Pin, error) {
		var raw string
		var p artifact.Progress
		if err := rows.Scan(&raw); err != nil {
			return artifact.Pin{}, err
		}
		err := json.Unmarshal([]byte(raw), &p)
		return artifact.Pin{Repository: p.Repository, Digest: p.Digest, Why: "it is being admitted"}, err
	})
}

// Group is a manifest that goes and everything that goes with it.
type Group struct {
	Repository string
	Root       string
	Digests    []string          // Root among them
	Tags       map[string]string // those that were seen, to their digests
}

var errChanged = fault.New(fault.Conflict, "somebody wants it since it was looked at")

// RemoveGroup removes manifests with their tags, if nobody has named one of them since they were looked at; else it changes
// nothing and returns a Conflict fault. Blobs that lose their last name stay for a while.
func (r Registry) RemoveGroup(ctx context.Context, tx *db.Tx, g Group, now time.Time) error {
	in := map[string]bool{}
	for _, d := range g.Digests {
		in[d] = true
	}
	unfinished, err := r.Unfinished(ctx, tx)
	if err != nil {
		return err
	}
	for _, p := range unfinished {
		if p.Repository == g.Repository && in[p.Digest] {
			return errChanged
		}
	}
	for _, d := range g.Digests {
		if reason, err := r.Held(ctx, tx, g.Repository, d); err != nil || reason != "" {
			return errors.Join(err, errChanged)
		}
		tags, err := r.tagsOf(ctx, tx, g.Repository, d)
		if err != nil {
			return err
		}
		for _, t := range tags {
			if g.Tags[t] != d {
				return errChanged
			}
		}
		parents, err := r.Parents(ctx, tx, g.Repository, d, true)
		if err != nil {
			return err
		}
		for _, p := range parents {
			if !in[p] {
				return errChanged
			}
		}
	}
	for _, d := range g.Digests {
		m, found, err := r.Manifest(ctx, tx, g.Repository, d)
		if err != nil {
			return err
		}
		if found {
			if err := r.RemoveManifest(ctx, tx, g.Repository, m, now); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r Registry) tagsOf(ctx context.Context, q db.Querier, repository, digest string) ([]string, error) {
	rows, err := q.Query(ctx, "select tag from registry_tag where org = ? and repository = ? and digest = ?", org, repository, digest)
	return db.Collect(rows, err, scanString)
}

// Parents lists the manifests that name a digest.
func (r Registry) Parents(ctx context.Context, q db.Querier, repository, child string, manifest bool) ([]string, error) {
	kind := "blob"
	if manifest {
		kind = "manifest"
	}
	rows, err := q.Query(ctx, "select parent from registry_edge where org = ? and repository = ? and child = ? and kind = ? order by parent", org, repository, child, kind)
	return db.Collect(rows, err, scanString)
}

// Children lists the manifests that a manifest names.
func (r Registry) Children(ctx context.Context, q db.Querier, repository, parent string) ([]string, error) {
	rows, err := q.Query(ctx, "select child from registry_edge where org = ? and repository = ? and parent = ? and kind = 'manifest' order by child", org, repository, parent)
	return db.Collect(rows, err, scanString)
}

// CountReferrers counts the manifests whose subject is digest.
func (r Registry) CountReferrers(ctx context.Context, q db.Querier, repository, digest string) (n int, err error) {
	err = q.QueryRow(ctx, "select count(*) from registry_manifest where org = ? and repository = ? and subject = ?", org, repository, digest).Scan(&n)
	return n, err
}

// removeEdges forgets what a manifest names, and notes when its blobs were last wanted.
func (r Registry) removeEdges(ctx context.Context, tx *db.Tx, repository, parent string, now time.Time) error {
	_, err := tx.Exec(ctx, `update registry_blob set seen = ? where org = ? and repository = ? and digest in
		(select child from registry_edge where org = ? and repository = ? and parent = ? and kind = 'blob')`, db.Micros(now), org, repository, org, repository, parent)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "delete from registry_edge where org = ? and repository = ? and parent = ?", org, repository, parent)
	return err
}

const unnamed = `from registry_blob where org = ? and repository = ? and created < ? and seen < ?
	and not exists (select 1 from registry_edge e where e.org = registry_blob.org and e.repository = registry_blob.repository and e.child = registry_blob.digest)
	and not exists (select 1 from registry_manifest m where m.org = registry_blob.org and m.repository = registry_blob.repository and m.indexed = 0)`

// Unnamed counts the blobs that no manifest has named since a time.
func (r Registry) Unnamed(ctx context.Context, repository string, before time.Time) (n int, bytes int64, err error) {
	err = r.DB.QueryRow(ctx, "select count(*), coalesce(sum(size), 0) "+unnamed, org, repository, db.Micros(before), db.Micros(before)).Scan(&n, &bytes)
	return n, bytes, err
}

// RemoveUnnamed takes such blobs out of a repository, some at a time.
func (r Registry) RemoveUnnamed(ctx context.Context, repository string, before, now time.Time, limit int) (n int, bytes int64, err error) {
	err = r.DB.Write(ctx, func(tx *db.Tx) error {
		n, bytes = 0, 0
		rows, err := tx.Query(ctx, "select digest, stored, size "+unnamed+" limit ?", org, repository, db.Micros(before), db.Micros(before), limit)
		all, err := db.Collect(rows, err, func(rows *sql.Rows) (b Blob, err error) { return b, rows.Scan(&b.Digest, &b.Stored, &b.Size) })
		if err != nil {
			return err
		}
		for _, b := range all {
			if err := r.RemoveBlob(ctx, tx, repository, b, now); err != nil {
				return err
			}
			n, bytes = n+1, bytes+b.Size
		}
		return nil
	})
	return n, bytes, err
}

// Want notes that somebody asked for a blob and may name it next. Only a blob that no manifest names is written to, and at most once
// in some time.
func (r Registry) Want(ctx context.Context, repository, digest string, now time.Time, since time.Duration) error {
	var n int
	old := db.Micros(now.Add(-since))
	err := r.DB.QueryRow(ctx, `select count(*) from registry_blob b where b.org = ? and b.repository = ? and b.digest = ? and b.created < ? and b.seen < ?
		and not exists (select 1 from registry_edge e where e.org = b.org and e.repository = b.repository and e.child = b.digest)`, org, repository, digest, old, old).Scan(&n)
	if err != nil || n == 0 {
		return err
	}
	return r.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "update registry_blob set seen = ? where org = ? and repository = ? and digest = ?", db.Micros(now), org, repository, digest)
		return err
	})
}

// Use is what a repository takes.
type Use struct {
	Name             string
	Manifests, Tags  int
	Blobs, Bytes     int64
	Quota            int64 // 0 if none of its own
	Holds, Releases  int
	Created, Changed time.Time
}

// Uses lists all repositories, or the one that is named, with what they take.
func (r Registry) Uses(ctx context.Context, name string) ([]Use, error) {
	rows, err := r.DB.Query(ctx, `select p.name, p.created,
		(select count(*) from registry_manifest m where m.org = p.org and m.repository = p.name),
		(select coalesce(sum(m.size), 0) from registry_manifest m where m.org = p.org and m.repository = p.name),
		(select coalesce(max(m.created), 0) from registry_manifest m where m.org = p.org and m.repository = p.name),
		(select count(*) from registry_tag t where t.org = p.org and t.repository = p.name),
		(select count(*) from registry_blob b where b.org = p.org and b.repository = p.name),
		(select coalesce(sum(b.size), 0) from registry_blob b where b.org = p.org and b.repository = p.name),
		(select coalesce(max(q.bytes), 0) from registry_quota q where q.org = p.org and q.repository = p.name),
		(select count(*) from registry_hold h where h.org = p.org and h.repository = p.name),
		(select count(*) from registry_tag t where t.org = p.org and t.repository = p.name and t.immutable = 1)
		from registry_repository p where p.org = ? and (p.name = ? or ? = '') order by p.name`, org, name, name)
	return db.Collect(rows, err, func(rows *sql.Rows) (u Use, err error) {
		var created, changed, manifests int64
		err = rows.Scan(&u.Name, &created, &u.Manifests, &manifests, &changed, &u.Tags, &u.Blobs, &u.Bytes, &u.Quota, &u.Holds, &u.Releases)
		u.Bytes += manifests
		u.Created, u.Changed = db.Time(created), db.Time(changed)
		return u, err
	})
}
