package policy_test

import (
	"strings"
	"testing"
	"time"

	"weir/internal/guard/policy"
)

func at(day string) time.Time {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		panic(err)
	}
	return t
}

// examined is an image whose data are of today and that has one vulnerability of each kind.
func examined() policy.Vulnerable {
	return policy.Vulnerable{Limit: policy.Limit{Block: "high", DataWithinSeconds: 7 * 86400},
		Data: []policy.VulnerabilityData{{Ecosystem: "Go", Components: 12, Imported: at("2026-11-20")}},
		Findings: []policy.Vulnerability{
			{ID: "GO-1", Aliases: []string{"CVE-2026-1"}, Severity: "high", Component: "golang.org/x/net", Version: "v0.37.0", Fixed: "0.38.0", Published: at("2026-11-18")},
			{ID: "GHSA-2", Severity: "medium", Component: "example.com/b", Version: "v1.0.0"},
		}}
}

func TestALimitSaysWhatIsOverItAndWhatToDo(t *testing.T) {
	now := at("2026-11-23")
	for name, c := range map[string]struct {
		change func(*policy.Vulnerable)
		allow  bool
		want   string
	}{
		"over": {func(v *policy.Vulnerable) {}, false,
			"1 vulnerability is over the limit of production (high or worse, or not rated): CVE-2026-1 in golang.org/x/net v0.37.0 (high, fixed in 0.38.0). Release one without, or except them in weir.yaml with a reason and a date."},
		"critical alone": {func(v *policy.Vulnerable) { v.Limit.Block = "critical" }, true, "No vulnerability is over the limit of production (critical, or not rated)."},
		"medium too": {func(v *policy.Vulnerable) { v.Limit.Block = "medium" }, false,
			"2 vulnerabilities are over the limit of production (medium or worse, or not rated): CVE-2026-1 in golang.org/x/net v0.37.0 (high, fixed in 0.38.0), GHSA-2 in example.com/b v1.0.0 (medium, no fix yet)."},
		"fixable":   {func(v *policy.Vulnerable) { v.Limit.Block, v.Limit.FixableOnly = "medium", true }, false, "1 vulnerability is over the limit of production (medium or worse, or not rated, with a fix)"},
		"not rated": {func(v *policy.Vulnerable) { v.Findings[1].Severity, v.Limit.Block = "unknown", "critical" }, false, "GHSA-2 in example.com/b v1.0.0 (not rated, no fix yet)"},
		"not rated pass": {func(v *policy.Vulnerable) {
			v.Findings[1].Severity, v.Limit.Block, v.Limit.UnratedPass = "unknown", "critical", true
		}, true, "(critical)."},
		"grace":                     {func(v *policy.Vulnerable) { v.Limit.GraceSeconds = 7 * 86400 }, true, "published more than 7 days ago). 1 vulnerability has still time, the first until 2026-11-25."},
		"grace is over":             {func(v *policy.Vulnerable) { v.Limit.GraceSeconds = 86400 }, false, "published more than 1 day ago): CVE-2026-1"},
		"grace of what has no date": {func(v *policy.Vulnerable) { v.Limit.GraceSeconds, v.Findings[0].Published = 90*86400, time.Time{} }, false, "CVE-2026-1"},
		"excepted by an alias": {func(v *policy.Vulnerable) {
			v.Limit.Ignore = []policy.Ignored{{ID: "cve-2026-1", Component: "golang.org/x/net", Reason: "never called", Ends: at("2026-12-01")}}
		}, true, "No vulnerability is over the limit of production (high or worse, or not rated). CVE-2026-1 in golang.org/x/net is excepted until 2026-11-30: never called."},
		"excepted elsewhere": {func(v *policy.Vulnerable) {
			v.Limit.Ignore = []policy.Ignored{{ID: "CVE-2026-1", Component: "other", Reason: "x", Ends: at("2026-12-01")}}
		}, false, "CVE-2026-1"},
		"exception ended": {func(v *policy.Vulnerable) {
			v.Limit.Ignore = []policy.Ignored{{ID: "GO-1", Reason: "x", Ends: at("2026-11-23")}}
		}, false, "(high, fixed in 0.38.0, its exception ended on 2026-11-22)"},
		"no SBOM": {func(v *policy.Vulnerable) { v.Problem = "it has no verified SBOM." }, false, "Its vulnerabilities are not known, and production has a limit: it has no verified SBOM."},
		"no data": {func(v *policy.Vulnerable) {
			v.Data = append(v.Data, policy.VulnerabilityData{Ecosystem: "npm", Components: 1})
		}, false,
			"No published vulnerabilities of npm (1 component) were imported, so what it is made of was not compared. production has a limit (high or worse, or not rated). Import newer data: weir vulnerability import all.zip"},
		"no data pass": {func(v *policy.Vulnerable) {
			v.Data, v.Limit.WithoutDataPass, v.Findings, v.Uncompared = []policy.VulnerabilityData{{Ecosystem: "npm", Components: 3}}, true, nil, 3
		}, true, "3 components could not be compared."},
		"old data":    {func(v *policy.Vulnerable) { v.Data[0].Imported = at("2026-11-10") }, false, "The vulnerabilities of Go were imported on 2026-11-10, longer ago than 7 days."},
		"a component": {func(v *policy.Vulnerable) { v.Findings, v.Uncompared = nil, 1 }, true, "1 component could not be compared."},
		"many": {func(v *policy.Vulnerable) {
			for range 6 {
				v.Findings = append(v.Findings, v.Findings[0])
			}
		}, false, ", and 2 more. Release one without"},
	} {
		v := examined()
		c.change(&v)
		allow, says, ids, open := v.Verdict("production", now)
		if allow != c.allow || !strings.Contains(says, c.want) {
			t.Errorf("%s: %v %q; want %v %q", name, allow, says, c.allow, c.want)
		}
		if !allow && (len(ids) == 0 || open) {
			t.Errorf("%s: missing %v, open %v", name, ids, open)
		}
		if a := v.Against("production", now); a.Allow != allow || a.Says != says {
			t.Errorf("%s: against: %+v", name, a)
		}
	}
}

func TestAnExceptionEndsByItself(t *testing.T) {
	v := examined()
	v.Limit.Ignore = []policy.Ignored{{ID: "CVE-2026-1", Reason: "never called", Ends: at("2026-11-25")}}
	for day, want := range map[string]bool{"2026-11-24": true, "2026-11-25": false} {
		if allow, says, _, _ := v.Verdict("production", at(day)); allow != want {
			t.Errorf("on %s: %v %s", day, allow, says)
		}
	}
}
