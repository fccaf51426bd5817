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
	"time"

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
	s := &Store{root}
	return s, s.putBack()
}

// putBack returns what a sweep that died had taken aside.
func (s *Store) putBack() error {
	left, err := filepath.Glob(filepath.Join(s.root, "tmp", "swept-*", "*"))
	if err != nil {
		return err
	}
	for _, held := range left {
		d, err := blob.ParseDigest("sha256:" + filepath.Base(held))
		if err != nil {
			continue
		}
		if err := os.Rename(held, s.path(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("open blob folder: %w", err)
		}
		_ = os.Remove(filepath.Dir(held))
	}
	return nil
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
	// The time of a blob is that of the last who wanted it there: what was put again is not old. A file that a sweep has taken away
	// meanwhile is written anew.
	now := time.Now()
	if err := os.Chtimes(path, now, now); err == nil {
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

// Older walks the folder.
func (s *Store) Older(ctx context.Context, before time.Time, fn func(blob.Digest, int64) error) error {
	root := filepath.Join(s.root, "sha256")
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil || e.IsDir() {
			return err
		}
		d, err := blob.ParseDigest("sha256:" + e.Name())
		if err != nil {
			return nil // nothing of ours
		}
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !st.ModTime().Before(before) {
			return err
		}
		return fn(d, st.Size())
	})
	if err != nil {
		return fmt.Errorf("search blob folder: %w", err)
	}
	return nil
}

// DeleteOlder takes the file aside before it looks at its time: whoever puts the same bytes from then on writes a file of their own, and whoever did so
// before has made it young.
func (s *Store) DeleteOlder(_ context.Context, d blob.Digest, before time.Time) (bool, error) {
	if _, err := blob.ParseDigest(string(d)); err != nil {
		return false, err
	}
	aside, err := os.MkdirTemp(filepath.Join(s.root, "tmp"), "swept-")
	if err != nil {
		return false, err
	}
	defer os.Remove(aside)
	path, held := s.path(d), filepath.Join(aside, d.Hex())
	if err := os.Rename(path, held); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	st, err := os.Stat(held)
	if err == nil && st.ModTime().Before(before) {
		return true, os.Remove(held)
	}
	return false, errors.Join(err, os.Rename(held, path), syncDir(filepath.Dir(path)))
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
