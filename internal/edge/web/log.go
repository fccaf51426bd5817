package web

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strconv"
	"strings"

	"weir/internal/pipeline"
)

const (
	wholeLog  = 1200 // a log of so many lines is in its page at once
	window    = 400  // of a longer one, so many lines of the step that matters are
	pageLines = 1000 // most lines of one fragment
)

// logView is what a page shows of one log: its steps, each with the lines that are in the page and gaps for the others. A gap
// is a link to a page that has its first lines; the script fetches what the reader scrolls to.
type logView struct {
	Base    string // path of the log: the raw text is there, lines, search and live below
	Page    string // path of the page that shows it, with the job and the attempt
	Outline pipeline.LogOutline
	Steps   []logStep
	Target  int64 // the line that the reader asked for
}

// logStep is one step with a part of its lines.
type logStep struct {
	pipeline.LogStep
	Open  bool
	Parts []logPart
}

// logPart is a run of lines: in the page, or a gap.
type logPart struct {
	From, To int64
	Lines    []pipeline.LogLine // nil: a gap
}

// steps cuts an outline into steps: what comes before the first is the runner getting ready.
func steps(o pipeline.LogOutline) []logStep {
	var out []logStep
	next := int64(1)
	for _, s := range o.Steps {
		if s.From > next && len(out) == 0 {
			out = append(out, logStep{LogStep: pipeline.LogStep{Step: pipeline.Step{Name: "Set up", State: "setup"}, From: next, To: s.From - 1}})
		}
		out = append(out, logStep{LogStep: s})
		next = s.To + 1
	}
	if len(out) == 0 && o.Lines > 0 {
		out = append(out, logStep{LogStep: pipeline.LogStep{Step: pipeline.Step{Name: "Set up", State: "setup"}, From: 1, To: o.Lines}})
	}
	return out
}

// plan says which lines are in the page: all of a short log; of a long one those around the target, else those around the first
// error of what failed, else the end of what runs.
func (v *logView) plan() {
	v.Steps = steps(v.Outline)
	short := v.Outline.Lines <= wholeLog
	for i := range v.Steps {
		s := &v.Steps[i]
		state := stateOf(string(s.State)).Kind
		s.Open = state == "bad" || state == "run" || i == len(v.Steps)-1 && !v.Outline.Ended
		from, to := s.From, s.To
		switch {
		case v.Target >= s.From && v.Target <= s.To:
			s.Open = true
			if !short {
				from, to = max(s.From, v.Target-window/4), min(s.To, v.Target+window)
			}
		case short:
		case state == "bad" && v.Target == 0:
			at := s.To
			for _, e := range v.Outline.Errors {
				if e >= s.From && e <= s.To {
					at = min(s.To, e+window/2)
					break
				}
			}
			from, to = max(s.From, at-window), at
		case s.Open && v.Target == 0:
			from = max(s.From, s.To-window)
		default:
			s.Parts = []logPart{{From: s.From, To: s.To}}
			continue
		}
		if from > s.From {
			s.Parts = append(s.Parts, logPart{From: s.From, To: from - 1})
		}
		s.Parts = append(s.Parts, logPart{From: from, To: to, Lines: []pipeline.LogLine{}})
		if to < s.To {
			s.Parts = append(s.Parts, logPart{From: to + 1, To: s.To})
		}
	}
}

// fill reads the lines that are in the page.
func (v *logView) fill(read func(from int64, limit int) ([]pipeline.LogLine, error)) error {
	for i := range v.Steps {
		for k := range v.Steps[i].Parts {
			p := &v.Steps[i].Parts[k]
			if p.Lines == nil {
				continue
			}
			lines, err := read(p.From, int(p.To-p.From+1))
			if err != nil {
				return err
			}
			p.Lines = lines
		}
	}
	return nil
}

// firstError is the number of the first line that says that something failed; 0 if none does.
func (v *logView) firstError() int64 {
	if len(v.Outline.Errors) == 0 {
		return 0
	}
	return v.Outline.Errors[0]
}

// lineURL is a page that has a line.
func (v *logView) lineURL(n int64) string {
	return fmt.Sprintf("%s&line=%d#L%d", v.Page, n, n)
}

