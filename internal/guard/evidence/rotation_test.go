package evidence_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/handler"

	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
	"weir/internal/guard/evidence/evidencetest"
	"weir/internal/guard/identity"
)

// TestMain lets this binary be a key management plug-in, too.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "sigstore-kms-weirtest" {
		plugin()
		return
	}
	os.Exit(m.Run())
}

// plugin keeps the key KEY in the file KEY.
func plugin() {
	args, err := handler.GetPluginArgs(os.Args)
	if err == nil {
		var key crypto.PrivateKey
		var raw []byte
		if raw, err = os.ReadFile(args.InitOptions.KeyResourceID); err == nil {
			key, err = cryptoutils.UnmarshalPEMToPrivateKey(raw, cryptoutils.SkipPassword)
		}
		if err == nil {
			var sv signature.SignerVerifier
			if sv, err = signature.LoadSignerVerifier(key, crypto.SHA256); err == nil {
				_, err = handler.Dispatch(os.Stdout, os.Stdin, args, keyOnly{sv})
			}
		}
	}
	if err != nil {
		_ = handler.WriteErrorResponse(os.Stdout, err)
	}
}

type keyOnly struct{ signature.SignerVerifier }

func (keyOnly) CreateKey(context.Context, string) (crypto.PublicKey, error) {
	return nil, errors.New("not here")
}
func (keyOnly) CryptoSigner(context.Context, func(error)) (crypto.Signer, crypto.SignerOpts, error) {
	return nil, nil, errors.New("not here")
}
func (keyOnly) SupportedAlgorithms() []string { return []string{"ecdsa-p256-sha256"} }
func (keyOnly) DefaultAlgorithm() string      { return "ecdsa-p256-sha256" }

func admin(t *testing.T) context.Context { return as(t.Context(), "admin") }

func as(ctx context.Context, role string) context.Context {
	return identity.With(ctx, identity.Actor{ID: "user:ann", Name: "ann", Kind: "user", Roles: []string{role}})
}

