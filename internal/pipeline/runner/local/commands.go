package local

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"

	"weir/internal/pipeline"
)

const (
	maxCommand = 64 << 10
	maxNotes   = 50
)

// commands passes a step's output on to the log and obeys the workflow commands in it: ::error::, ::group::, ::add-mask::, ...
// It is used by the one goroutine that copies a step's output.
type commands struct {
	job     *job
	step    int
	held    []byte // the beginning of a line that may become a command
	midline bool   // output of the present line has gone out already
	stopped string // the token of ::stop-commands::
	missing string // the program that a shell did not find last
}

// Write implements io.Writer.
func (c *commands) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			c.partial(p)
			break
		}
		c.line(p[:i+1])
		p = p[i+1:]
	}
	return n, nil
}

func (c *commands) partial(p []byte) {
	if !c.midline && (len(c.held) > 0 || p[0] == ':' || p[0] == ' ') && len(c.held)+len(p) < maxCommand {
		c.held = append(c.held, p...)
		return
	}
	c.release(p)
}

func (c *commands) release(p []byte) {
	if len(c.held) > 0 {
		_, _ = c.job.log.Write(c.held)
		c.held = c.held[:0]
	}
	_, _ = c.job.log.Write(p)
	c.midline = len(p) > 0 && p[len(p)-1] != '\n'
}

func (c *commands) line(p []byte) {
	if c.midline {
		c.notFound(p)
		c.release(p)
		return
	}
	full := p
	if len(c.held) > 0 {
		full = append(c.held, p...)
	}
	trimmed := bytes.TrimSpace(full)
	if !bytes.HasPrefix(trimmed, []byte("::")) || len(full) > maxCommand || !c.obey(string(trimmed)) {
		c.notFound(full)
		_, _ = c.job.log.Write(full)
	}
	c.held, c.midline = c.held[:0], false
}

func (c *commands) end() {
	if len(c.held) > 0 {
		held := append(bytes.Clone(c.held), '\n')
		c.held = c.held[:0]
		c.line(held)
	}
}

var notFound = regexp.MustCompile(`([A-Za-z0-9._+-]{1,40}): (?:command )?not found\s*$`)

func (c *commands) notFound(line []byte) {
	if len(line) < 400 && bytes.Contains(line, []byte("not found")) {
		if m := notFound.FindSubmatch(line); m != nil {
			c.missing = string(m[1])
		}
	}
}

// obey carries out "::name key=value,...::message" and reports whether it was a command.
func (c *commands) obey(line string) bool {
	head, message, ok := strings.Cut(line[2:], "::")
	if !ok {
		return false
	}
	name, rest, _ := strings.Cut(head, " ")
	if c.stopped != "" {
		if head == c.stopped {
			c.stopped = ""
			return true
		}
		return false
	}
	properties := map[string]string{}
	for p := range strings.SplitSeq(rest, ",") {
		if k, v, ok := strings.Cut(p, "="); ok {
			properties[strings.ToLower(strings.TrimSpace(k))] = unescape(v)
		}
	}
	message = unescape(message)
	switch strings.ToLower(name) {
	case "error", "warning", "notice":
		c.annotate(strings.ToLower(name), message, properties)
	case "debug":
		_, _ = c.job.log.Write([]byte("debug: " + message + "\n"))
	case "group":
		c.job.log.Group(message)
	case "endgroup":
		c.job.log.Group("")
	case "add-mask":
		c.job.log.Mask(message)
	case "stop-commands":
		if message == "" {
			return false
		}
		c.stopped = message
	case "set-output", "save-state", "set-env", "add-path":
		c.annotate("warning", "the command ::"+name+":: was removed from the language; write to the file $GITHUB_OUTPUT, $GITHUB_ENV or $GITHUB_PATH instead", nil)
	default:
		return false
	}
	return true
}

func (c *commands) annotate(level, message string, p map[string]string) {
	if len(message) > 4096 {
		message = strings.ToValidUTF8(message[:4096], "") + "..."
	}
	n := func(k string) int { v, _ := strconv.Atoi(p[k]); return v }
	a := pipeline.Annotation{Level: level, Message: message, File: p["file"], Line: n("line"), Col: n("col"), Title: p["title"], Step: c.step}
	c.job.log.Annotate(a)
	if len(c.job.notes) < maxNotes {
		c.job.notes = append(c.job.notes, a)
	}
}

func unescape(s string) string {
	return strings.NewReplacer("%0D", "\r", "%0d", "\r", "%0A", "\n", "%0a", "\n", "%3A", ":", "%3a", ":", "%2C", ",", "%2c", ",", "%25", "%").Replace(s)
}
