// Package command reads the output of a step as GitHub's runner does: it passes output on and obeys the workflow commands in it,
// ::error file=a.go,line=1::message, ::group::, ::add-mask::, ::add-matcher:: and the others, and finds problems with the matchers
// that a job has added.
//
// Output is hostile: whatever it says, a Stream holds back at most one line of 64 KiB, writes everything else at once and in
// order, and makes at most MaxNotes annotations a job.
package command

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"

	"weir/internal/pipeline"
)

const (
	maxCommand = 64 << 10
	maxMessage = 4096
	// MaxNotes bounds the annotations of a job. What comes after stands in the log only.
	MaxNotes = 50
)

// Sink takes what a stream finds. *logs.Writer implements most of it.
type Sink interface {
	Write(p []byte) (int, error)
	Mask(secret string)
	Group(title string) // "" ends a group
	Annotate(a pipeline.Annotation)
	Say(format string, args ...any)
}

// Job is what the streams of one job share. One goroutine uses it at a time.
type Job struct {
	Notes []pipeline.Annotation
	// Open reads a file of the workspace that a matcher is in.
	Open     func(path string) ([]byte, error)
	matchers []*matcher
}

// Stream is the output of one step. One goroutine uses it.
type Stream struct {
	job  *Job
	sink Sink
	step int
	// Set takes ::set-output:: ("output") and ::save-state:: ("state"). Nil refuses them.
	Set func(kind, name, value string)
	// Missing is the program that a shell did not find last.
	Missing string

	held    []byte // the beginning of a line that may become a command
	midline bool   // output of the present line has gone out already
	tail    []byte // what has gone out of the present line, for the matchers
	stopped string // the token of ::stop-commands::
	found   int
}

// New returns the stream of a step.
func New(job *Job, sink Sink, step int) *Stream { return &Stream{job: job, sink: sink, step: step} }

// Write implements io.Writer.
func (s *Stream) Write(p []byte) (int, error) {
	n := len(p)
	plain := 0 // p[:plain] is output that has not gone out
	at := 0
	for at < len(p) {
		i := bytes.IndexByte(p[at:], '\n')
		if i < 0 {
			s.pass(p[:plain])
			s.partial(p[at:])
			return n, nil
		}
		line := p[at : at+i+1]
		at += i + 1
		if !s.midline && len(s.held) == 0 && !candidate(line) || s.midline {
			s.midline = false
			plain = at
			continue
		}
		s.pass(p[:at-len(line)])
		p, at, plain = p[at:], 0, 0
		s.whole(line)
	}
	s.pass(p[:plain])
	return n, nil
}

// candidate reports whether a line may be a command.
func candidate(line []byte) bool {
	for _, c := range line {
		switch c {
		case ' ', '\t':
			continue
		case ':', '#':
			return true
		}
		return false
	}
	return false
}

// pass lets output go, and looks for problems in it.
func (s *Stream) pass(p []byte) {
	if len(p) == 0 {
		return
	}
	s.notFound(p)
	if len(s.job.matchers) == 0 {
		_, _ = s.sink.Write(p)
		return
	}
	for line := range bytes.Lines(p) { // a problem stands after the line that it was found in
		_, _ = s.sink.Write(line)
		if line[len(line)-1] != '\n' {
			s.tail = append(s.tail, line[:min(len(line), maxMatchLine+1-min(len(s.tail), maxMatchLine))]...)
			continue
		}
		if len(s.tail) > 0 {
			line = append(s.tail, line...)
			s.tail = nil
		}
		s.match(line)
	}
}

// partial takes the part of a line whose end has not come.
func (s *Stream) partial(p []byte) {
	if !s.midline && (len(s.held) > 0 || candidate(p) || len(bytes.TrimLeft(p, " \t")) == 0) && len(s.held)+len(p) < maxCommand {
		s.held = append(s.held, p...)
		return
	}
	held := s.held
	s.held, s.midline = nil, true
	s.pass(held)
	s.pass(p)
}

// whole takes a line that may be a command.
func (s *Stream) whole(line []byte) {
	if len(s.held) > 0 {
		line = append(s.held, line...)
		s.held = nil
	}
	if len(line) > maxCommand || !s.obey(strings.TrimRight(strings.TrimLeft(string(line), " \t"), "\r\n")) {
		s.pass(line)
	}
}

// Close ends the stream: nothing follows.
func (s *Stream) Close() {
	if len(s.held) > 0 {
		s.whole(nil)
	}
	if len(s.tail) > 0 {
		s.match(s.tail)
	}
	s.tail, s.midline, s.stopped = nil, false, ""
	for _, m := range s.job.matchers {
		m.at = 0
	}
}

