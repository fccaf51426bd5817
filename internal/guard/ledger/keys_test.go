package ledger_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
)

func TestTheKeyIsReplacedAndEveryFormerCheckpointHolds(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		dir, ctx := t.TempDir(), identity.With(t.Context(), identity.System("test"))
		l := open(t, d, dir)
		fill(t, d, l, 5)
		before, err := l.Head(ctx)
		if err != nil {
			t.Fatal(err)
		}
		first := l.VerifierKey()
		for _, reason := range []string{"yearly", "again"} {
			if _, err := l.Switch(ctx, reason); err != nil {
				t.Fatal(err)
			}
			fill(t, d, l, 3)
		}
		now, err := l.Head(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ledger.ParseCheckpoint(now.Note, first); err == nil {
			t.Error("the first key still signs")
		}
		if len(l.VerifierKeys()) != 3 {
			t.Errorf("keys %v; want three", l.VerifierKeys())
		}
		for _, cp := range []ledger.Checkpoint{before, now} {
			if rep, err := ledger.Audit(ctx, d, cp.Note, l.VerifierKeys()...); err != nil || !rep.OK() {
				t.Errorf("audit from entry %d: %+v, %v", cp.Size, rep, err)
			}
		}
		for _, name := range []string{"log.key", "log-2.key"} {
			if _, err := os.Stat(filepath.Join(dir, name)); !os.IsNotExist(err) {
				t.Errorf("the former private key %s is still there: %v", name, err)
			}
		}
		// A new start knows all of them, and goes on.
		fill(t, d, open(t, d, dir), 2)
	})
}

func TestAKeyThatTheOneBeforeItHasNotSignedIsRefused(t *testing.T) {
	d, ctx := dbtest.SQLite(t), identity.With(t.Context(), identity.System("test"))
	dir := t.TempDir()
	l := open(t, d, dir)
	fill(t, d, l, 3)
	if _, err := l.Switch(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	// Whoever has the database puts a key of their own in the next place.
	exec(t, d, "insert into ledger_key (org, number, public_key, start, created, reason, handover) select org, 3, public_key, start, created, reason, handover from ledger_key where number = 2")
	if _, err := tryOpen(t, d, dir); !fault.Is(err, fault.Denied) || !strings.Contains(fault.Sentence(err), "generation 3, that the key before it has not signed") {
		t.Errorf("Open() = %v; want the key refused", err)
	}
}

func TestAServerWithoutTheNewKeyGivesTheWorkToOneThatHasIt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := identity.With(t.Context(), identity.System("test"))
		here, there := t.TempDir(), t.TempDir()
		a := open(t, d, here)
		raw, err := os.ReadFile(filepath.Join(here, "log.key"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(there, "log.key"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		b := open(t, d, there)
		fill(t, d, b, 2)
		if _, err := a.Prepare(); err != nil {
			t.Fatal(err)
		}
		next, err := a.Next()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Switch(ctx, "x"); err != nil {
			t.Fatal(err)
		}
		// b has not the key: it gives the lease back as often as it gets it, and a signs.
		running, stop := context.WithCancel(ctx)
		var loops sync.WaitGroup
		loops.Go(func() { _ = b.Sequence(running, "b") })
		fill(t, d, a, 1)
		if _, err := b.Prepare(); err == nil || !strings.Contains(fault.Sentence(err), "This server has not the key that signs the ledger now") {
			t.Errorf("Prepare() where the key is not = %v", err)
		}
		stop()
		loops.Wait()
		if err := b.Install(2, next); err != nil {
			t.Fatal(err)
		}
		fill(t, d, b, 1)
		if _, err := os.Stat(filepath.Join(there, "log.key")); !os.IsNotExist(err) {
			t.Errorf("the former key is still on the other server: %v", err)
		}
	})
}

func TestWhatAFormerKeySignsLaterIsRefused(t *testing.T) {
	d, dir := dbtest.SQLite(t), t.TempDir()
	ctx := identity.With(t.Context(), identity.System("test"))
	l := open(t, d, dir)
	fill(t, d, l, 3)
	stolen, err := os.ReadFile(filepath.Join(dir, "log.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Switch(ctx, "the key was stolen"); err != nil {
		t.Fatal(err)
	}
	fill(t, d, l, 2)
	// The thief signs the newest checkpoint once more, with the key that was good until then.
	thief := t.TempDir()
	if err := os.WriteFile(filepath.Join(thief, "log.key"), stolen, 0o600); err != nil {
		t.Fatal(err)
	}
	head, err := l.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	forged := ledger.SignForTest(t, filepath.Join(thief, "log.key"), origin, head)
	exec(t, d, "update ledger_checkpoint set note = '"+forged+"' where size = (select max(size) from ledger_checkpoint)")
	if _, err := l.Head(ctx); !fault.Is(err, fault.Denied) || !strings.Contains(fault.Sentence(err), "generation 1 of the log's keys, which does not sign that part of the log") {
		t.Errorf("Head() = %v; want the former key refused", err)
	}
}

func TestADamagedListOfKeysIsRefused(t *testing.T) {
	dir := t.TempDir()
	for raw, want := range map[string]string{"{": "is damaged", `[{"number":1,"public":""}]`: "was not signed by the one before it"} {
		if err := os.WriteFile(filepath.Join(dir, "log-keys.json"), []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ledger.LoadKey(filepath.Join(dir, "log.key"), origin); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), want) {
			t.Errorf("LoadKey() with %s = %v; want %q", raw, err, want)
		}
	}
}
