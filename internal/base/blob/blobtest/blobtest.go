// Package blobtest is the conformance suite of blob stores.
package blobtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"weir/internal/base/blob"
	"weir/internal/base/fault"
)

// Run runs the suite on stores made by open.
func Run(t *testing.T, open func(t *testing.T) blob.Store) {
	const hello = blob.Digest("sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
	t.Run("what was put can be read", func(t *testing.T) {
		s := open(t)
		for range 2 {
			d, n, err := s.Put(t.Context(), strings.NewReader("hello"))
			if err != nil || d != hello || n != 5 {
				t.Fatalf("Put() = %v, %v, %v; want %v, 5", d, n, err, hello)
			}
		}
		r, n, err := s.Open(t.Context(), hello)
		if err != nil || n != 5 {
			t.Fatalf("Open() = %v, %v", n, err)
		}
		defer r.Close()
		if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, []byte("hello")) {
			t.Errorf("read %q, %v", b, err)
		}
	})
	t.Run("a failed put leaves nothing", func(t *testing.T) {
		s := open(t)
		for _, boom := range []error{errors.New("boom"), io.ErrUnexpectedEOF} { // the second is how a request breaks off
			for _, n := range []int{0, 5, 10_000, 600_000} {
				head := pattern(n)
				if n == 5 {
					head = []byte("hello")
				}
				if _, _, err := s.Put(t.Context(), io.MultiReader(bytes.NewReader(head), iotest.ErrReader(boom))); !errors.Is(err, boom) {
					t.Errorf("Put() of %d bytes = %v; want %v", n, err, boom)
				}
				if _, err := s.Stat(t.Context(), sum(head)); !fault.Is(err, fault.NotFound) {
					t.Errorf("Stat() of %d bytes = %v; want not found", n, err)
				}
			}
		}
		if _, err := s.Stat(t.Context(), hello); !fault.Is(err, fault.NotFound) {
			t.Errorf("Stat() = %v; want not found", err)
		}
	})
	t.Run("deleting twice is no error", func(t *testing.T) {
		s := open(t)
		if _, _, err := s.Put(t.Context(), strings.NewReader("hello")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Delete(t.Context(), hello); err != nil {
				t.Error(err)
			}
		}
		if _, _, err := s.Open(t.Context(), hello); !fault.Is(err, fault.NotFound) {
			t.Errorf("Open() = %v; want not found", err)
		}
	})
	t.Run("nothing is a blob as well", func(t *testing.T) {
		s := open(t)
		d, n, err := s.Put(t.Context(), strings.NewReader(""))
		if err != nil || n != 0 {
			t.Fatalf("Put() = %v, %v, %v", d, n, err)
		}
		r, n, err := s.Open(t.Context(), d)
		if err != nil || n != 0 {
			t.Fatalf("Open() = %v, %v", n, err)
		}
		defer r.Close()
		if b, err := io.ReadAll(r); err != nil || len(b) != 0 {
			t.Errorf("read %q, %v", b, err)
		}
	})
	t.Run("a large blob is read from anywhere", func(t *testing.T) {
		s := open(t)
		all := pattern(3<<20 + 17)
		d, n, err := s.Put(t.Context(), bytes.NewReader(all))
		if want := sum(all); err != nil || n != int64(len(all)) || d != want {
			t.Fatalf("Put() = %v, %v, %v; want %v", d, n, err, want)
		}
		r, n, err := s.Open(t.Context(), d)
		if err != nil || n != int64(len(all)) {
			t.Fatalf("Open() = %v, %v", n, err)
		}
		defer r.Close()
		if at, err := r.Seek(0, io.SeekEnd); err != nil || at != n {
			t.Errorf("Seek to the end = %v, %v; want %v", at, err, n)
		}
		for _, at := range []int64{0, 1 << 20, 5, n - 3, n, n + 5} {
			if got, err := r.Seek(at, io.SeekStart); err != nil || got != at {
				t.Fatalf("Seek(%d) = %v, %v", at, got, err)
			}
			b, err := io.ReadAll(io.LimitReader(r, 1000))
			from, to := min(at, n), min(at+1000, n)
			if err != nil || !bytes.Equal(b, all[from:to]) {
				t.Errorf("at %d: read %d bytes, %v; want %d", at, len(b), err, to-from)
			}
		}
		if _, err := r.Seek(-1, io.SeekStart); err == nil {
			t.Error("a place before the beginning was taken")
		}
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, all) {
			t.Errorf("read %d bytes, %v", len(b), err)
		}
	})
	t.Run("the same bytes may be put at the same time", func(t *testing.T) {
		s := open(t)
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				b := pattern(100_000 + i%2)
				if d, _, err := s.Put(t.Context(), bytes.NewReader(b)); err != nil || d != sum(b) {
					t.Errorf("Put() = %v, %v", d, err)
				}
			})
		}
		wg.Wait()
		if n, err := s.Stat(t.Context(), sum(pattern(100_001))); err != nil || n != 100_001 {
			t.Errorf("Stat() = %v, %v", n, err)
		}
	})
	t.Run("a cancelled put leaves nothing", func(t *testing.T) {
		s := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		b := pattern(2 << 20)
		_, _, err := s.Put(ctx, io.MultiReader(bytes.NewReader(b[:1<<20]), then(cancel), bytes.NewReader(b[1<<20:])))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Put() = %v; want it cancelled", err)
		}
		if _, err := s.Stat(t.Context(), sum(b)); !fault.Is(err, fault.NotFound) {
			t.Errorf("Stat() = %v; want not found", err)
		}
	})
	t.Run("what is put aside can be put again", func(t *testing.T) {
		s := open(t)
		for range 2 {
			if _, _, err := s.Put(t.Context(), strings.NewReader("hello")); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := blob.Quarantine(t.Context(), s, hello); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.Stat(t.Context(), hello); !fault.Is(err, fault.NotFound) {
				t.Errorf("Stat() = %v; want not found", err)
			}
		}
	})
	t.Run("a digest that is a path is refused", func(t *testing.T) {
		if _, _, err := open(t).Open(t.Context(), "sha256:../../etc/passwd"); !fault.Is(err, fault.Invalid) {
			t.Errorf("Open() = %v; want invalid", err)
		}
	})
}

// pattern is n bytes in which no two places look alike.
func pattern(n int) []byte {
	b := make([]byte, 0, n+8)
	for i := 0; len(b) < n; i++ {
		b = append(b, byte(i), byte(i>>8), byte(i>>16), byte(i>>24))
	}
	return b[:n]
}

func sum(b []byte) blob.Digest {
	s := sha256.Sum256(b)
	return blob.Digest("sha256:" + hex.EncodeToString(s[:]))
}

// then calls do when it is read, and is empty.
type then func()

func (do then) Read([]byte) (int, error) {
	do()
	return 0, io.EOF
}
