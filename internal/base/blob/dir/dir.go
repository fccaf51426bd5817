// Package dir keeps blobs as files: <root>/sha256/ab/abcdef....
package dir

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"weir/internal/base/blob"
	"weir/internal/base/db"
	"weir/internal/base/fault"
)

// Store is a folder of blobs.
type Store struct{ root string }

// Open makes the folder if needed.
func Open(root string) (*Store, error) {
	if err := os.MkdirAll(filepath.Join(root, "tmp"), 0o700); err != nil {
		return nil, fmt.Errorf("open blob folder: %w", err)
	}
	return &Store{root}, nil
}

func (s *Store) path(d blob.Digest) string {
	h := d.Hex()
	return filepath.Join(s.root, "sha256", h[:2], h)
}

// Put writes to a temporary file, syncs it, and renames it into place, so that
// a blob is whole or absent.
func (s *Store) Put(ctx context.Context, r io.Reader) (_ blob.Digest, _ int64, err error) {
	f, err := os.CreateTemp(filepath.Join(s.root, "tmp"), "put-")
	if err != nil {
		return "", 0, full(err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	n, sum, err := write(ctx, f, r)
	if err != nil {
		return "", 0, full(err)
	}
	d := blob.Digest("sha256:" + hex.EncodeToString(sum[:]))
	path := s.path(d)
	if _, err := os.Stat(path); err == nil {
		f.Close()
		os.Remove(f.Name())
		return d, n, nil
	}
	if err := f.Sync(); err != nil {
		return "", 0, full(err)
	}
	if err := f.Close(); err != nil {
		return "", 0, full(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", 0, full(err)
	}
	err = db.WritePoint(func() error {
		if err := os.Rename(f.Name(), path); err != nil {
			return err
		}
		return syncDir(filepath.Dir(path))
	})
	if err != nil {
		return "", 0, full(err)
	}
	return d, n, nil
}

// Open returns the file.
func (s *Store) Open(_ context.Context, d blob.Digest) (io.ReadSeekCloser, int64, error) {
	if _, err := blob.ParseDigest(string(d)); err != nil {
		return nil, 0, err
	}
	f, err := os.Open(s.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, missing(d)
	}
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// Stat returns the size of the file.
func (s *Store) Stat(_ context.Context, d blob.Digest) (int64, error) {
	if _, err := blob.ParseDigest(string(d)); err != nil {
		return 0, err
	}
	st, err := os.Stat(s.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, missing(d)
	}
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Delete removes the file.
func (s *Store) Delete(_ context.Context, d blob.Digest) error {
	if _, err := blob.ParseDigest(string(d)); err != nil {
		return err
	}
	if err := os.Remove(s.path(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Quarantine moves the file to the folder damaged.
func (s *Store) Quarantine(_ context.Context, d blob.Digest) error {
	if _, err := blob.ParseDigest(string(d)); err != nil {
		return err
	}
	aside := filepath.Join(s.root, "damaged")
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	if err := os.Rename(s.path(d), filepath.Join(aside, d.Hex())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(aside))
}

func missing(d blob.Digest) error {
	return fault.New(fault.NotFound, "There is no blob %s.", d)
}

func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.Wrap(fault.Unavailable, err, "The data folder's disk is full. Free some space and try again; nothing was changed.")
	}
	return err
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
