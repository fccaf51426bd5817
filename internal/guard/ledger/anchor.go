package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"weir/internal/base/db"
	"weir/internal/base/fault"
)

// Anchor keeps the newest checkpoint somewhere else than in the database.
type Anchor interface {
	Name() string
	// Newest returns the note stored last, or "".
	Newest(ctx context.Context) (string, error)
	Store(ctx context.Context, cp Checkpoint) error
}

// checkAnchors refuses a database that does not extend every checkpoint that
// was signed before: it is an older copy, or somebody rewrote it.
func (l *Log) checkAnchors(ctx context.Context) error {
	current, err := l.Head(ctx)
	if err != nil {
		return err
	}
	for _, a := range l.anchors {
		signed, err := a.Newest(ctx)
		if err != nil {
			return fmt.Errorf("read anchor %s: %w", a.Name(), err)
		}
		if signed == "" {
			continue
		}
		old, _, err := l.keys.parse(signed)
		if err != nil {
			return fmt.Errorf("anchor %s: %w", a.Name(), err)
		}
		if old.Size > current.Size {
			return fault.New(fault.Conflict, "This database ends at ledger entry %d, but the checkpoint kept in %s was already signed at entry %d: the database is an older copy, and signing on would fork the ledger. Restore the newest copy; if it is lost, move that checkpoint away to accept the gap, which every later audit will see.", current.Size, a.Name(), old.Size)
		}
		if old.Size == 0 {
			continue
		}
		root, err := tlog.TreeHash(old.Size, hashReader{ctx, l.db})
		if err != nil {
			return fmt.Errorf("anchor %s: %w", a.Name(), err)
		}
		if root != old.Root {
			return fault.New(fault.Conflict, "The first %d ledger entries of this database are not those of the checkpoint kept in %s: the ledger was rewritten. Run `weir audit verify --checkpoint %s` to see where.", old.Size, a.Name(), a.Name())
		}
	}
	return nil
}

// File is an anchor in a file beside the key.
type File struct{ Path string }

// Name returns the path.
func (f File) Name() string { return f.Path }

// Newest reads the file; one that is not there is empty.
func (f File) Newest(context.Context) (string, error) {
	b, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// Store replaces the file as a whole.
func (f File) Store(_ context.Context, cp Checkpoint) error {
	tmp, err := os.CreateTemp(filepath.Dir(f.Path), ".checkpoint-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(cp.Note)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	// Not synced: after power loss the anchor may be older than the database,
	// which is the harmless direction.
	return db.WritePoint(func() error { return os.Rename(tmp.Name(), f.Path) })
}
