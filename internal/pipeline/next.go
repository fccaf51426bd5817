package pipeline

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// MaxAttempts is how often a job may lose its runner before it fails: work that takes its runner down must not do so forever.
const MaxAttempts = 5

// ActionKind is what the engine must do after it has stored a run.
type ActionKind string

// The actions. Both may be repeated: a start of a known attempt and a kill of a finished one do nothing.
const (
	Start ActionKind = "start"
	Kill  ActionKind = "kill"
)

// Action is one effect that a decision asks for.
type Action struct {
	Kind    ActionKind
	Job     JobID
	Index   int // of the job in Run.Jobs
	Attempt int
	Again   bool // it was started before, and somebody else goes on with it
}

// Need is the outcome of the jobs with one job id, as needs.<id> shows it.
type Need struct {
	Result  State             `json:"result"`
	Outputs map[string]string `json:"outputs,omitempty"`
}

// Question is what a job's if: may look at.
type Question struct {
	Run       *Run
	Job       *JobPlan
	Needs     map[string]Need
	Success   bool // every job it needs, near and far, succeeded
	Failure   bool // one of them failed
	Cancelled bool
	Vars      map[string]string // of the repository; set by who asks
}

// Expansion is what a group turned out to stand for.
type Expansion struct {
	Jobs  []JobPlan
	Scope *Scope // of a called workflow
}

// Language answers what only the language of workflows can. An error is a mistake in the workflow.
type Language struct {
	// If answers a job's if:.
	If func(Question) (bool, error)
	// Expand makes the jobs of a group.
	Expand func(Question) (Expansion, error)
	// Outputs computes what a group gives back, from the outcomes of its jobs by their ids.
	Outputs func(r *Run, group *JobPlan, results map[string]Need) (map[string]string, error)
	// Resolve computes what a job's place in the queue depends on: its concurrency group and its environment.
	Resolve func(Question) (JobPlan, error)
	// ID makes the id of a new job.
	ID func() JobID
}

// Next moves every job that can move without a runner, and ends the run when all jobs have ended. It reads no clock and
// touches nothing.
func (r Run) Next(now time.Time, lang Language) (Run, []Action) {
	if r.State.Done() {
		return r, nil
	}
	r.Jobs = slices.Clone(r.Jobs)
	var actions []Action
	if r.Cancel != nil {
		// A job that asks for always() or cancelled() may clean up, unless somebody insists.
		actions = r.stop(now, "the run was cancelled: "+r.Cancel.Reason, func(i int) bool { return r.Cancel.Force || r.State == Pending || !r.Plan.Jobs[i].Always })
	}
	open := r.open()
	for moved := true; moved; {
		moved = false
		for i := range r.Jobs { // as many as there are now: a group may add some
			j := &r.Jobs[i]
			if open == nil {
				open = r.open()
			}
			if j.State == Failure && r.Plan.Jobs[i].FailFast && !r.Plan.Jobs[i].ContinueOnError {
				id := r.Plan.Jobs[i].JobID
				reason := "job " + j.Key + " failed and strategy.fail-fast is on"
				actions = append(actions, r.stop(now, reason, func(k int) bool { return r.under(k, id) })...)
				open = nil
				continue
			}
			if j.State == Waiting && r.ready(i, open) && r.room(i) {
				before := len(r.Jobs)
				r.decide(now, i, lang)
				moved = true
				if r.Jobs[i].State.Done() || len(r.Jobs) != before {
					open = nil
				}
			} else if j.State == Running && r.Plan.Jobs[i].Group != nil {
				if r.gather(now, i, lang) {
					moved, open = true, nil
				}
			}
		}
	}
	return r.conclude(now), actions
}

// stop cancels the jobs that match: at once if they have not started, through a kill if they run.
func (r *Run) stop(now time.Time, reason string, match func(int) bool) []Action {
	var kills []Action
	for i := range r.Jobs {
		j := &r.Jobs[i]
		if !match(i) {
			continue
		}
		switch j.State {
		case Running:
			if r.Plan.Jobs[i].Group != nil { // it ends with its jobs
				continue
			}
			kills = append(kills, Action{Kind: Kill, Job: j.ID, Index: i, Attempt: j.Current().Number})
			if j.Reason != reason {
				j.Reason = reason
				j.Rev++
			}
		case Waiting, Queued:
			j.set(now, Cancelled, reason)
		}
	}
	return kills
}

func (j *Job) set(now time.Time, s State, reason string) {
	j.State, j.Reason, j.Since = s, reason, now
	j.Rev++
}

