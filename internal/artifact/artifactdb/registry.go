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
	"weir/internal/base/fault"
)

const org = "default"

// Blob is a row of a blob in a repository.
type Blob struct {
	Digest string
	Stored blob.Digest
	Size   int64
}

// Chunk is a piece of an upload.
type Chunk struct {
	At, Size int64
	Stored   blob.Digest
}

// Registry reads and writes the registry's rows. Functions with a tx belong to
// the caller's transaction; "found" results are false without an error.
type Registry struct{ DB *db.DB }

// Touch makes the repository exist.
func (r Registry) Touch(ctx context.Context, tx *db.Tx, repository string, now time.Time) error {
	_, err := tx.Exec(ctx, "insert into registry_repository (org, name, created) values (?, ?, ?) on conflict do nothing", org, repository, db.Micros(now))
	return err
}

// Exists reports whether anything was ever pushed to the repository.
func (r Registry) Exists(ctx context.Context, repository string) (bool, error) {
	var n int
	err := r.DB.QueryRow(ctx, "select count(*) from registry_repository where org = ? and name = ?", org, repository).Scan(&n)
	return n > 0, err
}

// Repositories lists the names of all repositories.
func (r Registry) Repositories(ctx context.Context) ([]string, error) {
	rows, err := r.DB.Query(ctx, "select name from registry_repository where org = ? order by name", org)
	return db.Collect(rows, err, scanString)
}

// Blob finds a blob of a repository.
func (r Registry) Blob(ctx context.Context, q db.Querier, repository, digest string) (b Blob, found bool, err error) {
	b.Digest = digest
	err = q.QueryRow(ctx, "select stored, size from registry_blob where org = ? and repository = ? and digest = ?", org, repository, digest).Scan(&b.Stored, &b.Size)
	return b, err == nil, none(err)
}

// AddBlob puts a blob into a repository.
func (r Registry) AddBlob(ctx context.Context, tx *db.Tx, repository string, b Blob, now time.Time) error {
	if err := r.Touch(ctx, tx, repository, now); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "insert into registry_blob (org, repository, digest, stored, size, created) values (?, ?, ?, ?, ?, ?) on conflict do nothing",
		org, repository, b.Digest, string(b.Stored), b.Size, db.Micros(now))
	if err != nil {
		return err
	}
	return r.keep(ctx, tx, b.Stored)
}

// RemoveBlob takes a blob out of a repository.
func (r Registry) RemoveBlob(ctx context.Context, tx *db.Tx, repository string, b Blob, now time.Time) error {
	if _, err := tx.Exec(ctx, "delete from registry_blob where org = ? and repository = ? and digest = ?", org, repository, b.Digest); err != nil {
		return err
	}
	return r.Discard(ctx, tx, b.Stored, now)
}

// ManifestRow is a manifest and where its bytes are.
type ManifestRow struct {
	artifact.Descriptor
	Stored  blob.Digest
	Subject string
	Edges   []Edge // given when it is added, not read back
}

const manifestColumns = "digest, stored, media_type, artifact_type, size, subject, annotations"

// Manifest finds a manifest by digest.
func (r Registry) Manifest(ctx context.Context, q db.Querier, repository, digest string) (ManifestRow, bool, error) {
	m, err := scanManifest(q.QueryRow(ctx, "select "+manifestColumns+" from registry_manifest where org = ? and repository = ? and digest = ?", org, repository, digest))
	return m, err == nil, none(err)
}

// AddManifest stores a manifest.
func (r Registry) AddManifest(ctx context.Context, tx *db.Tx, repository string, m ManifestRow, now time.Time) error {
	if err := r.Touch(ctx, tx, repository, now); err != nil {
		return err
	}
	annotations, err := json.Marshal(m.Annotations)
	if err != nil {
		return err
	}
	// One that is pushed again is as young as a new one.
	_, err = tx.Exec(ctx, "insert into registry_manifest (org, repository, "+manifestColumns+", created, indexed) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"+
		" on conflict (org, repository, digest) do update set created = excluded.created, indexed = 1",
		org, repository, m.Digest, string(m.Stored), m.MediaType, m.ArtifactType, m.Size, m.Subject, string(annotations), db.Micros(now))
	if err != nil {
		return err
	}
	if err := r.addEdges(ctx, tx, repository, m.Digest, m.Edges); err != nil {
		return err
	}
	return r.keep(ctx, tx, m.Stored)
}

// RemoveManifest removes a manifest and the tags that name it.
func (r Registry) RemoveManifest(ctx context.Context, tx *db.Tx, repository string, m ManifestRow, now time.Time) error {
	if err := r.removeEdges(ctx, tx, repository, m.Digest, now); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "delete from registry_tag where org = ? and repository = ? and digest = ?", org, repository, m.Digest); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "delete from registry_manifest where org = ? and repository = ? and digest = ?", org, repository, m.Digest); err != nil {
		return err
	}
	return r.Discard(ctx, tx, m.Stored, now)
}

