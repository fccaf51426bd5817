package web

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// view is what every page needs beside its own data.
type view struct{ Now time.Time }

func blocking(rules []Rule) []Rule {
	var out []Rule
	for _, r := range rules {
		if !r.Allow {
			out = append(out, r)
		}
	}
	return out
}

func blockedBy(blocks []Rule) string {
	if len(blocks) == 1 {
		return "One rule blocks this change"
	}
	return number(len(blocks)) + " rules block this change"
}

func checksState(checks []Check) Status {
	n := map[string]int{}
	for _, c := range checks {
		n[c.State.Kind]++
	}
	switch {
	case n["bad"] > 0:
		return Status{"bad", fmt.Sprintf("%d of %d failed", n["bad"], len(checks))}
	case n["ok"]+n["skip"] == len(checks):
		return Status{"ok", fmt.Sprintf("%d of %d passed", n["ok"], len(checks))}
	}
	return Status{"run", fmt.Sprintf("%d of %d passed so far", n["ok"], len(checks))}
}

// reviewMark shows a review of an earlier patchset as what it is: nothing any more.
func reviewMark(r Review) Status {
	if !r.Current {
		return Status{"off", "No longer counts"}
	}
	return r.State
}

type diffFile struct {
	Name  string
	Lines []diffLine
}

type diffLine struct{ Number, Class, Text string }

// maxDiffLines is how much of a diff a page shows.
const maxDiffLines = 3000

// splitDiff reads a unified diff as git writes it.
func splitDiff(diff string) []diffFile {
	var files []diffFile
	old, new, shown := 0, 0, 0
	inHunk := false
	for line := range strings.SplitSeq(strings.TrimSuffix(diff, "\n"), "\n") {
		if shown++; shown > maxDiffLines {
			break
		}
		switch {
		case strings.HasPrefix(line, "diff --git "):
			_, name, _ := strings.Cut(line, " b/")
			files = append(files, diffFile{Name: printable(name)})
			inHunk = false
			continue
		case len(files) == 0:
			continue
		}
		f := &files[len(files)-1]
		add := func(number int, class, text string) {
			n := ""
			if number > 0 {
				n = strconv.Itoa(number)
			}
			if len(text) > maxLine {
				text = strings.ToValidUTF8(text[:maxLine], "") + " …"
			}
			f.Lines = append(f.Lines, diffLine{n, class, printable(text)})
		}
		switch {
		case strings.HasPrefix(line, "@@ "):
			inHunk = true
			old, new = hunkStart(line)
			add(0, "at", line)
		case !inHunk:
			if strings.HasPrefix(line, "Binary files") || strings.HasPrefix(line, "rename ") || strings.HasPrefix(line, "new file") || strings.HasPrefix(line, "deleted file") {
				add(0, "at", line)
			}
		case strings.HasPrefix(line, "+"):
			add(new, "add", line[1:])
			new++
		case strings.HasPrefix(line, "-"):
			add(old, "del", line[1:])
			old++
		case strings.HasPrefix(line, " "):
			add(new, "", line[1:])
			old, new = old+1, new+1
		}
	}
	return files
}

func hunkStart(line string) (old, new int) {
	for _, part := range strings.Fields(line) {
		start, _, _ := strings.Cut(part, ",")
		if n, err := strconv.Atoi(strings.TrimLeft(start, "+-")); err == nil {
			switch part[0] {
			case '-':
				old = n
			case '+':
				new = n
			}
		}
		if old > 0 && new > 0 {
			break
		}
	}
	return old, new
}
