// Package blob keeps bytes addressed by digest. What Put has returned survives
// power loss.
package blob

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"time"

	"weir/internal/base/fault"
)

// Digest is "sha256:" and 64 hexadecimal digits.
type Digest string

// ParseDigest refuses anything that is not a lower-case sha256 digest.
func ParseDigest(s string) (Digest, error) {
	h, ok := strings.CutPrefix(s, "sha256:")
	if b, err := hex.DecodeString(h); !ok || err != nil || len(b) != 32 || h != strings.ToLower(h) {
		return "", fault.New(fault.Invalid, "%q is not a digest. Write sha256: and 64 hexadecimal digits.", s)
	}
	return Digest(s), nil
}

// Hex returns the 64 hexadecimal digits.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), "sha256:") }

// Store keeps blobs. All methods are safe for concurrent use.
type Store interface {
	// Put stores r until EOF and returns its digest and size in bytes. The same
	// bytes may be put any number of times.
	Put(ctx context.Context, r io.Reader) (Digest, int64, error)
	// Open returns the bytes and their size, or a NotFound fault. The caller closes.
	Open(ctx context.Context, d Digest) (io.ReadSeekCloser, int64, error)
	// Stat returns the size, or a NotFound fault.
	Stat(ctx context.Context, d Digest) (int64, error)
	// Delete removes a blob; one that is not there is no error.
	Delete(ctx context.Context, d Digest) error
}

// ErrDamaged is what reading ends with when a store finds out that the bytes are not those that were put. Any other error may be of
// the way to the bytes.
var ErrDamaged = errors.New("the stored bytes are damaged")

// Quarantiner is a store that can put damaged bytes aside, for somebody to look at.
type Quarantiner interface {
	// Quarantine takes a blob out of the store and keeps its bytes apart; one that is not there is no error.
	Quarantine(ctx context.Context, d Digest) error
}

// Sweeper is a store that can be searched for bytes that nobody refers to.
type Sweeper interface {
	// Older calls fn with each blob that was last put before a time.
	Older(ctx context.Context, before time.Time, fn func(d Digest, size int64) error) error
	// DeleteOlder removes a blob unless it was put again since a time, and reports whether it did. Whoever puts the same bytes meanwhile
	// has them.
	DeleteOlder(ctx context.Context, d Digest, before time.Time) (bool, error)
}

// Quarantine takes a damaged blob out of a store, so that it can be put again. A store that cannot keep it apart deletes it.
func Quarantine(ctx context.Context, s Store, d Digest) error {
	if q, ok := s.(Quarantiner); ok {
		return q.Quarantine(ctx, d)
	}
	return s.Delete(ctx, d)
}
