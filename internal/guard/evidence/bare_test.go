package evidence_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
	"weir/internal/guard/evidence/evidencetest"
)

func TestABareKeySignsForOthersAndIsNotBelieved(t *testing.T) {
	d, log, dir := dbtest.SQLite(t), evidencetest.NewLog(t), t.TempDir()
	s := evidencetest.With(t, d, log, filepath.Join(t.TempDir(), "keys"), nil)
	if _, signed, err := s.SignBare(t.Context(), statement(evidence.CosignSignature)); signed || err != nil {
		t.Fatalf("SignBare() without a key = %v, %v", signed, err)
	}
	if _, err := s.ImageKeyPEM(admin(t)); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.Sentence(err), "identity.image_key") {
		t.Errorf("ImageKeyPEM() without a key = %v", err)
	}
	key, err := evidence.OpenImageKey(dir, "file")
	if err != nil {
		t.Fatal(err)
	}
	again, err := evidence.OpenImageKey(dir, "file")
	if err != nil || string(again.PEM()) != string(key.PEM()) {
		t.Fatalf("opening again: %v; want the same key", err)
	}
	s.ImageKey = key

	died := errors.New("power went")
	log.Awaited = func() error { return died }
	if _, _, err := s.SignBare(t.Context(), statement(evidence.CosignSignature)); !errors.Is(err, died) {
		t.Fatalf("SignBare() = %v", err)
	}
	log.Awaited = nil
	if err := s.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	e, signed, err := s.SignBare(t.Context(), statement(evidence.CosignSignature))
	if err != nil || !signed || log.Size() != 1 || !strings.Contains(string(e.Bundle), `"publicKey":{"hint":`) {
		t.Fatalf("SignBare() = %s, %v, %v after %d entries", e.Bundle, signed, err, log.Size())
	}
	if _, err := evidence.Verify(e.Bundle, s.TrustedRoot(), want(evidence.CosignSignature)); !fault.Is(err, fault.Denied) {
		t.Errorf("a bare key's signature counts as a workflow's: %v", err)
	}
	certified := sign(t, s, statement(evidence.CosignSignature))
	if found, err := s.About(t.Context(), digest); err != nil || len(found) != 1 || found[0].ID != certified.ID {
		t.Errorf("About() = %d, %v; want the certified signature alone", len(found), err)
	}
	if s.ImageKey, err = evidence.OpenImageKey(t.TempDir(), "file"); err != nil {
		t.Fatal(err)
	}
	if other, _, err := s.SignBare(t.Context(), statement(evidence.CosignSignature)); err != nil || other.ID == e.ID {
		t.Errorf("another key did not sign anew: %v", err)
	}

	if err := os.Chmod(filepath.Join(dir, "image.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.OpenImageKey(dir, "file"); err == nil || !strings.Contains(fault.Sentence(err), "may be read by others") {
		t.Errorf("a readable key: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "image.key"), []byte("-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "image.key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.OpenImageKey(dir, "file"); err == nil || !strings.Contains(fault.Sentence(err), "no ECDSA key on P-256") {
		t.Errorf("a damaged key: %v", err)
	}
	if _, err := evidence.OpenImageKey(dir, "somewhere"); err == nil || !strings.Contains(fault.Sentence(err), "is not a key in a key management service") {
		t.Errorf("no place for a key: %v", err)
	}
}
