package testresult

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/pipeline"
)

// Store takes what one attempt reported. Storing the same attempt again replaces nothing and adds nothing.
type Store interface {
	Put(ctx context.Context, a Attempt, report pipeline.TestReport, results []pipeline.TestResult) error
}

// Attempt is whose results they are.
type Attempt struct {
	Org          string
	RepositoryID string
	Workflow     string
	RunID        pipeline.RunID
	JobID        pipeline.JobID
	Job          string // its key in the run
	Number       int
	Revision     string
	Trust        pipeline.Trust
	At           time.Time
}

// Reader follows the facts of the pipeline and reads what jobs left. It is a part.Service.
type Reader struct {
	Journal *journal.Journal
	Runs    interface {
		Load(ctx context.Context, id pipeline.RunID) (pipeline.Run, error)
		Artifacts(ctx context.Context, id pipeline.RunID) ([]pipeline.Artifact, error)
	}
	Logs  pipeline.Logs
	Blobs blob.Store // of artifacts
	Store Store
}

// Name implements part.Service.
func (r *Reader) Name() string { return "test results" }

// Run implements part.Service.
func (r *Reader) Run(ctx context.Context) error {
	return r.Journal.Follow(ctx, "pipeline/tests", r.handle)
}

func (r *Reader) handle(ctx context.Context, f journal.Fact) error {
	if f.Type != pipeline.FactJobFinished {
		return nil
	}
	var b pipeline.JobFact
	if err := json.Unmarshal(f.Body, &b); err != nil {
		slog.ErrorContext(ctx, "fact not understood", "fact", f.ID, "type", f.Type, "error", err)
		return nil
	}
	if b.JobAttempt == 0 || b.JobState == pipeline.Lost {
		return nil
	}
	scope := Scope{RepositoryID: b.RepositoryID, Workflow: b.Workflow, Job: b.JobName, Matrix: b.Matrix}
	c, err := r.Read(ctx, scope, b.RunID, b.JobID, b.JobAttempt, b.JobStarted)
	if err != nil || c.Empty() {
		return err
	}
	report, results := c.Report()
	report.JobID, report.Job, report.Attempt = b.JobID, b.Job, b.JobAttempt
	return r.Store.Put(ctx, Attempt{Org: f.Org, RepositoryID: b.RepositoryID, Workflow: b.Workflow, RunID: b.RunID, JobID: b.JobID, Job: b.Job, Number: b.JobAttempt,
		Revision: b.Revision, Trust: b.Trust, At: b.JobFinished}, report, results)
}

var named = regexp.MustCompile(`(?i)test-?_?results?|test-?_?reports?|junit`)

// Read collects the results of one attempt.
func (r *Reader) Read(ctx context.Context, scope Scope, run pipeline.RunID, job pipeline.JobID, attempt int, started time.Time) (*Collector, error) {
	c := NewCollector(scope)
	artifacts, err := r.Runs.Artifacts(ctx, run)
	if err != nil {
		return nil, err
	}
	for _, a := range artifacts {
		if a.JobID != job || !named.MatchString(a.Name) || a.Created.Before(started) {
			continue
		}
		if err := r.artifact(ctx, c, a); err != nil {
			return nil, err
		}
	}
	return c, r.log(ctx, c, run, job, attempt)
}

// log reads the output of a job, and finds the lines of failures that a file reported.
func (r *Reader) log(ctx context.Context, c *Collector, run pipeline.RunID, job pipeline.JobID, attempt int) error {
	in, err := r.Logs.Tail(ctx, run, job, attempt, 0, nil)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	reported := !c.Empty()
	g := NewGolang(c)
	wanted := c.unplaced()
	err = eachLine(in, func(line []byte, n int64) {
		i := bytes.IndexByte(line, ' ')
		if i < 0 || len(line) < i+3 || line[i+1] != '|' {
			return
		}
		text := line[i+3:]
		if reported {
			wanted.look(text, n)
			return
		}
		g.Line(text, n)
	})
	if err != nil {
		return fmt.Errorf("read log of %s: %w", job, err)
	}
	if g.Close(); !reported && !c.Empty() {
		c.Source("log")
	}
	return nil
}

// readers are used again: the buffer is larger than most logs.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 256<<10) }}