// HTML is the whole log.
func (v *logView) HTML() string {
	var b strings.Builder
	for _, s := range v.Steps {
		b.WriteString(v.step(s))
	}
	return b.String()
}

func (v *logView) step(s logStep) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<details id="step-%d" data-from="%d" data-to="%d"`, s.Number, s.From, s.To)
	if s.Open {
		b.WriteString(" open")
	}
	b.WriteString(">" + summaryHTML(s.Step))
	fmt.Fprintf(&b, `<div class="parts" id="parts-%d">`, s.Number)
	for _, p := range s.Parts {
		if p.Lines == nil {
			b.WriteString(v.gap(p))
		} else {
			b.WriteString(linesHTML(p.From, p.To, p.Lines, v.Outline.Groups))
		}
	}
	b.WriteString("</div></details>")
	return b.String()
}

func (v *logView) gap(p logPart) string {
	return fmt.Sprintf(`<a class="gap" data-from="%d" data-to="%d" href="%s">Lines %s to %s</a>`, p.From, p.To, html.EscapeString(v.lineURL(p.From)), number(p.From), number(p.To))
}

// linesHTML is a run of lines.
func linesHTML(from, to int64, lines []pipeline.LogLine, groups []pipeline.LogGroup) string {
	ends := map[int64]int64{}
	for _, g := range groups {
		if g.From >= from && g.From <= to {
			ends[g.From] = g.To
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<ol class="lines" data-from="%d" data-to="%d">`, from, to)
	for i, l := range lines {
		if i > 0 && repeats(lines[i-1], l) {
			continue
		}
		b.WriteString(lineHTML(l, ends[l.Number]))
	}
	b.WriteString("</ol>")
	return b.String()
}

// repeats reports whether the end of a step gives the reason that the line before it has given.
func repeats(before, l pipeline.LogLine) bool {
	var s pipeline.Step
	return l.Kind == pipeline.LogEnd && before.Kind == pipeline.LogSystem && json.Unmarshal([]byte(l.Text), &s) == nil && s.Reason == before.Text
}

// lineHTML is one line; nothing for the marks that a reader does not see. A group is known to end at a line if fold is not 0.
func lineHTML(l pipeline.LogLine, fold int64) string {
	class, body, ok := lineOf(l)
	if !ok {
		return ""
	}
	n := strconv.FormatInt(l.Number, 10)
	attr := ""
	if l.Kind == pipeline.LogGroupKind {
		attr = fmt.Sprintf(` data-fold="%d"`, fold)
	}
	if class != "" {
		class = ` class="` + class + `"`
	}
	return `<li id="L` + n + `"` + class + attr + `><a href="#L` + n + `" aria-label="Line ` + n + `">` + n + `</a><code><i class="dim">` + l.At.UTC().Format("15:04:05.000") + `</i> ` + body + "</code></li>"
}

// lineOf renders the text of one line and says what it is.
func lineOf(l pipeline.LogLine) (class, body string, ok bool) {
	switch l.Kind {
	case pipeline.LogBegin, pipeline.LogDone, pipeline.LogEndGroup:
		return "", "", false
	case pipeline.LogEnd:
		var s pipeline.Step
		if json.Unmarshal([]byte(l.Text), &s) != nil || s.Reason == "" || s.State == pipeline.Success {
			return "", "", false
		}
		return "err", html.EscapeString(printable(s.Reason)), true
	case pipeline.LogGroupKind:
		return "group", `<i class="bold">` + html.EscapeString(printable(l.Text)) + `</i>`, true
	case pipeline.LogSystem:
		return "", `<i class="dim">` + html.EscapeString(printable(l.Text)) + `</i>`, true
	case pipeline.LogAnnotation:
		class, body = annotationLine(l.Text)
		return class, body, true
	}
	if class, body, ok = testEvent(l.Text); ok {
		return class, body, true
	}
	body = ansi(l.Text)
	switch plain := strings.TrimSpace(l.Text); {
	case strings.HasPrefix(plain, "--- FAIL"), strings.HasPrefix(plain, "FAIL"), strings.HasPrefix(plain, "panic: "), strings.HasPrefix(plain, "Error:"):
		return "err", body, true
	}
	return "", body, true
}

