package evidence_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
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
		if k := s.TrustedRoot().LogKeys()["log.weir.test"]; !k.Equal(log.PublicKey()) {
			t.Errorf("trusted root names the log key %x; want %x", k, log.PublicKey())
		}
	})
}
