package logs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"weir/internal/base/blob"
	"weir/internal/base/fault"
	"weir/internal/pipeline"
)

// segmentBytes is how long a file grows before the log goes on in another one.
const segmentBytes = 8 << 20

// Dir is a folder of logs. It is safe for concurrent use.
type Dir struct {
	root   string
	blobs  blob.Store // nil: files stay where they are
	index  Index
	sealed chan struct{} // wakes the sealer; holds at most one wake-up

	sealing sync.Mutex // held while files are sealed

	mu    sync.Mutex
	open  map[string]*feed
	fresh map[pipeline.LogRef]bool // begun by this process, and nothing of it is sealed
}

// feed tells readers of one log that it grew.
type feed struct {
	grew    chan struct{} // closed and replaced at each growth
	writing bool
	current string // the file that is written
	over    bool   // the writer has closed the log: nothing will follow
	readers int
	fold    *fold // what is known of the lines so far
}

// New returns the logs under root, which stay there. Archive adds a place for those that are complete.
func New(root string) *Dir {
	return &Dir{root: root, open: map[string]*feed{}, fresh: map[pipeline.LogRef]bool{}, sealed: make(chan struct{}, 1)}
}

// Archive makes d seal what is complete; Run does it. It is called before anything else.
func (d *Dir) Archive(blobs blob.Store, index Index) *Dir {
	d.blobs, d.index = blobs, index
	return d
}

var (
	_ pipeline.Logs      = (*Dir)(nil)
	_ pipeline.LogReader = (*Dir)(nil)
)

// base is the path of a log without offset and ending.
func (d *Dir) base(ref pipeline.LogRef) (string, error) {
	for _, id := range []string{string(ref.Run), string(ref.Job)} {
		if id == "" || strings.ContainsAny(id, "/\\.\x00") {
			return "", fault.New(fault.NotFound, "There is no log of job %q in run %q.", ref.Job, ref.Run)
		}
	}
	return filepath.Join(d.root, string(ref.Run), fmt.Sprintf("%s.%d", ref.Job, ref.Attempt)), nil
}

// segment is one file of a log.
type segment struct {
	ref    pipeline.LogRef
	offset int64
	path   string
}

func segmentPath(base string, offset int64) string {
	if offset == 0 {
		return base + ".log"
	}
	return fmt.Sprintf("%s.%d.log", base, offset)
}

// segments lists the files of one log, or of a whole run if job is "", by offset.
func (d *Dir) segments(run pipeline.RunID, job pipeline.JobID, attempt int) ([]segment, error) {
	dir := filepath.Join(d.root, string(run))
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []segment
	for _, e := range entries {
		s, ok := parseSegment(run, e.Name())
		if !ok || job != "" && (s.ref.Job != job || s.ref.Attempt != attempt) {
			continue
		}
		s.path = filepath.Join(dir, e.Name())
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b segment) int {
		return cmp.Or(cmp.Compare(a.ref.Job, b.ref.Job), cmp.Compare(a.ref.Attempt, b.ref.Attempt), cmp.Compare(a.offset, b.offset))
	})
	return all, nil
}

func parseSegment(run pipeline.RunID, name string) (segment, bool) {
	rest, ok := strings.CutSuffix(name, ".log")
	parts := strings.Split(rest, ".")
	if !ok || len(parts) < 2 || len(parts) > 3 {
		return segment{}, false
	}
	attempt, err := strconv.Atoi(parts[1])
	s := segment{ref: pipeline.LogRef{Run: run, Job: pipeline.JobID(parts[0]), Attempt: attempt}}
	if len(parts) == 3 && err == nil {
		s.offset, err = strconv.ParseInt(parts[2], 10, 64)
	}
	return s, err == nil
}

func (d *Dir) feed(base string) *feed {
	f := d.open[base]
	if f == nil {
		f = &feed{grew: make(chan struct{})}
		d.open[base] = f
	}
	return f
}

// notify says that a log grew, that it goes on in another file, or that it is complete.
func (d *Dir) notify(base, current string, closing bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.feed(base)
	close(f.grew)
	f.grew = make(chan struct{})
	moved := f.current != current
	f.current = current
	if closing {
		f.writing, f.over = false, true
		d.drop(base, f)
	}
	if moved || closing {
		select {
		case d.sealed <- struct{}{}:
		default:
		}
	}
}

