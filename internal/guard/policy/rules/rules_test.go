package rules_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"weir/internal/guard/policy"
	"weir/internal/guard/policy/rules"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

const (
	rev    = "1111111111111111111111111111111111111111"
	digest = "sha256:aa"
)

// What passes every gate; cases spoil one thing each.
func land() policy.Land {
	return policy.Land{Repository: "repo_1", Change: "change_1", Target: "main", Revision: rev, Author: "ann", Pushers: []string{"ann", "pat"}, FastForward: true,
		NeedReviews: 1, Reviews: []policy.Review{{By: "ben", Verdict: "approve", Revision: rev, Time: now}},
		OwnersOf:   []policy.Owned{{Path: "main.go", Owners: []string{"ben"}}},
		NeedChecks: []string{"ci.yml/test"}, Checks: []policy.Check{{Name: "ci.yml/test", State: "success"}}}
}

func admit() policy.Admit {
	return policy.Admit{Service: "shop", Version: "1.1.0", Digest: digest, Revision: rev, Landed: true, RunID: "run_1", RunSucceeded: true, Confined: true, ProvenanceCommit: rev,
		Verified: []string{"https://sigstore.dev/cosign/sign/v1", "https://slsa.dev/provenance/v1", "https://cyclonedx.org/bom"}}
}

func promote() policy.Promote {
	return policy.Promote{Service: "shop", Environment: "production", Release: "rel_1", Version: "1.1.0", Digest: digest, ConfigDigest: "sha256:cc", Revision: rev, Admitted: true, Verified: true,
		Authors: []string{"ann"}, After: []policy.Before{{Environment: "staging", NeedSeconds: 60, Healthy: true, Since: now.Add(-time.Minute)}},
		NeedApprovals: 1, Group: "release-managers", Eligible: []string{"ann", "ben", "kim"},
		Approvals: []policy.Approval{{ID: "approval_1", By: "ben", Digest: digest, Environment: "production", ConfigDigest: "sha256:cc", Expires: now.Add(time.Hour)}}}
}

// vulnerableTo is an image with one vulnerability, against a limit.
func vulnerableTo(severity string) *policy.Vulnerable {
	return &policy.Vulnerable{Limit: policy.Limit{Block: "high", DataWithinSeconds: 7 * 86400}, Data: []policy.VulnerabilityData{{Ecosystem: "Go", Components: 1, Imported: now}},
		Findings: []policy.Vulnerability{{ID: "CVE-2026-1", Severity: severity, Component: "net", Version: "v1"}}}
}

func rollback() policy.Rollback {
	return policy.Rollback{Service: "shop", Environment: "production", Version: "1.0.0", Digest: digest, AdmittedHere: true, Intact: true}
}

func running() policy.Run {
	return policy.Run{Service: "shop", Environment: "production", Version: "1.0.0", Digest: digest, Vulnerable: vulnerableTo("medium")}
}

func decide(t *testing.T, action string, facts any, in policy.Input) (bool, []policy.RuleResult) {
	t.Helper()
	raw, err := json.Marshal(facts)
	if err != nil {
		t.Fatal(err)
	}
	in.Action, in.Facts = action, raw
	if in.Time.IsZero() {
		in.Time = now
	}
	allow, results, err := policy.Evaluate(rules.All()[action], in)
	if err != nil {
		t.Fatal(err)
	}
	return allow, results
}

func TestWhatIsInOrderPassesEveryGate(t *testing.T) {
	for action, facts := range map[string]any{
		policy.ActionLand: land(), policy.ActionAdmit: admit(), policy.ActionPromote: promote(), policy.ActionStep: promote(), policy.ActionRollback: rollback(), policy.ActionRun: running(), policy.ActionEnter: enter(),
	} {
		if allow, results := decide(t, action, facts, policy.Input{}); !allow {
			t.Errorf("%s is refused: %+v", action, results)
		}
	}
}

type spoiled struct {
	rule   string // that alone refuses
	want   string
	action string
	facts  any
	in     policy.Input
}

