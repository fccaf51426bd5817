package web

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"strconv"
	"strings"
	"time"
)

// maxShown is how many lines of a log a page shows; the raw log has all.
const maxShown = 5000

// logStep is one step of a log, with its lines as HTML.
type logStep struct {
	Number  int
	Name    string
	State   Status
	Began   time.Time
	Ended   time.Time
	Lines   []string
	Dropped int // lines that are not shown
}

// logView reads a log line by line and knows where in it it is, so that it can
// render a whole log or go on with one that a page already shows.
type logView struct {
	Steps    []*logStep
	Offset   int64 // bytes read
	Line     int   // lines numbered
	First    int   // number of the first line that looks like an error
	Ended    bool
	state    string
	shown    int
	Warnings int
}

// piece is something to put into a page that shows the log.
type piece struct {
	Op   string `json:"op"` // append or replace
	Into string `json:"into"`
	HTML string `json:"html"`
}

// read takes everything that r has.
func (v *logView) read(r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if err == nil {
			v.take(line)
			continue
		}
		// A line without its end is being written; it is read again later.
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
}

// take reads one line, with its end, and returns what a page that shows the log
// must change.
func (v *logView) take(raw []byte) []piece {
	v.Offset += int64(len(raw))
	at, tag, text, ok := parseLogLine(bytes.TrimRight(raw, "\n"))
	if !ok {
		return nil
	}
	switch tag {
	case '+':
		var s struct {
			Number int    `json:"number"`
			Name   string `json:"name"`
		}
		if json.Unmarshal([]byte(text), &s) != nil {
			return nil
		}
		step := v.begin(s.Number, s.Name, at)
		return []piece{{"append", "log-steps", stepHTML(step, true)}}
	case '-':
		var s struct {
			Number   int       `json:"number"`
			Name     string    `json:"name"`
			State    string    `json:"state"`
			Reason   string    `json:"reason"`
			Started  time.Time `json:"started"`
			Finished time.Time `json:"finished"`
		}
		if json.Unmarshal([]byte(text), &s) != nil {
			return nil
		}
		step := v.find(s.Number)
		var out []piece
		if step == nil {
			step = v.begin(s.Number, s.Name, at)
			out = append(out, piece{"append", "log-steps", stepHTML(step, false)})
		}
		step.State, step.Ended = stateOf(s.State), at
		if !s.Finished.IsZero() && !s.Started.IsZero() {
			step.Began, step.Ended = s.Started, s.Finished
		}
		if s.Reason != "" && s.State != "success" {
			out = append(out, v.add(step, at, "err", html.EscapeString(s.Reason)))
		}
		return append(out, piece{"replace", fmt.Sprintf("sum-%d", step.Number), summaryHTML(step)})
	case '=':
		v.Ended, v.state = true, text
		return nil
	}
	step := v.last(at)
	var out []piece
	if len(v.Steps) == 1 && len(step.Lines) == 0 && step.Number == 0 {
		out = append(out, piece{"append", "log-steps", stepHTML(step, true)})
	}
	class, body := lineOf(tag, text)
	if tag == ']' {
		return out
	}
	if class == "err" && v.First == 0 {
		v.First = v.Line + 1
	}
	return append(out, v.add(step, at, class, body))
}

// lineOf renders the text of one line and says what it is.
func lineOf(tag byte, text string) (class, body string) {
	switch tag {
	case '[':
		return "group", `<i class="bold">` + html.EscapeString(printable(text)) + `</i>`
	case '#':
		return "", `<i class="dim">` + html.EscapeString(printable(text)) + `</i>`
	case '!':
		var a struct {
			Level, Message, File, Title string
			Line                        int
		}
		if json.Unmarshal([]byte(text), &a) != nil {
			return "", html.EscapeString(printable(text))
		}
		place := ""
		if a.File != "" {
			place = a.File
			if a.Line > 0 {
				place += ":" + strconv.Itoa(a.Line)
			}
			place += ": "
		}
		colour := map[string]string{"error": "red", "warning": "yellow"}[a.Level]
		if a.Level == "error" {
			class = "err"
		}
		return class, `<i class="` + strings.TrimSpace(colour+" bold") + `">` + html.EscapeString(a.Level) + `</i> ` + html.EscapeString(printable(place+a.Message))
	}
	body = ansi(text)
	switch plain := strings.TrimSpace(text); {
	case strings.HasPrefix(plain, "--- FAIL"), strings.HasPrefix(plain, "FAIL"), strings.HasPrefix(plain, "panic: "), strings.HasPrefix(plain, "Error:"):
		return "err", body
	}
	return "", body
}

