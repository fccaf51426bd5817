package logs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"strconv"
	"time"

	"weir/internal/pipeline"
)

// idle is how often a reader looks again when the writer is in another process or has died.
const idle = time.Second

// Follow returns the log from offset and goes on as it grows. It ends when ended reports true and everything was read, or with
// ctx. A log that is not there yet is waited for.
func (d *Dir) Follow(ctx context.Context, run pipeline.RunID, job pipeline.JobID, attempt int, offset int64, ended func() bool) (io.ReadCloser, error) {
	path, err := d.path(run, job, attempt)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	f := d.feed(path)
	f.readers++
	d.mu.Unlock()
	return &tail{ctx: ctx, dir: d, path: path, feed: f, offset: max(offset, 0), ended: ended}, nil
}

type tail struct {
	ctx    context.Context // bounds one reader, as the body of a request does
	dir    *Dir
	path   string
	feed   *feed
	file   *os.File
	offset int64
	ended  func() bool
	closed bool
}

// Read implements io.Reader. It returns what there is as soon as there is something.
func (t *tail) Read(p []byte) (int, error) {
	for {
		t.dir.mu.Lock()
		grew, over := t.feed.grew, t.feed.over
		t.dir.mu.Unlock()
		over = over || t.ended() // asked before reading, so that nothing written in between is missed
		if n, err := t.read(p); n > 0 || err != nil {
			return n, err
		}
		if over {
			return 0, io.EOF
		}
		select {
		case <-t.ctx.Done():
			return 0, t.ctx.Err()
		case <-grew:
		case <-time.After(idle):
		}
	}
}

func (t *tail) read(p []byte) (int, error) {
	if t.file == nil {
		f, err := os.Open(t.path)
		if os.IsNotExist(err) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		t.file = f
	}
	n, err := t.file.ReadAt(p, t.offset)
	t.offset += int64(n)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// Close implements io.Closer.
func (t *tail) Close() error {
	if t.closed {
		return nil
	}
	t.closed = true
	t.dir.mu.Lock()
	t.feed.readers--
	t.dir.drop(t.path, t.feed)
	t.dir.mu.Unlock()
	if t.file != nil {
		return t.file.Close()
	}
	return nil
}

// Line is one line of a log.
type Line struct {
	Time time.Time
	Tag  byte
	Text string
}

// Parse reads one line, without its newline.
func Parse(b []byte) (Line, bool) {
	ts, rest, ok := bytes.Cut(b, []byte(" "))
	us, err := strconv.ParseInt(string(ts), 10, 64)
	if !ok || err != nil || len(rest) < 2 || rest[1] != ' ' {
		return Line{}, false
	}
	return Line{time.UnixMicro(us).UTC(), rest[0], string(rest[2:])}, true
}

// Steps folds the step markers of a log: what a page shows of an attempt that still runs.
func (d *Dir) Steps(run pipeline.RunID, job pipeline.JobID, attempt int) ([]pipeline.Step, error) {
	f, err := d.Open(run, job, attempt, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var steps []pipeline.Step
	r := bufio.NewReaderSize(f, 1<<16)
	for {
		b, prefix, err := r.ReadLine()
		if err == io.EOF {
			return steps, nil
		}
		if err != nil {
			return nil, err
		}
		for prefix && err == nil { // lines are shorter than the buffer; a damaged one is skipped
			_, prefix, err = r.ReadLine()
		}
		l, ok := Parse(b)
		if !ok || l.Tag != TagBegin && l.Tag != TagEnd {
			continue
		}
		var s pipeline.Step
		if json.Unmarshal([]byte(l.Text), &s) != nil {
			continue
		}
		if l.Tag == TagBegin {
			s.State, s.Started = pipeline.Running, l.Time
			steps = append(steps, s)
		} else if n := len(steps); n > 0 && steps[n-1].Number == s.Number {
			steps[n-1] = s
		} else {
			steps = append(steps, s)
		}
	}
}

// Tail opens a log: with a nil ended what is there now, else as Follow does.
func (d *Dir) Tail(ctx context.Context, run pipeline.RunID, job pipeline.JobID, attempt int, offset int64, ended func() bool) (io.ReadCloser, error) {
	if ended == nil {
		return d.Open(run, job, attempt, offset)
	}
	return d.Follow(ctx, run, job, attempt, offset, ended)
}
