package rules_test

import (
	"strings"
	"testing"
	"time"

	"weir/internal/guard/policy"
)

func enter() policy.Enter {
	return policy.Enter{Repository: "shop", Workflow: "deploy.yml", Run: "run_1", Revision: rev, Environment: "production", Entry: "sha256:ee", Authors: []string{"ann"},
		Needs:     []policy.Consent{{Count: 1, Group: "release-managers", Eligible: []string{"ann", "ben", "kim"}}},
		Approvals: []policy.Approval{{ID: "approval_1", By: "ben", Digest: "sha256:ee", Environment: "production", Expires: now.Add(time.Hour)}}}
}

func TestAJobEntersWithTheApprovalsThatServicesAskFor(t *testing.T) {
	frozen := policy.Input{Freezes: []policy.Freeze{{Scope: "production", Reason: "holidays", Owner: "kim", Expires: now.Add(time.Hour)}}}
	for name, c := range map[string]struct {
		spoil func(*policy.Enter)
		in    policy.Input
		allow bool
		want  string
		who   string
	}{
		"approved":             {func(*policy.Enter) {}, policy.Input{}, true, "Approved by ben.", ""},
		"nothing asked":        {func(f *policy.Enter) { f.Needs, f.Approvals = nil, nil }, policy.Input{}, true, "No approval is asked for.", ""},
		"nobody yet":           {func(f *policy.Enter) { f.Approvals = nil }, policy.Input{}, false, "It waits for 1 of 1 approvals of release-managers to enter production. Who started the run", "ben, kim"},
		"by its author":        {func(f *policy.Enter) { f.Approvals[0].By = "ann" }, policy.Input{}, false, "1 of 1 approvals", "ben, kim"},
		"by a stranger":        {func(f *policy.Enter) { f.Approvals[0].By = "eve" }, policy.Input{}, false, "1 of 1 approvals", "ben, kim"},
		"for another run":      {func(f *policy.Enter) { f.Approvals[0].Digest = "sha256:ff" }, policy.Input{}, false, "1 of 1 approvals", "ben, kim"},
		"for another place":    {func(f *policy.Enter) { f.Approvals[0].Environment = "staging" }, policy.Input{}, false, "1 of 1 approvals", "ben, kim"},
		"too late":             {func(f *policy.Enter) { f.Approvals[0].Expires = now }, policy.Input{}, false, "1 of 1 approvals", "ben, kim"},
		"that does not expire": {func(f *policy.Enter) { f.Approvals[0].Expires = time.Time{} }, policy.Input{}, true, "Approved by ben.", ""},
		"twice by one": {func(f *policy.Enter) {
			f.Needs[0].Count, f.Approvals = 2, append(f.Approvals, f.Approvals[0])
		}, policy.Input{}, false, "It waits for 1 of 2 approvals of release-managers", "kim"},
		"of two services": {func(f *policy.Enter) { f.Needs = append(f.Needs, policy.Consent{Count: 1, Eligible: []string{"kim"}}) }, policy.Input{}, false, "It waits for 1 of 1 approvals to enter production.", "kim"},
		"nobody can":      {func(f *policy.Enter) { f.Needs[0].Eligible, f.Approvals = []string{"ann"}, nil }, policy.Input{}, false, "1 of 1 approvals", "nobody yet: an admin can add people"},
		"frozen":          {func(*policy.Enter) {}, frozen, false, "production is frozen until", "kim"},
	} {
		f := enter()
		c.spoil(&f)
		allow, results := decide(t, policy.ActionEnter, f, c.in)
		said, who := "", ""
		for _, r := range results {
			if said == "" || !r.Allow {
				said, who = r.Message, strings.Join(r.Who, ", ")
			}
		}
		if allow != c.allow || !strings.Contains(said, c.want) || who != c.who {
			t.Errorf("%s: %v %q %q; want %v %q %q", name, allow, said, who, c.allow, c.want, c.who)
		}
	}
}
