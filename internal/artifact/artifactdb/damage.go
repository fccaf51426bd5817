package artifactdb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/blob"
	"weir/internal/base/db"
)

// Damage is a row of stored bytes that are not what they were.
type Damage struct {
	Stored blob.Digest
	Why    string
	Found  time.Time
}

// MarkDamaged stores one.
func (r Registry) MarkDamaged(ctx context.Context, tx *db.Tx, d Damage) error {
	_, err := tx.Exec(ctx, "insert into registry_damage (org, stored, why, found) values (?, ?, ?, ?) on conflict do nothing", org, string(d.Stored), d.Why, db.Micros(d.Found))
	return err
}

// Healed forgets one, and reports whether there was one.
func (r Registry) Healed(ctx context.Context, tx *db.Tx, stored blob.Digest) (bool, error) {
	res, err := tx.Exec(ctx, "delete from registry_damage where stored = ?", string(stored))
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// Damaged finds out whether stored bytes are known to be damaged.
func (r Registry) Damaged(ctx context.Context, stored blob.Digest) (d Damage, found bool, err error) {
	var at int64
	err = r.DB.QueryRow(ctx, "select stored, why, found from registry_damage where stored = ?", string(stored)).Scan(&d.Stored, &d.Why, &at)
	d.Found = db.Time(at)
	return d, err == nil, none(err)
}

// Damages lists all of them, the newest first.
func (r Registry) Damages(ctx context.Context) ([]Damage, error) {
	rows, err := r.DB.Query(ctx, "select stored, why, found from registry_damage where org = ? order by found desc, stored limit 1000", org)
	return db.Collect(rows, err, func(rows *sql.Rows) (d Damage, err error) {
		var at int64
		err = rows.Scan(&d.Stored, &d.Why, &at)
		d.Found = db.Time(at)
		return d, err
	})
}

// affected selects the manifests that have damaged bytes: their own or a blob's that they name.
const affected = `select m.repository, m.digest, d.stored from registry_damage d join registry_manifest m on m.stored = d.stored where m.org = ?
	union select e.repository, e.parent, d.stored from registry_damage d join registry_blob b on b.stored = d.stored
	join registry_edge e on e.org = b.org and e.repository = b.repository and e.child = b.digest where b.org = ?`

// Affected lists the manifests that have damaged bytes, by the digest of those.
func (r Registry) Affected(ctx context.Context) (map[string][]artifact.DamagedImage, error) {
	rows, err := r.DB.Query(ctx, "select repository, digest, stored from ("+affected+") x order by repository, digest", org, org)
	out := map[string][]artifact.DamagedImage{}
	_, err = db.Collect(rows, err, func(rows *sql.Rows) (struct{}, error) {
		var i artifact.DamagedImage
		var stored string
		err := rows.Scan(&i.Repository, &i.Digest, &stored)
		out[stored] = append(out[stored], i)
		return struct{}{}, err
	})
	if err != nil {
		return nil, err
	}
	for _, images := range out {
		for n := range images {
			i := &images[n]
			tags, err := r.tagsOf(ctx, r.DB, i.Repository, i.Digest)
			if err != nil {
				return nil, err
			}
			i.Tags = tags
			err = r.DB.QueryRow(ctx, "select version from artifact where org = ? and repository = ? and digest = ? order by id desc limit 1", org, i.Repository, i.Digest).Scan(&i.Release)
			if none(err) != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// DamagedManifests lists, by manifest of a repository, the damaged bytes that it has.
func (r Registry) DamagedManifests(ctx context.Context, repository string) (map[string][]string, error) {
	rows, err := r.DB.Query(ctx, "select digest, stored from ("+affected+") x where repository = ? order by digest, stored", org, org, repository)
	out := map[string][]string{}
	_, err = db.Collect(rows, err, func(rows *sql.Rows) (struct{}, error) {
		var digest, stored string
		err := rows.Scan(&digest, &stored)
		out[digest] = append(out[digest], stored)
		return struct{}{}, err
	})
	return out, err
}

// DamagedRepositories counts the manifests of each repository that have damaged bytes.
func (r Registry) DamagedRepositories(ctx context.Context) (map[string]int, error) {
	rows, err := r.DB.Query(ctx, "select repository, count(distinct digest) from ("+affected+") x group by repository", org, org)
	out := map[string]int{}
	_, err = db.Collect(rows, err, func(rows *sql.Rows) (struct{}, error) {
		var name string
		var n int
		err := rows.Scan(&name, &n)
		out[name] = n
		return struct{}{}, err
	})
	return out, err
}

// Scrub is how far the reading of all bytes is.
type Scrub struct {
	Cursor                  string
	Started                 time.Time
	Checked, Bytes, Damaged int64
	Finished                time.Time
	Last                    artifact.ScrubSummary
	Asked                   time.Time
}

// Scrub returns it.
func (r Registry) Scrub(ctx context.Context, q db.Querier) (s Scrub, err error) {
	var started, finished, asked int64
	var last string
	err = q.QueryRow(ctx, "select cursor, started, checked, bytes, damaged, finished, summary, asked from registry_scrub where org = ?", org).
		Scan(&s.Cursor, &started, &s.Checked, &s.Bytes, &s.Damaged, &finished, &last, &asked)
	if errors.Is(err, sql.ErrNoRows) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.Started, s.Finished, s.Asked = clock(started), clock(finished), clock(asked)
	return s, json.Unmarshal([]byte(last), &s.Last)
}

// clock is the time of a column in which 0 is none.
func clock(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return db.Time(us)
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return db.Micros(t)
}

// SaveScrub stores it; when somebody asked is left alone.
func (r Registry) SaveScrub(ctx context.Context, tx *db.Tx, s Scrub) error {
	last, err := json.Marshal(s.Last)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `insert into registry_scrub (org, cursor, started, checked, bytes, damaged, finished, summary, asked) values (?, ?, ?, ?, ?, ?, ?, ?, 0)
		on conflict (org) do update set cursor = excluded.cursor, started = excluded.started, checked = excluded.checked, bytes = excluded.bytes,
		damaged = excluded.damaged, finished = excluded.finished, summary = excluded.summary`,
		org, s.Cursor, micros(s.Started), s.Checked, s.Bytes, s.Damaged, micros(s.Finished), string(last))
	return err
}

// AskScrub notes that somebody wants one now.
func (r Registry) AskScrub(ctx context.Context, tx *db.Tx, now time.Time) error {
	_, err := tx.Exec(ctx, `insert into registry_scrub (org, cursor, started, checked, bytes, damaged, finished, summary, asked) values (?, '', 0, 0, 0, 0, 0, '{}', ?)
		on conflict (org) do update set asked = excluded.asked`, org, db.Micros(now))
	return err
}

const everything = "select stored from registry_blob union select stored from registry_manifest"

// StoredAfter lists, in order, the digests of bytes that the registry needs.
func (r Registry) StoredAfter(ctx context.Context, cursor string, limit int) ([]string, error) {
	rows, err := r.DB.Query(ctx, "select stored from ("+everything+") x where stored > ? order by stored limit ?", cursor, limit)
	return db.Collect(rows, err, scanString)
}

// StoredCount counts them.
func (r Registry) StoredCount(ctx context.Context) (n int64, err error) {
	err = r.DB.QueryRow(ctx, "select count(*) from ("+everything+") x").Scan(&n)
	return n, err
}

// Needed reports whether the registry still needs stored bytes.
func (r Registry) Needed(ctx context.Context, q db.Querier, stored blob.Digest) (bool, error) {
	var n int
	err := q.QueryRow(ctx, "select (select count(*) from registry_blob where stored = ?) + (select count(*) from registry_manifest where stored = ?)", string(stored), string(stored)).Scan(&n)
	return n > 0, err
}

// Known tells of some stored bytes which a row refers to, or is about to forget.
func (r Registry) Known(ctx context.Context, some []blob.Digest) (map[blob.Digest]bool, error) {
	return db.Known(ctx, r.DB, `select stored from registry_blob where stored = ? union all select stored from registry_manifest where stored = ? union all select stored from registry_chunk where stored = ?
		union all select stored from registry_garbage where stored = ? union all select stored from registry_damage where stored = ? union all select stored from intake where stored = ?`, some)
}
