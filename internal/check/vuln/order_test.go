package vuln_test

import (
	"fmt"
	"strings"
	"testing"

	"weir/internal/check/vuln"
)

// ranged is an advisory about one package: from introduced on, before fixed.
func ranged(t *testing.T, ecosystem, introduced, fixed string) vuln.Affected {
	t.Helper()
	a, err := vuln.Parse(fmt.Appendf(nil, `{"id":"X","affected":[{"package":{"ecosystem":%q,"name":"p"},"ranges":[{"type":"GIT","events":[{"introduced":"0"}]},{"type":"ECOSYSTEM","events":[{"introduced":%q},{"fixed":%q}]}]}]}`, ecosystem, introduced, fixed))
	if err != nil {
		t.Fatal(err)
	}
	return a.Affected[0]
}

func TestVersionsAreComparedByTheRulesOfTheirEcosystem(t *testing.T) {
	for _, c := range []struct {
		ecosystem, introduced, fixed string
		affected, free, odd          []string
	}{
		{"Debian:12", "0", "1:2.3-1+deb12u2", []string{"2.9-1", "1:2.3-1", "1:2.3-1+deb12u1", "1:2.3-1~bpo1", "1:2.3~rc1-9"}, []string{"1:2.3-1+deb12u2", "1:2.3-2", "2:1.0-1"}, []string{"", "unknown", strings.Repeat("1", 201)}},
		{"Ubuntu:22.04:LTS", "0", "7.81.0-1ubuntu1.16", []string{"7.81.0-1ubuntu1.15"}, []string{"7.81.0-1ubuntu1.16", "7.81.0-1ubuntu1.100"}, nil},
		{"Alpine:v3.20", "0", "3.3.2-r1", []string{"3.3.2-r0", "3.3.2_rc1-r5", "3.3.1-r9"}, []string{"3.3.2-r1", "3.3.10-r0", "3.3.2_p1-r0"}, []string{"devel"}},
		{"Wolfi", "0", "8.9.1-r1", []string{"8.9.0-r7"}, []string{"8.9.1-r1"}, nil},
		{"PyPI", "2.0", "2.31.0", []string{"2.0.post1", "2.0", "2.31.0rc1", "2.31.0.dev3", "2.30"}, []string{"1.9", "2.0b1", "2.31", "2.31.0", "2.31.0.post1", "1!0.1"}, nil},
		{"Maven", "2.0-beta9", "2.15.0", []string{"2.0", "2.0-rc1", "2.14.1", "2.15.0-SNAPSHOT"}, []string{"2.0-alpha1", "2.15.0", "2.15", "2.15.1"}, nil},
		{"RubyGems", "0", "3.0.8", []string{"3.0.8.beta1", "3.0.7", "2.9.10"}, []string{"3.0.8", "3.0.8.1", "3.0.10"}, nil},
		{"NuGet", "0", "13.0.1", []string{"13.0.1-beta2", "12.0.3", "13.0.0.9"}, []string{"13.0.1", "13.0.1.1"}, nil},
		{"Packagist", "0", "6.4.2", []string{"v6.4.1", "6.4.2-RC1"}, []string{"v6.4.2", "6.4.10"}, nil},
		{"npm", "1.0.0", "1.10.0", []string{"1.9.0", "1.10.0-rc.1"}, []string{"1.10.0", "0.9.9"}, []string{"latest", "1.x"}},
	} {
		a := ranged(t, c.ecosystem, c.introduced, c.fixed)
		for want, versions := range map[string][]string{"affected": c.affected, "not affected": c.free, "not known": c.odd} {
			for _, v := range versions {
				affected, fixed, known := a.Affects(v)
				got := map[bool]string{true: "affected", false: "not affected"}[affected]
				if !known {
					got = "not known"
				}
				if got != want || affected && fixed != c.fixed {
					t.Errorf("%s %s is %s (fixed in %q); want %s", c.ecosystem, v, got, fixed, want)
				}
			}
		}
	}
}

func TestARangeThatIsNoneCanNotBeCompared(t *testing.T) {
	for _, ecosystem := range []string{"Alpine:v3.20", "npm"} {
		if affected, _, known := ranged(t, ecosystem, "0", "not a version").Affects("1.0.0"); affected || known {
			t.Errorf("%s: affected %v, known %v", ecosystem, affected, known)
		}
	}
}

func FuzzAffects(f *testing.F) {
	for _, e := range []string{"Debian:12", "Alpine:v3.20", "PyPI", "Maven", "RubyGems", "NuGet", "Packagist", "Hackage", "CRAN", "Red Hat", "Pub", "npm"} {
		f.Add(e, "0", "1.2.3", "1.2.3-r0~a+b")
	}
	f.Fuzz(func(t *testing.T, ecosystem, introduced, fixed, version string) {
		raw := fmt.Appendf(nil, `{"id":"X","affected":[{"package":{"ecosystem":%q,"name":"p"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":%q},{"fixed":%q}]}]}]}`, ecosystem, introduced, fixed)
		a, err := vuln.Parse(raw)
		if err != nil || len(a.Affected) == 0 {
			return
		}
		if affected, _, known := a.Affected[0].Affects(version); affected && !known {
			t.Errorf("%s %q in %q to %q: affected, and not known", ecosystem, version, introduced, fixed)
		}
	})
}
