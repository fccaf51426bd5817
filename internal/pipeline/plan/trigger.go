package plan

import (
	"regexp"
	"slices"
	"strings"

	"weir/internal/pipeline/spec"
)

// Event is what happened, as workflows see it.
type Event struct {
	Name    string   // push or pull_request
	Branch  string   // the branch pushed to, or the target of the change
	Changed []string // paths; nil if they are not known, which matches every filter
	GitHub  map[string]any
}

// Triggered reports whether ev starts w.
func Triggered(w *spec.Workflow, ev Event) bool {
	t := w.Push
	if ev.Name == "pull_request" {
		t = w.PullRequest
	}
	if t == nil {
		return false
	}
	if len(t.Branches) > 0 && !matches(t.Branches, ev.Branch) {
		return false
	}
	if len(t.BranchesIgnore) > 0 && matches(t.BranchesIgnore, ev.Branch) {
		return false
	}
	if ev.Changed == nil {
		return true
	}
	if len(t.Paths) > 0 && !slices.ContainsFunc(ev.Changed, func(p string) bool { return matches(t.Paths, p) }) {
		return false
	}
	if len(t.PathsIgnore) > 0 && !slices.ContainsFunc(ev.Changed, func(p string) bool { return !matches(t.PathsIgnore, p) }) {
		return false
	}
	return true
}

// matches applies patterns in order: the last that matches decides, and a leading ! takes away.
func matches(patterns []string, name string) bool {
	in := false
	for _, p := range patterns {
		neg := strings.HasPrefix(p, "!")
		if in == neg && glob(strings.TrimPrefix(p, "!")).MatchString(name) {
			in = !neg
		}
	}
	return in
}

// glob translates GitHub's filter pattern: * within a name, ** across slashes, ? and + repeat the character before, [] sets.
// Go's regular expressions run in linear time, so a hostile pattern costs nothing.
func glob(p string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("^(?:")
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case strings.HasPrefix(p[i:], "**/"):
			b.WriteString("(?:.*/)?")
			i += 2
		case strings.HasPrefix(p[i:], "**"):
			b.WriteString(".*")
			i++
		case c == '*':
			b.WriteString("[^/]*")
		case (c == '?' || c == '+') && i > 0:
			b.WriteByte(c)
		case c == '\\' && i+1 < len(p):
			i++
			b.WriteString(regexp.QuoteMeta(p[i : i+1]))
		case c == '[':
			end := strings.IndexByte(p[i:], ']')
			if end < 0 {
				b.WriteString(`\[`)
				continue
			}
			b.WriteString("[" + strings.ReplaceAll(strings.ReplaceAll(p[i+1:i+end], `\`, `\\`), "[", `\[`) + "]")
			i += end
		default:
			b.WriteString(regexp.QuoteMeta(p[i : i+1]))
		}
	}
	b.WriteString(")$")
	re, err := regexp.Compile(b.String())
	if err != nil { // a pattern that means nothing matches only itself
		return regexp.MustCompile("^" + regexp.QuoteMeta(p) + "$")
	}
	return re
}
