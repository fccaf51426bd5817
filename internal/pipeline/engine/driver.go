package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"weir/internal/base/lease"
	"weir/internal/pipeline"
	"weir/internal/pipeline/pipelinedb"
	"weir/internal/pipeline/runner"
)

// driver moves the runs that have not ended. All its fields belong to the goroutine of run.
type driver struct {
	*Engine
	lease   lease.Lease
	runs    map[pipeline.RunID]pipeline.Run
	order   []pipeline.RunID // oldest first
	working map[attemptKey]*work
	done    chan finished
}

type attemptKey struct {
	job     pipeline.JobID
	attempt int
}

// work is an attempt under way.
type work struct {
	kill   context.CancelFunc
	place  runner.Place
	cancel chan struct{} // closed to ask it to stop
	asked  bool
}

// finished is what comes back of an attempt. An error means that the runner failed, not the job.
type finished struct {
	run     pipeline.RunID
	job     pipeline.JobID
	attempt int
	epoch   int64 // of the engine that started it
	place   runner.Place
	result  pipeline.Result
	err     error
}

func newDriver(e *Engine, l lease.Lease) *driver {
	return &driver{Engine: e, lease: l, runs: map[pipeline.RunID]pipeline.Run{}, working: map[attemptKey]*work{}, done: make(chan finished, e.cfg.Slots)}
}

func (d *driver) run(ctx context.Context) error {
	wake, cancel := d.DB.Subscribe(pipelinedb.EngineTopic)
	defer cancel()
	jobs, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer func() {
		d.Fleet.Ready(false)
		d.shutdown(ctx, stop)
	}()
	pause := time.Duration(0)
	for {
		err := d.pass(ctx, jobs)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, lease.ErrFenced):
			return err
		case err != nil:
			pause = min(max(2*pause, 100*time.Millisecond), d.cfg.Poll)
			slog.ErrorContext(ctx, "runs not moved; it will be tried again", "error", err, "in", pause)
		default:
			d.Fleet.Ready(true)
			pause = d.cfg.Poll
		}
		if err := d.wait(ctx, jobs, wake, pause); err != nil {
			return err
		}
	}
}

// wait takes results until something else asks for a new pass. Results cost no query to find and free slots.
func (d *driver) wait(ctx, jobs context.Context, wake <-chan struct{}, pause time.Duration) error {
	poll := time.NewTimer(pause)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
			return nil
		case <-d.Fleet.Changed():
			return nil
		case <-poll.C:
			return nil
		case f := <-d.done:
			err := d.settle(ctx, jobs, f)
			if errors.Is(err, lease.ErrFenced) {
				return err
			}
			if err != nil {
				slog.ErrorContext(ctx, "result not stored; it will be tried again", "run", f.run, "job", f.job, "error", err)
				d.retry(ctx, f)
			}
		}
	}
}

// retry hands a result to the loop again, later.
func (d *driver) retry(ctx context.Context, f finished) {
	time.AfterFunc(time.Second, func() {
		select {
		case d.done <- f:
		case <-ctx.Done():
		}
	})
}

// pass reads which runs there are, takes in the new and the changed ones and moves them.
func (d *driver) pass(ctx, jobs context.Context) error {
	refs, err := d.Store.Active(ctx)
	if err != nil {
		return fmt.Errorf("list active runs: %w", err)
	}
	active := make(map[pipeline.RunID]bool, len(refs))
	d.order = d.order[:0]
	for _, ref := range refs {
		active[ref.ID] = true
		d.order = append(d.order, ref.ID)
		if have, ok := d.runs[ref.ID]; ok && have.Version >= ref.Version {
			continue
		}
		r, err := d.Store.Load(ctx, ref.ID)
		if err != nil {
			return err
		}
		d.runs[ref.ID] = r
	}
	for id := range d.runs {
		if !active[id] {
			delete(d.runs, id)
		}
	}
	for _, id := range slices.Clone(d.order) {
		if err := d.move(ctx, jobs, id, nil); err != nil {
			return err
		}
	}
	return nil
}

