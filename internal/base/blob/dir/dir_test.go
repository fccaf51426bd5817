package dir_test

import (
	"testing"

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
