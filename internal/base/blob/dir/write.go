package dir

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	piece    = 256 << 10
	ahead    = 4       // pieces that are read and written while one is hashed
	flushing = 8 << 20 // after which the disk is told to begin
)

var pieces = sync.Pool{New: func() any { b := make([]byte, piece); return &b }}

// write copies r to f and hashes it on the way. Hashing goes on beside reading and writing, and so does the disk, so that little is
// left to wait for in the end.
func write(ctx context.Context, f *os.File, r io.Reader) (n int64, sum [sha256.Size]byte, err error) {
	h := sha256.New()
	b := pieces.Get().(*[]byte)
	got, err := fill(ctx, r, *b)
	if err != nil { // One piece is all there is, or more than there is.
		defer pieces.Put(b)
		if !errors.Is(err, io.EOF) {
			return 0, sum, err
		}
		h.Write((*b)[:got])
		h.Sum(sum[:0])
		_, err = f.Write((*b)[:got])
		return int64(got), sum, err
	}
	type part struct {
		b *[]byte
		n int
	}
	parts, done := make(chan part, ahead), make(chan struct{})
	go func() {
		defer close(done)
		for p := range parts {
			h.Write((*p.b)[:p.n])
			pieces.Put(p.b)
		}
	}()
	flushed := int64(0)
	for {
		_, werr := f.Write((*b)[:got])
		n += int64(got)
		parts <- part{b, got}
		if werr != nil {
			err = werr
		}
		if err != nil {
			break
		}
		if n-flushed >= flushing {
			// Only a hint; Sync says what is on disk.
			_ = unix.SyncFileRange(int(f.Fd()), flushed, n-flushed, unix.SYNC_FILE_RANGE_WRITE)
			flushed = n
		}
		b = pieces.Get().(*[]byte)
		got, err = fill(ctx, r, *b)
		if err != nil && !errors.Is(err, io.EOF) {
			pieces.Put(b)
			break
		}
	}
	close(parts)
	<-done
	if !errors.Is(err, io.EOF) {
		return n, sum, err
	}
	return n, hashed(h), nil
}

func hashed(h hash.Hash) (sum [sha256.Size]byte) {
	h.Sum(sum[:0])
	return sum
}

// fill reads until b is full; io.EOF says that r has ended, whatever was read.
func fill(ctx context.Context, r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		if err = ctx.Err(); err != nil {
			return n, err
		}
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}
