package logs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"weir/internal/pipeline"
)

// The tags of lines.
const (
	TagBegin      = '+'
	TagEnd        = '-'
	TagOutput     = '|'
	TagGroup      = '['
	TagEndGroup   = ']'
	TagAnnotation = '!'
	TagSystem     = '#'
	TagDone       = '='
)

const (
	flushAfter = 250 * time.Millisecond
	flushBytes = 64 << 10
	maxLine    = 32 << 10 // longer lines are cut into several
	// MaxBytes bounds one log. What comes after is counted, not kept.
	MaxBytes = 256 << 20
)

// Writer appends to the log of one attempt. It is safe for concurrent use. Errors of the disk are kept and returned by Close:
// a job does not fail because its log could not be written, but somebody must learn it.
type Writer struct {
	file   *os.File
	notify func(closing bool)

	mu      sync.Mutex
	mask    masker
	buf     []byte // complete lines, ready for the file
	line    []byte // masked output without its newline yet
	raw     []byte
	size    int64
	dropped int64
	timer   *time.Timer
	err     error
	closed  bool
}

// Mask hides a secret from here on.
func (w *Writer) Mask(secret string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mask.add(secret)
}

// Write takes output of a step as it comes.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.raw = w.mask.write(w.raw[:0], p)
	w.output(w.raw)
	return len(p), nil
}

func (w *Writer) output(masked []byte) {
	for len(masked) > 0 {
		i := bytes.IndexByte(masked, '\n')
		if i < 0 {
			w.line = append(w.line, masked...)
			for len(w.line) > maxLine {
				w.emit(TagOutput, w.line[:maxLine])
				w.line = append(w.line[:0], w.line[maxLine:]...)
			}
			return
		}
		if len(w.line) > 0 || i > maxLine {
			w.line = append(w.line, masked[:i]...)
			for len(w.line) > maxLine {
				w.emit(TagOutput, w.line[:maxLine])
				w.line = append(w.line[:0], w.line[maxLine:]...)
			}
			w.emit(TagOutput, w.line)
			w.line = w.line[:0]
		} else {
			w.emit(TagOutput, masked[:i])
		}
		masked = masked[i+1:]
	}
}

// settle ends a line that has no newline, before something else is written.
func (w *Writer) settle() {
	w.raw = w.mask.flush(w.raw[:0])
	w.output(w.raw)
	if len(w.line) > 0 {
		w.emit(TagOutput, w.line)
		w.line = w.line[:0]
	}
}

func (w *Writer) emit(tag byte, text []byte) {
	text = bytes.TrimSuffix(text, []byte("\r"))
	if w.size > MaxBytes && tag == TagOutput {
		w.dropped++
		return
	}
	before := len(w.buf)
	w.buf = strconv.AppendInt(w.buf, time.Now().UnixMicro(), 10)
	w.buf = append(w.buf, ' ', tag, ' ')
	w.buf = append(w.buf, text...)
	w.buf = append(w.buf, '\n')
	w.size += int64(len(w.buf) - before)
	switch {
	case len(w.buf) >= flushBytes:
		w.flush()
	case w.timer == nil && !w.closed:
		w.timer = time.AfterFunc(flushAfter, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if !w.closed {
				w.flush()
			}
		})
	}
}

func (w *Writer) flush() {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	if len(w.buf) == 0 {
		return
	}
	if _, err := w.file.Write(w.buf); err != nil && w.err == nil {
		w.err = fmt.Errorf("write log: %w", err)
	}
	w.buf = w.buf[:0]
	w.notify(false)
}

// say writes one line of another kind. The text is masked like output.
func (w *Writer) say(tag byte, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settle()
	masked := w.mask.flush(w.mask.write(nil, []byte(strings.ReplaceAll(text, "\n", " "))))
	w.emit(tag, masked)
}

func (w *Writer) mark(tag byte, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		b = []byte("{}")
	}
	w.say(tag, string(b))
}

// Begin marks the start of a step.
func (w *Writer) Begin(s pipeline.Step) { w.mark(TagBegin, s) }

// End marks the end of a step.
func (w *Writer) End(s pipeline.Step) { w.mark(TagEnd, s) }

// Group begins a group of lines; an empty title ends it.
func (w *Writer) Group(title string) {
	if title == "" {
		w.say(TagEndGroup, "")
		return
	}
	w.say(TagGroup, title)
}

// Annotate records an annotation.
func (w *Writer) Annotate(a pipeline.Annotation) { w.mark(TagAnnotation, a) }

// Say is a word from Weir itself.
func (w *Writer) Say(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		w.say(TagSystem, strings.TrimRight(line, "\n"))
	}
}

// Close ends the log with the state of the attempt and returns the first error of the disk.
func (w *Writer) Close(state pipeline.State) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return w.err
	}
	w.settle()
	if w.dropped > 0 {
		w.emit(TagSystem, fmt.Appendf(nil, "%d lines are missing here: a log may have %d MiB", w.dropped, MaxBytes>>20))
	}
	w.emit(TagDone, []byte(state))
	w.closed = true
	w.flush()
	if err := w.file.Close(); err != nil && w.err == nil {
		w.err = fmt.Errorf("close log: %w", err)
	}
	w.notify(true)
	return w.err
}