// testEvent shows a line of go test -json as go test would print it. The raw log has it as it was.
func testEvent(text string) (class, body string, ok bool) {
	if !strings.HasPrefix(text, `{"`) || !strings.Contains(text, `"Action":"`) {
		return "", "", false
	}
	var e struct{ Action, Package, Test, ImportPath, Output string }
	if json.Unmarshal([]byte(text), &e) != nil || e.Package == "" && e.ImportPath == "" {
		return "", "", false
	}
	if e.Action == "output" || e.Action == "build-output" {
		said := strings.TrimSuffix(e.Output, "\n")
		if plain := strings.TrimSpace(said); strings.HasPrefix(plain, "--- FAIL") || strings.HasPrefix(plain, "panic: ") {
			class = "err"
		}
		return class, ansi(said), true
	}
	return "", `<i class="dim">` + html.EscapeString(printable(strings.TrimSpace(e.Action+" "+e.Package+e.ImportPath+" "+e.Test))) + `</i>`, true
}

func annotationLine(text string) (class, body string) {
	var a pipeline.Annotation
	if json.Unmarshal([]byte(text), &a) != nil {
		return "", html.EscapeString(printable(text))
	}
	place := ""
	if a.File != "" {
		place = a.File + lineSuffix(a.Line) + ": "
	}
	if a.Title != "" {
		place += a.Title + ": "
	}
	colour := map[string]string{"error": "red", "warning": "yellow"}[a.Level]
	if a.Level == "error" {
		class = "err"
	}
	return class, `<i class="` + strings.TrimSpace(colour+" bold") + `">` + html.EscapeString(a.Level) + `</i> ` + html.EscapeString(printable(place+a.Message))
}

// summaryHTML is the line that folds a step.
func summaryHTML(s pipeline.Step) string {
	state := stateOf(string(s.State))
	run := ""
	switch {
	case s.State == "setup":
		state = Status{"off", "From the runner"}
	case !s.Finished.IsZero() && !s.Started.IsZero():
		run = took(s.Finished.Sub(s.Started))
	case state.Kind == "run":
		run = "since " + s.Started.UTC().Format("15:04:05")
	}
	return fmt.Sprintf(`<summary id="sum-%d"><svg class="i" aria-hidden="true"><use href="#i-right"/></svg><span class="st st-%s"><svg class="g" aria-hidden="true"><use href="#g-%s"/></svg><span class="sr">%s</span></span><span>%s</span><span class="took num">%s</span></summary>`,
		s.Number, state.Kind, state.Kind, html.EscapeString(state.Word), html.EscapeString(printable(s.Name)), run)
}

// readLog reads what a page shows of a log.
func (s *Site) readLog(ctx context.Context, v *runView, line int64) {
	v.Log.Base = fmt.Sprintf("/runs/%s/log/%s/%d", url.PathEscape(v.Run.ID), url.PathEscape(v.Job.ID), v.Attempt)
	v.Log.Page = fmt.Sprintf("/runs/%s?job=%s&attempt=%d", url.PathEscape(v.Run.ID), url.QueryEscape(v.Job.ID), v.Attempt)
	v.Log.Target = line
	if v.Job.Attempts == 0 {
		v.LogMissing = "No log yet: the job has not started."
		if v.Job.Done {
			v.LogMissing = "No log: the job did not run."
			if v.Job.Reason != "" {
				v.LogMissing += " " + v.Job.Reason
			}
		}
	} else if o, err := s.data.LogOutline(ctx, v.Run.ID, v.Job.ID, v.Attempt); err != nil {
		v.LogMissing = s.sentence(ctx, err)
	} else {
		v.Log.Outline = o
		v.Log.plan()
		err := v.Log.fill(func(from int64, limit int) ([]pipeline.LogLine, error) {
			return s.data.LogLines(ctx, v.Run.ID, v.Job.ID, v.Attempt, from, limit)
		})
		if err != nil {
			v.LogMissing = s.sentence(ctx, err)
		}
	}
	if !v.Job.Done && v.Attempt >= v.Job.Attempts {
		step := 0
		if n := len(v.Log.Steps); n > 0 {
			step = v.Log.Steps[n-1].Number
		}
		v.Follow = fmt.Sprintf("%s/live?offset=%d&line=%d&step=%d", v.Log.Base, v.Log.Outline.Bytes, v.Log.Outline.Lines, step)
	}
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