func spoil[F any](action, rule, want string, base func() F, change func(*F)) spoiled {
	f := base()
	change(&f)
	return spoiled{rule: rule, want: want, action: action, facts: f}
}

func TestEachRuleRefusesWhatItGuardsAgainst(t *testing.T) {
	L, A, P, R := policy.ActionLand, policy.ActionAdmit, policy.ActionPromote, policy.ActionRollback
	cases := []spoiled{
		spoil(L, "change.fast_forward", "main has moved on since the change was made. Rebase the change on main and push it again", land, func(f *policy.Land) { f.FastForward = false }),
		spoil(L, "change.workflows", "A workflow that it changes could not be run on main, nor guard what follows: ci.yml:1:1: x", land, func(f *policy.Land) { f.Workflows = "ci.yml:1:1: x" }),
		spoil(L, "change.declaration", "Its weir.yaml cannot be read, and main would have no rules: weir.yaml:1:1: x", land, func(f *policy.Land) { f.Declaration = "weir.yaml:1:1: x" }),
		spoil(L, "change.checks_passed", "Failed on this revision: ci.yml/test.", land, func(f *policy.Land) { f.Checks[0].State = "failure" }),
		spoil(L, "change.checks_passed", "Failed on this revision: ci.yml/test.", land, func(f *policy.Land) { f.Checks[0].State = "cancelled" }),
		spoil(L, "change.checks_passed", "Not finished on this revision: ci.yml/test.", land, func(f *policy.Land) { f.Checks[0].State = "running" }),
		spoil(L, "change.checks_passed", "Not finished on this revision: ci.yml/test.", land, func(f *policy.Land) { f.Checks = nil }),
		spoil(L, "change.checks_passed", "Failed on this revision: ci.yml/extra.", land, func(f *policy.Land) {
			f.Checks = append(f.Checks, policy.Check{Name: "ci.yml/extra", State: "failure"})
		}),
		spoil(P, "release.admitted", "1.1.0 has not been admitted.", promote, func(f *policy.Promote) { f.Admitted = false }),
		spoil(P, "release.admitted", "The evidence of 1.1.0 does not verify: no signature", promote, func(f *policy.Promote) { f.Verified, f.Problem = false, "no signature" }),
		spoil(P, "release.not_bad", "These bytes were taken back here before: 5 % of requests failed", promote, func(f *policy.Promote) { f.RememberedBad = "5 % of requests failed" }),
		spoil(P, "environment.after", "1.1.0 is not healthy in staging yet.", promote, func(f *policy.Promote) { f.After[0].Healthy = false }),
		spoil(P, "environment.after", "1.1.0 must have been healthy in staging for 1m0s; it is since 11:59:30 UTC.", promote, func(f *policy.Promote) { f.After[0].Since = now.Add(-30 * time.Second) }),
		spoil(P, "environment.approvals", "0 of 1 approvals of release-managers for 1.1.0 to production. Authors of the release do not count.", promote, func(f *policy.Promote) { f.Approvals = nil }),
		spoil(P, "environment.approvals", "0 of 1 approvals", promote, func(f *policy.Promote) { f.Approvals[0].By = "ann" }),
		spoil(P, "environment.approvals", "0 of 1 approvals", promote, func(f *policy.Promote) { f.Approvals[0].By = "eve" }),
		spoil(P, "environment.approvals", "0 of 1 approvals", promote, func(f *policy.Promote) { f.Approvals[0].Digest = "sha256:bb" }),
		spoil(P, "environment.approvals", "0 of 1 approvals", promote, func(f *policy.Promote) { f.Approvals[0].Environment = "staging" }),
		spoil(P, "environment.approvals", "0 of 1 approvals", promote, func(f *policy.Promote) { f.Approvals[0].ConfigDigest = "sha256:dd" }),
		spoil(P, "environment.approvals", "0 of 1 approvals", promote, func(f *policy.Promote) { f.Approvals[0].Expires = now }),
		spoil(P, "environment.approvals", "1 of 2 approvals", promote, func(f *policy.Promote) { f.NeedApprovals, f.Approvals = 2, append(f.Approvals, f.Approvals[0]) }),
		spoil(P, "environment.approvals", "1 of 3 approvals of release-managers, and too few people of release-managers could give the rest: authors do not count.", promote, func(f *policy.Promote) { f.NeedApprovals = 3 }),
		spoil(A, "artifact.landed", "Revision 111111111111 has not landed on the trunk; only a landed revision's run may produce a release.", admit, func(f *policy.Admit) { f.Landed = false }),
		spoil(A, "artifact.landed", "Run run_1 of the landed revision has not succeeded.", admit, func(f *policy.Admit) { f.RunSucceeded = false }),
		spoil(A, "artifact.confined", "The job ran without confinement.", admit, func(f *policy.Admit) { f.Confined = false }),
		spoil(A, "artifact.evidence", "Without a verified signature.", admit, func(f *policy.Admit) { f.Verified = f.Verified[1:] }),
		spoil(A, "artifact.evidence", "Without a verified signature, provenance. bundle 3 is broken", admit, func(f *policy.Admit) { f.Verified, f.Problems = f.Verified[2:], []string{"bundle 3 is broken"} }),
		spoil(A, "artifact.provenance", "The provenance names revision 2222, not 111111111111.", admit, func(f *policy.Admit) { f.ProvenanceCommit = "2222" }),
		spoil(A, "artifact.vulnerabilities", "1 vulnerability is over the limit of admission (high or worse, or not rated): CVE-2026-1 in net v1", admit, func(f *policy.Admit) { f.Vulnerable = vulnerableTo("critical") }),
		spoil(P, "environment.vulnerabilities", "1 vulnerability is over the limit of production", promote, func(f *policy.Promote) { f.Vulnerable = vulnerableTo("high") }),
		spoil(policy.ActionStep, "environment.vulnerabilities", "1 vulnerability is over the limit of production", promote, func(f *policy.Promote) { f.Vulnerable = vulnerableTo("high") }),
		spoil(policy.ActionRun, "environment.vulnerabilities", "No image is named", running, func(f *policy.Run) { f.Digest = "" }),
		spoil(policy.ActionRun, "environment.vulnerabilities", "The vulnerabilities of Go were imported on 2026-10-01, longer ago than 7 days.", running, func(f *policy.Run) {
			f.Vulnerable = vulnerableTo("low")
			f.Vulnerable.Data[0].Imported = time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
		}),
		spoil(R, "rollback.admitted_here", "1.0.0 was never admitted to production. A rollback can only go to a release that was.", rollback, func(f *policy.Rollback) { f.AdmittedHere = false }),
		spoil(R, "rollback.not_bad", "1.0.0 is remembered as bad: it lost orders", rollback, func(f *policy.Rollback) { f.RememberedBad = "it lost orders" }),
		spoil(R, "rollback.intact", "The image of 1.0.0 does not verify: a layer was changed", rollback, func(f *policy.Rollback) { f.Intact, f.Problem = false, "a layer was changed" }),
	}
	frozen := spoiled{rule: "environment.freeze", want: "production is frozen until 2026-11-01T13:00:00Z: year's end", action: P, facts: promote(),
		in: policy.Input{Freezes: []policy.Freeze{{ID: "freeze_1", Scope: "production", Reason: "year's end", Owner: "mia", Expires: now.Add(time.Hour)}}}}
	all := frozen
	all.in.Freezes = []policy.Freeze{{Scope: "*", Reason: "year's end", Owner: "mia", Expires: now.Add(time.Hour)}}
	step := frozen
	step.action = policy.ActionStep
	for _, c := range append(cases, frozen, all, step) {
		allow, results := decide(t, c.action, c.facts, c.in)
		for _, r := range results {
			if r.Allow == (r.Rule == c.rule) {
				t.Errorf("%s: %s says %v: %s", c.want, r.Rule, r.Allow, r.Message)
			}
			if r.Rule == c.rule && (!strings.Contains(r.Message, c.want) || len(r.Missing) == 0) {
				t.Errorf("%s says %q, missing %v; want %q", r.Rule, r.Message, r.Missing, c.want)
			}
		}
		if allow {
			t.Errorf("%s: allowed", c.want)
		}
	}
}

