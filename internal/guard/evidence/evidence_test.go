package evidence_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
	"weir/internal/guard/evidence/evidencetest"
)

const (
	digest = "sha256:1f2e3d4c5b6a79880102030405060708090a0b0c0d0e0f101112131415161718"
	commit = "0123456789012345678901234567890123456789"
	signer = evidencetest.Issuer + "/shop/.github/workflows/ci.yml@refs/heads/main"
)

func statement(kind string) evidence.Statement {
	return evidence.Statement{Key: "run_1/1", Identity: signer, PredicateType: kind,
		Subjects: []evidence.Subject{evidence.SHA256("shop/checkout", digest)}, Predicate: map[string]any{"run": "run_1"}}
}

func want(kind string) evidence.Want {
	return evidence.Want{PredicateType: kind, SubjectDigest: digest, Identity: signer}
}

func sign(t *testing.T, s *evidence.Service, st evidence.Statement) evidence.Evidence {
	t.Helper()
	e, err := s.Sign(t.Context(), st)
	if err != nil {
		t.Fatalf("Sign() = %v", err)
	}
	return e
}

func TestEvidenceVerifiesOffline(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := evidencetest.New(t, d, nil)
		for range 5 { // so that the proof has more than one node
			st := statement(evidence.CheckResult)
			st.Key = time.Now().String()
			sign(t, s, st)
		}
		e := sign(t, s, statement(evidence.Provenance))
		trust, err := evidence.ParseTrustedRoot(s.TrustedRoot().JSON())
		if err != nil {
			t.Fatal(err)
		}
		v, err := evidence.Verify(e.Bundle, trust, want(evidence.Provenance))
		if err != nil {
			t.Fatal(err)
		}
		var predicate struct{ Run string }
		if err := v.Decode(&predicate); err != nil || predicate.Run != "run_1" {
			t.Errorf("predicate = %v, %v; want run_1", predicate, err)
		}
		if v.Identity != signer || v.Index != e.Index || e.Index != 5 || v.Issuer != evidencetest.Issuer {
			t.Errorf("verified = %+v; want signer, issuer and position 5", v)
		}
		found, err := s.Find(t.Context(), evidence.Query{Subject: digest, PredicateType: evidence.Provenance})
		if err != nil || len(found) != 1 || string(found[0].Bundle) != string(e.Bundle) {
			t.Errorf("Find() = %d rows, %v; want the one bundle", len(found), err)
		}
		if all, err := s.About(t.Context(), digest); err != nil || len(all) != 6 {
			t.Errorf("About() = %d rows, %v; want 6", len(all), err)
		}
	})
}

func TestRevisionIsASubjectToo(t *testing.T) {
	s := evidencetest.New(t, dbtest.SQLite(t), nil)
	e := sign(t, s, evidence.Statement{PredicateType: evidence.Review, Key: "ann", Subjects: []evidence.Subject{evidence.Commit("shop", commit)}, Predicate: struct{}{}})
	v, err := evidence.Verify(e.Bundle, s.TrustedRoot(), evidence.Want{PredicateType: evidence.Review, SubjectDigest: "gitCommit:" + commit, IdentityPrefix: s.Issuer() + "/"})
	if err != nil || v.Identity != s.Issuer()+"/control-plane" {
		t.Errorf("Verify() = %q, %v; want the control plane's signature", v.Identity, err)
	}
}

