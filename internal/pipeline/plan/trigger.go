package plan

import (
	"regexp"
	"slices"
	"strings"

	"weir/internal/pipeline/expr"
	"weir/internal/pipeline/spec"
)

// Event is what happened, as workflows see it.
type Event struct {
	Name    string   // push, pull_request, workflow_dispatch or schedule
	Branch  string   // the branch pushed to, or the target of the change
	Tag     string   // the tag pushed, instead of a branch
	Changed []string // paths; nil if they are not known, which matches every filter
	GitHub  map[string]any
	Vars    map[string]string
	Inputs  expr.Value // an object, or nil
}

// Triggered reports whether ev starts w.
func Triggered(w *spec.Workflow, ev Event) bool {
	t := w.Push
	switch ev.Name {
	case "pull_request":
		t = w.PullRequest
	case "workflow_dispatch":
		return w.Dispatch != nil
	case "schedule":
		return len(w.Schedules) > 0
	}
	if t == nil {
		return false
	}
	tags, branches := len(t.Tags)+len(t.TagsIgnore) > 0, len(t.Branches)+len(t.BranchesIgnore) > 0
	if ev.Tag != "" { // paths are not looked at for tags
		return (tags || !branches) && named(t.Tags, t.TagsIgnore, ev.Tag)
	}
	if tags && !branches || !named(t.Branches, t.BranchesIgnore, ev.Branch) {
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

func named(only, never []string, name string) bool {
	return (len(only) == 0 || matches(only, name)) && (len(never) == 0 || !matches(never, name))
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
