package spec

import (
	"fmt"
	"maps"
	"slices"

	"github.com/rhysd/actionlint"
)

// Permissions are what a forge's token could do: scope to 0 (none), 1 (read) or 2 (write). "*" is every scope. Nil says nothing.
type Permissions map[string]int

// LimitedRead is what a workflow that says nothing about permissions has.
var LimitedRead = Permissions{"contents": 1, "packages": 1, "metadata": 1}

var levels = map[string]int{"none": 0, "read": 1, "write": 2}

func permissionsOf(a *actionlint.Permissions) Permissions {
	if a == nil {
		return nil
	}
	out := Permissions{}
	if a.All != nil {
		out["*"] = map[string]int{"read-all": 1, "write-all": 2}[a.All.Value]
	}
	for name, s := range a.Scopes {
		if s.Value != nil {
			out[name] = levels[s.Value.Value]
		}
	}
	return out
}

func (p Permissions) level(scope string) int { return max(p[scope], p["*"]) }

// known are the scopes that open something in Weir, and the most that they open.
var known = map[string]int{"contents": 2, "packages": 2, "pull-requests": 2, "actions": 2, "checks": 1, "statuses": 1, "metadata": 1}

// Words are what p gives a job's token: scope to read or write, of those that open something in Weir. Nil is what a workflow has that
// says nothing.
func (p Permissions) Words() map[string]string {
	if p == nil {
		return nil
	}
	out := map[string]string{"metadata": "read"} // as at GitHub; and it tells none from nothing said
	for scope, most := range known {
		if l := min(p.level(scope), most); l > 0 {
			out[scope] = [...]string{"none", "read", "write"}[l]
		}
	}
	return out
}

// without says of a permission that opens nothing here why that is; "" if it opens what it says.
func without(scope string, level int) string {
	switch {
	case level <= known[scope]:
		return ""
	case scope == "checks" || scope == "statuses":
		return "checks come from runs alone, and no job reports one"
	case scope == "id-token":
		return "jobs get no ID token; what a run proves is signed by Weir itself"
	case scope == "attestations":
		return "what a run proves is signed by Weir itself"
	}
	return "Weir has no " + scope
}

// Exceeds names the first permission of p that allowed does not give, such as "contents: write"; "" if there is none.
func (p Permissions) Exceeds(allowed Permissions) string {
	for _, scope := range slices.Sorted(maps.Keys(p)) {
		if p[scope] > allowed.level(scope) {
			word := [...]string{"none", "read", "write"}[p[scope]]
			if scope == "*" {
				return word + "-all"
			}
			return fmt.Sprintf("%s: %s", scope, word)
		}
	}
	return ""
}
