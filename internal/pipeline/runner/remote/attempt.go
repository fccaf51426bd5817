package remote

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/runner"
)

// Attempt is what an agent may ask for one of its jobs. Its methods may be called concurrently.
type Attempt struct {
	pool *Pool
	t    *attempt
}

// Checkout makes what the job asks for and streams it as a tar. The caller closes it.
func (a *Attempt) Checkout(ctx context.Context, spec []byte) (revision string, archive io.ReadCloser, err error) {
	var c runner.Checkout
	if err := json.Unmarshal(spec, &c); err != nil {
		return "", nil, fault.New(fault.Invalid, "The checkout cannot be read: %v.", err)
	}
	archive, err = folder(func(dir string) (err error) {
		revision, err = a.t.host.Checkout(ctx, c, dir)
		return err
	})
	return revision, archive, err
}

// Action streams the files of an action as a tar.
func (a *Attempt) Action(ctx context.Context, repository, revision string) (io.ReadCloser, error) {
	return folder(func(dir string) error { return a.t.host.Action(ctx, repository, revision, dir) })
}

// folder fills a temporary folder and streams it; closing the stream removes it.
func folder(fill func(dir string) error) (io.ReadCloser, error) {
	dir, err := os.MkdirTemp("", "weir-agent-")
	if err != nil {
		return nil, fmt.Errorf("stage for an agent: %w", err)
	}
	if err := fill(dir); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(pack(w, dir)) }()
	return &staged{r, dir}, nil
}

type staged struct {
	*io.PipeReader
	dir string
}

// Close implements io.Closer.
func (s *staged) Close() error {
	s.PipeReader.Close()
	return os.RemoveAll(s.dir)
}

// pack writes a folder as a tar: folders, files and links.
func pack(w io.Writer, dir string) error {
	t := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		link := ""
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			if link, err = os.Readlink(path); err != nil {
				return err
			}
		case !info.IsDir() && !info.Mode().IsRegular():
			return nil
		}
		h, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		h.Name, h.Format, h.Uname, h.Gname, h.Uid, h.Gid = filepath.ToSlash(rel), tar.FormatPAX, "", "", 0, 0
		if err := t.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.CopyN(t, f, info.Size())
		return err
	})
	if err != nil {
		return err
	}
	return t.Close()
}

// Upload keeps an artifact.
func (a *Attempt) Upload(ctx context.Context, name string, overwrite bool, r io.Reader) error {
	return a.t.host.Upload(ctx, name, overwrite, r)
}

// Artifacts names what the run has kept.
func (a *Attempt) Artifacts(ctx context.Context) ([]string, error) { return a.t.host.Artifacts(ctx) }

// Download opens an artifact.
func (a *Attempt) Download(ctx context.Context, name string) (io.ReadCloser, error) {
	return a.t.host.Download(ctx, name)
}

// SaveCache keeps a cache entry.
func (a *Attempt) SaveCache(ctx context.Context, key string, r io.Reader) error {
	return a.t.host.SaveCache(ctx, key, r)
}

// FindCache opens a cache entry; found is "" if there is none.
func (a *Attempt) FindCache(ctx context.Context, key string, prefixes []string) (found string, r io.ReadCloser, err error) {
	return a.t.host.FindCache(ctx, key, prefixes)
}

// Output takes the file of a release job.
func (a *Attempt) Output(ctx context.Context, described []byte, r io.Reader) error {
	var o pipeline.Output
	if err := json.Unmarshal(described, &o); err != nil {
		return fault.New(fault.Invalid, "The output cannot be read: %v.", err)
	}
	// What the server knows it does not take from an agent.
	j := a.t.job
	o.RunID, o.JobID, o.Attempt, o.RepositoryID, o.Revision = j.RunID, j.JobID, j.Attempt, j.RepositoryID, j.Revision
	if b := j.Plan.Build; b != nil {
		o.Service, o.ServiceID, o.Version = b.Service, b.ServiceID, b.Version
	}
	return a.t.host.Output(ctx, o, r)
}

// Log adds whole lines at an offset and returns where the log ends. What is there already is not added again; if something is
// missing in between nothing is added, and the agent goes on from the offset that it is told.
func (a *Attempt) Log(_ context.Context, offset int64, lines []byte) (int64, error) {
	a.t.writing.Lock()
	defer a.t.writing.Unlock()
	end := a.t.log.Offset()
	if a.done() || offset > end || offset+int64(len(lines)) <= end {
		return end, nil
	}
	if skip := end - offset; skip > 0 {
		if lines[skip-1] != '\n' {
			return end, fault.New(fault.Conflict, "The log of this attempt is not the one that the server has.")
		}
		lines = lines[skip:]
	}
	err := a.t.log.Append(lines)
	return a.t.log.Offset(), err
}

func (a *Attempt) done() bool {
	a.pool.mu.Lock()
	defer a.pool.mu.Unlock()
	a.t.beat = time.Now()
	return a.t.finished
}

// Finish takes the result. The second time nothing happens.
func (a *Attempt) Finish(_ context.Context, result []byte) error {
	var res struct {
		Result pipeline.Result `json:"result"`
		Lost   string          `json:"lost,omitempty"` // the agent could not do its part
	}
	if err := json.Unmarshal(result, &res); err != nil {
		return fault.New(fault.Invalid, "The result cannot be read: %v.", err)
	}
	a.pool.mu.Lock()
	defer a.pool.mu.Unlock()
	if a.t.finished {
		return nil
	}
	if res.Lost != "" {
		select {
		case a.t.lost <- res.Lost:
		default:
		}
		return nil
	}
	switch res.Result.State {
	case pipeline.Success, pipeline.Failure, pipeline.Cancelled:
	default:
		return fault.New(fault.Invalid, "%q is not how an attempt ends.", res.Result.State)
	}
	a.t.finished = true
	a.t.result <- res.Result
	return nil
}