func TestReviewsCountOnlyFromOthersOnTheFinalRevisionByTheirNewestWord(t *testing.T) {
	old := strings.Repeat("0", 40)
	for name, c := range map[string]struct {
		reviews []policy.Review
		need    int
		allow   bool
		want    string
	}{
		"nobody":          {nil, 1, false, "0 of 1 reviews of the final patchset."},
		"none is needed":  {nil, 0, true, "No review is required."},
		"author":          {[]policy.Review{{By: "ann", Verdict: "approve", Revision: rev}}, 1, false, "0 of 1"},
		"pusher":          {[]policy.Review{{By: "pat", Verdict: "approve", Revision: rev}}, 1, false, "0 of 1"},
		"stale":           {[]policy.Review{{By: "ben", Verdict: "approve", Revision: old}}, 1, false, "0 of 1"},
		"twice by one":    {[]policy.Review{{By: "ben", Verdict: "approve", Revision: rev}, {By: "ben", Verdict: "approve", Revision: rev, Time: now}}, 2, false, "1 of 2"},
		"two":             {[]policy.Review{{By: "ben", Verdict: "approve", Revision: rev}, {By: "kim", Verdict: "approve", Revision: rev}}, 2, true, "Approved by ben, kim."},
		"then rejected":   {[]policy.Review{{By: "ben", Verdict: "approve", Revision: rev, Time: now}, {By: "ben", Verdict: "reject", Revision: rev, Time: now.Add(1)}}, 1, false, "ben has rejected"},
		"then approved":   {[]policy.Review{{By: "ben", Verdict: "reject", Revision: rev, Time: now}, {By: "ben", Verdict: "approve", Revision: rev, Time: now.Add(1)}}, 1, true, "Approved by ben."},
		"somebody else's": {[]policy.Review{{By: "ben", Verdict: "approve", Revision: rev}, {By: "kim", Verdict: "reject", Revision: rev}}, 1, false, "kim has rejected"},
	} {
		f := land()
		f.Reviews, f.NeedReviews, f.OwnersOf = c.reviews, c.need, nil
		_, results := decide(t, policy.ActionLand, f, policy.Input{})
		for _, r := range results {
			if r.Rule == "change.reviewed" && (r.Allow != c.allow || !strings.Contains(r.Message, c.want)) {
				t.Errorf("%s: %v %q; want %v %q", name, r.Allow, r.Message, c.allow, c.want)
			}
		}
	}
}