func TestEvidenceOutlivesItsCertificate(t *testing.T) {
	past := time.Now().AddDate(-2, 0, 0)
	s := evidencetest.New(t, dbtest.SQLite(t), func() time.Time { return past })
	e := sign(t, s, statement(evidence.Provenance))
	if time.Since(e.NotAfter) < 365*24*time.Hour {
		t.Fatalf("certificate ends %v; want it long expired", e.NotAfter)
	}
	if _, err := evidence.Verify(e.Bundle, s.TrustedRoot(), want(evidence.Provenance)); err != nil {
		t.Errorf("Verify() = %v; want evidence judged at its timestamp", err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	d := dbtest.SQLite(t)
	s := evidencetest.New(t, d, nil)
	other := evidencetest.New(t, dbtest.SQLite(t), nil)
	sbom, prov := sign(t, s, statement(evidence.SBOM)), sign(t, s, statement(evidence.Provenance))

	field := func(bundle []byte, path []string, change func(any) any) []byte {
		t.Helper()
		var all map[string]any
		if err := json.Unmarshal(bundle, &all); err != nil {
			t.Fatal(err)
		}
		at := all
		for _, p := range path[:len(path)-1] {
			at = at[p].(map[string]any)
		}
		at[path[len(path)-1]] = change(at[path[len(path)-1]])
		b, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	swapped := func(in any) any { // another payload under the same signature
		var o map[string]any
		if err := json.Unmarshal(sbom.Bundle, &o); err != nil {
			t.Fatal(err)
		}
		return o["dsseEnvelope"].(map[string]any)["payload"]
	}
	none := func(any) any { return []any{} }
	with := func(change func(*evidence.Want)) evidence.Want {
		w := want(evidence.Provenance)
		change(&w)
		return w
	}
	for _, c := range []struct {
		name   string
		bundle []byte
		trust  evidence.TrustedRoot
		want   evidence.Want
		say    string
	}{
		{"an SBOM as a signature", sbom.Bundle, s.TrustedRoot(), want(evidence.CosignSignature), "but " + evidence.CosignSignature + " is required"},
		{"another installation's root", prov.Bundle, other.TrustedRoot(), want(evidence.Provenance), "a log that this trusted root does not know"},
		{"no root", prov.Bundle, evidence.TrustedRoot{}, want(evidence.Provenance), "there is no trusted root"},
		{"a swapped payload", field(prov.Bundle, []string{"dsseEnvelope", "payload"}, swapped), s.TrustedRoot(), want(evidence.SBOM), "changed after signing"},
		{"no log entry", field(prov.Bundle, []string{"verificationMaterial", "tlogEntries"}, none), s.TrustedRoot(), want(evidence.Provenance), "no entry in a log"},
		{"no timestamp", field(prov.Bundle, []string{"verificationMaterial", "timestampVerificationData"}, func(any) any { return map[string]any{} }), s.TrustedRoot(), want(evidence.Provenance), "does not verify"},
		{"half a bundle", prov.Bundle[:len(prov.Bundle)/2], s.TrustedRoot(), want(evidence.Provenance), "the bundle is damaged"},
		{"another digest", prov.Bundle, s.TrustedRoot(), with(func(w *evidence.Want) { w.SubjectDigest = strings.Replace(digest, "1f", "2f", 1) }), "about something else than sha256:2f2e"},
		{"another signer", prov.Bundle, s.TrustedRoot(), with(func(w *evidence.Want) { w.Identity += "x" }), "was signed by " + signer},
		{"a signer elsewhere", prov.Bundle, s.TrustedRoot(), with(func(w *evidence.Want) { w.Identity, w.IdentityPrefix = "", s.Issuer()+"/other/" }), "a signer below " + s.Issuer() + "/other/"},
		{"another issuer", prov.Bundle, s.TrustedRoot(), with(func(w *evidence.Want) { w.Issuer = "https://other.test" }), "but https://other.test is required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := evidence.Verify(c.bundle, c.trust, c.want)
			if err == nil || !strings.Contains(fault.Sentence(err), c.say) {
				t.Errorf("Verify() = %v; want a sentence with %q", err, c.say)
			}
		})
	}
	if _, err := evidence.Verify(prov.Bundle, s.TrustedRoot(), evidence.Want{SubjectDigest: digest, Identity: signer}); err == nil {
		t.Error("Verify() without a predicate type = nil; want a refusal")
	}
}

// A certificate is good for the minutes in which it was made to sign. Clocks of
// signer and timestamp authority may differ by a little, never by more.
func TestATimestampOutsideTheCertificatesTimeIsRefused(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	for name, c := range map[string]struct {
		certified, stamped time.Duration
		holds              bool
	}{
		"at once":                         {0, 0, true},
		"the certificate's clock is fast": {5 * time.Second, 0, true},
		"near the end of its time":        {0, 9 * time.Minute, true},
		"expired":                         {0, 11 * time.Minute, false},
		"not valid yet":                   {2 * time.Minute, 0, false},
		"before the keys were made":       {-3 * time.Hour, -3 * time.Hour, false},
		"an old one is used again":        {-48 * time.Hour, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := evidencetest.New(t, dbtest.SQLite(t), func() time.Time { return now })
			e, err := s.SignSkewed(t.Context(), statement(evidence.Provenance), now.Add(c.certified), now.Add(c.stamped))
			if err != nil {
				t.Fatal(err)
			}
			_, err = evidence.Verify(e.Bundle, s.TrustedRoot(), want(evidence.Provenance))
			if c.holds && err != nil {
				t.Errorf("Verify() = %v; want it to hold", err)
			}
			if !c.holds && (!fault.Is(err, fault.Denied) || !strings.Contains(fault.Sentence(err), "does not verify")) {
				t.Errorf("Verify() = %v; want it refused with a sentence", err)
			}
		})
	}
}

func TestStatementIsSignedOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		log := evidencetest.NewLog(t)
		s := evidencetest.With(t, d, log, filepath.Join(t.TempDir(), "keys"), nil)
		var wg sync.WaitGroup
		ids := make([]string, 8)
		for i := range ids {
			wg.Go(func() {
				e, err := s.Sign(t.Context(), statement(evidence.Provenance))
				if err != nil {
					t.Error(err)
				}
				ids[i] = e.ID
			})
		}
		wg.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Errorf("ids = %v; want one signature", ids)
			}
		}
		if found, err := s.About(t.Context(), digest); err != nil || len(found) != 1 {
			t.Errorf("About() = %d rows, %v; want 1", len(found), err)
		}
	})
}

