package logs

import (
	"bytes"
	"context"
	"regexp"
	"sort"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
)

// Bounds of one question.
const (
	maxLines       = 10_000
	maxLineBytes   = 8 << 20
	maxMatches     = 1000
	maxQuery       = 1000
	maxTextScan    = 1 << 30
	maxPatternScan = 128 << 20
)

var kinds = map[byte]string{TagBegin: pipeline.LogBegin, TagEnd: pipeline.LogEnd, TagOutput: pipeline.LogOutput, TagGroup: pipeline.LogGroupKind,
	TagEndGroup: pipeline.LogEndGroup, TagAnnotation: pipeline.LogAnnotation, TagSystem: pipeline.LogSystem, TagDone: pipeline.LogDone}

// place is a byte of a log and the number of the line that begins there.
type place struct{ offset, line int64 }

// before finds the last known place at or before a line.
func (d *Dir) before(ctx context.Context, ref pipeline.LogRef, line int64) (place, error) {
	at := place{0, 1}
	if d.index == nil || line <= 1 {
		return at, nil
	}
	chunks, err := d.index.Chunks(ctx, ref)
	if err != nil {
		return at, err
	}
	if i := sort.Search(len(chunks), func(i int) bool { return chunks[i].Line > line }) - 1; i >= 0 {
		at = place{chunks[i].Offset, chunks[i].Line}
		if end := chunks[i].Line + chunks[i].Lines; line >= end {
			at = place{chunks[i].Offset + chunks[i].Bytes, end}
		}
	}
	return at, nil
}

// Lines implements pipeline.LogReader.
func (d *Dir) Lines(ctx context.Context, ref pipeline.LogRef, from int64, limit int) ([]pipeline.LogLine, error) {
	from = max(from, 1)
	if limit <= 0 || limit > maxLines {
		limit = maxLines
	}
	at, err := d.before(ctx, ref, from)
	if err != nil {
		return nil, err
	}
	var out []pipeline.LogLine
	number, size := at.line-1, 0
	err = d.scan(ctx, ref, at.offset, func(line []byte) bool {
		if number++; number < from {
			return true
		}
		out = append(out, lineOf(number, line))
		size += len(line)
		return len(out) < limit && size < maxLineBytes
	})
	return out, err
}

func lineOf(number int64, line []byte) pipeline.LogLine {
	l, ok := Parse(line)
	if !ok {
		return pipeline.LogLine{Number: number, Kind: pipeline.LogSystem, Text: "this line is damaged"}
	}
	return pipeline.LogLine{Number: number, At: l.Time, Kind: kinds[l.Tag], Text: strings.ToValidUTF8(l.Text, "\ufffd")}
}

// Search implements pipeline.LogReader.
func (d *Dir) Search(ctx context.Context, ref pipeline.LogRef, q pipeline.LogQuery) (pipeline.LogMatches, error) {
	m := pipeline.LogMatches{Matches: []pipeline.LogLine{}}
	match, budget, err := matcher(q)
	if err != nil {
		return m, err
	}
	if q.Limit <= 0 || q.Limit > maxMatches {
		q.Limit = maxMatches
	}
	at, err := d.before(ctx, ref, max(q.From, 1))
	if err != nil {
		return m, err
	}
	number := at.line - 1
	err = d.scan(ctx, ref, at.offset, func(line []byte) bool {
		if number++; number < q.From {
			return true
		}
		if len(m.Matches) >= q.Limit || budget < 0 {
			m.Next = number
			return false
		}
		budget -= len(line)
		i := bytes.IndexByte(line, ' ')
		if i < 0 || len(line) < i+3 || !searched(line[i+1]) || !match(line[i+3:]) {
			return true
		}
		m.Matches = append(m.Matches, lineOf(number, line))
		return true
	})
	return m, err
}

// searched are the tags whose text a reader sees.
func searched(tag byte) bool {
	return tag == TagOutput || tag == TagSystem || tag == TagGroup || tag == TagAnnotation
}

func matcher(q pipeline.LogQuery) (match func([]byte) bool, budget int, err error) {
	switch {
	case q.Text == "":
		return nil, 0, fault.New(fault.Invalid, "There is nothing to search for. Give some text.")
	case len(q.Text) > maxQuery:
		return nil, 0, fault.New(fault.Invalid, "The text to search for has %d bytes; %d are allowed.", len(q.Text), maxQuery)
	case q.Regexp:
		re, err := regexp.Compile(q.Text)
		if err != nil {
			return nil, 0, fault.New(fault.Invalid, "The pattern cannot be read: %v. Write it in RE2 syntax, as `grep -E` mostly takes it.", err)
		}
		return re.Match, maxPatternScan, nil
	}
	needle := []byte(strings.ToLower(q.Text))
	low, up := needle[0], bytes.ToUpper(needle[:1])[0]
	return func(text []byte) bool { return containsFold(text, needle, low, up) }, maxTextScan, nil
}

// containsFold finds needle, which is in lower case, in text of any case. Letters beyond ASCII must agree.
func containsFold(text, needle []byte, low, up byte) bool {
	for at := 0; at+len(needle) <= len(text); at++ {
		i := bytes.IndexByte(text[at:], low)
		if low != up {
			end := len(text) - at
			if i >= 0 {
				end = i
			}
			if k := bytes.IndexByte(text[at:at+end], up); k >= 0 {
				i = k
			}
		}
		if i < 0 {
			return false
		}
		if at += i; at+len(needle) > len(text) {
			return false
		}
		same := true
		for k, c := range needle {
			t := text[at+k]
			if 'A' <= t && t <= 'Z' {
				t += 'a' - 'A'
			}
			if t != c {
				same = false
				break
			}
		}
		if same {
			return true
		}
	}
	return false
}
