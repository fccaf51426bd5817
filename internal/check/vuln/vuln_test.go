package vuln_test

import (
	"slices"
	"strings"
	"testing"

	"weir/internal/base/fault"
	"weir/internal/check/vuln"
)

const advisory = `{"id": "GO-2026-1", "aliases": ["CVE-2026-1", "GHSA-x"], "details": "Reads too much.\nMore.", "modified": "2026-01-02T03:04:05Z",
	"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
	"references": [{"type": "WEB", "url": "javascript:alert(1)"}, {"type": "ADVISORY", "url": "https://example.com/a"}],
	"affected": [{"package": {"ecosystem": "Go", "name": "example.com/net"}, "ranges": [{"type": "SEMVER", "events": [
		{"fixed": "1.2.3"}, {"introduced": "0"}, {"introduced": "2.0.0-rc.1"}, {"last_affected": "2.1.0"}, {"introduced": "3.0.0"}]}]},
		{"package": {"ecosystem": "Debian:12", "name": "net"}, "versions": ["1:2-3"], "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}]}`

func TestAnAdvisoryIsReadWithItsScoreAndItsSpans(t *testing.T) {
	a, err := vuln.Parse([]byte(advisory))
	if err != nil {
		t.Fatal(err)
	}
	if a.ID != "GO-2026-1" || a.Severity != vuln.Critical || a.Score != 9.8 || a.Summary != "Reads too much." || a.URL != "https://example.com/a" || !slices.Contains(a.Aliases, "CVE-2026-1") || len(a.Affected) != 2 {
		t.Errorf("Parse() = %+v", a)
	}
	net := a.Affected[0]
	for version, want := range map[string]string{
		"v0.1.0": "affected, fixed in 1.2.3", "v1.2.2": "affected, fixed in 1.2.3", "v1.2.3": "not affected", "v1.9.0": "not affected",
		"v2.0.0-rc.0": "not affected", "v2.0.0-rc.1": "affected, no fix", "2.1.0": "affected, no fix", "v2.1.1": "not affected", "v3.4.5": "affected, no fix",
		"v0.0.0-20260101000000-abcdefabcdef": "affected, fixed in 1.2.3", "v2.0.0+incompatible": "affected, no fix", "devel": "unknown", "": "unknown",
	} {
		affected, fixed, known := net.Affects(version)
		got := "not affected"
		switch {
		case !known:
			got = "unknown"
		case affected && fixed != "":
			got = "affected, fixed in " + fixed
		case affected:
			got = "affected, no fix"
		}
		if got != want {
			t.Errorf("%s is %s, want %s", version, got, want)
		}
	}
	if affected, _, known := a.Affected[1].Affects("1:2-3"); !affected || !known {
		t.Error("a version that is named is not found")
	}
	if affected, _, known := a.Affected[1].Affects("1:2-4"); !affected || !known {
		t.Error("a version inside a range of Debian's is not found")
	}
	plan9, err := vuln.Parse([]byte(strings.ReplaceAll(advisory, "Debian:12", "Plan 9:4")))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, known := plan9.Affected[1].Affects("1:2-4"); known {
		t.Error("a version of an order that is not known was compared")
	}
}

func TestSeveritiesFollowScoreOrWord(t *testing.T) {
	for rest, want := range map[string]vuln.Severity{
		`"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N"}]`:                    vuln.Low,
		`"severity":[{"type":"CVSS_V3","score":"CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}]`:                    vuln.High,
		`"severity":[{"type":"CVSS_V4","score":"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:L/SC:N/SI:N/SA:N"}]`: vuln.Medium,
		`"severity":[{"type":"CVSS_V3","score":"nonsense"}],"database_specific":{"severity":"MODERATE"}`:            vuln.Medium,
		`"withdrawn":""`: vuln.Unknown,
	} {
		a, err := vuln.Parse([]byte(`{"id":"X",` + rest + `}`))
		if err != nil || a.Severity != want {
			t.Errorf("%s: %s (%v), %v; want %s", rest, a.Severity, a.Score, err, want)
		}
	}
}