// Referrers lists manifests whose subject is digest, in the order of digests.
func (r Registry) Referrers(ctx context.Context, repository, digest string) ([]ManifestRow, error) {
	rows, err := r.DB.Query(ctx, "select "+manifestColumns+" from registry_manifest where org = ? and repository = ? and subject = ? order by created, digest", org, repository, digest)
	return db.Collect(rows, err, func(rows *sql.Rows) (ManifestRow, error) { return scanManifest(rows) })
}

// Place is where a list of referrers goes on: after the manifest of a digest that was pushed at a time.
type Place struct {
	Created int64
	Digest  string
}

// ReferrersAfter lists some of them, from a place on, with the place of each.
func (r Registry) ReferrersAfter(ctx context.Context, repository, digest string, after Place, limit int) ([]ManifestRow, []Place, error) {
	var places []Place
	rows, err := r.DB.Query(ctx, "select created, "+manifestColumns+" from registry_manifest where org = ? and repository = ? and subject = ? and (created > ? or created = ? and digest > ?) order by created, digest limit ?",
		org, repository, digest, after.Created, after.Created, after.Digest, limit)
	out, err := db.Collect(rows, err, func(rows *sql.Rows) (ManifestRow, error) {
		var p Place
		m, err := scanManifest(placed{rows, &p.Created})
		p.Digest = m.Digest
		places = append(places, p)
		return m, err
	})
	return out, places, err
}

// placed reads a column before those of a manifest.
type placed struct {
	*sql.Rows
	created *int64
}

func (p placed) Scan(to ...any) error { return p.Rows.Scan(append([]any{p.created}, to...)...) }

// Tag is a name for a manifest.
type Tag struct {
	Digest    string
	Immutable bool
}

// Tag finds a tag.
func (r Registry) Tag(ctx context.Context, q db.Querier, repository, tag string) (t Tag, found bool, err error) {
	var immutable int
	err = q.QueryRow(ctx, "select digest, immutable from registry_tag where org = ? and repository = ? and tag = ?", org, repository, tag).Scan(&t.Digest, &immutable)
	t.Immutable = immutable != 0
	return t, err == nil, none(err)
}

// PinnedTag returns an immutable tag that names digest, or "".
func (r Registry) PinnedTag(ctx context.Context, q db.Querier, repository, digest string) (tag string, err error) {
	err = q.QueryRow(ctx, "select tag from registry_tag where org = ? and repository = ? and digest = ? and immutable = 1 limit 1", org, repository, digest).Scan(&tag)
	return tag, none(err)
}

// SetTag makes tag name a manifest.
func (r Registry) SetTag(ctx context.Context, tx *db.Tx, repository, tag string, t Tag, now time.Time) error {
	_, err := tx.Exec(ctx, `insert into registry_tag (org, repository, tag, digest, immutable, updated) values (?, ?, ?, ?, ?, ?)
		on conflict (org, repository, tag) do update set digest = excluded.digest, immutable = excluded.immutable, updated = excluded.updated`,
		org, repository, tag, t.Digest, db.Bool(t.Immutable), db.Micros(now))
	return err
}

// RemoveTag removes a tag.
func (r Registry) RemoveTag(ctx context.Context, tx *db.Tx, repository, tag string) error {
	_, err := tx.Exec(ctx, "delete from registry_tag where org = ? and repository = ? and tag = ?", org, repository, tag)
	return err
}

// Tags lists the tags of a repository in no order: engines collate differently.
func (r Registry) Tags(ctx context.Context, repository string) ([]string, error) {
	rows, err := r.DB.Query(ctx, "select tag from registry_tag where org = ? and repository = ?", org, repository)
	return db.Collect(rows, err, scanString)
}

// AddUpload starts an upload.
func (r Registry) AddUpload(ctx context.Context, tx *db.Tx, u artifact.Upload) error {
	_, err := tx.Exec(ctx, "insert into registry_upload (org, id, repository, size, updated) values (?, ?, ?, ?, ?) on conflict do nothing", org, u.ID, u.Repository, u.Size, db.Micros(u.Updated))
	return err
}

// Upload finds an upload.
func (r Registry) Upload(ctx context.Context, q db.Querier, repository, id string) (u artifact.Upload, found bool, err error) {
	u.ID, u.Repository = id, repository
	var updated int64
	err = q.QueryRow(ctx, "select size, updated from registry_upload where org = ? and repository = ? and id = ?", org, repository, id).Scan(&u.Size, &updated)
	u.Updated = db.Time(updated)
	return u, err == nil, none(err)
}

// AddChunk grows an upload.
func (r Registry) AddChunk(ctx context.Context, tx *db.Tx, id string, c Chunk, now time.Time) error {
	if _, err := tx.Exec(ctx, "insert into registry_chunk (org, upload_id, at, size, stored) values (?, ?, ?, ?, ?)", org, id, c.At, c.Size, string(c.Stored)); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "update registry_upload set size = ?, updated = ? where id = ?", c.At+c.Size, db.Micros(now), id); err != nil {
		return err
	}
	return r.keep(ctx, tx, c.Stored)
}

