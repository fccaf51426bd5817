package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
)

// floodLines is how many lines of one message are sent as HTML. When a job writes faster, the page learns how many there are and
// fetches those that the reader looks at.
const floodLines = 300

// piece is something to put into a page that shows a log.
type piece struct {
	Op   string `json:"op"` // step: append it. sum: replace it. lines: append them to a step
	Step int    `json:"step"`
	From int64  `json:"from,omitempty"`
	To   int64  `json:"to,omitempty"`
	HTML string `json:"html,omitempty"`
	Many bool   `json:"many,omitempty"` // lines that are too many to send
}

// liveLog goes on with a log where the page's reader stands, gathered for a moment so that a chatty job does not send a message
// for each line.
func (s *Site) liveLog(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	t, offset, err := tellerOf(r)
	attempt, aerr := attemptOf(r)
	if err != nil || aerr != nil {
		http.Error(w, "There is no such place in a log.", http.StatusNotFound)
		return
	}
	log, err := s.data.RunLog(ctx, r.PathValue("id"), r.PathValue("job"), attempt, offset, true)
	if err != nil {
		if fault.Is(err, fault.NotFound) {
			// Nothing more will come: 204 tells an EventSource not to ask again.
			w.WriteHeader(http.StatusNoContent)
			return
		}
		http.Error(w, s.sentence(ctx, err), statusOf(err))
		return
	}
	defer log.Close()
	out, ok := newEvents(w)
	if !ok {
		return
	}
	lines := make(chan []byte, 256)
	failed := make(chan error, 1)
	go func() {
		defer close(lines)
		in := bufio.NewReaderSize(log, 64<<10)
		for {
			line, err := in.ReadBytes('\n')
			if err != nil {
				if !errors.Is(err, io.EOF) {
					failed <- err
				}
				return
			}
			select {
			case lines <- line:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.tell(ctx, out, lines)
	cancel()
	_ = log.Close() // ends the reader, which is waited for
	for range lines {
	}
	select {
	case err := <-failed:
		if !errors.Is(err, context.Canceled) {
			s.log.DebugContext(ctx, "log not followed to its end", "error", err)
		}
	default:
	}
}

// teller turns lines into pieces. It knows where in the log it is.
type teller struct {
	offset, line int64
	step         int
	pieces       []piece
	flood        int // lines of the last piece
	before       pipeline.LogLine
}

// tellerOf reads where a page stands: the offset and the number of the last line that it knows, and the step that it is in.
func tellerOf(r *http.Request) (t teller, offset int64, err error) {
	q := r.URL.Query()
	at := []string{q.Get("offset"), q.Get("line"), q.Get("step")}
	if last := r.Header.Get("Last-Event-ID"); last != "" { // a connection that broke
		at = strings.Split(last, ":")
	}
	if len(at) != 3 {
		return t, 0, errors.New("no place")
	}
	var n [3]int64
	for i, text := range at {
		if text == "" {
			continue
		}
		if n[i], err = strconv.ParseInt(text, 10, 64); err != nil || n[i] < 0 {
			return t, 0, errors.New("no place")
		}
	}
	return teller{offset: n[0], line: n[1], step: int(n[2])}, n[0], nil
}

func (t *teller) tell(ctx context.Context, out events, lines <-chan []byte) {
	beat := time.NewTicker(15 * time.Second)
	defer beat.Stop()
	gather := time.NewTicker(150 * time.Millisecond)
	defer gather.Stop()
	flush := func() error {
		if len(t.pieces) == 0 {
			return nil
		}
		raw, err := json.Marshal(t.close())
		if err != nil {
			return err
		}
		return out.send("log", fmt.Sprintf("%d:%d:%d", t.offset, t.line, t.step), string(raw))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			if out.send("beat", "", "1") != nil {
				return
			}
		case <-gather.C:
			if flush() != nil {
				return
			}
		case line, ok := <-lines:
			if !ok {
				if flush() == nil {
					_ = out.send("end", "", "1")
				}
				return
			}
			t.take(line)
		}
	}
}

// close returns the pieces so far and begins anew.
func (t *teller) close() []piece {
	out := t.pieces
	for i := range out {
		if p := &out[i]; p.Op == "lines" && !p.Many {
			p.HTML = fmt.Sprintf(`<ol class="lines" data-from="%d" data-to="%d">%s</ol>`, p.From, p.To, p.HTML)
		}
	}
	t.pieces, t.flood = nil, 0
	return out
}

// take reads one line, with its end.
func (t *teller) take(raw []byte) {
	t.offset += int64(len(raw))
	t.line++
	l, step, ok := parseLogLine(bytes.TrimRight(raw, "\n"))
	if !ok {
		l = pipeline.LogLine{Kind: pipeline.LogSystem, Text: "this line is damaged"}
	}
	l.Number = t.line
	switch l.Kind {
	case pipeline.LogBegin:
		step.State, step.Started = pipeline.Running, l.At
		t.begin(step)
	case pipeline.LogEnd:
		if step.Number != t.step {
			t.begin(step)
		}
		t.add(l)
		t.pieces = append(t.pieces, piece{Op: "sum", Step: step.Number, HTML: summaryHTML(step)})
		return
	}
	if t.line == 1 && l.Kind != pipeline.LogBegin {
		t.begin(pipeline.Step{Name: "Set up", State: "setup"})
	}
	t.add(l)
}

func (t *teller) begin(s pipeline.Step) {
	t.step = s.Number
	t.pieces = append(t.pieces, piece{Op: "step", Step: s.Number, HTML: fmt.Sprintf(`<details id="step-%d" data-from="%d" data-to="%d" open>%s<div class="parts" id="parts-%d"></div></details>`,
		s.Number, t.line, t.line, summaryHTML(s), s.Number)})
}

// add appends a line to the last piece, or begins one.
func (t *teller) add(l pipeline.LogLine) {
	n := len(t.pieces)
	if n == 0 || t.pieces[n-1].Op != "lines" || t.pieces[n-1].Step != t.step {
		t.pieces = append(t.pieces, piece{Op: "lines", Step: t.step, From: l.Number})
		n, t.flood = n+1, 0
	}
	p := &t.pieces[n-1]
	p.To = l.Number
	switch t.flood++; {
	case t.flood > floodLines:
		p.HTML, p.Many = "", true
	case repeats(t.before, l):
	default:
		p.HTML += lineHTML(l, 0)
	}
	t.before = l
}

// parseLogLine reads `<unix microseconds> <tag> <text>`, and the step that a mark is about.
func parseLogLine(b []byte) (l pipeline.LogLine, step pipeline.Step, ok bool) {
	ts, rest, found := bytes.Cut(b, []byte(" "))
	us, err := strconv.ParseInt(string(ts), 10, 64)
	if !found || err != nil || len(rest) < 1 {
		return l, step, false
	}
	l.At = time.UnixMicro(us).UTC()
	if len(rest) > 2 {
		l.Text = string(rest[2:])
	}
	l.Kind = map[byte]string{'+': pipeline.LogBegin, '-': pipeline.LogEnd, '|': pipeline.LogOutput, '[': pipeline.LogGroupKind, ']': pipeline.LogEndGroup,
		'!': pipeline.LogAnnotation, '#': pipeline.LogSystem, '=': pipeline.LogDone}[rest[0]]
	if l.Kind == pipeline.LogBegin || l.Kind == pipeline.LogEnd {
		ok = json.Unmarshal([]byte(l.Text), &step) == nil
		return l, step, ok
	}
	return l, step, l.Kind != ""
}
