package version

import (
	"regexp"
	"slices"
	"strings"

	"weir/internal/artifact"
)

// Notes say what a release brings, from the commits since the one before.
type Notes struct {
	Groups  []Group  `json:"groups"`
	Authors []string `json:"authors"` // by name
	Issues  []string `json:"issues"`  // "#12", in the order in which they are named
}

// Group is changes of one kind.
type Group struct {
	Title   string `json:"title"`
	Changes []Note `json:"changes"`
}

// Note is one change.
type Note struct {
	Scope    string   `json:"scope,omitempty"`
	Text     string   `json:"text"`
	Revision string   `json:"revision"`
	Author   string   `json:"author"`
	Change   string   `json:"change,omitempty"` // that it landed with, if it was its last commit
	Issues   []string `json:"issues,omitempty"`
}

// titles are the groups in their order, by the type of a conventional commit.
var titles = []struct{ kind, title string }{
	{"!", "Breaking changes"}, {"feat", "Features"}, {"fix", "Fixes"}, {"perf", "Performance"}, {"security", "Security"}, {"revert", "Taken back"},
	{"docs", "Documentation"}, {"", "Other changes"},
}

var (
	scope    = regexp.MustCompile(`^([a-zA-Z]+)(?:\(([^()\n]*)\))?(!)?:\s+(.*)$`)
	issueRef = regexp.MustCompile(`(?:^|[\s(\[])((?:[A-Za-z0-9._-]+/[A-Za-z0-9._-]+)?#[0-9]{1,9}|[A-Z][A-Z0-9]{1,9}-[0-9]{1,7})\b`)
)

// maxNotes bounds how many changes are told one by one.
const maxNotes = 500

// NotesOf groups commits, which are newest first, by their conventional types.
func NotesOf(commits []artifact.Commit) Notes {
	out := Notes{Groups: []Group{}, Authors: []string{}, Issues: []string{}}
	by := map[string][]Note{}
	for i, c := range commits {
		if i == maxNotes {
			break
		}
		kind, n := noteOf(c)
		by[kind] = append(by[kind], n)
		if c.Author != "" && !slices.Contains(out.Authors, c.Author) {
			out.Authors = append(out.Authors, c.Author)
		}
		for _, r := range n.Issues {
			if !slices.Contains(out.Issues, r) {
				out.Issues = append(out.Issues, r)
			}
		}
	}
	for _, t := range titles {
		if list := by[t.kind]; len(list) > 0 {
			out.Groups = append(out.Groups, Group{t.title, list})
		}
	}
	slices.Sort(out.Authors)
	return out
}

func noteOf(c artifact.Commit) (kind string, n Note) {
	n = Note{Text: c.Subject, Revision: c.Revision, Author: c.Author}
	if m := scope.FindStringSubmatch(c.Subject); m != nil {
		kind, n.Scope, n.Text = strings.ToLower(m[1]), m[2], m[4]
		if !slices.ContainsFunc(titles, func(t struct{ kind, title string }) bool { return t.kind == kind }) {
			kind, n.Scope, n.Text = "", "", c.Subject
		}
	}
	if Of(c) == Major {
		kind = "!"
	}
	for _, m := range issueRef.FindAllStringSubmatch(c.Subject+"\n"+c.Body, 50) {
		if !slices.Contains(n.Issues, m[1]) {
			n.Issues = append(n.Issues, m[1])
		}
	}
	return kind, n
}

// Markdown writes the notes for people. What commits say is escaped: it is
// text and no markup.
func (n Notes) Markdown(title string) string {
	var b strings.Builder
	b.WriteString("# " + escape(title) + "\n")
	for _, g := range n.Groups {
		b.WriteString("\n## " + g.Title + "\n\n")
		for _, c := range g.Changes {
			b.WriteString("- ")
			if c.Scope != "" {
				b.WriteString("**" + escape(c.Scope) + ":** ")
			}
			b.WriteString(escape(c.Text) + " (" + c.Revision[:min(7, len(c.Revision))])
			for _, more := range []string{c.Author, c.Change} {
				if more != "" {
					b.WriteString(", " + escape(more))
				}
			}
			b.WriteString(")\n")
		}
	}
	if len(n.Groups) == 0 {
		b.WriteString("\nNothing changed since the release before.\n")
	}
	if len(n.Issues) > 0 {
		b.WriteString("\nIssues: " + escape(strings.Join(n.Issues, ", ")) + "\n")
	}
	if len(n.Authors) > 0 {
		b.WriteString("\nBy " + escape(strings.Join(n.Authors, ", ")) + ".\n")
	}
	return b.String()
}

func escape(s string) string {
	return strings.NewReplacer("\\", "\\\\", "`", "\\`", "*", "\\*", "_", "\\_", "[", "\\[", "]", "\\]", "<", "&lt;", ">", "&gt;", "\n", " ", "\r", " ", "\x1b", "").Replace(s)
}
