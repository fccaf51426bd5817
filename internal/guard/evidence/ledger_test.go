package evidence_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/base/lease"
	"weir/internal/guard/evidence"
	"weir/internal/guard/evidence/evidencetest"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
)

func TestSignaturesAreLeavesOfTheLedger(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		if err := lease.Migrate(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		key, err := ledger.LoadKey(filepath.Join(dir, "log.key"), "log.weir.test")
		if err != nil {
			t.Fatal(err)
		}
		log, err := ledger.Open(t.Context(), d, key, ledger.File{Path: filepath.Join(dir, "checkpoint")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var loop sync.WaitGroup
		loop.Go(func() { _ = log.Sequence(ctx, "node") })
		defer loop.Wait()
		defer stop()

		s := evidencetest.With(t, d, log, filepath.Join(dir, "evidence"), nil)
		if err := d.Write(ctx, func(tx *db.Tx) error { // a decision between the signatures
			_, err := log.Append(ctx, tx, ledger.Entry{Actor: identity.System("test"), Action: "test.done", Subject: "x"})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{evidence.CosignSignature, evidence.Provenance, evidence.SBOM} {
			e := sign(t, s, statement(kind))
			if v, err := evidence.Verify(e.Bundle, s.TrustedRoot(), want(kind)); err != nil || v.Index != e.Index {
				t.Errorf("Verify() = position %d, %v; want %d", v.Index, err, e.Index)
			}
		}
		if k := s.TrustedRoot().LogKeys()["log.weir.test"]; len(k) != 1 || !k[0].Equal(log.PublicKey()) {
			t.Errorf("trusted root names the log key %x; want %x", k, log.PublicKey())
		}
	})
}

// site is a data folder's keys with the services over them, as one server has them.
type site struct {
	dir string
	log *ledger.Log
	*evidence.Service
}

func newSite(t *testing.T, ctx context.Context, d *db.DB, dir string) site {
	t.Helper()
	key, err := ledger.LoadKey(filepath.Join(dir, "log.key"), "log.weir.test")
	if err != nil {
		t.Fatal(err)
	}
	log, err := ledger.Open(ctx, d, key, ledger.File{Path: filepath.Join(dir, "checkpoint")})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	ctx, stop := context.WithCancel(ctx)
	go func() { defer close(done); _ = log.Sequence(ctx, dir) }()
	t.Cleanup(func() { stop(); <-done })
	return site{dir, log, evidencetest.With(t, d, log, filepath.Join(dir, "evidence"), nil)}
}

func TestEvidenceOutlivesTheKeyOfTheLedger(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		if err := lease.Migrate(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		s := newSite(t, t.Context(), d, t.TempDir())
		first := s.TrustedRoot()
		old := sign(t, s.Service, statement(evidence.Provenance))
		g, err := s.RotateLog(admin(t), "yearly")
		if err != nil || g.Number != 2 || g.Next {
			t.Fatalf("RotateLog() = %+v, %v", g, err)
		}
		fresh := sign(t, s.Service, statement(evidence.SBOM))
		for name, e := range map[string]evidence.Evidence{"old": old, "new": fresh} {
			if _, err := evidence.Verify(e.Bundle, s.TrustedRoot(), want(e.PredicateType)); err != nil {
				t.Errorf("the %s evidence does not verify: %v", name, err)
			}
		}
		if _, err := evidence.Verify(fresh.Bundle, first, want(evidence.SBOM)); !fault.Is(err, fault.Denied) {
			t.Errorf("the root from before knows the new key: %v", err)
		}
		updates, err := s.RootUpdates(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		next, err := evidence.Follow(first, updates)
		if err != nil || string(next.JSON()) != string(s.TrustedRoot().JSON()) || len(next.LogKeys()["log.weir.test"]) != 2 {
			t.Errorf("Follow() from the root before = %v; want the new one with both keys", err)
		}
		all, err := s.LogKeys(admin(t))
		if err != nil || len(all) != 2 || all[1].Reason != "yearly" || all[1].Start == 0 {
			t.Errorf("LogKeys() = %+v, %v", all, err)
		}
		for say, reason := range map[string]string{"Say why the key is rotated": " "} {
			if _, err := s.RotateLog(admin(t), reason); err == nil || !strings.Contains(fault.Sentence(err), say) {
				t.Errorf("RotateLog(%q) = %v", reason, err)
			}
		}
		if _, err := s.RotateLog(as(t.Context(), "maintainer"), "x"); !fault.Is(err, fault.Denied) {
			t.Errorf("a maintainer rotates the ledger's key: %v", err)
		}
	})
	plain := evidencetest.New(t, dbtest.SQLite(t), nil)
	if _, err := plain.RotateLog(admin(t), "x"); err == nil || !strings.Contains(fault.Sentence(err), "The key of this log cannot be replaced") {
		t.Errorf("RotateLog() of a log that cannot = %v", err)
	}
}

func TestARotationReachesTheOtherServers(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		if err := lease.Migrate(ctx, d); err != nil {
			t.Fatal(err)
		}
		a := newSite(t, ctx, d, t.TempDir())
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(a.dir)); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"issuing", "tsa", "ct"} { // a copy of a file system is readable for all
			if err := os.Chmod(filepath.Join(copied, "evidence", p+".key"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b := newSite(t, ctx, d, copied)
		shared := map[string]evidence.Shared{}
		a.Share = func(_ context.Context, x evidence.Shared) error {
			shared[fmt.Sprint(x.Kind, x.Number)] = x
			return nil
		}
		list := func(private bool) (out []evidence.Shared) {
			for _, k := range slices.Sorted(maps.Keys(shared)) {
				x := shared[k]
				if !private {
					x.Private = nil
				}
				out = append(out, x)
			}
			return out
		}
		g, err := a.Rotate(admin(t), evidence.Places{}, "yearly")
		if err != nil {
			t.Fatal(err)
		}
		// b was away while the keys were handed out: it says so, and signs nothing.
		if err := b.Receive(ctx, list(false)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Sign(ctx, statement(evidence.CheckResult)); !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Sentence(err), "Another server made generation 2 of the signing keys, which this one does not have") {
			t.Errorf("Sign() without the keys = %v", err)
		}
		for range 2 { // once more changes nothing
			if err := b.Receive(ctx, list(true)); err != nil {
				t.Fatal(err)
			}
		}
		e := sign(t, b.Service, statement(evidence.SBOM))
		if e.KeyID != g.KeyID || string(a.TrustedRoot().JSON()) != string(b.TrustedRoot().JSON()) {
			t.Errorf("b signs with %s, a with %s; or they are trusted otherwise", e.KeyID, g.KeyID)
		}
		for _, s := range []site{a, b} {
			if _, err := os.Stat(filepath.Join(s.dir, "evidence", "issuing.key")); !os.IsNotExist(err) {
				t.Errorf("the old key is still in %s: %v", s.dir, err)
			}
		}
		if _, err := a.Revoke(admin(t), 1, time.Now().Add(-time.Minute), "stolen"); err != nil {
			t.Fatal(err)
		}
		if err := b.Receive(ctx, list(false)); err != nil {
			t.Fatal(err)
		}
		if all, err := b.Keys(admin(t)); err != nil || all[0].Revoked.IsZero() {
			t.Errorf("b does not know what was revoked: %+v, %v", all, err)
		}
		for say, x := range map[string]evidence.Shared{
			"is damaged":                     {Kind: evidence.SharedKeys, Number: 3, Public: map[string][]byte{"authority.json": []byte("{")}},
			"which it cannot be":             {Kind: evidence.SharedKeys, Number: 3, Public: map[string][]byte{"../../x": nil}},
			"has other keys as generation 2": {Kind: evidence.SharedKeys, Number: 2, Public: map[string][]byte{"authority.json": []byte(`{"generation":2}`)}},
		} {
			if err := b.Receive(ctx, []evidence.Shared{x}); err == nil || !strings.Contains(fault.Sentence(err), say) {
				t.Errorf("Receive() = %v; want %q", err, say)
			}
		}
	})
}
