package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"syscall"
	"time"

	"weir/internal/base/confine"
)

// A job is stopped in one of three ways. Cancelled by a person, or past its timeout: the step under way gets SIGINT, then SIGTERM,
// then SIGKILL, and steps that want to run although the job is cancelled clean up. Over its limits: everything is killed and the
// job fails with the reason. Told to end at once, since the runner stops: everything is killed.

var (
	errCancelled = errors.New("cancelled")
	errTimeout   = errors.New("timed out")
	errTidied    = errors.New("cleaning up took too long")
)

// overrun ends a job that took what others need.
type overrun string

func (o overrun) Error() string { return string(o) }

// stages is what a process gets to end by itself, and for how long.
type stage struct {
	signal syscall.Signal
	wait   time.Duration
}

var defaultStages = []stage{{syscall.SIGINT, 7500 * time.Millisecond}, {syscall.SIGTERM, 2500 * time.Millisecond}}

// tidyTime is how long the steps that clean up may take, unless the job says otherwise (cancel-timeout-minutes); no job may say more
// than mostTidy.
const (
	tidyTime = 5 * time.Minute
	mostTidy = 60 * time.Minute
)

func (j *job) tidyTime() time.Duration {
	if n := j.Plan.CancelTimeoutMinutes; n > 0 {
		return min(time.Duration(n*float64(time.Minute)), mostTidy)
	}
	return tidyTime
}

// phase is the context of the next step: the job's, or once that has ended the one of cleaning up.
func (j *job) phase(soft context.Context) context.Context {
	if soft.Err() == nil {
		return soft
	}
	if j.stopping == nil {
		j.stopping = context.Cause(soft)
		ctx, cancel := context.WithTimeoutCause(j.hard, j.tidyTime(), errTidied)
		context.AfterFunc(j.hard, cancel)
		j.tidy = ctx
	}
	return j.tidy
}

// stop ends a process when ctx does: step by step, or at once if there is no time.
func (j *job) stop(ctx context.Context, proc *confine.Proc) (unwatch func() bool) {
	return context.AfterFunc(ctx, func() {
		for _, s := range j.runner.stages {
			if j.hard.Err() != nil || proc.Signal(s.signal) != nil {
				break
			}
			select {
			case <-proc.Exited():
				return
			case <-j.hard.Done():
			case <-time.After(s.wait):
			}
		}
		proc.Kill()
	})
}

// watch removes what jobs left behind, and ends the biggest job while the disk is nearly full. It runs as long as there are jobs or
// what they left.
func (r *Runner) watch() {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	waited := false // for the trash to be emptied, once: jobs that go on making some must not keep the biggest one alive
	for range tick.C {
		free := r.cfg.Free()
		left := r.trash.holds()
		r.mu.Lock()
		if len(r.jobs) == 0 && left == 0 {
			r.watching = false
			r.mu.Unlock()
			return
		}
		r.trash.empty(time.Now(), len(r.jobs) == 0 || free < 2*r.cfg.Least)
		if free >= r.cfg.Least || len(r.jobs) == 0 || left > 0 && !waited {
			waited = free < r.cfg.Least
			r.mu.Unlock()
			continue
		}
		waited = false
		var most *job
		size := int64(-1)
		for j := range r.jobs {
			if n := usage(j.dir) + usage(j.boxes()); n > size {
				most, size = j, n
			}
		}
		kill := r.jobs[most]
		r.mu.Unlock()
		slog.Warn("the disk is nearly full; the biggest job is ended", "job", most.JobID, "bytes", size, "free", free)
		kill(overrun(fmt.Sprintf("the runner's disk has %d MiB left, and this job takes %d MiB of it; it was ended so that the others can go on. "+
			"Write less, or give the runner more disk", free>>20, size>>20)))
	}
}

// join lets the watcher see a job; leave takes it away.
func (r *Runner) join(j *job, kill func(error)) (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.jobs[j] = kill
	if !r.watching {
		r.watching = true
		go r.watch()
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.jobs, j)
	}
}

// usage is how many bytes of disk a folder takes, as far as a second's look tells.
func usage(dir string) (n int64) {
	deadline := time.Now().Add(time.Second)
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if time.Now().After(deadline) {
			return fs.SkipAll
		}
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				n += st.Blocks * 512
			}
		}
		return nil
	})
	return n
}

// freeBytes asks the file system that holds dir.
func freeBytes(dir string) func() uint64 {
	return func() uint64 {
		var s syscall.Statfs_t
		if err := syscall.Statfs(dir, &s); err != nil {
			return ^uint64(0) // what cannot be measured is no reason to stop
		}
		return s.Bavail * uint64(s.Bsize)
	}
}
