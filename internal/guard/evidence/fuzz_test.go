package evidence_test

import (
	"encoding/json"
	"testing"

	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
	"weir/internal/guard/evidence/evidencetest"
)

// Whatever a registry hands out as a bundle, it is refused with a sentence or is
// the statement that was signed.
func FuzzBundle(f *testing.F) {
	s := evidencetest.New(f, dbtest.SQLite(f), nil)
	e, err := s.Sign(f.Context(), statement(evidence.Provenance))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.Bundle)
	f.Add([]byte(`{"dsseEnvelope":{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{}]}}`))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"tlogEntries":[{"logIndex":"-1"}]}}`))
	f.Add([]byte(`[]`))
	trust := s.TrustedRoot()
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _ = evidence.Peek(raw)
		v, err := evidence.Verify(raw, trust, want(evidence.Provenance))
		if err != nil {
			if fault.KindOf(err) == "" {
				t.Errorf("no sentence: %v", err)
			}
			return
		}
		var p struct{ Run string }
		if err := v.Decode(&p); err != nil || p.Run != "run_1" {
			t.Errorf("another statement verified: %+v", v)
		}
	})
}

// Whatever a server hands out as an update, the trusted root stays what it is or
// is followed by its own keys.
func FuzzRootUpdate(f *testing.F) {
	s := evidencetest.New(f, dbtest.SQLite(f), nil)
	first := s.TrustedRoot()
	if _, err := s.Rotate(as(f.Context(), "admin"), evidence.Places{}, "drill"); err != nil {
		f.Fatal(err)
	}
	updates, err := s.RootUpdates(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(updates[0]))
	f.Add([]byte(`{"dsseEnvelope":{"payload":"eyJwcmVkaWNhdGVUeXBlIjoiaHR0cHM6Ly93ZWlyLmRldi90cnVzdGVkLXJvb3QvdjEifQ=="}}`))
	last := string(s.TrustedRoot().JSON())
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := evidence.Follow(first, []json.RawMessage{raw})
		if err != nil && fault.KindOf(err) == "" {
			t.Errorf("no sentence: %v", err)
		}
		if j := string(got.JSON()); j != string(first.JSON()) && j != last {
			t.Error("the trusted root became another one")
		}
	})
}

func FuzzTrustedRoot(f *testing.F) {
	s := evidencetest.New(f, dbtest.SQLite(f), nil)
	f.Add(s.TrustedRoot().JSON())
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","tlogs":[{}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := evidence.ParseTrustedRoot(raw)
		if err != nil {
			if fault.KindOf(err) == "" {
				t.Errorf("no sentence: %v", err)
			}
			return
		}
		r.LogKeys()
		evidence.Extends(r, r)
	})
}
