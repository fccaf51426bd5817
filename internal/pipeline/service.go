package pipeline

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/fault"
)

// Service is what people and pages ask of this layer. Every method asks Authorize first.
type Service struct {
	Org       string
	Store     Store
	Logs      Logs
	Tests     Tests      // nil: none are kept
	Blobs     blob.Store // of artifacts; nil: they cannot be opened
	Garbage   Collector  // nil: nothing is ever removed
	Authorize Authorize
	// Check reads one workflow file; spec.Check of this layer.
	Check func(path string, content []byte) []Diagnostic
	// Dispatch starts a run by hand; the engine's.
	Dispatch func(ctx context.Context, s StartRequest) (Run, error)
	// Environments says who must agree before a job enters one; nil asks nobody.
	Environments Environments
	// Slots is how many jobs the runners take at a time; Room says why there is no room for more, or nil.
	Slots  int
	Agents Agents // nil: there are none
	Room   func() error
	Now    func() time.Time
}

func (s *Service) org() string {
	if s.Org == "" {
		return "default"
	}
	return s.Org
}

func (s *Service) may(ctx context.Context, action string) error {
	if s.Authorize == nil {
		return fault.New(fault.Denied, "Nobody may do this: the server has no authorization.")
	}
	return s.Authorize(ctx, action, s.org())
}

// List returns runs, the newest first, without their jobs.
func (s *Service) List(ctx context.Context, f Filter) ([]Run, error) {
	if err := s.may(ctx, "run:read"); err != nil {
		return nil, err
	}
	f.Org = s.org()
	return s.Store.List(ctx, f)
}

// Get returns a run with jobs, attempts and steps. The steps of an attempt that still runs are those its log shows.
func (s *Service) Get(ctx context.Context, id RunID) (Run, error) {
	r, err := s.get(ctx, id)
	if err != nil {
		return r, err
	}
	for i := range r.Jobs {
		if a := r.Jobs[i].Current(); a != nil && a.State == Running && s.Logs != nil {
			if steps, err := s.Logs.Steps(r.ID, r.Jobs[i].ID, a.Number); err == nil {
				a.Steps = steps
			}
		}
	}
	return r, nil
}

func (s *Service) get(ctx context.Context, id RunID) (Run, error) {
	if err := s.may(ctx, "run:read"); err != nil {
		return Run{}, err
	}
	r, err := s.Store.Load(ctx, id)
	if err == nil && r.Org != s.org() {
		return Run{}, fault.New(fault.NotFound, "There is no run %s. List the runs with `weir runs`.", id)
	}
	return r, err
}

// Artifacts lists what the jobs of a run have kept.
func (s *Service) Artifacts(ctx context.Context, id RunID) ([]Artifact, error) {
	if _, err := s.get(ctx, id); err != nil {
		return nil, err
	}
	return s.Store.Artifacts(ctx, id)
}

// Log returns the log of an attempt from a byte offset; attempt 0 is the latest. With follow it goes on until the attempt ends.
// The lines are as package logs documents them.
func (s *Service) Log(ctx context.Context, id RunID, job string, attempt int, offset int64, follow bool) (io.ReadCloser, error) {
	r, err := s.get(ctx, id)
	if err != nil {
		return nil, err
	}
	j, err := find(&r, job)
	if err != nil {
		return nil, err
	}
	if attempt == 0 {
		attempt = max(len(j.Attempts), 1)
	}
	if attempt < 0 || attempt > max(len(j.Attempts), 1) {
		return nil, fault.New(fault.NotFound, "Job %s of run %s has %d attempts, not %d.", j.Key, id, len(j.Attempts), attempt)
	}
	if len(j.Attempts) == 0 && (!follow || j.State.Done()) {
		return nil, fault.New(fault.NotFound, "Job %s of run %s has not run: %s.", j.Key, id, orElse(j.Reason, "it is "+string(j.State)))
	}
	if !follow {
		return s.Logs.Tail(ctx, id, j.ID, attempt, offset, nil)
	}
	return s.Logs.Tail(ctx, id, j.ID, attempt, offset, s.ended(ctx, id, j.ID, attempt))
}