// open counts the jobs that have not ended, by their ids in the file.
func (r *Run) open() map[string]int {
	n := map[string]int{}
	for i := range r.Jobs {
		if !r.Jobs[i].State.Done() {
			n[r.Plan.Jobs[i].JobID]++
		}
	}
	return n
}

// ready reports whether everything that job i needs has ended.
func (r *Run) ready(i int, open map[string]int) bool {
	for _, need := range r.Plan.Jobs[i].Needs {
		if open[need] > 0 {
			return false
		}
	}
	return true
}

// room reports whether a group may start beside those of its matrix. Jobs with runners are counted when they are claimed.
func (r *Run) room(i int) bool {
	p := &r.Plan.Jobs[i]
	if p.Group == nil || p.MaxParallel == 0 {
		return true
	}
	running := 0
	for k := range r.Jobs {
		if o := &r.Plan.Jobs[k]; o.JobID == p.JobID && o.Group != nil && o.Group.Kind == CallGroup && r.Jobs[k].State == Running {
			running++
		}
	}
	return running < p.MaxParallel
}

// under reports whether job k has an id, or belongs to a group that does.
func (r *Run) under(k int, id string) bool {
	for range maxNested {
		p := &r.Plan.Jobs[k]
		if p.JobID == id {
			return true
		}
		if p.Parent == "" {
			return false
		}
		if k = slices.IndexFunc(r.Plan.Jobs, func(o JobPlan) bool { return o.Key == p.Parent }); k < 0 {
			return false
		}
	}
	return false
}

// maxNested bounds how deep groups lie in each other.
const maxNested = 30

func (r *Run) decide(now time.Time, i int, lang Language) {
	q, j, p := r.Question(i), &r.Jobs[i], &r.Plan.Jobs[i]
	ok, err := q.Success, error(nil)
	if p.If != "" {
		ok, err = lang.If(q)
	}
	switch {
	case err != nil:
		j.set(now, Failure, "its if: could not be evaluated: "+err.Error())
	case !ok && p.If != "":
		j.set(now, Skipped, "its condition is false: "+p.If)
	case !ok:
		j.set(now, Skipped, "a job that it needs did not succeed")
	case p.Group != nil:
		r.expand(now, i, lang)
	case p.Concurrency != nil && !p.Concurrency.Resolved || strings.Contains(p.Environment, "${{"):
		resolved, err := lang.Resolve(q)
		if err != nil {
			j.set(now, Failure, err.Error())
			return
		}
		r.own()
		r.Plan.Jobs[i] = resolved
		j.set(now, Queued, "")
	default:
		j.set(now, Queued, "")
	}
}

// own makes the plan this run's own before it is changed: older states of the run share it.
func (r *Run) own() {
	r.Plan.Jobs = slices.Clone(r.Plan.Jobs)
	r.Plan.Scopes = maps.Clone(r.Plan.Scopes)
	r.Plan.Rev++
}

// expand puts the jobs of group i into the run.
func (r *Run) expand(now time.Time, i int, lang Language) {
	e, err := lang.Expand(r.Question(i))
	if err != nil {
		r.Jobs[i].set(now, Failure, err.Error())
		return
	}
	r.own()
	g := *r.Plan.Jobs[i].Group
	g.Made = true
	r.Plan.Jobs[i].Group = &g
	if e.Scope != nil {
		if r.Plan.Scopes == nil {
			r.Plan.Scopes = map[string]*Scope{}
		}
		r.Plan.Scopes[r.Plan.Jobs[i].Key] = e.Scope
	}
	for _, p := range e.Jobs {
		p.Always = p.Always || r.Plan.Jobs[i].Always
		r.Plan.Jobs = append(r.Plan.Jobs, p)
		r.Jobs = append(r.Jobs, Job{ID: lang.ID(), Key: p.Key, State: Waiting, Since: now, Rev: 1})
	}
	r.Jobs[i].set(now, Running, "")
}

