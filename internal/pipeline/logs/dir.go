package logs

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
)

// Dir is a folder of logs. It is safe for concurrent use.
type Dir struct {
	root string

	mu   sync.Mutex
	open map[string]*feed
}

// feed tells readers of one file that it grew.
type feed struct {
	grew    chan struct{} // closed and replaced at each growth
	writing bool
	over    bool // the writer has closed the file: nothing will follow
	readers int
}

// New returns the logs under root.
func New(root string) *Dir { return &Dir{root: root, open: map[string]*feed{}} }

func (d *Dir) path(run pipeline.RunID, job pipeline.JobID, attempt int) (string, error) {
	for _, id := range []string{string(run), string(job)} {
		if id == "" || strings.ContainsAny(id, "/\\.\x00") {
			return "", fault.New(fault.NotFound, "There is no log of job %q in run %q.", job, run)
		}
	}
	return filepath.Join(d.root, string(run), fmt.Sprintf("%s.%d.log", job, attempt)), nil
}

func (d *Dir) feed(path string) *feed {
	f := d.open[path]
	if f == nil {
		f = &feed{grew: make(chan struct{})}
		d.open[path] = f
	}
	return f
}

func (d *Dir) notify(path string, closing bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.feed(path)
	close(f.grew)
	f.grew = make(chan struct{})
	if closing {
		f.writing, f.over = false, true
		d.drop(path, f)
	}
}

func (d *Dir) drop(path string, f *feed) {
	if !f.writing && f.readers == 0 {
		delete(d.open, path)
	}
}

// Create opens the log of a new attempt for writing.
func (d *Dir) Create(run pipeline.RunID, job pipeline.JobID, attempt int) (*Writer, error) {
	path, err := d.path(run, job, attempt)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if os.IsNotExist(err) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fmt.Errorf("create log: %w", err)
		}
		f, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	d.mu.Lock()
	d.feed(path).writing = true
	d.mu.Unlock()
	return &Writer{file: f, notify: func(closing bool) { d.notify(path, closing) }}, nil
}

// Open returns the log from offset to its present end.
func (d *Dir) Open(run pipeline.RunID, job pipeline.JobID, attempt int, offset int64) (io.ReadCloser, error) {
	path, err := d.path(run, job, attempt)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, fault.New(fault.NotFound, "Attempt %d of job %s has written no log.", attempt, job)
	}
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if _, err := f.Seek(max(offset, 0), io.SeekStart); err != nil {
		f.Close()
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}