type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func TestOldEvidenceVerifiesAfterTheKeysWereRotated(t *testing.T) {
	c := &clock{time.Now().Add(-48 * time.Hour)}
	d, log, dir := dbtest.SQLite(t), evidencetest.NewLog(t), filepath.Join(t.TempDir(), "keys")
	s := evidencetest.With(t, d, log, dir, c.now)
	var told []string
	s.Note = func(_ context.Context, action, _ string, _ any) error { told = append(told, action); return nil }
	first := s.TrustedRoot()
	old := sign(t, s, statement(evidence.Provenance))
	c.at = c.at.Add(24 * time.Hour)
	g, err := s.Rotate(admin(t), evidence.Places{}, "the operator left")
	if err != nil || g.Number != 2 {
		t.Fatalf("Rotate() = %+v, %v", g, err)
	}
	st := statement(evidence.SBOM)
	fresh := sign(t, s, st)
	if fresh.KeyID == old.KeyID || fresh.KeyID != g.KeyID {
		t.Errorf("signed with %s after rotation to %s", fresh.KeyID, g.KeyID)
	}
	for name, e := range map[string]evidence.Evidence{"old": old, "new": fresh} {
		if _, err := evidence.Verify(e.Bundle, s.TrustedRoot(), want(e.PredicateType)); err != nil {
			t.Errorf("the %s evidence does not verify any more: %v", name, err)
		}
	}
	if _, err := evidence.Verify(fresh.Bundle, first, want(evidence.SBOM)); !fault.Is(err, fault.Denied) {
		t.Errorf("the root from before trusts the new keys: %v", err)
	}
	for _, n := range []string{"issuing.key", "tsa.key", "ct.key"} {
		if _, err := os.Stat(filepath.Join(dir, n)); !os.IsNotExist(err) {
			t.Errorf("the old key %s is still there: %v", n, err)
		}
	}

	t.Run("who trusts the old root can follow", func(t *testing.T) {
		updates, err := s.RootUpdates(t.Context())
		if err != nil || len(updates) != 1 {
			t.Fatalf("%d updates, %v", len(updates), err)
		}
		next, err := evidence.Follow(first, updates)
		if err != nil || string(next.JSON()) != string(s.TrustedRoot().JSON()) {
			t.Fatalf("Follow() = %v; want the new root", err)
		}
		if again, err := evidence.Follow(next, updates); err != nil || string(again.JSON()) != string(next.JSON()) {
			t.Errorf("following again: %v", err)
		}
		other := evidencetest.New(t, dbtest.SQLite(t), nil)
		if _, err := evidence.Follow(other.TrustedRoot(), updates); !fault.Is(err, fault.Denied) {
			t.Errorf("another installation's root follows: %v", err)
		}
		bad := json.RawMessage(strings.Replace(string(updates[0]), `"payload":"`, `"payload":"AAAA`, 1))
		if _, err := evidence.Follow(first, []json.RawMessage{bad}); fault.KindOf(err) == "" {
			t.Errorf("a damaged update: %v; want a sentence", err)
		}
		if _, err := evidence.Follow(first, []json.RawMessage{json.RawMessage(fresh.Bundle)}); !fault.Is(err, fault.Invalid) {
			t.Errorf("an SBOM as an update: %v", err)
		}
	})

	t.Run("revoked keys are trusted for what they signed before", func(t *testing.T) {
		rotated := s.TrustedRoot()
		if _, err := s.Revoke(admin(t), 2, c.at, "x"); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Sentence(err), "Rotate the keys first") {
			t.Errorf("Revoke of the key in use = %v", err)
		}
		if _, err := s.Revoke(admin(t), 1, old.Time.Add(time.Hour), "the disk was stolen"); err != nil {
			t.Fatal(err)
		}
		if _, err := evidence.Verify(old.Bundle, s.TrustedRoot(), want(evidence.Provenance)); err != nil {
			t.Errorf("signed before it was revoked: %v", err)
		}
		if _, err := s.Revoke(admin(t), 1, old.Time.Add(2*time.Hour), "later"); !fault.Is(err, fault.Conflict) {
			t.Errorf("a later time: %v", err)
		}
		if _, err := s.Revoke(admin(t), 1, old.Time.Add(-time.Hour), "it was earlier"); err != nil {
			t.Fatal(err)
		}
		if _, err := evidence.Verify(old.Bundle, s.TrustedRoot(), want(evidence.Provenance)); !fault.Is(err, fault.Denied) {
			t.Errorf("signed after it was revoked: %v; want it refused", err)
		}
		updates, err := s.RootUpdates(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for name, from := range map[string]evidence.TrustedRoot{"first": first, "rotated": rotated} {
			if last, err := evidence.Follow(from, updates); err != nil || string(last.JSON()) != string(s.TrustedRoot().JSON()) {
				t.Errorf("from the %s root: %v", name, err)
			}
		}
		// Somebody who hands out the updates cannot lead back to before the revocation.
		if last, err := evidence.Follow(s.TrustedRoot(), updates[:1]); err != nil || string(last.JSON()) != string(s.TrustedRoot().JSON()) {
			t.Errorf("an old update changed a newer root: %v", err)
		}
	})

	t.Run("a restart knows all generations", func(t *testing.T) {
		again := evidencetest.With(t, d, log, dir, c.now)
		if string(again.TrustedRoot().JSON()) != string(s.TrustedRoot().JSON()) {
			t.Error("the trusted root changed")
		}
		keys, err := again.Keys(admin(t))
		if err != nil || len(keys) != 2 || keys[0].Retired.IsZero() || keys[0].Revoked.IsZero() || keys[0].Reason != "it was earlier" || keys[1].Reason != "the operator left" {
			t.Errorf("Keys() = %+v, %v", keys, err)
		}
	})
	if got := strings.Join(told, " "); got != "evidence.keys_rotated evidence.keys_revoked evidence.keys_revoked" {
		t.Errorf("the ledger was told %s", got)
	}
}