func TestRestartCompletesASignatureWithoutASecondEntry(t *testing.T) {
	d, log, keys := dbtest.SQLite(t), evidencetest.NewLog(t), filepath.Join(t.TempDir(), "keys")
	s := evidencetest.With(t, d, log, keys, nil)
	died := errors.New("power went")
	log.Awaited = func() error { return died }
	if _, err := s.Sign(t.Context(), statement(evidence.Provenance)); !errors.Is(err, died) {
		t.Fatalf("Sign() = %v; want %v", err, died)
	}
	if found, _ := s.About(t.Context(), digest); len(found) != 0 {
		t.Fatalf("About() = %d rows; want none before it is complete", len(found))
	}
	log.Awaited = nil
	again := evidencetest.With(t, d, log, keys, nil)
	if err := again.Recover(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	e := sign(t, again, statement(evidence.Provenance))
	if log.Size() != 1 {
		t.Errorf("log has %d entries; want 1", log.Size())
	}
	if _, err := evidence.Verify(e.Bundle, s.TrustedRoot(), want(evidence.Provenance)); err != nil {
		t.Error(err)
	}
}

func TestSignRefusesWhatItCannotVouchFor(t *testing.T) {
	s := evidencetest.New(t, dbtest.SQLite(t), nil)
	for say, change := range map[string]func(*evidence.Statement){
		"needs a predicate type":                      func(st *evidence.Statement) { st.PredicateType = "" },
		"needs a subject with a digest":               func(st *evidence.Statement) { st.Subjects = []evidence.Subject{{Name: "x"}} },
		"is not below this installation's issuer":     func(st *evidence.Statement) { st.Identity = "https://weir.test.evil.example/a" },
		"at most 8388608 can be signed":               func(st *evidence.Statement) { st.Predicate = strings.Repeat("a", 9<<20) },
		"\"mailto:ann@weir.test\" is not below this ": func(st *evidence.Statement) { st.Identity = "mailto:ann@weir.test" },
	} {
		st := statement(evidence.Provenance)
		change(&st)
		if _, err := s.Sign(t.Context(), st); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), say) {
			t.Errorf("Sign() = %v; want %q", err, say)
		}
	}
}

func TestKeysAreMadeOnceAndKeptPrivate(t *testing.T) {
	dir, now := filepath.Join(t.TempDir(), "data", "keys"), time.Now()
	first, err := evidence.OpenKeys(dir, "https://weir.test/", evidence.Places{}, now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := evidence.OpenKeys(dir, "", evidence.Places{}, now.Add(time.Hour))
	if err != nil || again.Current().KeyID() != first.Current().KeyID() || again.Current().Issuer() != "https://weir.test" {
		t.Fatalf("second open = %v, %v; want the same keys and issuer", again, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v; want 0600", f, st.Mode(), err)
		}
	}

	refused := func(why, say string, do func(dir string), issuer string) {
		t.Helper()
		copyDir := filepath.Join(t.TempDir(), "keys")
		if err := os.CopyFS(copyDir, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.Chmod(filepath.Join(copyDir, filepath.Base(f)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		do(copyDir)
		if _, err := evidence.OpenKeys(copyDir, issuer, evidence.Places{}, now); err == nil || !strings.Contains(fault.Sentence(err), say) {
			t.Errorf("%s: OpenKeys() = %v; want %q", why, err, say)
		}
	}
	refused("another issuer", "has signed as https://weir.test since", func(string) {}, "https://other.test")
	refused("readable key", "may be read by others", func(d string) { os.Chmod(filepath.Join(d, "issuing.key"), 0o644) }, "")
	refused("lost key", "incomplete", func(d string) { os.Remove(filepath.Join(d, "ct.key")) }, "")
	refused("swapped key", "does not belong to its certificate", func(d string) {
		os.Rename(filepath.Join(d, "tsa.key"), filepath.Join(d, "issuing.key"))
		os.WriteFile(filepath.Join(d, "tsa.key"), mustRead(t, filepath.Join(dir, "tsa.key")), 0o600)
	}, "")
	if _, err := evidence.OpenKeys(filepath.Join(t.TempDir(), "k"), "localhost:8080", evidence.Places{}, now); err == nil || !strings.Contains(fault.Sentence(err), "is not a URL like https://weir.example.com") {
		t.Errorf("OpenKeys() = %v; want the issuer refused", err)
	}
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
