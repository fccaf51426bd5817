// Package blobtest is the conformance suite of blob stores.
package blobtest

import (
	"bytes"
	"errors"
	"io"
	"strings"
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
		boom := errors.New("boom")
		if _, _, err := s.Put(t.Context(), io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(boom))); !errors.Is(err, boom) {
			t.Errorf("Put() = %v; want %v", err, boom)
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
	t.Run("a digest that is a path is refused", func(t *testing.T) {
		if _, _, err := open(t).Open(t.Context(), "sha256:../../etc/passwd"); !fault.Is(err, fault.Invalid) {
			t.Errorf("Open() = %v; want invalid", err)
		}
	})
}
