package small_test

import (
	"bytes"
	"errors"
	"testing"

	"weir/internal/base/blob"
	"weir/internal/base/blob/blobtest"
	"weir/internal/base/blob/dir"
	"weir/internal/base/blob/small"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
)

func open(t *testing.T, d *db.DB) (*small.Store, *dir.Store) {
	t.Helper()
	large, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := small.Open(t.Context(), d, large)
	if err != nil {
		t.Fatal(err)
	}
	return s, large
}

func TestConformance(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		blobtest.Run(t, func(t *testing.T) blob.Store {
			s, _ := open(t, d)
			if err := d.Write(t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(t.Context(), "delete from blob_small"); return err }); err != nil {
				t.Fatal(err)
			}
			return s
		})
	})
}

func TestOnlyWhatIsSmallIsInTheDatabase(t *testing.T) {
	s, large := open(t, dbtest.SQLite(t))
	for _, n := range []int{blob.Small - 1, blob.Small, blob.Small + 1} {
		b := bytes.Repeat([]byte{byte(n)}, n)
		d, size, err := s.Put(t.Context(), bytes.NewReader(b))
		if err != nil || size != int64(n) {
			t.Fatalf("Put() = %v, %v", size, err)
		}
		if _, err := large.Stat(t.Context(), d); fault.Is(err, fault.NotFound) != (n <= blob.Small) {
			t.Errorf("%d bytes: in the other store: %v", n, err)
		}
		if got, err := s.Stat(t.Context(), d); err != nil || got != int64(n) {
			t.Errorf("Stat() = %v, %v; want %d", got, err, n)
		}
	}
}

func TestPutInIsPartOfItsTransaction(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, _ := open(t, d)
		boom := errors.New("boom")
		var digest blob.Digest
		put := func(end error) error {
			return d.Write(t.Context(), func(tx *db.Tx) (err error) {
				if digest, err = s.PutIn(t.Context(), tx, []byte("hello")); err != nil {
					return err
				}
				return end
			})
		}
		if err := put(boom); !errors.Is(err, boom) {
			t.Fatal(err)
		}
		if _, err := s.Stat(t.Context(), digest); !fault.Is(err, fault.NotFound) {
			t.Errorf("a transaction that failed left the blob: %v", err)
		}
		if err := put(nil); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Stat(t.Context(), digest); err != nil || n != 5 {
			t.Errorf("Stat() = %v, %v", n, err)
		}
	})
}