// settle stores the result of f and of whatever else of its run has come in, and then fills the free slots.
func (d *driver) settle(ctx, jobs context.Context, f finished) error {
	batch := []finished{f}
	for n := len(d.done); n > 0; n-- {
		batch = append(batch, <-d.done)
	}
	var ids []pipeline.RunID
	for _, f := range batch {
		delete(d.working, attemptKey{f.job, f.attempt})
		f.place.Free()
		if !slices.Contains(ids, f.run) {
			ids = append(ids, f.run)
		}
	}
	var errs []error
	for _, id := range ids {
		mine := slices.DeleteFunc(slices.Clone(batch), func(f finished) bool { return f.run != id })
		err := d.move(ctx, jobs, id, func(r pipeline.Run, now time.Time) pipeline.Run { return d.take(ctx, r, now, mine) })
		for _, m := range mine {
			if err == nil && m.place.Stored != nil {
				m.place.Stored()
			}
		}
		if err != nil && id == f.run {
			errs = append(errs, err)
		} else if err != nil {
			for _, m := range mine {
				d.retry(ctx, m)
			}
		}
	}
	// A slot may have come free for another run.
	for _, id := range slices.Clone(d.order) {
		if !d.Fleet.Fits(nil) {
			break
		}
		if !slices.Contains(ids, id) {
			errs = append(errs, d.move(ctx, jobs, id, nil))
		}
	}
	return errors.Join(errs...)
}

// take puts results into a run.
func (d *driver) take(ctx context.Context, r pipeline.Run, now time.Time, batch []finished) pipeline.Run {
	for _, f := range batch {
		if f.err != nil {
			slog.ErrorContext(ctx, "runner lost a job", "run", f.run, "job", f.job, "attempt", f.attempt, "error", f.err)
			r = r.Lose(now, func(j pipeline.JobID, a pipeline.Attempt) bool {
				return j == f.job && a.Number == f.attempt && a.Epoch == f.epoch
			}, lostReason(f.err))
			continue
		}
		next, ok := r.Finish(now, f.job, f.attempt, f.epoch, f.result)
		if !ok {
			slog.WarnContext(ctx, "late result refused", "run", f.run, "job", f.job, "attempt", f.attempt)
			continue
		}
		r = next
	}
	return r
}

// anyNumber of jobs may start at a time, as far as the fleet has slots.
const anyNumber = 1 << 30

// move lets a run go as far as it can now: change, decide, store, act.
func (d *driver) move(ctx, jobs context.Context, id pipeline.RunID, change func(pipeline.Run, time.Time) pipeline.Run) error {
	for range 10 {
		prev, ok := d.runs[id]
		if !ok {
			loaded, err := d.Store.Load(ctx, id)
			if err != nil {
				return err
			}
			prev = loaded
		}
		if prev.State.Done() {
			delete(d.runs, id)
			return nil
		}
		if err := d.displace(ctx, jobs, &prev); err != nil {
			return err
		}
		now := time.Now()
		next := prev.Lose(now, func(_ pipeline.JobID, a pipeline.Attempt) bool { return a.Epoch < d.lease.Epoch && a.Runner == "" }, "the server was stopped or restarted")
		if change != nil {
			next = change(next, now)
		}
		places := map[pipeline.JobID]runner.Place{}
		next, actions := next.Next(now, d.language(ctx, &next))
		if fresh := ready(&prev, &next); len(fresh) > 0 {
			var gone, more []pipeline.Action
			var err error
			if next, gone, err = d.displaceJobs(ctx, jobs, next, now, fresh); err != nil {
				return err
			}
			next, more = next.Next(now, d.language(ctx, &next)) // those that gave way may end the run
			actions = append(append(actions, gone...), more...)
		}
		if d.turn(id) && d.cfg.Room() == nil {
			var starts []pipeline.Action
			next, starts = next.Claim(now, anyNumber, d.lease.Epoch, d.reserve(&next, places))
			for _, a := range starts {
				next.Jobs[a.Index].Current().Runner = places[a.Job].Name
			}
			actions = append(actions, starts...)
		}
		if changed(&prev, &next) {
			err := d.Store.Save(ctx, d.lease.Check, prev, next)
			if err != nil {
				for _, p := range places {
					p.Free()
				}
			}
			if errors.Is(err, pipeline.ErrChanged) { // a user or a newer patchset was faster; decide again on what is there
				fresh, err := d.Store.Load(ctx, id)
				if err != nil {
					return err
				}
				d.runs[id] = fresh
				continue
			}
			if err != nil {
				return err
			}
			next.Version = prev.Version + 1
		}
		d.runs[id] = next
		for _, a := range actions {
			d.act(jobs, next, a, places[a.Job])
		}
		d.adopt(jobs, next)
		if next.State.Done() {
			delete(d.runs, id)
			slog.InfoContext(ctx, "run finished", "run", id, "state", next.State, "workflow", next.Workflow, "took", next.Finished.Sub(next.Started))
			return d.unblock(ctx, jobs, next)
		}
		return nil
	}
	return fmt.Errorf("run %s changes faster than it can be moved", id)
}