// ended answers from the store whether an attempt is over, at most every 200 ms and less often where that costs much: a reader asks
// before each read.
func (s *Service) ended(ctx context.Context, id RunID, job JobID, attempt int) func() bool {
	var next time.Time
	over := false
	return func() bool {
		began := time.Now()
		if over || began.Before(next) {
			return over
		}
		r, err := s.Store.Load(ctx, id)
		next = time.Now().Add(max(200*time.Millisecond, 20*time.Since(began)))
		if err != nil {
			return fault.Is(err, fault.NotFound)
		}
		if j := r.Job(job); j == nil || len(j.Attempts) >= attempt && j.Attempts[attempt-1].State.Done() || len(j.Attempts) < attempt && r.State.Done() {
			over = true
		}
		return over
	}
}

func find(r *Run, job string) (*Job, error) {
	var keys []string
	for i := range r.Jobs {
		if j := &r.Jobs[i]; string(j.ID) == job || strings.EqualFold(j.Key, job) {
			return j, nil
		}
		keys = append(keys, r.Jobs[i].Key)
	}
	return nil, fault.New(fault.NotFound, "Run %s has no job %q; it has %s.", r.ID, job, orElse(strings.Join(keys, ", "), "none"))
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Cancel asks a run to stop. By names the actor.
func (s *Service) Cancel(ctx context.Context, id RunID, by, reason string) error {
	if _, err := s.get(ctx, id); err != nil {
		return err
	}
	if err := s.may(ctx, "run:cancel"); err != nil {
		return err
	}
	reason = orElse(reason, "cancelled by "+by)
	return s.Store.Update(ctx, id, Entry{Actor: by, Action: "pipeline.run_cancel_requested", Subject: string(id), Data: map[string]string{"reason": reason}}, func(r Run) (Run, error) {
		if r.State.Done() {
			return r, fault.New(fault.Conflict, "Run %s has already ended: %s. There is nothing to cancel.", id, r.State)
		}
		if r.Cancel == nil {
			r.Cancel = &Cancellation{By: by, Reason: reason, At: s.now()}
		} else { // asked twice
			c := *r.Cancel
			c.Force = true
			r.Cancel = &c
		}
		return r, nil
	})
}

// Approve records whether jobs of a run may enter an environment. Verdict is approve or reject; a rejection fails the jobs.
func (s *Service) Approve(ctx context.Context, id RunID, environment, verdict, reason, by string) error {
	r, err := s.get(ctx, id)
	if err != nil {
		return err
	}
	if s.Environments == nil {
		return fault.New(fault.Unavailable, "This server asks for no approvals.")
	}
	waits := slices.ContainsFunc(r.Plan.Jobs, func(p JobPlan) bool { return p.Environment == environment })
	if r.State.Done() || !waits {
		return fault.New(fault.Conflict, "No job of run %s waits to enter %s.", id, environment)
	}
	if err := s.Environments.Agree(ctx, &r, environment, verdict, reason); err != nil {
		return err
	}
	entry := Entry{Actor: by, Action: "pipeline.environment_" + map[bool]string{true: "approved", false: "rejected"}[verdict == "approve"], Subject: string(id),
		Data: map[string]string{"environment": environment, "reason": reason}}
	return s.Store.Update(ctx, id, entry, func(r Run) (Run, error) {
		if verdict == "reject" {
			r, _ = r.Refuse(s.now(), environment, by+" did not let it into "+environment+": "+orElse(reason, "no reason was given"))
		}
		return r, nil
	})
}

// Start starts a run of a workflow that has on: workflow_dispatch.
func (s *Service) Start(ctx context.Context, st StartRequest) (Run, error) {
	if err := s.may(ctx, "run:start"); err != nil {
		return Run{}, err
	}
	if s.Dispatch == nil {
		return Run{}, fault.New(fault.Unavailable, "This server starts no runs by hand.")
	}
	return s.Dispatch(ctx, st)
}

// Rerun runs what failed, was cancelled or was skipped in a run that has ended, as new attempts.
func (s *Service) Rerun(ctx context.Context, id RunID, by string) error {
	if _, err := s.get(ctx, id); err != nil {
		return err
	}
	if err := s.may(ctx, "run:rerun"); err != nil {
		return err
	}
	return s.Store.Update(ctx, id, Entry{Actor: by, Action: "pipeline.run_rerun", Subject: string(id)}, func(r Run) (Run, error) {
		switch {
		case r.State == Refused:
			return r, fault.New(fault.Conflict, "Run %s was refused: %s. Correct the workflow and push again.", id, r.Reason)
		case !r.State.Done():
			return r, fault.New(fault.Conflict, "Run %s has not ended yet: it is %s. Cancel it first, or wait.", id, r.State)
		}
		next, ok := r.Rerun(s.now())
		if !ok {
			return r, fault.New(fault.Conflict, "Every job of run %s succeeded; there is nothing to run again. Push a new revision for a new run.", id)
		}
		return next, nil
	})
}

func (s *Service) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// Lint returns the diagnostics of workflow files, path to content.
func (s *Service) Lint(ctx context.Context, files map[string][]byte) ([]Diagnostic, error) {
	if err := s.may(ctx, "run:read"); err != nil {
		return nil, err
	}
	var out []Diagnostic
	for _, p := range slices.Sorted(maps.Keys(files)) {
		out = append(out, s.Check(p, files[p])...)
	}
	return out, nil
}

// Wait is one thing that a run waits for.
type Wait struct {
	Job   string    `json:"job,omitempty"`
	For   string    `json:"for"`
	Since time.Time `json:"since"`
	Who   string    `json:"who"` // who or what can release it
}

// Why explains what a run waits for, since when, and who can release it; nothing if it waits for nothing.
func (s *Service) Why(ctx context.Context, id RunID) (Run, []Wait, error) {
	r, err := s.get(ctx, id)
	if err != nil {
		return r, nil, err
	}
	var room error
	if s.Room != nil {
		room = s.Room()
	}
	var others []Run
	if c := r.Plan.Concurrency; c != nil && r.State == Pending {
		refs, err := s.Store.Active(ctx)
		if err != nil {
			return r, nil, err
		}
		for _, ref := range refs {
			if ref.ID != id {
				o, err := s.Store.Load(ctx, ref.ID)
				if err != nil {
					return r, nil, err
				}
				others = append(others, o)
			}
		}
	}
	holds := s.holds(ctx, &r)
	held := func(w Wait) bool { // a job that is held waits for no slot yet
		return w.Job != "" && slices.ContainsFunc(holds, func(h Wait) bool { return h.Job == w.Job })
	}
	return r, append(holds, slices.DeleteFunc(Explain(r, others, s.Slots, room), held)...), nil
}

// holds is what keeps jobs of a run from entering their environments.
func (s *Service) holds(ctx context.Context, r *Run) []Wait {
	var out []Wait
	for i := range r.Jobs {
		p := &r.Plan.Jobs[i]
		if r.Jobs[i].State != Queued || p.Environment == "" || s.Environments == nil || len(out) == maxWaits {
			continue
		}
		if hold, err := s.Environments.Entry(ctx, r, p.Environment); err == nil && hold != nil {
			out = append(out, Wait{Job: r.Jobs[i].Key, For: hold.For, Since: r.Jobs[i].Since, Who: hold.Who})
		}
	}
	return out
}

// Explain is the pure part of Why. Others are the other runs that have not ended, given if r is in a concurrency group.
func Explain(r Run, others []Run, slots int, room error) []Wait {
	var out []Wait
	if r.State.Done() {
		return nil
	}
	if r.Cancel != nil {
		out = append(out, Wait{For: "its jobs to stop: " + r.Cancel.Reason, Since: r.Cancel.At, Who: "the runner, within seconds"})
	}
	if room != nil {
		out = append(out, Wait{For: fault.Sentence(room), Since: r.Created, Who: "an operator of this server"})
	}
	for _, o := range others {
		if r.Plan.Concurrency != nil && o.Plan.Concurrency != nil && o.RepositoryID == r.RepositoryID && o.Plan.Concurrency.Group == r.Plan.Concurrency.Group {
			out = append(out, Wait{For: fmt.Sprintf("run %s of the concurrency group %s", o.ID, r.Plan.Concurrency.Group), Since: r.Created,
				Who: fmt.Sprintf("that run when it ends, or whoever may cancel it: weir runs cancel %s", o.ID)})
		}
	}
	return append(out, explainJobs(r, slots)...)
}

// Bounds of an explanation: a run may have thousands of jobs, and nobody reads thousands of reasons.
const (
	maxWaits = 100
	maxNamed = 5
)

// explainJobs says what jobs wait for: those that run first, then those that could, then the others.
func explainJobs(r Run, slots int) []Wait {
	open, running := map[string][]int{}, map[string]int{} // by job id
	for i := range r.Jobs {
		id := r.Plan.Jobs[i].JobID
		if !r.Jobs[i].State.Done() {
			open[id] = append(open[id], i)
		}
		if r.Jobs[i].State == Running && r.Plan.Jobs[i].Group == nil {
			running[id]++
		}
	}
	var out []Wait
	more := 0
	for _, state := range []State{Running, Queued, Waiting} {
		for i := range r.Jobs {
			if r.Jobs[i].State != state {
				continue
			}
			if len(out) >= maxWaits {
				more++
				continue
			}
			if w, ok := explainJob(&r, i, slots, open, running); ok {
				out = append(out, w)
			}
		}
	}
	if more > 0 {
		out = append(out, Wait{For: fmt.Sprintf("%d more jobs wait like these", more), Since: r.Created, Who: "the jobs before them when they end"})
	}
	return out
}

func explainJob(r *Run, i, slots int, open map[string][]int, running map[string]int) (Wait, bool) {
	j, p := &r.Jobs[i], &r.Plan.Jobs[i]
	switch j.State {
	case Waiting:
		var names []string
		rest := 0
		for _, id := range p.Needs {
			for _, k := range open[id] {
				if len(names) == maxNamed {
					rest++
					continue
				}
				names = append(names, fmt.Sprintf("%s (%s)", r.Jobs[k].Key, r.Jobs[k].State))
			}
		}
		if len(names) == 0 {
			return Wait{}, false
		}
		if rest > 0 {
			names = append(names, fmt.Sprintf("and %d more", rest))
		}
		return Wait{Job: j.Key, For: "the jobs that it needs: " + strings.Join(names, ", "), Since: j.Since, Who: "those jobs when they end"}, true
	case Queued:
		what := fmt.Sprintf("a free slot of the runner, which takes %d jobs at a time", slots)
		if n := running[p.JobID]; p.MaxParallel > 0 && n >= p.MaxParallel {
			what = fmt.Sprintf("one of the %d jobs of %s that run now; its max-parallel is %d", n, p.JobID, p.MaxParallel)
		}
		if c := p.Concurrency; c != nil && c.Resolved {
			what = fmt.Sprintf("its turn in the concurrency group %s, then %s", c.Group, what)
		}
		return Wait{Job: j.Key, For: what, Since: j.Since, Who: "a job when it ends, or whoever may cancel one"}, true
	case Running:
		a := j.Current()
		if a == nil { // a group; its jobs speak for themselves
			return Wait{}, false
		}
		return Wait{Job: j.Key, For: fmt.Sprintf("attempt %d to finish; it may take %v minutes", a.Number, p.TimeoutMinutes), Since: a.Started,
			Who: fmt.Sprintf("the job itself, or whoever may cancel the run: weir runs cancel %s", r.ID)}, true
	}
	return Wait{}, false
}
