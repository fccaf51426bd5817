package dir_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/blob/blobtest"
	"weir/internal/base/blob/dir"
)

func TestConformance(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store {
		s, err := dir.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestBytesThatArePutWhileTheyAreSweptStay(t *testing.T) {
	s, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	stop := make(chan struct{})
	future := time.Now().Add(time.Hour) // everything is old
	d, _, err := s.Put(t.Context(), strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour)
	all.Go(func() { // a sweep of what is older than an hour finds nothing to remove, whenever it looks
		for {
			select {
			case <-stop:
				return
			default:
			}
			if gone, err := s.DeleteOlder(t.Context(), d, past); gone || err != nil {
				t.Errorf("DeleteOlder() of what was put just now = %v, %v", gone, err)
				return
			}
		}
	})
	for range 300 {
		if _, _, err := s.Put(t.Context(), strings.NewReader("hello")); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	all.Wait()
	if _, err := s.Stat(t.Context(), d); err != nil {
		t.Errorf("the bytes are gone: %v", err)
	}
	if gone, err := s.DeleteOlder(t.Context(), d, future); !gone || err != nil {
		t.Errorf("DeleteOlder() of what is old = %v, %v", gone, err)
	}
	if gone, err := s.DeleteOlder(t.Context(), d, future); gone || err != nil {
		t.Errorf("DeleteOlder() of what is gone = %v, %v", gone, err)
	}
}