func TestARotationThatACrashCutShortIsFinished(t *testing.T) {
	d, log, dir := dbtest.SQLite(t), evidencetest.NewLog(t), filepath.Join(t.TempDir(), "keys")
	s := evidencetest.With(t, d, log, dir, nil)
	first := s.TrustedRoot()
	died := errors.New("power went")
	log.Awaited = func() error { return died }
	if _, err := s.Rotate(admin(t), evidence.Places{}, "drill"); !errors.Is(err, died) {
		t.Fatalf("Rotate() = %v", err)
	}
	log.Awaited = nil
	if _, err := os.Stat(filepath.Join(dir, "issuing.key")); err != nil {
		t.Fatalf("the old key is gone before it handed trust on: %v", err)
	}
	again := evidencetest.With(t, d, log, dir, nil)
	ctx, cancel := context.WithCancel(t.Context())
	again.Published = func(evidence.TrustedRoot) error { return nil }
	done := make(chan error, 1)
	go func() { done <- again.Run(ctx) }()
	for deadline := time.Now().Add(20 * time.Second); ; {
		updates, err := again.RootUpdates(t.Context())
		if err == nil && len(updates) == 1 {
			if _, gone := os.Stat(filepath.Join(dir, "issuing.key")); os.IsNotExist(gone) {
				if _, err := evidence.Follow(first, updates); err != nil {
					t.Error(err)
				}
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d updates, %v: the rotation was not finished", len(updates), err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	<-done
}

func TestOnlyAdminsChangeKeysAndSayWhy(t *testing.T) {
	s := evidencetest.New(t, dbtest.SQLite(t), nil)
	dev := as(t.Context(), "maintainer")
	if _, err := s.Rotate(dev, evidence.Places{}, "x"); !fault.Is(err, fault.Denied) {
		t.Errorf("a maintainer rotates: %v", err)
	}
	if _, err := s.Revoke(dev, 1, time.Now(), "x"); !fault.Is(err, fault.Denied) {
		t.Errorf("a maintainer revokes: %v", err)
	}
	for say, do := range map[string]func() (evidence.Generation, error){
		"Say why the keys are rotated": func() (evidence.Generation, error) { return s.Rotate(admin(t), evidence.Places{}, " ") },
		"Say why the keys are revoked": func() (evidence.Generation, error) { return s.Revoke(admin(t), 1, time.Now(), "") },
		"not from":                     func() (evidence.Generation, error) { return s.Revoke(admin(t), 1, time.Now().Add(time.Hour), "x") },
		"There is no generation 7":     func() (evidence.Generation, error) { return s.Revoke(admin(t), 7, time.Now(), "x") },
		"is not a key in a key management service": func() (evidence.Generation, error) {
			return s.Rotate(admin(t), evidence.Places{Issuing: "awskms"}, "x")
		},
		"needs the program sigstore-kms-nowhere": func() (evidence.Generation, error) {
			return s.Rotate(admin(t), evidence.Places{Timestamps: "nowhere://k"}, "x")
		},
	} {
		if _, err := do(); err == nil || !strings.Contains(fault.Sentence(err), say) {
			t.Errorf("%v; want %q", err, say)
		}
	}
}

func TestIssuingAndTimestampKeyCanStayInAKeyManagementService(t *testing.T) {
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "sigstore-kms-weirtest")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	store := func(curve elliptic.Curve) string {
		t.Helper()
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := cryptoutils.MarshalPrivateKeyToPEM(k)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	key, times := store(elliptic.P256()), store(elliptic.P256())
	dir := filepath.Join(t.TempDir(), "keys")
	d, log := dbtest.SQLite(t), evidencetest.NewLog(t)
	s := evidencetest.With(t, d, log, dir, nil)
	old := sign(t, s, statement(evidence.Provenance))
	if _, err := s.Rotate(admin(t), evidence.Places{Issuing: "weirtest://" + key, Timestamps: "weirtest://" + times}, "the key moves to hardware"); err != nil {
		t.Fatal(err)
	}
	e := sign(t, s, statement(evidence.SBOM))
	for _, e := range []evidence.Evidence{old, e} {
		if _, err := evidence.Verify(e.Bundle, s.TrustedRoot(), want(e.PredicateType)); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"issuing.key", "tsa.key"} {
		if _, err := os.Stat(filepath.Join(dir, "2", name)); !os.IsNotExist(err) {
			t.Errorf("%s is in the folder as well: %v", name, err)
		}
	}
	if _, err := evidence.OpenKeys(dir, "", evidence.Places{}, time.Now()); err != nil {
		t.Errorf("opening again: %v", err)
	}
	if _, err := s.Rotate(admin(t), evidence.Places{Issuing: "weirtest://" + store(elliptic.P384())}, "x"); err == nil || !strings.Contains(fault.Sentence(err), "of another kind than ECDSA on P-256") {
		t.Errorf("a P-384 key: %v", err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	st := statement(evidence.CheckResult)
	if _, err := s.Sign(t.Context(), st); err == nil || !strings.Contains(err.Error(), "did not sign") {
		t.Errorf("Sign() with a key that is gone = %v", err)
	}
	if _, err := evidence.OpenKeys(dir, "", evidence.Places{}, time.Now()); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("opening with a key that is gone: %v", err)
	}
}
