package logs

import (
	"bytes"
	"fmt"

	"weir/internal/base/fault"
)

// Offset is where the log ends, what is still buffered included.
func (w *Writer) Offset() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

// Append adds lines that another Writer has made and masked: the log of a job that runs elsewhere. p holds whole lines. Nothing is
// added if one of them is none of ours, so that offsets on both sides stay the same. The end of a log is for Close to write.
func (w *Writer) Append(p []byte) error {
	if len(p) == 0 || p[len(p)-1] != '\n' {
		return fault.New(fault.Invalid, "A part of a log must be whole lines.")
	}
	for line := range bytes.Lines(p) {
		l, ok := Parse(bytes.TrimSuffix(line, []byte("\n")))
		if !ok || l.Tag == TagDone || len(line) > 2*maxLine+4096 && l.Tag == TagOutput {
			return fault.New(fault.Invalid, "A part of a log holds a line that no runner writes.")
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return fault.New(fault.Conflict, "The log has ended.")
	}
	w.buf = append(w.buf, p...)
	w.size += int64(len(p))
	w.flush()
	return w.err
}

// Detach closes the log without an end: whoever runs the attempt goes on writing it later, through another Writer.
func (w *Writer) Detach() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return w.err
	}
	w.settle()
	w.closed = true
	w.flush()
	if err := w.file.Close(); err != nil && w.err == nil {
		w.err = fmt.Errorf("close log: %w", err)
	}
	return w.err
}
