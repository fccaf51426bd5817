package app

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
)

// PrintLog writes a stored log for a person: the output, and what steps did. Keep, if it is not nil, chooses lines by their text.
func PrintLog(w io.Writer, r io.Reader, prefix string, keep func(text string) bool) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), 4<<20)
	for sc.Scan() {
		text, ok := PrintedLine(sc.Bytes())
		if !ok || keep != nil && !keep(text) {
			continue
		}
		if _, err := fmt.Fprintln(w, prefix+text); err != nil {
			return err
		}
	}
	return sc.Err()
}

// PrintedLine is what a person reads of one stored line; not every one is for people.
func PrintedLine(line []byte) (string, bool) {
	l, ok := logs.Parse(line)
	if !ok {
		return "", false
	}
	switch l.Tag {
	case logs.TagOutput:
		return l.Text, true
	case logs.TagGroup:
		return "> " + l.Text, true
	case logs.TagSystem:
		return "weir: " + l.Text, true
	case logs.TagDone:
		return "weir: the job ended: " + l.Text, true
	case logs.TagAnnotation:
		return AnnotationLine(l.Text), true
	}
	return "", false
}

// AnnotationLine is an annotation as compilers write it: file:line:col: level: message.
func AnnotationLine(text string) string {
	var a pipeline.Annotation
	if json.Unmarshal([]byte(text), &a) != nil {
		return text
	}
	var b strings.Builder
	if a.File != "" {
		b.WriteString(a.File)
		if a.Line > 0 {
			fmt.Fprintf(&b, ":%d", a.Line)
		}
		if a.Col > 0 {
			fmt.Fprintf(&b, ":%d", a.Col)
		}
		b.WriteString(": ")
	}
	b.WriteString(a.Level + ": ")
	if a.Title != "" {
		b.WriteString(a.Title + ": ")
	}
	b.WriteString(a.Message)
	return b.String()
}
