package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
	"weir/internal/guard/identity"
)

// signed is the evidence that a host insists on, about the image that text names.
func signed(t *testing.T, s *System, text string) (digest string, bundles [][]byte) {
	t.Helper()
	sum := sha256.Sum256([]byte(text))
	digest = "sha256:" + hex.EncodeToString(sum[:])
	for _, kind := range []string{evidence.CosignSignature, evidence.Provenance, evidence.SBOM} {
		e, err := s.evidence.Sign(t.Context(), evidence.Statement{PredicateType: kind, Subjects: []evidence.Subject{evidence.SHA256("shop/"+text, digest)}, Predicate: struct{}{}})
		if err != nil {
			t.Fatal(err)
		}
		bundles = append(bundles, e.Bundle)
	}
	return digest, bundles
}

func TestAHostFollowsItsServerToNewKeysAndNobodyElse(t *testing.T) {
	s := openSystem(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.ledger.Sequence(ctx, "test") }()
	t.Cleanup(func() { stop(); <-done })
	srv := handlerOf(t, s)
	dir := t.TempDir()
	file := filepath.Join(dir, "trusted_root.json")
	if err := os.WriteFile(file, s.evidence.TrustedRoot().JSON(), 0o600); err != nil {
		t.Fatal(err)
	}
	root := account(t, s, "root", "admin")
	status, body, _ := send(t, "POST", srv.URL+"/api/v1/keys", root, `{"reason":"yearly"}`)
	if status != http.StatusOK || !strings.Contains(body, `"generation":2`) {
		t.Fatalf("rotate: %d %s", status, body)
	}
	digest, bundles := signed(t, s, "a")

	h, err := openTrust(file, dir, srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	ask := h.updates
	h.updates = func(context.Context) ([]json.RawMessage, error) { return nil, errors.New("unreachable") }
	if err := h.verify(ctx, "shop/a", digest, bundles); !fault.Is(err, fault.Denied) {
		t.Errorf("a host that cannot ask starts what it cannot verify: %v", err)
	}
	h.updates, h.asked = ask, h.asked.Add(-askAgain)
	if err := h.verify(ctx, "shop/a", digest, bundles); err != nil {
		t.Fatalf("the host did not follow: %v", err)
	}
	again, err := openTrust(file, dir, "http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := again.verify(ctx, "shop/a", digest, bundles); err != nil {
		t.Errorf("after a restart without the server: %v", err)
	}

	other := openSystem(t)
	octx, ostop := context.WithCancel(t.Context())
	odone := make(chan error, 1)
	go func() { odone <- other.ledger.Sequence(octx, "test") }()
	t.Cleanup(func() { ostop(); <-odone })
	if _, err := other.evidence.Rotate(identity.With(octx, identity.System("test")), evidence.Places{}, "x"); err != nil {
		t.Fatal(err)
	}
	digest, bundles = signed(t, other, "b")
	h.updates, h.asked = func(ctx context.Context) ([]json.RawMessage, error) { return other.evidence.RootUpdates(ctx) }, h.asked.Add(-askAgain)
	if err := h.verify(ctx, "shop/b", digest, bundles); !fault.Is(err, fault.Denied) {
		t.Errorf("another installation's keys are followed: %v", err)
	}

	updates, err := s.evidence.RootUpdates(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := FollowTrustedRoot(file, updates); err != nil || string(raw) != string(s.evidence.TrustedRoot().JSON()) {
		t.Errorf("weir audit trusted-root --follow: %v", err)
	}
}