func TestOwnersMustBeKnownAndHaveApproved(t *testing.T) {
	for want, owners := range map[string][]string{
		"names nobody who is known here": {},
		"none of its owners (kim, lee)":  {"kim", "lee"},
		"none of its owners (ann)":       {"ann"}, // an author is no owner of her own change
	} {
		f := land()
		f.OwnersOf[0].Owners = owners
		allow, results := decide(t, policy.ActionLand, f, policy.Input{})
		if allow || !strings.Contains(results[2].Message, want) {
			t.Errorf("owners %v: %v %q; want %q", owners, allow, results[2].Message, want)
		}
	}
}

func TestWarningsDoNotBlock(t *testing.T) {
	a := admit()
	a.Confined, a.AllowUnconfined = false, true
	r := rollback()
	r.Warnings = []string{"A finding is newer than this release."}
	for action, facts := range map[string]any{policy.ActionAdmit: a, policy.ActionRollback: r} {
		allow, results := decide(t, action, facts, policy.Input{})
		warned := false
		for _, res := range results {
			warned = warned || res.Warning
		}
		if !allow || !warned {
			t.Errorf("%s: allow %v, warned %v", action, allow, warned)
		}
	}
}

func TestAFreezeStopsPromotionsAndNeverARollback(t *testing.T) {
	in := policy.Input{Freezes: []policy.Freeze{{Scope: "*", Reason: "x", Owner: "mia", Expires: now.Add(time.Hour)}}}
	if allow, _ := decide(t, policy.ActionPromote, promote(), in); allow {
		t.Error("a promotion passes a freeze")
	}
	if allow, results := decide(t, policy.ActionRollback, rollback(), in); !allow {
		t.Errorf("a rollback does not pass a freeze: %+v", results)
	}
	in.Freezes[0].Scope = "staging"
	if allow, _ := decide(t, policy.ActionPromote, promote(), in); !allow {
		t.Error("a freeze of staging stops production")
	}
	in.Freezes[0].Scope, in.Freezes[0].Expires = "*", now
	if allow, _ := decide(t, policy.ActionPromote, promote(), in); !allow {
		t.Error("a freeze that is over stops a promotion")
	}
}

