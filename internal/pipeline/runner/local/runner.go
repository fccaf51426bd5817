package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"weir/internal/base/confine"
	"weir/internal/base/fault"
	"weir/internal/base/oci"
	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/runner"
)

// Config of the embedded runner.
type Config struct {
	Data       string          // the data folder; work and cache live below it
	Network    confine.Network // what jobs may reach; empty is Egress
	Unconfined bool            // run without protection; recorded with every attempt
	Seed       string          // folder that a repository's first cache is a copy of; "" is none
	Limits     confine.Limits  // of each job
	BuildKit   string          // address of a daemon that builds Dockerfiles; "" is buildah
	Images     string          // folder of the images that containers of jobs are made of; default layers in Data
	// Least is how many bytes must stay free where the data folder is; the biggest job is ended when fewer are. Default 256 MiB.
	Least uint64
	Free  func() uint64 // default: asks the system
	// OnEgress is told every destination that a job reaches; nil allows all.
	OnEgress func(job runner.Job, hostport string) error
}

// Runner implements runner.Runner.
type Runner struct {
	cfg    Config
	caches sync.Mutex // held while a cache folder is made
	stages []stage
	show   []string                   // more that every job sees, read-only
	store  func() (*oci.Store, error) // images, opened when the first job wants one

	mu       sync.Mutex
	jobs     map[*job]func(error) // what runs, and how to end it
	watching bool

	trash trash
}

// New returns a runner. What earlier processes left in the work folder is removed: their jobs run again elsewhere.
func New(cfg Config) (*Runner, error) {
	if cfg.Network == "" {
		cfg.Network = confine.Egress
	}
	var err error
	if cfg.Data, err = filepath.Abs(cfg.Data); err != nil {
		return nil, fmt.Errorf("open runner: %w", err)
	}
	if cfg.Data, err = filepath.EvalSymlinks(cfg.Data); err != nil {
		return nil, fmt.Errorf("open runner: %w", err)
	}
	work := filepath.Join(cfg.Data, "work")
	if err := remove(work); err != nil {
		return nil, fmt.Errorf("clean work folder: %w", err)
	}
	gone := filepath.Join(work, "gone")
	if err := os.MkdirAll(gone, 0o700); err != nil {
		return nil, fmt.Errorf("make work folder: %w", err)
	}
	if cfg.Least == 0 {
		cfg.Least = 256 << 20
	}
	if cfg.Free == nil {
		cfg.Free = freeBytes(cfg.Data)
	}
	if cfg.Images == "" {
		cfg.Images = filepath.Join(cfg.Data, "layers")
	}
	store := sync.OnceValues(func() (*oci.Store, error) {
		return oci.Open(oci.StoreConfig{Dir: cfg.Images, Owner: confine.OwnerOf(), Free: cfg.Free, Least: cfg.Least})
	})
	return &Runner{cfg: cfg, stages: defaultStages, store: store, jobs: map[*job]func(error){}, trash: trash{dir: gone}}, nil
}

// remove is RemoveAll that also gets rid of folders without write permission, as Go's module cache makes them.
func remove(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

var _ runner.Runner = (*Runner)(nil)

// Run implements runner.Runner.
func (r *Runner) Run(ctx context.Context, rj runner.Job, h runner.Host, log *logs.Writer) (res pipeline.Result, err error) {
	started := time.Now()
	dir := filepath.Join(r.cfg.Data, "work", fmt.Sprintf("%s.%d", rj.JobID, rj.Attempt))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return res, fmt.Errorf("make workspace: %w", err)
	}
	defer func() {
		if err := r.trash.put(dir); err != nil {
			slog.WarnContext(ctx, "workspace not removed", "dir", dir, "error", err)
		}
	}()
	for _, sub := range []string{"workspace", "home", "run"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return res, fmt.Errorf("make workspace: %w", err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return res, fmt.Errorf("open workspace: %w", err)
	}
	defer root.Close()
	j := newJob(r, rj, h, log, dir, root)
	j.readOnly = slices.Clone(r.show)
	defer j.close()

	minutes := rj.Plan.TimeoutMinutes
	if minutes <= 0 {
		minutes = 60
	}
	hard, kill := context.WithCancelCause(ctx)
	defer kill(nil)
	defer r.join(j, kill)()
	soft, cancel := context.WithCancelCause(hard)
	defer cancel(nil)
	go func() {
		select {
		case <-rj.Cancel: // nil never comes
			cancel(errCancelled)
		case <-soft.Done():
		}
	}()
	timed, stop := context.WithTimeoutCause(soft, time.Duration(minutes*float64(time.Minute)), errTimeout)
	defer stop()
	err = j.run(hard, timed)
	res = j.result()
	var over overrun
	switch {
	case errors.As(context.Cause(hard), &over):
		res.State, res.Reason = pipeline.Failure, string(over)
		log.Say("%s", res.Reason)
		return res, nil
	case hard.Err() != nil:
		res.State, res.Reason = pipeline.Cancelled, "the job was stopped"
		return res, nil
	case err != nil:
		return res, err
	case errors.Is(j.stopping, errTimeout):
		res.State, res.Reason = pipeline.Failure, fmt.Sprintf("the job took longer than its timeout of %v minutes", minutes)
		log.Say("%s", res.Reason)
		return res, nil
	case j.stopping != nil:
		res.State, res.Reason = pipeline.Cancelled, "the job was cancelled"
		log.Say("%s", res.Reason)
		return res, nil
	}
	if res.State == pipeline.Success && rj.Plan.Build != nil {
		if err := j.release(ctx, started); err != nil {
			if fault.KindOf(err) == "" {
				return res, err
			}
			res.State, res.Reason = pipeline.Failure, fault.Sentence(err)
			log.Say("%s", res.Reason)
		}
	}
	return res, nil
}

// sandbox opens the job's own.
func (j *job) sandbox(ctx context.Context) (*confine.Sandbox, error) {
	if j.box != nil {
		return j.box, nil
	}
	cfg := j.runner.cfg
	if err := j.openAPI(); err != nil {
		return nil, err
	}
	if j.main != nil {
		if err := j.openPlace(ctx, j.main); err != nil {
			return nil, err
		}
		j.box = j.main.box
		j.unheld(j.box)
		return j.box, nil
	}
	spec := confine.Spec{Serve: j.api, Dir: j.dir, ReadWrite: []string{j.cache}, ReadOnly: j.readOnly, Network: j.network(), Unconfined: cfg.Unconfined, Limits: cfg.Limits}
	if cfg.OnEgress != nil {
		spec.OnEgress = func(hostport string) error { return cfg.OnEgress(j.Job, hostport) }
	}
	box, err := confine.Open(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("open sandbox: %w", err)
	}
	j.box = box
	if err := j.group.connect(box); err != nil {
		return nil, err
	}
	j.unheld(box)
	return box, nil
}

// unheld notes which limits of a sandbox nobody enforces. They are in the log once, and in the result.
func (j *job) unheld(box *confine.Sandbox) {
	var more []string
	for _, limit := range box.Unenforced() {
		if !slices.Contains(j.soft, limit) {
			more = append(more, limit)
		}
	}
	if len(more) > 0 {
		j.soft = append(j.soft, more...)
		j.log.Say("this machine cannot hold the job to its limits of %s", strings.Join(more, " and "))
	}
}