// gather ends group i once all its jobs have ended.
func (r *Run) gather(now time.Time, i int, lang Language) bool {
	p := &r.Plan.Jobs[i]
	state, ran, reason := Success, false, ""
	results := map[string]Need{}
	for k := range r.Jobs {
		if r.Plan.Jobs[k].Parent != p.Key {
			continue
		}
		s := r.Jobs[k].State
		if !s.Done() {
			return false
		}
		ran = ran || s != Skipped
		switch {
		case s == Failure && !r.Plan.Jobs[k].ContinueOnError:
			state, reason = Failure, "job "+r.Jobs[k].Key+" failed"
		case s == Cancelled && state == Success:
			state, reason = Cancelled, r.Jobs[k].Reason
		}
		if id := r.Plan.Jobs[k].JobID; p.Group.Kind == CallGroup {
			results[id] = r.need(id)
		}
	}
	if !ran && len(results) > 0 {
		state, reason = Skipped, "all its jobs were skipped"
	}
	if p.Group.Kind == CallGroup {
		out, err := lang.Outputs(r, p, results)
		if err != nil {
			state, reason = Failure, err.Error()
		}
		r.Jobs[i].Outputs = out
	}
	r.Jobs[i].set(now, state, reason)
	return true
}

// Question collects what job i may look at.
func (r *Run) Question(i int) Question {
	q := Question{Run: r, Job: &r.Plan.Jobs[i], Needs: map[string]Need{}, Success: true, Cancelled: r.Cancel != nil}
	for _, id := range r.Plan.Jobs[i].Needs {
		q.Needs[id] = r.need(id)
	}
	seen := map[string]bool{}
	queue := slices.Clone(r.Plan.Jobs[i].Needs)
	for len(queue) > 0 {
		id := queue[0]
		queue = queue[1:]
		if seen[id] {
			continue
		}
		seen[id] = true
		switch r.need(id).Result {
		case Success:
		case Failure:
			q.Failure, q.Success = true, false
		default:
			// A job that was skipped stops those that need it directly, not those behind an always().
			if slices.Contains(r.Plan.Jobs[i].Needs, id) {
				q.Success = false
			}
		}
		for k := range r.Plan.Jobs {
			if r.Plan.Jobs[k].JobID == id {
				queue = append(queue, r.Plan.Jobs[k].Needs...)
			}
		}
	}
	return q
}

// need folds the jobs of one id: the worst result, the outputs of all.
func (r *Run) need(id string) Need {
	rank := map[State]int{Success: 1, Skipped: 2, Cancelled: 3, Failure: 4}
	n := Need{Outputs: map[string]string{}}
	for i := range r.Jobs {
		if r.Plan.Jobs[i].JobID != id {
			continue
		}
		s := r.Jobs[i].State
		if s == Failure && r.Plan.Jobs[i].ContinueOnError {
			s = Success
		}
		if rank[s] > rank[n.Result] {
			n.Result = s
		}
		for k, v := range r.Jobs[i].Outputs {
			if v != "" || n.Outputs[k] == "" {
				n.Outputs[k] = v
			}
		}
	}
	return n
}

// conclude ends the run when every job has ended.
func (r Run) conclude(now time.Time) Run {
	state := Success
	for i := range r.Jobs {
		switch s := r.Jobs[i].State; {
		case !s.Done():
			return r
		case r.Plan.Jobs[i].Parent != "": // its group speaks for it
		case s == Failure && !r.Plan.Jobs[i].ContinueOnError:
			state = Failure
		case s == Cancelled && state == Success:
			state = Cancelled
		}
	}
	if r.Cancel != nil {
		state, r.Reason = Cancelled, r.Cancel.Reason
	}
	r.State, r.Finished = state, now
	if r.Started.IsZero() {
		r.Started = now
	}
	return r
}

// Claim starts up to slots queued jobs that may: a new attempt each, in the order of the plan.
func (r Run) Claim(now time.Time, slots int, epoch int64, may func(i int) bool) (Run, []Action) {
	if r.State.Done() || slots <= 0 {
		return r, nil
	}
	running := map[string]int{}
	for i := range r.Jobs {
		if r.Jobs[i].State == Running && r.Plan.Jobs[i].Group == nil {
			running[r.Plan.Jobs[i].JobID]++
		}
	}
	var actions []Action
	for i := range r.Jobs {
		p := &r.Plan.Jobs[i]
		if len(actions) == slots {
			break
		}
		if r.Jobs[i].State != Queued || p.MaxParallel > 0 && running[p.JobID] >= p.MaxParallel || !may(i) {
			continue
		}
		if len(actions) == 0 {
			r.Jobs = slices.Clone(r.Jobs)
		}
		j := &r.Jobs[i]
		running[p.JobID]++
		j.set(now, Running, "")
		a := Attempt{Number: len(j.Attempts) + 1, State: Running, Epoch: epoch, Started: now}
		j.Attempts = append(slices.Clip(j.Attempts), a)
		actions = append(actions, Action{Kind: Start, Job: j.ID, Index: i, Attempt: a.Number})
	}
	if len(actions) > 0 && r.State == Pending {
		r.State, r.Started = Running, now
	}
	return r, actions
}