// Chunks lists the pieces of an upload in order.
func (r Registry) Chunks(ctx context.Context, q db.Querier, id string) ([]Chunk, error) {
	rows, err := q.Query(ctx, "select at, size, stored from registry_chunk where upload_id = ? order by at", id)
	return db.Collect(rows, err, func(rows *sql.Rows) (c Chunk, err error) { return c, rows.Scan(&c.At, &c.Size, &c.Stored) })
}

// RemoveUpload forgets an upload; its chunks become garbage.
func (r Registry) RemoveUpload(ctx context.Context, tx *db.Tx, id string, now time.Time) error {
	return r.removeUpload(ctx, tx, id, "", now)
}

// removeUpload is RemoveUpload, but for bytes that are used from now on.
func (r Registry) removeUpload(ctx context.Context, tx *db.Tx, id string, used blob.Digest, now time.Time) error {
	chunks, err := r.Chunks(ctx, tx, id)
	if err != nil {
		return err
	}
	for _, q := range []string{"delete from registry_chunk where upload_id = ?", "delete from registry_upload where id = ?"} {
		if _, err := tx.Exec(ctx, q, id); err != nil {
			return err
		}
	}
	for _, c := range chunks {
		if c.Stored == used {
			continue
		}
		if err := r.Discard(ctx, tx, c.Stored, now); err != nil {
			return err
		}
	}
	return nil
}

// EndUpload marks an upload as over; its chunks become garbage, but for the one that is used as it is. The mark stays as long as the id could be good, so that it is not taken
// for one that has not begun.
func (r Registry) EndUpload(ctx context.Context, tx *db.Tx, repository, id string, used blob.Digest, now time.Time) error {
	if err := r.removeUpload(ctx, tx, id, used, now); err != nil {
		return err
	}
	return r.MarkEnded(ctx, tx, repository, id, now)
}

// MarkEnded marks an upload as over of which no row was written.
func (r Registry) MarkEnded(ctx context.Context, tx *db.Tx, repository, id string, now time.Time) error {
	return r.AddUpload(ctx, tx, artifact.Upload{ID: id, Repository: repository, Size: -1, Updated: now})
}

// StaleUploads lists uploads that nobody has touched since a time.
func (r Registry) StaleUploads(ctx context.Context, before time.Time, limit int) ([]string, error) {
	rows, err := r.DB.Query(ctx, "select id from registry_upload where updated < ? limit ?", db.Micros(before), limit)
	return db.Collect(rows, err, scanString)
}

// Garbage lists blobs that were discarded before a time.
func (r Registry) Garbage(ctx context.Context, before time.Time, limit int) ([]string, error) {
	rows, err := r.DB.Query(ctx, "select stored from registry_garbage where since < ? order by since limit ?", db.Micros(before), limit)
	return db.Collect(rows, err, scanString)
}

// Condemn marks a blob for removal if no row needs it; else it takes it off the
// list.
func (r Registry) Condemn(ctx context.Context, stored string) (condemned bool, err error) {
	err = r.DB.Write(ctx, func(tx *db.Tx) error {
		var n int
		err := tx.QueryRow(ctx, `select (select count(*) from registry_blob where stored = ?) + (select count(*) from registry_manifest where stored = ?)
			+ (select count(*) from registry_chunk where stored = ?) + (select count(*) from intake where stored = ?)`, stored, stored, stored, stored).Scan(&n)
		if err != nil {
			return err
		}
		if condemned = n == 0; condemned {
			_, err = tx.Exec(ctx, "update registry_garbage set condemned = 1 where stored = ?", stored)
		} else {
			_, err = tx.Exec(ctx, "delete from registry_garbage where stored = ?", stored)
		}
		return err
	})
	return condemned, err
}

// Forget takes a removed blob off the list of garbage.
func (r Registry) Forget(ctx context.Context, stored string) error {
	return r.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "delete from registry_garbage where stored = ?", stored)
		return err
	})
}

// keep takes a blob that is referred to again off the list of garbage, unless it
// is being removed at this moment.
func (r Registry) keep(ctx context.Context, tx *db.Tx, stored blob.Digest) error {
	var condemned int
	err := tx.QueryRow(ctx, "select condemned from registry_garbage where stored = ?", string(stored)).Scan(&condemned)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	case condemned > 0:
		return fault.New(fault.Unavailable, "the same bytes are being removed at this moment; try again")
	}
	_, err = tx.Exec(ctx, "delete from registry_garbage where stored = ? and condemned = 0", string(stored))
	return err
}

// Discard lists stored bytes as possible garbage.
func (r Registry) Discard(ctx context.Context, tx *db.Tx, stored blob.Digest, now time.Time) error {
	_, err := tx.Exec(ctx, "insert into registry_garbage (org, stored, since, condemned) values (?, ?, ?, 0) on conflict (stored) do update set since = excluded.since",
		org, string(stored), db.Micros(now))
	return err
}

func scanManifest(row interface{ Scan(...any) error }) (m ManifestRow, err error) {
	var annotations string
	if err := row.Scan(&m.Digest, &m.Stored, &m.MediaType, &m.ArtifactType, &m.Size, &m.Subject, &annotations); err != nil {
		return m, err
	}
	return m, json.Unmarshal([]byte(annotations), &m.Annotations)
}

func scanString(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) }

func none(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}
