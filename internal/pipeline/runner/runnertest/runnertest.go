// Package runnertest is the conformance suite of runners, and the host that it gives them.
package runnertest

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/base/fault"
	"weir/internal/base/oci/ocitest"
	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/runner"
)

// Host keeps everything in memory. Its files are what Checkout writes.
type Host struct {
	ocitest.Registry
	Files   map[string]string
	Actions map[string]map[string]string // "owner/name@revision" to files
	Asked   runner.Checkout

	mu        sync.Mutex
	artifacts map[string][]byte
	caches    map[string][]byte
	order     []string
	Outputs   map[string][]byte // what release jobs handed over, by service
	Output1   pipeline.Output
	Refuse    error // Output's answer
}

var _ runner.Host = (*Host)(nil)

// Checkout implements runner.Host.
func (h *Host) Checkout(_ context.Context, c runner.Checkout, dir string) (string, error) {
	h.Asked = c
	return strings.Repeat("a", 40), h.files(h.Files, dir)
}

// Action implements runner.Host.
func (h *Host) Action(_ context.Context, repository, revision, dir string) error {
	files, ok := h.Actions[repository+"@"+revision]
	if !ok {
		return fault.New(fault.NotFound, "There is no mirror of %s at %s.", repository, revision)
	}
	return h.files(files, dir)
}

func (h *Host) files(files map[string]string, dir string) error {
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(p, []byte(text), 0o700); err != nil {
			return err
		}
	}
	return nil
}

func put(m *map[string][]byte, k string, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if *m == nil {
		*m = map[string][]byte{}
	}
	(*m)[k] = b
	return nil
}

// Upload implements runner.Host.
func (h *Host) Upload(_ context.Context, name string, _ bool, tar io.Reader) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return put(&h.artifacts, name, tar)
}

// Artifacts implements runner.Host.
func (h *Host) Artifacts(context.Context) (names []string, _ error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n := range h.artifacts {
		names = append(names, n)
	}
	return names, nil
}

// Download implements runner.Host.
func (h *Host) Download(_ context.Context, name string) (io.ReadCloser, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, ok := h.artifacts[name]
	if !ok {
		return nil, fault.New(fault.NotFound, "This run has no artifact named %q.", name)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// SaveCache implements runner.Host.
func (h *Host) SaveCache(_ context.Context, key string, tar io.Reader) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.order = append(h.order, key)
	return put(&h.caches, key, tar)
}

// FindCache implements runner.Host.
func (h *Host) FindCache(_ context.Context, key string, prefixes []string) (string, io.ReadCloser, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if b, ok := h.caches[key]; ok {
		return key, io.NopCloser(bytes.NewReader(b)), nil
	}
	for _, p := range prefixes {
		for i := len(h.order) - 1; i >= 0; i-- {
			if strings.HasPrefix(h.order[i], p) {
				return h.order[i], io.NopCloser(bytes.NewReader(h.caches[h.order[i]])), nil
			}
		}
	}
	return "", nil, nil
}

// Output implements runner.Host.
func (h *Host) Output(_ context.Context, o pipeline.Output, r io.Reader) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Output1 = o
	if h.Refuse != nil {
		return h.Refuse
	}
	return put(&h.Outputs, o.Service, r)
}

// Attempt runs a job with steps and returns the result and what the log shows.
func Attempt(t *testing.T, r runner.Runner, h *Host, j runner.Job) (pipeline.Result, string) {
	t.Helper()
	res, log, err := attempt(t.Context(), t, r, h, j)
	if err != nil {
		t.Fatalf("Run() error: %v\n%s", err, log)
	}
	return res, log
}

