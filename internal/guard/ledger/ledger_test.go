package ledger_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/base/lease"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
)

const origin = "log.weir.test"

func open(t *testing.T, d *db.DB, dir string) *ledger.Log {
	t.Helper()
	l, err := tryOpen(t, d, dir)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func tryOpen(t *testing.T, d *db.DB, dir string) (*ledger.Log, error) {
	t.Helper()
	if err := lease.Migrate(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	key, err := ledger.LoadKey(filepath.Join(dir, "log.key"), origin)
	if err != nil {
		t.Fatal(err)
	}
	return ledger.Open(t.Context(), d, key, ledger.File{Path: filepath.Join(dir, "checkpoint")})
}

// fill appends n entries and waits until a checkpoint covers them.
func fill(t *testing.T, d *db.DB, l *ledger.Log, n int) []string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var loop sync.WaitGroup
	loop.Go(func() { _ = l.Sequence(ctx, "node") })
	defer loop.Wait()
	defer stop()
	var ids []string
	for i := range n {
		err := d.Write(ctx, func(tx *db.Tx) error {
			entry, err := l.Append(ctx, tx, ledger.Entry{Actor: identity.System("test"), Action: "test.done", Subject: fmt.Sprint(i), Data: map[string]int{"n": i}})
			if err == nil && len(ids) == i {
				ids = append(ids, entry)
			} else if err == nil {
				ids[i] = entry
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, entry := range ids {
		if _, err := l.Await(ctx, entry); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

func TestEveryEntryHasAProofUnderASignedCheckpoint(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		l := open(t, d, t.TempDir())
		for i, entry := range fill(t, d, l, 37) {
			p, err := l.Prove(t.Context(), entry)
			if err != nil {
				t.Fatal(err)
			}
			cp, err := ledger.ParseCheckpoint(p.Checkpoint, l.VerifierKey())
			if err != nil {
				t.Fatal(err)
			}
			records, err := l.List(t.Context(), ledger.Filter{Subject: fmt.Sprint(i)})
			if err != nil || len(records) != 1 {
				t.Fatalf("List() = %v, %v; want one record", records, err)
			}
			var path tlog.RecordProof
			for _, h := range p.Hashes {
				path = append(path, tlog.Hash(h))
			}
			if err := tlog.CheckRecord(path, cp.Size, cp.Root, p.Index, tlog.RecordHash(records[0].Leaf)); err != nil {
				t.Errorf("entry %d: %v", i, err)
			}
		}
	})
}

func exec(t *testing.T, d *db.DB, statements ...string) {
	t.Helper()
	err := d.Write(t.Context(), func(tx *db.Tx) error {
		for _, s := range statements {
			if _, err := tx.Exec(t.Context(), s); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What somebody who holds the database, but not the key, can do to it.
func TestAuditFindsWhatAHolderOfTheDatabaseDid(t *testing.T) {
	attacks := []struct {
		name, want string
		do         func(t *testing.T, d *db.DB)
	}{
		{"nothing", "", func(*testing.T, *db.DB) {}},
		{"edit", "edited", func(t *testing.T, d *db.DB) {
			exec(t, d, `update ledger_entry set leaf = replace(leaf, '"n":5', '"n":6') where position = 5`)
		}},
		{"removal", "removed", func(t *testing.T, d *db.DB) { exec(t, d, "delete from ledger_entry where position = 5") }},
		{"removal with renumbering", "edited", func(t *testing.T, d *db.DB) {
			exec(t, d, "delete from ledger_entry where position = 19", "delete from ledger_entry where position = 5")
			for i := 6; i < 19; i++ {
				exec(t, d, fmt.Sprintf("update ledger_entry set position = %d where position = %d", i-1, i))
			}
		}},
		{"truncation", "truncated", func(t *testing.T, d *db.DB) {
			exec(t, d, "delete from ledger_entry where position >= 15", "delete from ledger_checkpoint where size > 15")
		}},
		{"truncation after the checkpoint", "truncated", func(t *testing.T, d *db.DB) { exec(t, d, "delete from ledger_entry where position = 29") }},
		{"full recomputation", "recomputed", func(t *testing.T, d *db.DB) {
			exec(t, d, `update ledger_entry set leaf = replace(leaf, '"n":5', '"n":6') where position = 5`)
			recompute(t, d)
		}},
		{"recomputation after the checkpoint", "recomputed", func(t *testing.T, d *db.DB) {
			exec(t, d, `update ledger_entry set leaf = replace(leaf, '"n":5', '"n":6') where position = 25`)
			recompute(t, d)
		}},
		{"forged checkpoint", "unsigned", func(t *testing.T, d *db.DB) {
			exec(t, d, "update ledger_checkpoint set note = replace(note, '30', '31')")
		}},
	}
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, d *db.DB) {
				l := open(t, d, t.TempDir())
				fill(t, d, l, 20)
				kept, err := l.Head(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				fill(t, d, l, 10)
				a.do(t, d)
				rep, err := ledger.Audit(t.Context(), d, kept.Note, l.VerifierKey())
				if err != nil {
					t.Fatal(err)
				}
				var kinds []string
				for _, f := range rep.Findings {
					kinds = append(kinds, f.Kind)
				}
				if a.want == "" && !rep.OK() || a.want != "" && !slices.Contains(kinds, a.want) {
					t.Errorf("findings %+v; want %q", rep.Findings, a.want)
				}
			})
		})
	}
}

// recompute rebuilds the stored tree from the leaves, as an attacker would.
func recompute(t *testing.T, d *db.DB) {
	t.Helper()
	ctx := t.Context()
	rows, err := d.Query(ctx, "select leaf from ledger_entry order by position")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var tree hashes
	n := int64(0)
	for rows.Next() {
		var leaf string
		if err := rows.Scan(&leaf); err != nil {
			t.Fatal(err)
		}
		more, err := tlog.StoredHashes(n, []byte(leaf), tree)
		if err != nil {
			t.Fatal(err)
		}
		tree = append(tree, more...)
		n++
	}
	err = d.Write(ctx, func(tx *db.Tx) error {
		for i, h := range tree {
			if _, err := tx.Exec(ctx, "update ledger_hash set hash = ? where idx = ?", hex.EncodeToString(h[:]), i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

type hashes []tlog.Hash

func (h hashes) ReadHashes(idx []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(idx))
	for i, x := range idx {
		out[i] = h[x]
	}
	return out, nil
}

func TestARestoredOlderCopyCannotSignOn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		dir := t.TempDir()
		fill(t, d, open(t, d, dir), 20)
		exec(t, d, "delete from ledger_entry where position >= 15", "delete from ledger_checkpoint where size > 15")
		_, err := tryOpen(t, d, dir)
		if !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Sentence(err), "older copy") {
			t.Errorf("Open() = %v; want a refusal that speaks of an older copy", err)
		}
	})
}

func TestAnotherKeyCannotContinueTheLog(t *testing.T) {
	d := dbtest.SQLite(t)
	fill(t, d, open(t, d, t.TempDir()), 3)
	_, err := tryOpen(t, d, t.TempDir())
	if !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Sentence(err), "another key") {
		t.Errorf("Open() = %v; want a refusal that speaks of another key", err)
	}
}

func TestTheKeyIsReadableByItsOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.key")
	if _, err := ledger.LoadKey(path, origin); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v; want 0600", st.Mode().Perm())
	}
	if err := os.WriteFile(path, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.LoadKey(path, origin); !fault.Is(err, fault.Invalid) {
		t.Errorf("LoadKey() = %v; want invalid", err)
	}
}