// Finish takes the result of an attempt. It refuses one that is not the current attempt, has ended already or was started
// under another epoch: such a result is late, and somebody else owns the job now.
func (r Run) Finish(now time.Time, id JobID, attempt int, epoch int64, res Result) (Run, bool) {
	r.Jobs = slices.Clone(r.Jobs)
	j := r.Job(id)
	if j == nil || j.State != Running {
		return r, false
	}
	j.Attempts = slices.Clone(j.Attempts)
	a := j.Current()
	if a == nil || a.Number != attempt || a.Epoch != epoch || a.State != Running {
		return r, false
	}
	reason := res.Reason
	if res.State == Cancelled && j.Reason != "" { // the reason of the kill
		reason = j.Reason
	}
	a.State, a.Reason, a.Finished = res.State, reason, now
	a.Steps, a.Annotations, a.Summary, a.Confined, a.Network = res.Steps, res.Annotations, res.Summary, res.Confined, res.Network
	a.Unenforced, a.Images, a.Caches = res.Unenforced, res.Images, res.Caches
	j.set(now, res.State, reason)
	j.Outputs = res.Outputs
	return r, true
}

// Lose marks every running attempt that gone matches as lost and queues its job again, up to MaxAttempts.
func (r Run) Lose(now time.Time, gone func(JobID, Attempt) bool, reason string) Run {
	if !slices.ContainsFunc(r.Jobs, func(j Job) bool { return j.State == Running && j.Current() != nil && gone(j.ID, *j.Current()) }) {
		return r
	}
	r.Jobs = slices.Clone(r.Jobs)
	for i := range r.Jobs {
		j := &r.Jobs[i]
		if j.State != Running || j.Current() == nil || !gone(j.ID, *j.Current()) {
			continue
		}
		j.Attempts = slices.Clone(j.Attempts)
		a := j.Current()
		a.State, a.Reason, a.Finished = Lost, reason, now
		if a.Number >= MaxAttempts {
			j.set(now, Failure, "its runner was lost too many times; the last time: "+reason)
		} else {
			j.set(now, Queued, "its runner was lost ("+reason+"); it will run again in a fresh workspace")
		}
	}
	return r
}

// Rerun opens a finished run again: what failed, was cancelled or was skipped because of that runs anew; what succeeded stays.
func (r Run) Rerun(now time.Time) (Run, bool) {
	r.Jobs = slices.Clone(r.Jobs)
	again := false
	for i := range r.Jobs {
		switch r.Jobs[i].State {
		case Failure, Cancelled, Skipped:
			r.Jobs[i].set(now, Waiting, "")
			if g := r.Plan.Jobs[i].Group; g != nil && g.Made { // its jobs are there; those that did not succeed wait again
				r.Jobs[i].State = Running
			}
			r.Jobs[i].Outputs = nil
			again = true
		}
	}
	if !again || !r.State.Done() {
		return r, false
	}
	r.State, r.Attempt, r.Cancel, r.Reason = Pending, r.Attempt+1, nil, ""
	r.Started, r.Finished = time.Time{}, time.Time{}
	return r, true
}

// Refuse fails the jobs that wait to enter an environment. It reports whether there was one.
func (r Run) Refuse(now time.Time, environment, reason string) (Run, bool) {
	r.Jobs = slices.Clone(r.Jobs)
	found := false
	for i := range r.Jobs {
		if s := r.Jobs[i].State; (s == Waiting || s == Queued) && r.Plan.Jobs[i].Environment == environment {
			r.Jobs[i].set(now, Failure, reason)
			found = true
		}
	}
	return r, found
}

// Displace takes jobs of a concurrency group out of the way of a newer one: those that wait are cancelled, and one that runs is
// to be killed if cancelInProgress says so. Keep are the newer ones.
func (r Run) Displace(now time.Time, group string, cancelInProgress bool, keep ...JobID) (Run, []Action) {
	r.Jobs = slices.Clone(r.Jobs)
	return r, r.stop(now, "a newer job of the concurrency group "+group+" took its place", func(i int) bool {
		c := r.Plan.Jobs[i].Concurrency
		return c != nil && c.Resolved && c.Group == group && !slices.Contains(keep, r.Jobs[i].ID) && (r.Jobs[i].State == Queued || r.Jobs[i].State == Running && cancelInProgress)
	})
}
