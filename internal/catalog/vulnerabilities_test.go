package catalog_test

import (
	"strings"
	"testing"
	"time"

	"weir/internal/catalog"
)

const limited = `weir: 1
name: shop
artifact:
  build: {go: .}
  vulnerabilities: {block: critical}
environments:
  staging: {}
  production:
    vulnerabilities:
      block: high
      fixable_only: true
      grace: 7d
      ignore:
      - {id: CVE-2026-1, component: golang.org/x/net, justification: vulnerable_code_not_in_execute_path, reason: the parser is never called, until: 2026-12-31}
`

func TestAnEnvironmentHasItsOwnLimitOrTheArtifacts(t *testing.T) {
	f, diags := catalog.Parse("weir.yaml", []byte(limited), "repo")
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	d := f.Services[0]
	week := catalog.Duration(7 * 24 * time.Hour)
	if l := d.Limit("staging"); l == nil || l.Block != "critical" || l.DataWithin != week || l.Unrated != "block" || l.WithoutData != "block" {
		t.Errorf("the limit of staging is %+v", l)
	}
	l := d.Limit("production")
	if l == nil || l.Block != "high" || !l.FixableOnly || l.Grace != week || len(l.Ignore) != 1 {
		t.Fatalf("the limit of production is %+v", l)
	}
	if ends := l.Ignore[0].Until.Ends(); ends.Format(time.RFC3339) != "2027-01-01T00:00:00Z" {
		t.Errorf("an exception until 2026-12-31 ends at %s", ends)
	}
	none, _ := catalog.Parse("weir.yaml", []byte("weir: 1\nname: a\nenvironments: {p: {}}\n"), "repo")
	if l := none.Services[0].Limit("p"); l != nil {
		t.Errorf("without a limit there is %+v", l)
	}
}

func TestALimitThatSaysTooLittleIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"{}":                            "block must say from which severity on a vulnerability is not let through",
		"{block: worst}":                `block must be one of critical, high, medium, low, not "worst"`,
		"{block: high, unrated: maybe}": "unrated must be one of block, allow",
		"{block: high, ignore: [{reason: x, until: 2026-12-31}]}":                                        "exception 1 has no id",
		"{block: high, ignore: [{id: CVE-1, until: 2026-12-31}]}":                                        "the exception of CVE-1 has no reason",
		"{block: high, ignore: [{id: CVE-1, reason: x}]}":                                                "the exception of CVE-1 has no end; write its last day",
		"{block: high, ignore: [{id: CVE-1, reason: x, until: soon}]}":                                   `"soon" is not a day; write one such as 2026-12-31`,
		"{block: high, ignore: [{id: CVE-1, reason: x, until: 2026-1-1}]}":                               `"2026-1-1" is not a day`,
		"{block: high, ignore: [{id: C, reason: x, justification: y, until: 2026-01-01}]}":               "justification must be one of component_not_present",
		"{block: high, ignore: [{id: C, reason: " + strings.Repeat("x", 2001) + ", until: 2026-01-01}]}": "exception 1 is too long",
	} {
		for _, at := range []string{"environments:\n  p: {vulnerabilities: " + text + "}\n", "environments: {p: {}}\nartifact: {vulnerabilities: " + text + "}\n"} {
			f, diags := catalog.Parse("weir.yaml", []byte("weir: 1\nname: a\n"+at), "repo")
			if f != nil || len(diags) == 0 || !strings.Contains(diags[0].String(), want) {
				t.Errorf("%s: %v; want %q", text, diags, want)
			}
		}
	}
}