var notFound = regexp.MustCompile(`([A-Za-z0-9._+-]{1,40}): (?:command )?not found\s*$`)

func (s *Stream) notFound(p []byte) {
	for {
		i := bytes.LastIndex(p, []byte("not found"))
		if i < 0 {
			return
		}
		from := bytes.LastIndexByte(p[:i], '\n') + 1
		line := p[from:min(len(p), from+400)]
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			line = line[:end]
		}
		if m := notFound.FindSubmatch(line); m != nil {
			s.Missing = string(m[1])
			return
		}
		p = p[:from]
	}
}

// obey carries out a command and reports whether the line was one.
func (s *Stream) obey(line string) bool {
	name, rest, message, ok := split(line)
	if !ok {
		return false
	}
	if s.stopped != "" {
		if name == s.stopped && rest == "" && strings.HasPrefix(line, "::") {
			s.stopped = ""
			return true
		}
		return false
	}
	properties := map[string]string{}
	for p := range strings.SplitSeq(rest, ",") {
		if k, v, ok := strings.Cut(p, "="); ok {
			properties[strings.ToLower(strings.TrimSpace(k))] = property.Replace(v)
		}
	}
	return s.do(strings.ToLower(name), data.Replace(message), properties)
}

// split takes "::name properties::message" apart, or the older "##[name properties]message".
func split(line string) (name, properties, message string, ok bool) {
	var head string
	switch {
	case strings.HasPrefix(line, "::"):
		head, message, ok = strings.Cut(line[2:], "::")
	case strings.HasPrefix(line, "##["):
		head, message, ok = strings.Cut(line[3:], "]")
	}
	if !ok || head == "" {
		return "", "", "", false
	}
	name, properties, _ = strings.Cut(head, " ")
	return name, properties, message, true
}

var (
	data     = strings.NewReplacer("%0D", "\r", "%0d", "\r", "%0A", "\n", "%0a", "\n", "%25", "%")
	property = strings.NewReplacer("%0D", "\r", "%0d", "\r", "%0A", "\n", "%0a", "\n", "%3A", ":", "%3a", ":", "%2C", ",", "%2c", ",", "%25", "%")
)

func (s *Stream) do(name, message string, p map[string]string) bool {
	switch name {
	case "error", "warning", "notice":
		number := func(keys ...string) int {
			for _, k := range keys {
				if n, err := strconv.Atoi(p[k]); err == nil && n > 0 {
					return n
				}
			}
			return 0
		}
		s.annotate(pipeline.Annotation{Level: name, Message: message, File: p["file"], Line: number("line"), Col: number("col", "column"), Title: p["title"]})
	case "debug":
		_, _ = s.sink.Write([]byte("debug: " + strings.ReplaceAll(message, "\n", " ") + "\n"))
	case "group", "section":
		if message == "" {
			message = "Group"
		}
		s.sink.Group(message)
	case "endgroup":
		s.sink.Group("")
	case "command":
		_, _ = s.sink.Write([]byte("$ " + message + "\n"))
	case "add-mask":
		s.sink.Mask(message)
	case "add-matcher":
		s.addMatcher(message)
	case "remove-matcher":
		s.removeMatcher(p["owner"], message)
	case "echo": // commands are never shown
	case "stop-commands":
		if message == "" {
			return false
		}
		s.stopped = message
	case "set-output", "save-state":
		if s.Set == nil || p["name"] == "" {
			s.warn("the command ::" + name + ":: needs a name and is taken from steps only")
			break
		}
		s.Set(strings.TrimPrefix(strings.TrimPrefix(name, "set-"), "save-"), p["name"], message)
	case "set-env", "add-path":
		s.warn("the command ::" + name + ":: was removed from the language; write to the file $GITHUB_ENV or $GITHUB_PATH instead")
	default:
		return false
	}
	return true
}

func (s *Stream) warn(message string) {
	s.annotate(pipeline.Annotation{Level: "warning", Message: message})
}

func (s *Stream) annotate(a pipeline.Annotation) {
	cut := func(text string, most int) string {
		if len(text) > most {
			return strings.ToValidUTF8(text[:most], "") + "..."
		}
		return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "\ufffd")
	}
	a.Message, a.Title, a.File, a.Step = cut(a.Message, maxMessage), cut(a.Title, 256), cut(a.File, 1024), s.step
	s.sink.Annotate(a)
	if len(s.job.Notes) < MaxNotes {
		s.job.Notes = append(s.job.Notes, a)
	}
}