// displace makes room for a waiting run in its concurrency group: of the older ones, those that have not started give way, and
// with cancel-in-progress the one under way too.
func (d *driver) displace(ctx, jobs context.Context, me *pipeline.Run) error {
	c := me.Plan.Concurrency
	if c == nil || me.State != pipeline.Pending || me.Cancel != nil {
		return nil
	}
	for _, id := range slices.Clone(d.order) {
		r, ok := d.runs[id]
		if !ok || id >= me.ID || r.Cancel != nil || !blocks(&r, me) || r.State == pipeline.Running && !c.CancelInProgress {
			continue
		}
		reason := fmt.Sprintf("a newer run of the concurrency group %s took its place", c.Group)
		err := d.move(ctx, jobs, id, func(r pipeline.Run, now time.Time) pipeline.Run {
			if r.Cancel == nil && !r.State.Done() {
				r.Cancel = &pipeline.Cancellation{By: "system:pipeline", Reason: reason, At: now}
			}
			return r
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// unblock moves the runs of the same concurrency group once one has ended.
func (d *driver) unblock(ctx, jobs context.Context, ended pipeline.Run) error {
	c := ended.Plan.Concurrency
	if c == nil {
		return nil
	}
	for _, id := range slices.Clone(d.order) {
		r, ok := d.runs[id]
		if ok && r.Plan.Concurrency != nil && r.Plan.Concurrency.Group == c.Group {
			if err := d.move(ctx, jobs, id, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// turn reports whether run id may start jobs: no older run waits for a slot, and no other run of its group is under way.
func (d *driver) turn(id pipeline.RunID) bool {
	me := d.runs[id]
	for _, other := range d.order {
		r, ok := d.runs[other]
		if !ok || other == id || r.State.Done() {
			continue
		}
		if blocks(&r, &me) {
			return false
		}
		if other < id && r.Cancel == nil && d.turnOf(other) && d.claimable(&r) {
			return false
		}
	}
	return true
}

// turnOf is turn without the question of slots, which would never end.
func (d *driver) turnOf(id pipeline.RunID) bool {
	me := d.runs[id]
	for _, other := range d.order {
		if r, ok := d.runs[other]; ok && other != id && blocks(&r, &me) {
			return false
		}
	}
	return true
}

// blocks reports whether a keeps b from starting: both are of one concurrency group, and a is under way or came first.
func blocks(a, b *pipeline.Run) bool {
	if a.Plan.Concurrency == nil || b.Plan.Concurrency == nil || a.RepositoryID != b.RepositoryID || a.State.Done() ||
		a.Plan.Concurrency.Group != b.Plan.Concurrency.Group || b.State == pipeline.Running {
		return false
	}
	return a.State == pipeline.Running || a.ID < b.ID
}

// claimable reports whether a run has a job that a free slot could take.
func (d *driver) claimable(r *pipeline.Run) bool {
	may := d.may(r)
	_, starts := r.Claim(time.Time{}, 1, 0, func(i int) bool { return d.Fleet.Fits(r.Plan.Jobs[i].Labels) && may(i) })
	return len(starts) > 0
}

// may reports which queued jobs of r may start as far as their concurrency groups go: one job of a group runs at a time.
func (d *driver) may(r *pipeline.Run) func(i int) bool {
	taken, entered := map[string]bool{}, map[string]bool{}
	return func(i int) bool {
		if environment := r.Plan.Jobs[i].Environment; environment != "" {
			ok, asked := entered[environment]
			if !asked {
				ok = d.entered(r, environment)
				entered[environment] = ok
			}
			if !ok {
				return false
			}
		}
		c := r.Plan.Jobs[i].Concurrency
		if c == nil {
			return true
		}
		busy := taken[c.Group] || d.held(r, c.Group)
		taken[c.Group] = true
		return !busy
	}
}

func (d *driver) holds(r *pipeline.Run, group string) bool {
	for i := range r.Jobs {
		if c := r.Plan.Jobs[i].Concurrency; c != nil && c.Resolved && c.Group == group && r.Jobs[i].State == pipeline.Running {
			return true
		}
	}
	return false
}

func changed(a, b *pipeline.Run) bool {
	if a.State != b.State || a.Attempt != b.Attempt || a.Reason != b.Reason || (a.Cancel == nil) != (b.Cancel == nil) || len(a.Jobs) != len(b.Jobs) || a.Plan.Rev != b.Plan.Rev {
		return true
	}
	for i := range b.Jobs {
		if a.Jobs[i].Rev != b.Jobs[i].Rev {
			return true
		}
	}
	return false
}

// reserve is may that also takes a slot.
func (d *driver) reserve(r *pipeline.Run, places map[pipeline.JobID]runner.Place) func(i int) bool {
	may := d.may(r)
	full := !d.Fleet.Fits(nil)
	return func(i int) bool {
		if full {
			return false
		}
		labels := r.Plan.Jobs[i].Labels
		if !d.Fleet.Fits(labels) || !may(i) {
			return false
		}
		p, ok := d.Fleet.Take(labels)
		if ok {
			places[r.Jobs[i].ID] = p
			full = !d.Fleet.Fits(nil)
		}
		return ok
	}
}

// adopt goes on with attempts that run elsewhere and were started by an engine before this one.
func (d *driver) adopt(jobs context.Context, r pipeline.Run) {
	for i := range r.Jobs {
		j := &r.Jobs[i]
		a := j.Current()
		if j.State != pipeline.Running || a == nil || a.Runner == "" || a.Epoch == d.lease.Epoch || d.working[attemptKey{j.ID, a.Number}] != nil {
			continue
		}
		d.act(jobs, r, pipeline.Action{Kind: pipeline.Start, Job: j.ID, Index: i, Attempt: a.Number, Again: true}, d.Fleet.Adopt(a.Runner, j.ID, a.Number))
	}
}

func (d *driver) act(jobs context.Context, r pipeline.Run, a pipeline.Action, place runner.Place) {
	key := attemptKey{a.Job, a.Attempt}
	switch a.Kind {
	case pipeline.Kill:
		if w := d.working[key]; w != nil && !w.asked {
			w.asked = true
			close(w.cancel)
		}
	case pipeline.Start:
		if d.working[key] != nil {
			return
		}
		ctx, kill := context.WithCancel(jobs)
		w := &work{kill: kill, place: place, cancel: make(chan struct{})}
		d.working[key] = w
		go func() {
			defer kill()
			f := finished{run: r.ID, job: a.Job, attempt: a.Attempt, epoch: r.Jobs[a.Index].Current().Epoch, place: place}
			f.result, f.err = d.execute(ctx, r, a, place.Runner, w.cancel)
			d.done <- f // whoever leads reads until nothing is under way
		}()
	}
}

// shutdown kills what runs, waits for it and marks it lost, so that the next start goes on at once. If even that fails, the next
// holder of the lease finds the same by the epoch.
func (d *driver) shutdown(ctx context.Context, stop context.CancelFunc) {
	stop()
	batch := map[pipeline.RunID][]finished{}
	detached := map[attemptKey]bool{}
	for len(d.working) > 0 {
		f := <-d.done
		delete(d.working, attemptKey{f.job, f.attempt})
		f.place.Free()
		if errors.Is(f.err, runner.ErrDetached) {
			detached[attemptKey{f.job, f.attempt}] = true
			continue
		}
		batch[f.run] = append(batch[f.run], f)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	for id, results := range batch {
		prev, ok := d.runs[id]
		if !ok {
			continue
		}
		now := time.Now()
		next := d.take(ctx, prev, now, slices.DeleteFunc(results, func(f finished) bool { return f.err != nil || f.result.State == pipeline.Cancelled }))
		next = next.Lose(now, func(j pipeline.JobID, a pipeline.Attempt) bool {
			return a.Epoch == d.lease.Epoch && !detached[attemptKey{j, a.Number}]
		}, "the server was stopped")
		if err := d.Store.Save(ctx, d.lease.Check, prev, next); err != nil {
			slog.WarnContext(ctx, "stopped jobs not marked; the next start will", "run", id, "error", err)
		}
	}
}
