package secret_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
	"weir/internal/guard/secret"
)

func TestKeysAreHandedOutSealedAndNotForLong(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx, key := t.Context(), filepath.Join(t.TempDir(), "secret.key")
		s := open(t, d, key)
		x := evidence.Shared{Kind: evidence.SharedKeys, Number: 2, Public: map[string][]byte{"root.crt": []byte("c")}, Private: map[string][]byte{"tsa.key": []byte("very secret")}}
		if err := s.Share(ctx, x); err != nil {
			t.Fatal(err)
		}
		got, err := s.Shared(ctx)
		if err != nil || len(got) != 1 || string(got[0].Private["tsa.key"]) != "very secret" || string(got[0].Public["root.crt"]) != "c" {
			t.Fatalf("Shared() = %+v, %v", got, err)
		}
		var stored string
		if err := d.QueryRow(ctx, "select sealed from shared_key").Scan(&stored); err != nil || strings.Contains(stored, "very secret") || stored == "" {
			t.Errorf("the row holds %q, %v", stored, err)
		}
		other, err := secret.Open(ctx, d, nil, filepath.Join(t.TempDir(), "other.key"), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Shared(ctx); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Sentence(err), "keys/secret.key is not the same here") {
			t.Errorf("a server with another key of secrets: %v", err)
		}
		// A row that was put in another's place does not open.
		if err := d.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, "update shared_key set number = 3")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Shared(ctx); err == nil {
			t.Error("keys of generation 2 open as those of generation 3")
		}
		later, err := secret.Open(ctx, d, nil, key, func() time.Time { return time.Now().Add(2 * time.Hour) })
		if err != nil {
			t.Fatal(err)
		}
		got, err = later.Shared(ctx)
		if err != nil || len(got) != 1 || got[0].Private != nil || got[0].Public == nil {
			t.Errorf("two hours later: %+v, %v; want the public part alone", got, err)
		}
		// Bringing the public part up to date hands nothing out again.
		if err := s.Share(ctx, evidence.Shared{Kind: evidence.SharedKeys, Number: 3, Public: x.Public, Private: x.Private}); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Shared(ctx); err != nil || got[0].Private != nil {
			t.Errorf("shared again: %+v, %v", got, err)
		}
	})
}
