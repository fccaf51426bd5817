package logs

import (
	"bytes"
	"context"
	"io"
	"strconv"
	"time"

	"weir/internal/pipeline"
)

// idle is how often a reader looks again when the writer is in another process or has died.
const idle = time.Second

// Follow returns the log from offset and goes on as it grows. It ends when ended reports true and everything was read, or with
// ctx. A log that is not there yet is waited for.
func (d *Dir) Follow(ctx context.Context, run pipeline.RunID, job pipeline.JobID, attempt int, offset int64, ended func() bool) (io.ReadCloser, error) {
	c, err := d.cursor(ctx, pipeline.LogRef{Run: run, Job: job, Attempt: attempt}, max(offset, 0))
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	f := d.feed(c.base)
	f.readers++
	d.mu.Unlock()
	return &tail{cursor: c, feed: f, ended: ended}, nil
}

type tail struct {
	*cursor
	feed   *feed
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

// Close implements io.Closer.
func (t *tail) Close() error {
	if t.closed {
		return nil
	}
	t.closed = true
	t.dir.mu.Lock()
	t.feed.readers--
	t.dir.drop(t.base, t.feed)
	t.dir.mu.Unlock()
	return t.cursor.Close()
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

// Tail opens a log: with a nil ended what is there now, else as Follow does.
func (d *Dir) Tail(ctx context.Context, run pipeline.RunID, job pipeline.JobID, attempt int, offset int64, ended func() bool) (io.ReadCloser, error) {
	if ended == nil {
		return d.OpenContext(ctx, pipeline.LogRef{Run: run, Job: job, Attempt: attempt}, offset)
	}
	return d.Follow(ctx, run, job, attempt, offset, ended)
}
