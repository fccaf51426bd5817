package vuln

import (
	"strings"

	"github.com/google/osv-scalibr/semantic"
	"golang.org/x/mod/semver"
)

// longest is how long a version may be to be compared: some orders take time
// that grows with the square of it.
const longest = 200

// orderOf is the order of an ecosystem's versions; nil if it is not known. ok is
// false for what is no version there.
func orderOf(ecosystem string) func(a, b string) (order int, ok bool) {
	if semantically(ecosystem) {
		return func(a, b string) (int, bool) { return compare(a, b), valid(a) && valid(b) }
	}
	if _, err := semantic.Parse("1", ecosystem); err != nil {
		return nil
	}
	return func(a, b string) (int, bool) { return natively(ecosystem, a, b) }
}

// semantically tells ecosystems whose versions are semantic ones. Their order is
// strict: what is no semantic version is not guessed at.
func semantically(ecosystem string) bool {
	switch name, _, _ := strings.Cut(ecosystem, ":"); name {
	case "Go", "npm", "crates.io", "Hex", "Pub", "SwiftURL", "GitHub Actions", "":
		return true
	}
	return false
}

// natively compares by the rules of the ecosystem itself.
func natively(ecosystem, a, b string) (order int, ok bool) {
	defer func() {
		if recover() != nil { // versions are whatever somebody wrote into a file
			order, ok = 0, false
		}
	}()
	for _, v := range []string{a, b} {
		if len(v) > longest || !strings.ContainsAny(v, "0123456789") {
			return 0, false
		}
	}
	v, err := semantic.Parse(a, ecosystem)
	if err != nil {
		return 0, false
	}
	order, err = v.CompareStr(b)
	return order, err == nil
}

func canonical(v string) string { return "v" + strings.TrimPrefix(v, "v") }

func valid(v string) bool { return len(v) <= longest && (v == "0" || semver.IsValid(canonical(v))) }

func compare(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == "0":
		return -1
	case b == "0":
		return 1
	}
	return semver.Compare(canonical(a), canonical(b))
}