func TestAnExceptionPassesItsRuleForItsSubjectUntilItExpiresAndNeverIntegrity(t *testing.T) {
	exception := policy.Exception{ID: "ex_1", Rule: "environment.approvals", Subject: digest, Reason: "outage", Owner: "mia", Expires: now.Add(time.Minute)}
	f := promote()
	f.Approvals = nil
	for name, c := range map[string]struct {
		change func(*policy.Exception)
		at     time.Time
		allow  bool
	}{
		"as it is":        {func(*policy.Exception) {}, now, true},
		"expired":         {func(*policy.Exception) {}, now.Add(time.Minute), false},
		"another rule":    {func(e *policy.Exception) { e.Rule = "environment.freeze" }, now, false},
		"another subject": {func(e *policy.Exception) { e.Subject = "sha256:bb" }, now, false},
	} {
		e := exception
		c.change(&e)
		allow, results := decide(t, policy.ActionPromote, f, policy.Input{Subject: digest, Time: c.at, Exceptions: []policy.Exception{e}})
		if allow != c.allow {
			t.Errorf("%s: allow %v; want %v", name, allow, c.allow)
		}
		if allow && !strings.Contains(results[3].Message, "Passed by exception ex_1 (outage, by mia, until 2026-11-01T12:01:00Z).") {
			t.Errorf("message %q", results[3].Message)
		}
	}
	broken := rollback()
	broken.Intact = false
	unsigned := admit()
	unsigned.Verified = nil
	behind := land()
	behind.FastForward = false
	for _, c := range []struct {
		action, rule string
		facts        any
	}{{policy.ActionRollback, "rollback.intact", broken}, {policy.ActionAdmit, "artifact.evidence", unsigned}, {policy.ActionLand, "change.fast_forward", behind}} {
		in := policy.Input{Subject: digest, Exceptions: []policy.Exception{{Rule: c.rule, Subject: digest, Expires: now.Add(time.Hour)}}}
		if allow, _ := decide(t, c.action, c.facts, in); allow {
			t.Errorf("an exception passes %s", c.rule)
		}
	}
}

func TestAnActionWithoutRulesIsRefused(t *testing.T) {
	allow, results := decide(t, "universe.end", struct{}{}, policy.Input{})
	if allow || results[0].Message != "No rule allows universe.end." {
		t.Errorf("%v %+v", allow, results)
	}
}

func TestFactsThatCannotBeReadAreAnErrorAndNoYes(t *testing.T) {
	for action, all := range rules.All() {
		if allow, _, err := policy.Evaluate(all, policy.Input{Action: action, Facts: json.RawMessage(`"x"`)}); allow || err == nil {
			t.Errorf("%s: %v, %v", action, allow, err)
		}
		if allow, _, err := policy.Evaluate(all, policy.Input{Action: action, Facts: json.RawMessage(`{}`)}); allow || err != nil {
			t.Errorf("%s of nothing: %v, %v; want a refusal", action, allow, err)
		}
	}
}
