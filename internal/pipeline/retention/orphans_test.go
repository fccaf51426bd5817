package retention_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/blob/dir"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
)

// aged makes everything that was stored below a folder three days old.
func aged(t *testing.T, root string) {
	t.Helper()
	was := time.Now().Add(-72 * time.Hour)
	err := filepath.Walk(filepath.Join(root, "sha256"), func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, was, was)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBytesWhoseRowNeverCameGoAfterTwoDays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		root := t.TempDir()
		store, err := dir.Open(root)
		if err != nil {
			t.Fatal(err)
		}
		w.c.Blobs = store
		put := func(text string) blob.Digest {
			t.Helper()
			d, _, err := store.Put(t.Context(), strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		kept := w.run(t, "ci.yml", 1, false)
		lost, again := put("left by a crash"), put("left by a crash, and then stored again")
		aged(t, root)
		young := put("on its way to its row")
		put("left by a crash, and then stored again") // now
		dry, err := w.c.Collect(t.Context(), "ann", true)
		if err != nil || dry.Orphans != 1 || dry.OrphanBytes != int64(len("left by a crash")) || dry.Nothing() || len(w.entries) != 0 {
			t.Fatalf("a dry run says %+v, %v, with %d entries", dry, err, len(w.entries))
		}
		if _, err := store.Stat(t.Context(), lost); err != nil {
			t.Fatalf("a dry run removed bytes: %v", err)
		}
		g, err := w.c.Collect(t.Context(), "ann", false)
		if err != nil || g.Orphans != 1 || len(w.entries) != 1 || w.entries[0].Subject != "orphans" || w.entries[0].Actor != "ann" || !strings.Contains(fmt.Sprint(w.entries[0].Data), string(lost)) {
			t.Fatalf("Collect() = %+v, %v; entries %+v", g, err, w.entries)
		}
		if _, err := store.Stat(t.Context(), lost); !fault.Is(err, fault.NotFound) {
			t.Errorf("what nothing refers to is still there: %v", err)
		}
		for _, d := range []blob.Digest{again, young} {
			if _, err := store.Stat(t.Context(), d); err != nil {
				t.Errorf("what was stored a moment ago is gone: %v", err)
			}
		}
		_, _, err = store.Open(t.Context(), again)
		if err != nil {
			t.Error(err)
		}
		files, err := w.c.Rows.Artifacts(t.Context(), kept.ID)
		if err != nil || len(files) != 1 {
			t.Fatalf("artifacts %v, %v", files, err)
		}
		if _, err := store.Stat(t.Context(), files[0].Digest); err != nil {
			t.Errorf("the artifact of a run is gone: %v", err)
		}
		if again, err := w.c.Collect(t.Context(), "ann", false); err != nil || again.Orphans != 0 {
			t.Errorf("once more: %+v, %v", again, err)
		}
	})
}

func TestBytesOfAnotherDatabaseAreNotSwept(t *testing.T) {
	w := open(t, dbtest.SQLite(t))
	root := t.TempDir()
	store, err := dir.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	w.c.Blobs = store
	for i := range 1100 {
		name := fmt.Sprintf("%064x", i)
		at := filepath.Join(root, "sha256", name[:2], name)
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	aged(t, root)
	if _, err := w.c.Collect(t.Context(), "ann", false); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Sentence(err), "Of 1100 stored blobs of artifacts the database knows only 0. Is it the database of these bytes?") {
		t.Errorf("Collect() over the bytes of another database = %v", err)
	}
	if _, err := store.Stat(t.Context(), blob.Digest("sha256:"+fmt.Sprintf("%064x", 7))); err != nil {
		t.Errorf("they were removed: %v", err)
	}
}
