package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"weir/internal/pipeline"
)

// sink writes down what it is told, in order.
type sink struct{ said strings.Builder }

func (s *sink) Write(p []byte) (int, error) { s.said.Write(p); return len(p), nil }
func (s *sink) Mask(secret string)          { fmt.Fprintf(&s.said, "<mask %q>", secret) }
func (s *sink) Group(title string)          { fmt.Fprintf(&s.said, "<group %q>", title) }
func (s *sink) Say(format string, a ...any) { fmt.Fprintf(&s.said, format, a...) }
func (s *sink) Annotate(a pipeline.Annotation) {
	b, _ := json.Marshal(a)
	s.said.WriteString("<" + string(b) + ">")
}

func run(j *Job, set map[string]string, cuts []byte, text string) (string, *Stream) {
	var to sink
	s := New(j, &to, 1)
	s.Set = func(kind, name, value string) {
		if set != nil {
			set[kind+" "+name] = value
		}
	}
	rest := []byte(text)
	for _, c := range cuts {
		n := min(int(c), len(rest))
		_, _ = s.Write(bytes.Clone(rest[:n]))
		rest = rest[n:]
	}
	_, _ = s.Write(rest)
	s.Close()
	return to.said.String(), s
}

func TestCommandsAreObeyedAndOutputPassesInOrder(t *testing.T) {
	for in, want := range map[string]string{
		"plain\nlines\n": "plain\nlines\n",
		"no newline":     "no newline",
		"a\n::group::One thing\nb\n::endgroup::\nc\n":                                 "a\n<group \"One thing\">b\n<group \"\">c\n",
		"::add-mask::s3cret%0Atwo\nx\n":                                               "<mask \"s3cret\\ntwo\">x\n",
		"  ::error file=a.go,line=3,col=2,title=A%3A b%2Cc::it broke%0Ahere %2C%25\n": `<{"level":"error","message":"it broke\nhere %2C%","file":"a.go","line":3,"col":2,"title":"A: b,c","step":1}>`,
		"::warning::w":                 `<{"level":"warning","message":"w","step":1}>`,
		"##[group]old\n##[endgroup]\n": "<group \"old\"><group \"\">",
		"::unknown::x\n: not one\n:: nor this\n::group without end\n": "::unknown::x\n: not one\n:: nor this\n::group without end\n",
		"text ::error::not at the beginning\n":                        "text ::error::not at the beginning\n",
		"::stop-commands::tok\n::error::no\n::tok::\n::notice::yes\n": "::error::no\n" + `<{"level":"notice","message":"yes","step":1}>`,
		"::set-env name=A::b\n":                                       `<{"level":"warning","message":"the command ::set-env:: was removed from the language; write to the file $GITHUB_ENV or $GITHUB_PATH instead","step":1}>`,
		"# a heading\n#!/bin/sh\n":                                    "# a heading\n#!/bin/sh\n",
	} {
		got, _ := run(&Job{}, nil, nil, in)
		if got != want {
			t.Errorf("%q gives\n%s\nwant\n%s", in, got, want)
		}
		for cut := range len(in) {
			if again, _ := run(&Job{}, nil, []byte{byte(cut)}, in); again != want {
				t.Fatalf("%q cut at %d gives\n%s\nwant\n%s", in, cut, again, want)
			}
		}
	}
}

func TestOldOutputsAreTaken(t *testing.T) {
	set := map[string]string{}
	got, _ := run(&Job{}, set, nil, "::set-output name=digest::sha%3A1\n::save-state name=x::y\n")
	if want := map[string]string{"output digest": "sha%3A1", "state x": "y"}; got != "" || !reflect.DeepEqual(set, want) {
		t.Errorf("set %v and said %q", set, got)
	}
}

func TestAProgramThatIsMissingIsNamed(t *testing.T) {
	for in, want := range map[string]string{
		"ok\nbash: line 1: jq: command not found\n": "jq", "sh: 1: frob: not found\n": "frob", "the page was not found\n": "",
		"/bin/sh: a: not found\nmore\nfile b not found here\n": "a",
	} {
		if _, s := run(&Job{}, nil, nil, in); s.Missing != want {
			t.Errorf("%q: missing %q; want %q", in, s.Missing, want)
		}
	}
}

func TestAnnotationsAreBounded(t *testing.T) {
	j := &Job{}
	run(j, nil, nil, strings.Repeat("::error::"+strings.Repeat("é", 4000)+"\n", 200))
	if len(j.Notes) != MaxNotes || len(j.Notes[0].Message) > maxMessage+3 {
		t.Errorf("%d notes of %d bytes", len(j.Notes), len(j.Notes[0].Message))
	}
}

