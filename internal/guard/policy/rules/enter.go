package rules

import (
	"fmt"
	"slices"
	"strings"

	"weir/internal/guard/policy"
)

// entered asks for the approvals of every service that wants some in the environment that a job enters.
func entered(in policy.Input, f policy.Enter) policy.RuleResult {
	if f.Entry == "" || f.Environment == "" {
		return no([]string{"a run and an environment"}, nil, "No run or no environment is named.")
	}
	var given []string
	for _, need := range f.Needs {
		var by []string
		for _, a := range f.Approvals {
			bound := a.Digest == f.Entry && a.Environment == f.Environment
			if bound && (a.Expires.IsZero() || in.Time.Before(a.Expires)) && slices.Contains(need.Eligible, a.By) && !slices.Contains(f.Authors, a.By) && !slices.Contains(by, a.By) {
				by = append(by, a.By)
			}
		}
		if len(by) < need.Count {
			group := ""
			if need.Group != "" {
				group = " of " + need.Group
			}
			who := slices.DeleteFunc(slices.Clone(need.Eligible), func(n string) bool { return slices.Contains(f.Authors, n) || slices.Contains(by, n) })
			if len(who) == 0 {
				who = []string{"nobody yet: an admin can add people"}
			}
			missing := fmt.Sprintf("%d of %d approvals%s to enter %s", need.Count-len(by), need.Count, group, f.Environment)
			return no([]string{missing}, who, "It waits for %s. Who started the run and who wrote what it brings do not count.", missing)
		}
		for _, name := range by {
			if !slices.Contains(given, name) {
				given = append(given, name)
			}
		}
	}
	if len(f.Needs) == 0 {
		return yes("No approval is asked for.")
	}
	slices.Sort(given)
	return yes("Approved by %s.", strings.Join(given, ", "))
}
