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
