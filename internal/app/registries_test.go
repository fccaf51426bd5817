package app

import (
	"strings"
	"testing"

	"weir/internal/base/fault"
)

func TestWrongRegistriesAreRefusedWithASentence(t *testing.T) {
	for want, all := range map[string][]ExternalRegistry{
		`"https://ghcr.io" is not the name of a registry`:    {{Host: "https://ghcr.io"}},
		"ghcr.io is there twice":                             {{Host: "ghcr.io"}, {Host: "ghcr.io"}},
		"needs file: with credentials: file":                 {{Host: "ghcr.io", Credentials: "file"}},
		"ghcr.io needs trusted_root and identity_prefix":     {{Host: "ghcr.io", TrustedRoot: "x"}},
		"needs file: with credentials: file, and only then.": {{Host: "ghcr.io", File: "x"}},
	} {
		if err := checkRegistries(all); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), want) {
			t.Errorf("checkRegistries(%+v) = %v; want %q", all, err, want)
		}
	}
	if err := checkRegistries([]ExternalRegistry{{Host: "ghcr.io"}, {Host: "registry.internal:5000", Credentials: "none", Insecure: true}}); err != nil {
		t.Error(err)
	}
	if _, err := (externals{}).find("ghcr.io"); !strings.Contains(fault.Sentence(err), "does not name the registry ghcr.io") {
		t.Errorf("find() = %v", err)
	}
}