func attempt(ctx context.Context, t *testing.T, r runner.Runner, h *Host, j runner.Job) (pipeline.Result, string, error) {
	t.Helper()
	fill(&j)
	dir := logs.New(t.TempDir())
	w, err := dir.Create(j.RunID, j.JobID, j.Attempt)
	if err != nil {
		t.Fatal(err)
	}
	res, rerr := r.Run(ctx, j, h, w)
	if err := w.Close(res.State); err != nil {
		t.Fatal(err)
	}
	f, err := dir.Open(j.RunID, j.JobID, j.Attempt, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, _ := io.ReadAll(f)
	var text strings.Builder
	for line := range bytes.Lines(b) {
		if l, ok := logs.Parse(bytes.TrimRight(line, "\n")); ok {
			text.WriteString(string(l.Tag) + l.Text + "\n")
		}
	}
	return res, text.String(), rerr
}

func fill(j *runner.Job) {
	if j.RunID == "" {
		j.RunID = "run_1"
	}
	if j.JobID == "" {
		j.JobID = "job_1"
	}
	if j.Attempt == 0 {
		j.Attempt = 1
	}
	if j.RepositoryID == "" {
		j.RepositoryID, j.Repository = "repo_1", "acme/shop"
	}
	if j.Trust == "" {
		j.Trust = pipeline.Change
	}
	j.Revision = strings.Repeat("a", 40)
	j.Plan.JobID, j.Plan.Key = "test", "test"
}

// Steps makes a job of run steps.
func Steps(scripts ...string) runner.Job {
	var j runner.Job
	for _, s := range scripts {
		j.Plan.Steps = append(j.Plan.Steps, pipeline.StepPlan{Run: s})
	}
	return j
}

// Run is the suite: what every runner must do, whatever it runs jobs on.
func Run(t *testing.T, r runner.Runner) {
	t.Run("AStepThatFailsIsAResult", func(t *testing.T) {
		res, log := Attempt(t, r, &Host{}, Steps("echo hello", "exit 3", "echo never"))
		if res.State != pipeline.Failure || len(res.Steps) != 3 {
			t.Fatalf("result %+v\n%s", res, log)
		}
		for i, want := range []pipeline.State{pipeline.Success, pipeline.Failure, pipeline.Skipped} {
			if res.Steps[i].State != want {
				t.Errorf("step %d = %s; want %s", i+1, res.Steps[i].State, want)
			}
		}
		if !strings.Contains(log, "|hello\n") || strings.Contains(log, "|never") || !strings.Contains(res.Reason, "exit code 3") {
			t.Errorf("reason %q, log\n%s", res.Reason, log)
		}
	})
	t.Run("CancelKills", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(300*time.Millisecond, cancel)
		began := time.Now()
		res, log, err := attempt(ctx, t, r, &Host{}, Steps("sleep 60"))
		if err != nil || res.State != pipeline.Cancelled || time.Since(began) > 20*time.Second {
			t.Errorf("cancelled after %v: %+v, %v\n%s", time.Since(began), res, err, log)
		}
	})
	t.Run("CancelLetsStepsCleanUp", func(t *testing.T) {
		j := Steps("trap 'echo interrupted; exit 7' INT; echo ready; sleep 60 & wait", "echo never", "echo tidied ${{ job.status }} ${{ success() }} ${{ failure() }}", "echo cancelled-too")
		j.Plan.Steps[2].If, j.Plan.Steps[3].If = "always()", "cancelled()"
		cancel := make(chan struct{})
		j.Cancel = cancel
		time.AfterFunc(500*time.Millisecond, func() { close(cancel) })
		res, log := Attempt(t, r, &Host{}, j)
		if res.State != pipeline.Cancelled || res.Steps[0].State != pipeline.Cancelled || res.Steps[1].State != pipeline.Skipped || res.Steps[3].State != pipeline.Success {
			t.Errorf("result %+v", res)
		}
		for _, want := range []string{"|interrupted", "|tidied cancelled false false", "|cancelled-too"} {
			if !strings.Contains(log, want) {
				t.Errorf("the log has no %q:\n%s", want, log)
			}
		}
	})
	t.Run("EachAttemptIsFresh", func(t *testing.T) {
		for n := 1; n <= 2; n++ {
			j := Steps("test ! -e left && touch left")
			j.Attempt = n
			if res, log := Attempt(t, r, &Host{}, j); res.State != pipeline.Success {
				t.Errorf("attempt %d: %+v\n%s", n, res, log)
			}
		}
	})
}
