package ledger_test

import (
	"crypto/ed25519"
	"testing"

	"weir/internal/base/fault"
	"weir/internal/guard/ledger"
)

func FuzzCheckpoint(f *testing.F) {
	pub, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	key := ledger.VerifierKey(origin, pub)
	f.Add(origin+"\n5\nAAAA\n\n— "+origin+" AAAA\n", key)
	f.Add("", "")
	f.Add("x\n-1\n\n\n", "a+b+c")
	f.Fuzz(func(t *testing.T, signed, verifier string) {
		for _, k := range []string{key, verifier} {
			if cp, err := ledger.ParseCheckpoint(signed, k); err == nil && k == key {
				t.Errorf("ParseCheckpoint(%q) = %+v, and nobody has signed anything", signed, cp)
			} else if err != nil && !fault.Is(err, fault.Invalid) {
				t.Errorf("ParseCheckpoint(%q) = %v; want a sentence", signed, err)
			}
		}
	})
}