const goMatcher = `{"problemMatcher":[{"owner":"go","pattern":[{"regexp":"^\\s*(\\.{0,2}[\\/\\w].+\\.go):(?:(\\d+):(\\d+):)? (.*)","file":1,"line":2,"column":3,"message":4}]}]}`

const eslint = `{"problemMatcher":[{"owner":"eslint","pattern":[{"regexp":"^([^\\s].*)$","file":1},
	{"regexp":"^\\s+(\\d+):(\\d+)\\s+(error|warning|info)\\s+(.*)\\s\\s+(.*)$","line":1,"column":2,"severity":3,"message":4,"code":5,"loop":true}]}]}`

func TestMatchersFindProblems(t *testing.T) {
	files := map[string]string{"go.json": goMatcher, "eslint.json": eslint, "bad.json": `{"problemMatcher":[{"owner":"x","pattern":[{"regexp":"(?=a)","message":0}]}]}`}
	open := func(name string) ([]byte, error) {
		if f, ok := files[name]; ok {
			return []byte(f), nil
		}
		return nil, errors.New("there is no such file")
	}
	for _, c := range []struct {
		in   string
		want []pipeline.Annotation
	}{
		{"::add-matcher::go.json\n./main.go:12:4: undefined: x\nok\n\x1b[31mvet.go:1:2: bad\x1b[0m\n", []pipeline.Annotation{
			{Level: "error", Message: "undefined: x", File: "./main.go", Line: 12, Col: 4, Step: 1}, {Level: "error", Message: "bad", File: "vet.go", Line: 1, Col: 2, Step: 1}}},
		{"::add-matcher::eslint.json\nsrc/a.js\n  1:0   error  Missing \"use strict\" statement   strict\n  5:10  warning  'addOne' is defined but never used   no-unused-vars\nnothing\n  9:9 error  lost  x\n", []pipeline.Annotation{
			{Level: "error", Message: `Missing "use strict" statement`, File: "src/a.js", Line: 1, Title: "strict", Step: 1},
			{Level: "warning", Message: "'addOne' is defined but never used", File: "src/a.js", Line: 5, Col: 10, Title: "no-unused-vars", Step: 1},
			{Level: "error", Message: "lost", File: "nothing", Line: 9, Col: 9, Title: "x", Step: 1}}},
		{"::add-matcher::go.json\n::remove-matcher owner=go::\na.go:1:1: x\n", nil},
		{"::add-matcher::none.json\n", []pipeline.Annotation{{Level: "warning", Message: "the problem matchers of none.json cannot be used: there is no such file", Step: 1}}},
		{"::add-matcher::bad.json\n", []pipeline.Annotation{{Level: "warning", Step: 1,
			Message: "the problem matchers of bad.json cannot be used: pattern 1 of x is not understood: error parsing regexp: invalid or unsupported Perl syntax: `(?=`; Weir reads RE2 syntax, which has no lookahead and no backreferences"}}},
	} {
		j := &Job{Open: open}
		run(j, nil, nil, c.in)
		if !reflect.DeepEqual(j.Notes, c.want) {
			t.Errorf("%q finds\n%+v\nwant\n%+v", c.in, j.Notes, c.want)
		}
	}
}

// FuzzCommands: no output, however cut, makes a stream panic, lose plain output or say something else than in one piece.
func FuzzCommands(f *testing.F) {
	f.Add("a\n::group::x\n::error file=a,line=1::m\nb", []byte{1, 5, 9})
	f.Add("::add-matcher::m.json\nx.go:1:2: y\n ::stop-commands::t\n::t::\n", []byte{3})
	f.Add("##[error]x\n::add-mask::\n", []byte{0, 2})
	f.Fuzz(func(t *testing.T, text string, cuts []byte) {
		if len(text) > 10_000 {
			t.Skip()
		}
		open := func(string) ([]byte, error) { return []byte(goMatcher), nil }
		want, _ := run(&Job{Open: open}, nil, nil, text)
		if got, _ := run(&Job{Open: open}, nil, cuts, text); got != want {
			t.Fatalf("%q cut by %v gives\n%q\nin one piece\n%q", text, cuts, got, want)
		}
		if !strings.ContainsAny(text, ":#") && want != text {
			t.Fatalf("plain %q became %q", text, want)
		}
	})
}