// eachLine calls take for each line with its number, without its end.
func eachLine(r io.Reader, take func(line []byte, n int64)) error {
	in := readers.Get().(*bufio.Reader)
	in.Reset(r)
	defer func() {
		in.Reset(nil)
		readers.Put(in)
	}()
	for n := int64(1); ; n++ {
		line, err := in.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) { // longer than any line that says what became of a test
			_, err = in.ReadSlice('\n')
			line = nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(line) > 0 {
			take(bytes.TrimRight(line, "\r\n"), n)
		}
		if err != nil {
			return nil
		}
	}
}

// unplaced are failures of which only a file tells, by what a log would call them.
type unplaced struct {
	c     *Collector
	names map[string]int // into results
}

func (c *Collector) unplaced() unplaced {
	u := unplaced{c, map[string]int{}}
	for i, r := range c.results {
		if r.Outcome == pipeline.TestFailed && r.LogLine == 0 && len(u.names) < 200 && len(r.Name) > 3 {
			u.names[r.Name] = i
		}
	}
	return u
}

var complains = regexp.MustCompile(`(?i)fail|error|assert|✗|✕|×|not ok|panic`)

// look takes the first line that names a failure and complains.
func (u unplaced) look(text []byte, n int64) {
	if len(u.names) == 0 || len(text) > 4096 || !complains.Match(text) {
		return
	}
	for name, i := range u.names {
		if bytes.Contains(text, []byte(name)) {
			u.c.results[i].LogLine = n
			delete(u.names, name)
			return
		}
	}
}

const (
	maxFiles    = 20_000
	maxUnpacked = 512 << 20
)

// artifact reads the reports in an archive: a tar as Weir keeps it, or a zip as GitHub's clients upload it.
func (r *Reader) artifact(ctx context.Context, c *Collector, a pipeline.Artifact) error {
	in, size, err := r.Blobs.Open(ctx, a.Digest)
	if fault.Is(err, fault.NotFound) {
		return nil // collected already
	}
	if err != nil {
		return err
	}
	defer in.Close()
	magic := make([]byte, 4)
	n, _ := io.ReadFull(in, magic)
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if n == 4 && string(magic[:2]) == "PK" {
		at, ok := in.(io.ReaderAt)
		if !ok {
			c.Problem("artifact %s is a zip that this blob store cannot read in places", a.Name)
			return nil
		}
		c.zip(a.Name, at, size)
		return nil
	}
	c.tar(a.Name, in)
	return nil
}

func (c *Collector) tar(name string, r io.Reader) {
	t, left := tar.NewReader(r), int64(maxUnpacked)
	for files := 0; ; files++ {
		h, err := t.Next()
		if err == io.EOF {
			return
		}
		if err != nil || files > maxFiles || left <= 0 {
			c.Problem("artifact %s has more files or bytes than are read, or is damaged", name)
			return
		}
		if h.Typeflag == tar.TypeReg {
			left -= c.file(name, h.Name, io.LimitReader(t, left))
		}
	}
}

func (c *Collector) zip(name string, r io.ReaderAt, size int64) {
	z, err := zip.NewReader(r, size)
	if err != nil || len(z.File) > maxFiles {
		c.Problem("artifact %s has more files than are read, or is damaged", name)
		return
	}
	left := int64(maxUnpacked)
	for _, f := range z.File {
		if left <= 0 {
			c.Problem("artifact %s has more bytes than are read", name)
			return
		}
		in, err := f.Open()
		if err != nil {
			c.Problem("%s in artifact %s cannot be read", f.Name, name)
			continue
		}
		left -= c.file(name, f.Name, io.LimitReader(in, left))
		in.Close()
	}
}

// file reads one file of an artifact if its name says that it is a report, and returns how many bytes it took.
func (c *Collector) file(artifact, name string, r io.Reader) int64 {
	counted := &counter{r: r}
	switch strings.ToLower(path.Ext(name)) {
	case ".xml":
		c.JUnit(artifact+"/"+name, counted)
	case ".json", ".jsonl", ".ndjson":
		g := NewGolang(c)
		if err := eachLine(io.LimitReader(counted, maxXML), func(line []byte, _ int64) { g.Line(line, 0) }); err != nil {
			c.Problem("%s/%s cannot be read: %v", artifact, name, err)
		}
		if g.Close(); g.events > 0 {
			c.Source(artifact + "/" + name)
		}
	}
	return counted.n
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
