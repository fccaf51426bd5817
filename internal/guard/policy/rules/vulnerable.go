package rules

import "weir/internal/guard/policy"

func vulnerableArtifact(in policy.Input, f policy.Admit) policy.RuleResult {
	return vulnerable(in, f.Vulnerable, "admission")
}

func vulnerableRelease(in policy.Input, f policy.Promote) policy.RuleResult {
	return vulnerable(in, f.Vulnerable, f.Environment)
}

func vulnerableRun(in policy.Input, f policy.Run) policy.RuleResult {
	if f.Digest == "" {
		return no([]string{"image"}, nil, "No image is named, so nothing is known of it.")
	}
	return vulnerable(in, f.Vulnerable, f.Environment)
}

// vulnerable holds what is known of published vulnerabilities against the limit
// that weir.yaml sets. What is not known does not pass.
func vulnerable(in policy.Input, v *policy.Vulnerable, where string) policy.RuleResult {
	if v == nil {
		return yes("weir.yaml sets no limit on vulnerabilities.")
	}
	allow, says, ids, open := v.Verdict(where, in.Time)
	if !allow {
		return no(ids, []string{"an author of a fix", "a reviewed change of weir.yaml", "whoever imports published vulnerabilities"}, "%s", says)
	}
	r := yes("%s", says)
	r.Warning = open
	return r
}
