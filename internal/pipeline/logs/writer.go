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
	// maxOneLine bounds what one line of output may have over all its parts.
	maxOneLine = 1 << 20
	// MaxBytes bounds one log. What comes after is counted, not kept.
	MaxBytes = 256 << 20
)

// Writer appends to the log of one attempt. It is safe for concurrent use. Errors of the disk are kept and returned by Close:
// a job does not fail because its log could not be written, but somebody must learn it.
type Writer struct {
	notify func(current string, closing bool)
	base   string // path without offset and ending

	mu      sync.Mutex
	file    *os.File
	from    int64 // offset at which file begins
	mask    masker
	buf     []byte // complete lines, ready for the file
	line    []byte // masked output without its newline yet
	raw     []byte
	long    int   // bytes of the present line so far
	cut     int64 // bytes of it that are not kept
	binary  int64 // bytes of lines that are not text, since the last that is
	size    int64 // offset at which the log ends
	now     int64 // microseconds; read once for each write
	dropped int64
	timer   *time.Timer
	err     error
	closed  bool
}

// Mask hides a secret from here on.
func (w *Writer) Mask(secret string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.mask.add(secret) {
		w.now = time.Now().UnixMicro()
		w.settle()
		w.emit(TagSystem, fmt.Appendf(nil, "a secret is NOT masked from here on: a job may have %d secrets, of a few kilobytes each", maxSecrets))
	}
}

// Masked hides the secrets in a text that does not go through the log: a summary, a message, a name.
func (w *Writer) Masked(text string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.mask.next) == 0 || text == "" {
		return text
	}
	alone := w.mask
	alone.pending, alone.hidden, alone.state, alone.inMask = nil, nil, 0, false
	return string(alone.flush(alone.write(nil, []byte(text))))
}

// Write takes output of a step as it comes.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(p)
	w.now = time.Now().UnixMicro()
	for len(p) > 0 { // in parts, so that one huge write needs no buffer of its size
		k := min(len(p), flushBytes)
		w.raw = w.mask.write(w.raw[:0], p[:k])
		w.output(w.raw)
		p = p[k:]
	}
	return n, nil
}

func (w *Writer) output(masked []byte) {
	for len(masked) > 0 {
		i := bytes.IndexByte(masked, '\n')
		if i < 0 {
			w.partial(masked)
			return
		}
		if len(w.line) == 0 && w.long == 0 && i <= maxLine {
			w.put(masked[:i])
		} else {
			w.partial(masked[:i])
			w.endLine()
		}
		masked = masked[i+1:]
	}
}

// partial takes a part of a line. A long line is cut into several, and what is beyond measure is counted.
func (w *Writer) partial(p []byte) {
	if room := maxOneLine - w.long; len(p) > room {
		w.cut += int64(len(p) - room)
		p = p[:room]
	}
	w.long += len(p)
	w.line = append(w.line, p...)
	at := 0
	for ; len(w.line)-at > maxLine; at += maxLine {
		w.put(w.line[at : at+maxLine])
	}
	w.line = append(w.line[:0], w.line[at:]...)
}

func (w *Writer) endLine() {
	w.put(w.line)
	w.line, w.long = w.line[:0], 0
	if w.cut > 0 {
		w.emit(TagSystem, fmt.Appendf(nil, "%d bytes of this line are missing here: a line may have %d MiB", w.cut, maxOneLine>>20))
		w.cut = 0
	}
}

// put keeps one line of output, unless it is binary: that is counted.
func (w *Writer) put(line []byte) {
	if bytes.IndexByte(line, 0) >= 0 {
		w.binary += int64(len(line)) + 1
		return
	}
	w.admitBinary()
	w.emit(TagOutput, line)
}

func (w *Writer) admitBinary() {
	if w.binary > 0 {
		n := w.binary
		w.binary = 0
		w.emit(TagSystem, fmt.Appendf(nil, "%d bytes of binary output are not kept; upload a file as an artifact instead", n))
	}
}

// settle ends a line that has no newline, before something else is written.
func (w *Writer) settle() {
	w.raw = w.mask.flush(w.raw[:0])
	w.output(w.raw)
	if len(w.line) > 0 || w.long > 0 {
		w.endLine()
	}
	w.admitBinary()
}

func (w *Writer) emit(tag byte, text []byte) {
	text = bytes.TrimSuffix(text, []byte("\r"))
	if w.size > MaxBytes && tag == TagOutput {
		w.dropped++
		return
	}
	before := len(w.buf)
	w.buf = strconv.AppendInt(w.buf, w.now, 10)
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
	if w.size-w.from >= segmentBytes && !w.closed && w.err == nil {
		w.rotate()
	}
	w.notify(w.file.Name(), false)
}

// rotate goes on in another file, so that this one can be sealed. If that cannot be made the log just grows.
func (w *Writer) rotate() {
	next, err := openSegment(segmentPath(w.base, w.size))
	if err != nil {
		return
	}
	if err := w.file.Close(); err != nil && w.err == nil {
		w.err = fmt.Errorf("close log: %w", err)
	}
	w.file, w.from = next, w.size
}

// say writes one line of another kind. The text is masked like output.
func (w *Writer) say(tag byte, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = time.Now().UnixMicro()
	w.settle()
	masked := w.mask.flush(w.mask.write(nil, []byte(strings.ReplaceAll(text, "\n", " "))))
	if len(masked) > flushBytes {
		masked = append(masked[:flushBytes], " (the rest is left out)"...)
	}
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
	w.now = time.Now().UnixMicro()
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
	w.notify(w.file.Name(), true)
	return w.err
}
