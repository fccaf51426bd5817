// Package small keeps blobs of up to blob.Small bytes in the database and hands large ones on to another store.
//
// A file of its own costs a small blob two waits for the disk, and an object in a bucket two requests; a row costs part of one, as
// commits are grouped. With PutIn it costs nothing more: the row is written in the transaction that stores what the blob is for.
package small

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/db"
	"weir/internal/base/fault"
)

//go:embed migrations
var migrations embed.FS

// Store implements blob.Store. No two stores share a database's table and another store's bytes.
type Store struct {
	db    *db.DB
	large blob.Store
}

var (
	_ blob.Store       = (*Store)(nil)
	_ blob.Quarantiner = (*Store)(nil)
	_ blob.Sweeper     = (*Store)(nil)
)

// Open brings the table up to date.
func Open(ctx context.Context, d *db.DB, large blob.Store) (*Store, error) {
	return &Store{d, large}, db.Migrate(ctx, d, "blob_small", migrations)
}

// PutIn stores a small blob in a transaction of the caller's.
func (s *Store) PutIn(ctx context.Context, tx *db.Tx, b []byte) (blob.Digest, error) {
	sum := sha256.Sum256(b)
	d := blob.Digest("sha256:" + hex.EncodeToString(sum[:]))
	_, err := tx.Exec(ctx, "insert into blob_small (digest, size, bytes) values (?, ?, ?) on conflict do nothing", string(d), len(b), base64.StdEncoding.EncodeToString(b))
	return d, err
}

// Put stores r.
func (s *Store) Put(ctx context.Context, r io.Reader) (d blob.Digest, n int64, err error) {
	head, rest, err := blob.Head(r)
	if err != nil {
		return "", 0, err
	}
	if rest != nil {
		return s.large.Put(ctx, rest)
	}
	err = s.db.Write(ctx, func(tx *db.Tx) (err error) {
		d, err = s.PutIn(ctx, tx, head)
		return err
	})
	return d, int64(len(head)), err
}

// Open returns the bytes.
func (s *Store) Open(ctx context.Context, d blob.Digest) (io.ReadSeekCloser, int64, error) {
	if _, err := blob.ParseDigest(string(d)); err != nil {
		return nil, 0, err
	}
	var text string
	err := s.db.QueryRow(ctx, "select bytes from blob_small where digest = ?", string(d)).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return s.large.Open(ctx, d)
	}
	if err != nil {
		return nil, 0, err
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, 0, fmt.Errorf("blob %s in the database: %w", d, err)
	}
	return closer{bytes.NewReader(b)}, int64(len(b)), nil
}

type closer struct{ *bytes.Reader }

func (closer) Close() error { return nil }

// Stat returns the size.
func (s *Store) Stat(ctx context.Context, d blob.Digest) (n int64, err error) {
	if _, err := blob.ParseDigest(string(d)); err != nil {
		return 0, err
	}
	err = s.db.QueryRow(ctx, "select size from blob_small where digest = ?", string(d)).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return s.large.Stat(ctx, d)
	}
	return n, err
}

// Delete removes the blob wherever it is.
func (s *Store) Delete(ctx context.Context, d blob.Digest) error {
	return s.remove(ctx, d, s.large.Delete)
}

// Quarantine takes the blob out; one in the database is deleted.
func (s *Store) Quarantine(ctx context.Context, d blob.Digest) error {
	return s.remove(ctx, d, func(ctx context.Context, d blob.Digest) error { return blob.Quarantine(ctx, s.large, d) })
}

func (s *Store) remove(ctx context.Context, d blob.Digest, large func(context.Context, blob.Digest) error) error {
	if _, err := blob.ParseDigest(string(d)); err != nil {
		return err
	}
	var n int
	if err := s.db.QueryRow(ctx, "select count(*) from blob_small where digest = ?", string(d)).Scan(&n); err != nil {
		return err
	}
	if n > 0 {
		err := s.db.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, "delete from blob_small where digest = ?", string(d))
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := large(ctx, d); err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	return nil
}

// Older searches the other store: a small blob is written with what refers to it.
func (s *Store) Older(ctx context.Context, before time.Time, fn func(blob.Digest, int64) error) error {
	if w, ok := s.large.(blob.Sweeper); ok {
		return w.Older(ctx, before, fn)
	}
	return nil
}

// DeleteOlder removes from the other store.
func (s *Store) DeleteOlder(ctx context.Context, d blob.Digest, before time.Time) (bool, error) {
	if w, ok := s.large.(blob.Sweeper); ok {
		return w.DeleteOlder(ctx, d, before)
	}
	return false, nil
}
