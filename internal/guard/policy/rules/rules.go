// Package rules holds the gates that no policy can loosen. Each is a pure
// function of its input; the sentence it gives says what is missing and who can
// supply it.
package rules

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"weir/internal/guard/policy"
)

// All returns the gates by action.
func All() map[string][]policy.Rule {
	return map[string][]policy.Rule{
		policy.ActionLand: {
			absolute("change.fast_forward", fastForward), rule("change.reviewed", reviewed), rule("change.code_owners", codeOwners),
			rule("change.checks_passed", checksPassed), absolute("change.declaration", declaration), absolute("change.workflows", workflows),
		},
		policy.ActionAdmit: {
			rule("artifact.landed", landed), rule("artifact.confined", confined), absolute("artifact.evidence", evidence), absolute("artifact.provenance", provenance),
			rule("artifact.vulnerabilities", vulnerableArtifact),
		},
		policy.ActionPromote: {
			absolute("release.admitted", admitted), rule("release.not_bad", notBad), rule("environment.after", after),
			rule("environment.approvals", approvals), rule("environment.freeze", freeze), rule("release.origin", origin),
			rule("environment.vulnerabilities", vulnerableRelease),
		},
		// The next step of a rollout that was allowed to start: approvals were
		// used by its start, so only what may have changed since is asked again.
		policy.ActionStep:     {absolute("release.admitted", admitted), rule("release.not_bad", notBad), rule("environment.freeze", freeze), rule("environment.vulnerabilities", vulnerableRelease)},
		policy.ActionEnter:    {rule("environment.entry", entered), rule("environment.freeze", freeze)},
		policy.ActionRun:      {rule("environment.vulnerabilities", vulnerableRun)},
		policy.ActionRollback: {rule("rollback.admitted_here", admittedHere), rule("rollback.not_bad", rollbackNotBad), absolute("rollback.intact", intact)},
	}
}

func rule[F any](name string, eval func(in policy.Input, f F) policy.RuleResult) policy.Rule {
	return policy.Rule{Name: name, Source: "built in: " + name, Eval: func(in policy.Input) (policy.RuleResult, error) {
		var f F
		if err := json.Unmarshal(in.Facts, &f); err != nil {
			return policy.RuleResult{}, fmt.Errorf("facts of %s: %w", in.Action, err)
		}
		return eval(in, f), nil
	}}
}

// absolute is a rule that no exception passes.
func absolute[F any](name string, eval func(in policy.Input, f F) policy.RuleResult) policy.Rule {
	r := rule(name, eval)
	r.Absolute = true
	return r
}

func yes(msg string, args ...any) policy.RuleResult {
	return policy.RuleResult{Allow: true, Message: fmt.Sprintf(msg, args...)}
}

func no(missing, who []string, msg string, args ...any) policy.RuleResult {
	return policy.RuleResult{Message: fmt.Sprintf(msg, args...), Missing: missing, Who: who}
}

func fastForward(_ policy.Input, f policy.Land) policy.RuleResult {
	if f.FastForward {
		return yes("The change contains all of %s.", f.Target)
	}
	return no([]string{"rebase"}, []string{f.Author}, "%s has moved on since the change was made. Rebase the change on %s and push it again; its checks then run on exactly what lands.", f.Target, f.Target)
}

func reviewed(_ policy.Input, f policy.Land) policy.RuleResult {
	by := approvers(f)
	for _, r := range f.Reviews {
		if r.Verdict == "reject" && r.Revision == f.Revision && !slices.Contains(by, r.By) {
			return no([]string{"review"}, []string{r.By}, "%s has rejected this patchset.", r.By)
		}
	}
	if len(by) >= f.NeedReviews {
		if f.NeedReviews == 0 {
			return yes("No review is required.")
		}
		return yes("Approved by %s.", strings.Join(by, ", "))
	}
	return no([]string{"review"}, []string{"anybody with the permission to review, except " + strings.Join(authors(f), ", ")},
		"%d of %d reviews of the final patchset. Authors and pushers do not count, nor do reviews of earlier patchsets.", len(by), f.NeedReviews)
}

// approvers are the people whose newest word on the final revision is yes and
// who did not push any of it.
func approvers(f policy.Land) []string {
	newest := map[string]policy.Review{}
	for _, r := range f.Reviews {
		if r.Revision == f.Revision && !r.Time.Before(newest[r.By].Time) {
			newest[r.By] = r
		}
	}
	var by []string
	for name, r := range newest {
		if r.Verdict == "approve" && !slices.Contains(authors(f), name) {
			by = append(by, name)
		}
	}
	slices.Sort(by)
	return by
}

func authors(f policy.Land) []string {
	all := append([]string{f.Author}, f.Pushers...)
	slices.Sort(all)
	return slices.Compact(all)
}