func TestWhatIsNoAdvisoryIsRefused(t *testing.T) {
	for raw, say := range map[string]string{"": "no advisory", "[]": "no advisory", "{}": "has no id", `{"id": 1}`: "no advisory", strings.Repeat(" ", vuln.MaxAdvisory+1): "more than"} {
		if _, err := vuln.Parse([]byte(raw)); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), say) {
			t.Errorf("%.20q: %v; want %q", raw, err, say)
		}
	}
}

func TestPackageURLsGetTheirNamesInOSV(t *testing.T) {
	for purl, want := range map[string]string{
		"pkg:golang/golang.org/x/net@v0.46.0":          "Go golang.org/x/net v0.46.0",
		"pkg:golang/std@go1.26.8":                      "Go stdlib 1.26.8",
		"pkg:npm/%40babel/core@7.1.0":                  "npm @babel/core 7.1.0",
		"pkg:maven/org.slf4j/slf4j-api@2.0.1?type=jar": "Maven org.slf4j:slf4j-api 2.0.1",
		"pkg:pypi/My_Lib@1.0":                          "PyPI my-lib 1.0",
		"pkg:golang/github.com/a/b@v1.0.0#sub":         "Go github.com/a/b v1.0.0",
		"pkg:pypi/zope.interface@5.0":                  "PyPI zope-interface 5.0",
		"pkg:deb/debian/libssl3@3.0.15-1~deb12u1?arch=amd64&distro=debian-12&upstream=openssl": "Debian:12 openssl 3.0.15-1~deb12u1",
		"pkg:deb/debian/libgcc-s1@12.2.0-14?distro=debian-12&upstream=gcc-12%4012.2.0-14%2Bb1": "Debian:12 gcc-12 12.2.0-14+b1",
		"pkg:deb/ubuntu/curl@7.81.0-1?distro=ubuntu-22.04":                                     "Ubuntu:22.04:LTS curl 7.81.0-1",
		"pkg:deb/ubuntu/curl@8.9.1-2?distro=ubuntu-24.10":                                      "Ubuntu:24.10 curl 8.9.1-2",
		"pkg:apk/alpine/libcrypto3@3.3.2-r0?arch=x86_64&distro=alpine-3.20.1&upstream=openssl": "Alpine:v3.20 openssl 3.3.2-r0",
		"pkg:apk/wolfi/curl@8.9.1-r0?distro=wolfi-20230201":                                    "Wolfi curl 8.9.1-r0",
		"pkg:gem/rack@3.1.0":                  "RubyGems rack 3.1.0",
		"pkg:nuget/Newtonsoft.Json@13.0.1":    "NuGet Newtonsoft.Json 13.0.1",
		"pkg:composer/symfony/console@v6.4.1": "Packagist symfony/console v6.4.1",
	} {
		if e, n, v, ok := vuln.Package(purl); !ok || e+" "+n+" "+v != want {
			t.Errorf("%s is %s %s %s, %v; want %s", purl, e, n, v, ok, want)
		}
	}
	for _, purl := range []string{"", "pkg:golang", "pkg:deb/debian/curl@1", "golang/x", "pkg:npm/%zz", "pkg:deb/debian/curl@1?distro=debian", "pkg:deb/debian/curl@1?distro=ubuntu-22.04", "pkg:deb/debian/curl@1?distro=%zz", "pkg:apk/alpine/a@1?distro=alpine-3", "pkg:generic/openssl@3"} {
		if _, _, _, ok := vuln.Package(purl); ok {
			t.Errorf("%q has a name", purl)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(advisory), "v1.0.0")
	f.Add([]byte(`{"id":"x","affected":[{"package":{"name":"n"},"ranges":[{"type":"SEMVER","events":[{"fixed":"0"},{"introduced":"9"}]}]}]}`), "0")
	f.Fuzz(func(t *testing.T, raw []byte, version string) {
		a, err := vuln.Parse(raw)
		if err != nil {
			if fault.KindOf(err) == "" {
				t.Errorf("no sentence: %v", err)
			}
			return
		}
		for _, x := range a.Affected {
			if affected, _, known := x.Affects(version); affected && !known {
				t.Error("affected, and not known")
			}
		}
	})
}