func (d *Dir) drop(base string, f *feed) {
	if !f.writing && f.readers == 0 {
		delete(d.open, base)
	}
}

// written reports whether a file may still grow.
func (d *Dir) written(s segment) bool {
	base, err := d.base(s.ref)
	if err != nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.open[base]
	return f != nil && f.writing && f.current == s.path
}

// Begin opens the log of a new attempt for writing: nobody has written to it before, so nothing has to be looked for.
func (d *Dir) Begin(run pipeline.RunID, job pipeline.JobID, attempt int) (*Writer, error) {
	ref := pipeline.LogRef{Run: run, Job: job, Attempt: attempt}
	base, err := d.base(ref)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.fresh[ref] = true
	d.mu.Unlock()
	return d.write(base, 0, false)
}

// Create opens the log of an attempt for writing. One that was interrupted goes on where it ended.
func (d *Dir) Create(run pipeline.RunID, job pipeline.JobID, attempt int) (*Writer, error) {
	ref := pipeline.LogRef{Run: run, Job: job, Attempt: attempt}
	base, err := d.base(ref)
	if err != nil {
		return nil, err
	}
	if left, err := d.segments(run, job, attempt); err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	} else if len(left) > 0 { // the last of them must not be sealed before it is claimed
		d.sealing.Lock()
		defer d.sealing.Unlock()
	}
	offset, torn, err := d.end(ref)
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	return d.write(base, offset, torn)
}

// write opens the file of a log that begins at an offset.
func (d *Dir) write(base string, offset int64, torn bool) (*Writer, error) {
	// Claimed before the file is there, so that the sealer does not take it for one that was left behind.
	path := segmentPath(base, offset)
	d.mu.Lock()
	f := d.feed(base)
	f.writing, f.over, f.current = true, false, path
	d.mu.Unlock()
	file, err := openSegment(path)
	if err != nil {
		d.notify(base, "", true)
		return nil, fmt.Errorf("create log: %w", err)
	}
	w := &Writer{file: file, base: base, size: offset, from: offset, notify: func(current string, closing bool) { d.notify(base, current, closing) }}
	if st, err := file.Stat(); err == nil {
		w.size += st.Size()
	}
	if torn {
		w.buf = append(w.buf, '\n')
		w.size++
	}
	return w, nil
}

// end finds where a log goes on: the offset of its last file, or of the end of what is sealed.
func (d *Dir) end(ref pipeline.LogRef) (offset int64, torn bool, err error) {
	segments, err := d.segments(ref.Run, ref.Job, ref.Attempt)
	if err != nil {
		return 0, false, err
	}
	if n := len(segments); n > 0 {
		f, err := os.Open(segments[n-1].path)
		if err == nil {
			defer f.Close()
			st, err := f.Stat()
			if err != nil {
				return 0, false, err
			}
			last := make([]byte, 1)
			if st.Size() > 0 {
				if _, err := f.ReadAt(last, st.Size()-1); err != nil {
					return 0, false, err
				}
			}
			return segments[n-1].offset, st.Size() > 0 && last[0] != '\n', nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return 0, false, err
		}
	}
	if d.index == nil {
		return 0, false, nil
	}
	o, _, err := d.index.Outline(context.Background(), ref)
	return o.Bytes, false, err
}

func openSegment(path string) (f *os.File, err error) {
	for range 3 { // the sealer may remove a folder that has become empty
		f, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
	}
	return f, err
}

// Open returns the log from offset to its present end.
func (d *Dir) Open(run pipeline.RunID, job pipeline.JobID, attempt int, offset int64) (io.ReadCloser, error) {
	return d.OpenContext(context.Background(), pipeline.LogRef{Run: run, Job: job, Attempt: attempt}, offset)
}

// OpenContext is Open, bounded by ctx.
func (d *Dir) OpenContext(ctx context.Context, ref pipeline.LogRef, offset int64) (io.ReadCloser, error) {
	c, err := d.cursor(ctx, ref, max(offset, 0))
	if err != nil {
		return nil, err
	}
	if err := c.exists(); err != nil {
		c.Close()
		return nil, err
	}
	return whole{c}, nil
}

// whole ends where the log ends now.
type whole struct{ *cursor }

// Read implements io.Reader.
func (w whole) Read(p []byte) (int, error) {
	n, err := w.cursor.read(p)
	if n == 0 && err == nil && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}
