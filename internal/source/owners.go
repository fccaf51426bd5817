package source

import (
	"path"
	"strings"
)

// ownerRule is one line of CODEOWNERS.
type ownerRule struct {
	pattern string
	owners  []string
}

// parseOwners reads CODEOWNERS in GitHub's dialect: a pattern and its owners on
// a line, the last match wins. Lines that are neither are skipped, as GitHub
// does.
func parseOwners(src []byte) []ownerRule {
	var rules []ownerRule
	for line := range strings.Lines(string(src)) {
		if i := strings.Index(line, "#"); i >= 0 {
			line = line[:i]
		}
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "!") || strings.HasPrefix(fields[0], "[") {
			continue
		}
		rules = append(rules, ownerRule{fields[0], fields[1:]})
	}
	return rules
}

// ownersOf returns the rule that decides about a file, if any.
func ownersOf(rules []ownerRule, file string) (ownerRule, bool) {
	for i := len(rules) - 1; i >= 0; i-- {
		if matchOwner(rules[i].pattern, file) {
			return rules[i], true
		}
	}
	return ownerRule{}, false
}

// matchOwner follows the rules of gitignore that CODEOWNERS keeps: a pattern
// with a slash inside is rooted, one without matches at any depth, a trailing
// slash or a plain folder name matches everything below.
func matchOwner(pattern, file string) bool {
	if pattern == "*" {
		return true
	}
	folder := strings.HasSuffix(pattern, "/")
	p := strings.TrimSuffix(pattern, "/")
	rooted := strings.Contains(p, "/")
	p = strings.TrimPrefix(p, "/")
	parts, want := strings.Split(file, "/"), strings.Split(p, "/")
	if !rooted {
		for i := range parts {
			last := i == len(parts)-1
			if ok, err := path.Match(p, parts[i]); err == nil && ok && (!last || !folder) {
				return true
			}
		}
		return false
	}
	return matchParts(want, parts, folder)
}

func matchParts(want, parts []string, folder bool) bool {
	switch {
	case len(want) == 0:
		// Everything below a matched folder belongs to it; a file must match wholly.
		return len(parts) > 0 || !folder
	case want[0] == "**":
		for i := 0; i <= len(parts); i++ {
			if matchParts(want[1:], parts[i:], folder) {
				return true
			}
		}
		return false
	case len(parts) == 0:
		return false
	}
	ok, err := path.Match(want[0], parts[0])
	if err != nil || !ok {
		return false
	}
	if len(want) == 1 && want[0] == "*" && len(parts) > 1 {
		return false // docs/* is the files of docs, not what lies deeper.
	}
	return matchParts(want[1:], parts[1:], folder)
}