func codeOwners(_ policy.Input, f policy.Land) policy.RuleResult {
	by := approvers(f)
	for _, o := range f.OwnersOf {
		if len(o.Owners) == 0 {
			return no([]string{"owner"}, []string{"whoever maintains CODEOWNERS"}, "The rule for %s in CODEOWNERS names nobody who is known here.", o.Path)
		}
		if !slices.ContainsFunc(o.Owners, func(n string) bool { return slices.Contains(by, n) }) {
			return no([]string{"owner review"}, o.Owners, "%s changes and none of its owners (%s) has approved.", o.Path, strings.Join(o.Owners, ", "))
		}
	}
	return yes("Every owner that is asked for has approved.")
}

func checksPassed(_ policy.Input, f policy.Land) policy.RuleResult {
	var missing, failed []string
	need := f.NeedChecks
	state := map[string]string{}
	for _, c := range f.Checks {
		state[c.Name] = c.State
	}
	for _, name := range need {
		switch state[name] {
		case "success", "skipped":
		case "failure", "cancelled":
			failed = append(failed, name)
		default:
			missing = append(missing, name)
		}
	}
	// A check that ran and failed blocks, also if nobody listed it.
	for _, c := range f.Checks {
		if c.State == "failure" && !slices.Contains(failed, c.Name) {
			failed = append(failed, c.Name)
		}
	}
	switch {
	case len(failed) > 0:
		return no(failed, []string{f.Author}, "Failed on this revision: %s.", strings.Join(failed, ", "))
	case len(missing) > 0:
		return no(missing, []string{"pipeline"}, "Not finished on this revision: %s.", strings.Join(missing, ", "))
	case len(need) == 0:
		return yes("No check is required.")
	}
	return yes("Passed on this revision: %s.", strings.Join(need, ", "))
}

func declaration(_ policy.Input, f policy.Land) policy.RuleResult {
	if f.Declaration == "" {
		return yes("Its weir.yaml can be read.")
	}
	return no([]string{"weir.yaml"}, []string{f.Author}, "Its weir.yaml cannot be read, and %s would have no rules: %s", f.Target, f.Declaration)
}

func workflows(_ policy.Input, f policy.Land) policy.RuleResult {
	if f.Workflows == "" {
		return yes("The workflows that it changes can be run.")
	}
	return no([]string{"workflow"}, []string{f.Author}, "A workflow that it changes could not be run on %s, nor guard what follows: %s", f.Target, f.Workflows)
}

func landed(_ policy.Input, f policy.Admit) policy.RuleResult {
	switch {
	case !f.Landed:
		return no([]string{"landing"}, nil, "Revision %.12s has not landed on the trunk; only a landed revision's run may produce a release.", f.Revision)
	case !builtHere(f.Origin):
		return yes("The image was built elsewhere, for the landed revision %.12s: %s.", f.Revision, vouched(f.Origin, f.VouchedBy))
	case !f.RunSucceeded:
		return no([]string{"run"}, []string{"pipeline"}, "Run %s of the landed revision has not succeeded.", f.RunID)
	}
	return yes("Built by run %s of the landed revision %.12s.", f.RunID, f.Revision)
}

func confined(_ policy.Input, f policy.Admit) policy.RuleResult {
	switch {
	case !builtHere(f.Origin):
		r := yes("How it was built is not known here: %s.", vouched(f.Origin, f.VouchedBy))
		r.Warning = true
		return r
	case f.Confined:
		return yes("The job ran confined.")
	case f.AllowUnconfined:
		r := yes("The job ran without confinement, which this instance allows.")
		r.Warning = true
		return r
	}
	return no([]string{"confinement"}, nil, "The job ran without confinement.")
}

// needed are the statements without which no artifact is admitted. The type is
// always looked at: an image with only an SBOM attestation is not signed.
var needed = []struct{ predicate, name string }{
	{"https://sigstore.dev/cosign/sign/v1", "signature"},
	{"https://slsa.dev/provenance/v1", "provenance"},
	{"https://cyclonedx.org/bom", "SBOM"},
}

// builtHere reports evidence that Weir made itself.
func builtHere(origin string) bool { return origin == "" || origin == "built" }

// vouched says whose word it is.
func vouched(origin, by string) string {
	if origin == "observed" {
		return "the provenance of the builder " + by + " verified"
	}
	return "it is asserted by " + by
}

// origin lets an environment decide whose word it takes. What Weir built needs no
// leave.
func origin(_ policy.Input, f policy.Promote) policy.RuleResult {
	switch {
	case builtHere(f.Origin):
		return yes("Weir built it.")
	case slices.Contains(f.Accept, f.Origin):
		return yes("%s accepts it: %s.", f.Environment, vouched(f.Origin, f.VouchedBy))
	}
	return no([]string{"accept: [" + f.Origin + "]"}, []string{"a reviewed change of weir.yaml"}, "%s was not built by Weir (%s), and %s does not take that. A change of weir.yaml can say so: accept: [%s] in the environment.", f.Version, vouched(f.Origin, f.VouchedBy), f.Environment, f.Origin)
}

func evidence(_ policy.Input, f policy.Admit) policy.RuleResult {
	var missing []string
	for _, n := range needed {
		if !slices.Contains(f.Verified, n.predicate) {
			missing = append(missing, n.name)
		}
	}
	if len(missing) > 0 {
		return no(missing, []string{"artifact"}, "Without a verified %s. %s", strings.Join(missing, ", "), strings.Join(f.Problems, " "))
	}
	return yes("Signature, provenance and SBOM verify.")
}

