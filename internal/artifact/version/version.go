// Package version decides the next semantic version of a service from the tags
// that reach a revision and the conventional commits since. It is pure.
package version

import (
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/mod/semver"

	"weir/internal/artifact"
)

// First is the version of a service that was never tagged.
const First = "0.1.0"

// Prefix is how the release tags of a service begin: "v" where a repository
// holds one service, "checkout/v" where it holds several.
func Prefix(service string, several bool) string {
	if several {
		return service + "/v"
	}
	return "v"
}

// Base returns the highest release that reaches the revision, and its tag;
// nothing if there is none. Pre-releases and foreign tags do not count. A tag on
// the revision itself wins over any other.
func Base(tags []artifact.GitTag, prefix string) (version string, tag artifact.GitTag) {
	for _, t := range tags {
		v, ok := parse(t.Name, prefix)
		if !ok {
			continue
		}
		here, best := t.Distance == 0, version != "" && tag.Distance == 0
		if version == "" || here && !best || here == best && semver.Compare("v"+v, "v"+version) > 0 {
			version, tag = v, t
		}
	}
	return version, tag
}

// parse returns the version of a release tag.
func parse(name, prefix string) (string, bool) {
	v, ok := strings.CutPrefix(name, prefix)
	if !ok || strings.Contains(v, "/") || !semver.IsValid("v"+v) || semver.Prerelease("v"+v) != "" || semver.Build("v"+v) != "" {
		return "", false
	}
	return strings.TrimPrefix(semver.Canonical("v"+v), "v"), true
}

// Change is how much a version must grow.
type Change int

// The changes, in order.
const (
	Patch Change = iota
	Minor
	Major
)

var (
	header   = regexp.MustCompile(`^([a-zA-Z]+)(\([^()\n]*\))?(!)?:\s`)
	breaking = regexp.MustCompile(`(?m)^BREAKING[ -]CHANGE:\s`)
)

// Of reads a commit message: "feat: ..." is minor, a "!" before the colon or a
// BREAKING CHANGE footer is major, everything else a patch.
func Of(c artifact.Commit) Change {
	m := header.FindStringSubmatch(c.Subject)
	switch {
	case m != nil && m[3] == "!", breaking.MatchString(c.Body):
		return Major
	case m != nil && strings.EqualFold(m[1], "feat"):
		return Minor
	}
	return Patch
}

// Next is the version after base with the commits since. Base "" gives First.
func Next(base string, commits []artifact.Commit) string {
	if base == "" {
		return First
	}
	change := Patch
	for _, c := range commits {
		change = max(change, Of(c))
	}
	return Bump(base, change)
}

// Bump raises base, which is a valid version, by a change.
func Bump(base string, c Change) string {
	var major, minor, patch uint64
	if _, err := fmt.Sscanf(base, "%d.%d.%d", &major, &minor, &patch); err != nil {
		return First
	}
	switch c {
	case Major:
		major, minor, patch = major+1, 0, 0
	case Minor:
		minor, patch = minor+1, 0
	default:
		patch++
	}
	return fmt.Sprintf("%d.%d.%d", major, minor, patch)
}