func (v *logView) begin(n int, name string, at time.Time) *logStep {
	s := &logStep{Number: n, Name: name, State: Status{"run", "Running"}, Began: at}
	v.Steps = append(v.Steps, s)
	return s
}

func (v *logView) find(n int) *logStep {
	for _, s := range v.Steps {
		if s.Number == n {
			return s
		}
	}
	return nil
}

// last is the step that a line belongs to; what comes before the first step is
// the runner getting ready.
func (v *logView) last(at time.Time) *logStep {
	if len(v.Steps) == 0 {
		s := v.begin(0, "Set up", at)
		s.State = Status{"off", "From the runner"}
		return s
	}
	return v.Steps[len(v.Steps)-1]
}

func (v *logView) add(s *logStep, at time.Time, class, body string) piece {
	v.Line++
	n := strconv.Itoa(v.Line)
	if class != "" {
		class = ` class="` + class + `"`
	}
	li := `<li id="L` + n + `"` + class + `><a href="#L` + n + `" aria-label="Line ` + n + `">` + n + `</a><code><i class="dim">` + at.UTC().Format("15:04:05.000") + `</i> ` + body + "</code></li>"
	s.Lines = append(s.Lines, li)
	v.shown++
	if v.shown > maxShown {
		v.forget(maxShown / 5)
	}
	return piece{"append", "lines-" + strconv.Itoa(s.Number), li}
}

// forget drops the oldest lines that are shown.
func (v *logView) forget(n int) {
	for _, s := range v.Steps {
		k := min(n, len(s.Lines))
		s.Lines, s.Dropped = s.Lines[k:], s.Dropped+k
		n, v.shown = n-k, v.shown-k
		if n == 0 {
			return
		}
	}
}

// summaryHTML is the line that folds a step.
func summaryHTML(s *logStep) string {
	run := ""
	if !s.Ended.IsZero() {
		run = took(s.Ended.Sub(s.Began))
	} else if s.State.Kind == "run" {
		run = "since " + s.Began.UTC().Format("15:04:05")
	}
	return fmt.Sprintf(`<summary id="sum-%d"><svg class="i" aria-hidden="true"><use href="#i-right"/></svg><span class="st st-%s"><svg class="g" aria-hidden="true"><use href="#g-%s"/></svg><span class="sr">%s</span></span><span>%s</span><span class="took num">%s</span></summary>`,
		s.Number, s.State.Kind, s.State.Kind, html.EscapeString(s.State.Word), html.EscapeString(printable(s.Name)), run)
}

// stepHTML is a step with its lines.
func stepHTML(s *logStep, open bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<details id="step-%d"`, s.Number)
	if open {
		b.WriteString(" open")
	}
	b.WriteString(">" + summaryHTML(s))
	if s.Dropped > 0 {
		fmt.Fprintf(&b, `<p class="dropped sub">%s earlier lines are in the raw log.</p>`, number(s.Dropped))
	}
	fmt.Fprintf(&b, `<ol class="lines" id="lines-%d">%s</ol></details>`, s.Number, strings.Join(s.Lines, "\n"))
	return b.String()
}

// HTML is the whole log. Steps that went well are folded, the others are open.
func (v *logView) HTML() string {
	var b strings.Builder
	for i, s := range v.Steps {
		open := s.State.Kind == "bad" || s.State.Kind == "run" || (i == len(v.Steps)-1 && !v.Ended)
		b.WriteString(stepHTML(s, open))
	}
	return b.String()
}

// parseLogLine reads `<unix microseconds> <tag> <text>`.
func parseLogLine(b []byte) (at time.Time, tag byte, text string, ok bool) {
	ts, rest, found := bytes.Cut(b, []byte(" "))
	us, err := strconv.ParseInt(string(ts), 10, 64)
	if !found || err != nil || len(rest) < 1 {
		return time.Time{}, 0, "", false
	}
	if len(rest) > 2 {
		text = string(rest[2:])
	}
	return time.UnixMicro(us).UTC(), rest[0], text, true
}

// stateOf shows a state of the pipeline.
func stateOf(state string) Status {
	switch state {
	case "success":
		return Status{"ok", "Passed"}
	case "failure":
		return Status{"bad", "Failed"}
	case "cancelled":
		return Status{"skip", "Cancelled"}
	case "skipped":
		return Status{"skip", "Skipped"}
	case "lost":
		return Status{"warn", "Lost"}
	case "refused":
		return Status{"block", "Refused"}
	case "running":
		return Status{"run", "Running"}
	case "queued":
		return Status{"wait", "Queued"}
	case "waiting", "pending":
		return Status{"off", "Waiting"}
	}
	return Status{"off", state}
}