func provenance(_ policy.Input, f policy.Admit) policy.RuleResult {
	if f.ProvenanceCommit == f.Revision {
		return yes("The provenance names revision %.12s.", f.Revision)
	}
	return no([]string{"provenance"}, nil, "The provenance names revision %.12s, not %.12s.", f.ProvenanceCommit, f.Revision)
}

func admitted(_ policy.Input, f policy.Promote) policy.RuleResult {
	switch {
	case !f.Admitted:
		return no([]string{"admission"}, []string{"artifact"}, "%s has not been admitted.", f.Version)
	case !f.Verified:
		return no([]string{"evidence"}, nil, "The evidence of %s does not verify: %s", f.Version, f.Problem)
	}
	return yes("%s is admitted and its evidence verifies.", f.Version)
}

func notBad(_ policy.Input, f policy.Promote) policy.RuleResult {
	if f.RememberedBad == "" {
		return yes("Nothing bad is remembered of these bytes.")
	}
	return no([]string{"another release"}, []string{"an author of a fix"}, "These bytes were taken back here before: %s", f.RememberedBad)
}

func after(in policy.Input, f policy.Promote) policy.RuleResult {
	for _, b := range f.After {
		need := time.Duration(b.NeedSeconds) * time.Second
		switch {
		case !b.Healthy:
			return no([]string{b.Environment}, []string{"deploy"}, "%s is not healthy in %s yet.", f.Version, b.Environment)
		case in.Time.Sub(b.Since) < need:
			return no([]string{b.Environment + " healthy"}, []string{"time"}, "%s must have been healthy in %s for %s; it is since %s.", f.Version, b.Environment, need, b.Since.UTC().Format("15:04:05 UTC"))
		}
	}
	if len(f.After) == 0 {
		return yes("No earlier environment is asked for.")
	}
	return yes("Healthy in every earlier environment for long enough.")
}

// approvals counts consent that was given for exactly this: digest,
// environment and config; by people who did not write what is released.
func approvals(in policy.Input, f policy.Promote) policy.RuleResult {
	if f.NeedApprovals == 0 {
		return yes("No approval is asked for.")
	}
	var by []string
	for _, a := range f.Approvals {
		bound := a.Digest == f.Digest && a.Environment == f.Environment && a.ConfigDigest == f.ConfigDigest
		if bound && in.Time.Before(a.Expires) && slices.Contains(f.Eligible, a.By) && !slices.Contains(f.Authors, a.By) && !slices.Contains(by, a.By) {
			by = append(by, a.By)
		}
	}
	slices.Sort(by)
	if len(by) >= f.NeedApprovals {
		return yes("Approved by %s.", strings.Join(by, ", "))
	}
	who := slices.DeleteFunc(slices.Clone(f.Eligible), func(n string) bool { return slices.Contains(f.Authors, n) || slices.Contains(by, n) })
	group := ""
	if f.Group != "" {
		group = " of " + f.Group
	}
	if len(who) < f.NeedApprovals-len(by) {
		return no([]string{"approval"}, []string{"an admin, who can add people"}, "%d of %d approvals%s, and too few people%s could give the rest: authors do not count.", len(by), f.NeedApprovals, group, group)
	}
	return no([]string{"approval"}, who, "%d of %d approvals%s for %s to %s. Authors of the release do not count.", len(by), f.NeedApprovals, group, f.Version, f.Environment)
}

func freeze(in policy.Input, f policy.Promote) policy.RuleResult {
	for _, z := range in.Freezes {
		if (z.Scope == f.Environment || z.Scope == "*") && in.Time.Before(z.Expires) {
			return no([]string{"end of freeze"}, []string{z.Owner}, "%s is frozen until %s: %s", f.Environment, z.Expires.UTC().Format(time.RFC3339), z.Reason)
		}
	}
	return yes("No freeze.")
}

func admittedHere(_ policy.Input, f policy.Rollback) policy.RuleResult {
	if f.AdmittedHere {
		return yes("%s was admitted to %s before.", f.Version, f.Environment)
	}
	return no([]string{"another release"}, nil, "%s was never admitted to %s. A rollback can only go to a release that was.", f.Version, f.Environment)
}

func rollbackNotBad(_ policy.Input, f policy.Rollback) policy.RuleResult {
	if f.RememberedBad == "" {
		return yes("Nothing bad is remembered of %s.", f.Version)
	}
	return no([]string{"another release"}, nil, "%s is remembered as bad: %s", f.Version, f.RememberedBad)
}

// intact holds integrity, and only that, against a rollback: findings that are
// newer than the release warn and never block.
func intact(_ policy.Input, f policy.Rollback) policy.RuleResult {
	if !f.Intact {
		return no([]string{"intact image"}, nil, "The image of %s does not verify: %s", f.Version, f.Problem)
	}
	r := yes("The image of %s is intact.", f.Version)
	if len(f.Warnings) > 0 {
		r.Warning, r.Message = true, r.Message+" "+strings.Join(f.Warnings, " ")
	}
	return r
}
