package pipeline

import (
	"time"

	"weir/internal/base/blob"
)

// RunID names one run of one workflow.
type RunID string

// JobID names one job of one run, over all its attempts.
type JobID string

// Trust says whose code a run executes and so what it may touch.
type Trust string

// The trusts.
const (
	Landed Trust = "landed" // a revision of trunk, reviewed
	Change Trust = "change" // a proposed revision, not trusted
	Local  Trust = "local"  // a working tree on its owner's machine
)

// State is the state of a run, a job, an attempt or a step; not every one has all.
type State string

// The states.
const (
	Pending   State = "pending" // run: stored, nothing started; step: not reached
	Waiting   State = "waiting" // job: needs others
	Queued    State = "queued"  // job: ready for a runner
	Running   State = "running"
	Success   State = "success"
	Failure   State = "failure"
	Cancelled State = "cancelled"
	Skipped   State = "skipped"
	Lost      State = "lost"    // attempt: the runner went away
	Refused   State = "refused" // run: the workflow cannot be run as written
)

// Done reports whether s is an end.
func (s State) Done() bool {
	switch s {
	case Success, Failure, Cancelled, Skipped, Lost, Refused:
		return true
	}
	return false
}

// Run is one execution of one workflow on one revision.
type Run struct {
	ID           RunID
	Org          string
	RepositoryID string
	Repository   string
	Workflow     string // path of the file
	Name         string
	Title        string
	Event        string // push, pull_request, workflow_dispatch, schedule
	Ref          string
	// Base is where the workflow was read for a change and the revision before for a push. For another event it tells apart what
	// started at the same revision: a tag, the minute of a schedule, a start by hand.
	Base         string
	Revision     string
	Trust        Trust
	ChangeID     string
	ChangeNumber int
	Patchset     int
	Actor        string

	State       State
	Attempt     int // 1, and one more with each rerun
	Reason      string
	Diagnostics []Diagnostic

	Plan   Plan
	GitHub map[string]any // the github context
	Cancel *Cancellation  // asked for, not necessarily done

	Created, Started, Finished time.Time
	Version                    int64 // grows with every stored change
	Jobs                       []Job // in the order of Plan.Jobs
}

// Cancellation says who stops a run and why.
type Cancellation struct {
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	Force  bool      `json:"force,omitempty"` // also what would clean up
}

// Job is one job of a run. Its plan is Run.Plan.Jobs at the same index.
type Job struct {
	ID       JobID
	Key      string // unique in the run: the job id, with a number for a matrix
	State    State
	Reason   string // why it is skipped, cancelled or failed before it ran
	Outputs  map[string]string
	Since    time.Time // when it came into its state
	Attempts []Attempt
	Rev      int64 // grows with every change, so that only changed jobs are stored
}

// Attempt is one try of a job in a fresh workspace.
type Attempt struct {
	Number            int
	State             State
	Reason            string
	Epoch             int64  // of the engine that started it
	Runner            string // where it runs: an agent's name and instance; "" is the server's own process
	Confined          bool
	Network           string   // egress, none or host
	Unenforced        []string // limits that its machine could not hold it to: memory, cpu, processes
	Images            []Image
	Caches            []CacheUse
	Steps             []Step
	Annotations       []Annotation
	Summary           string // what the steps wrote to GITHUB_STEP_SUMMARY
	Started, Finished time.Time
}

// Step is what became of one step.
type Step struct {
	Number   int       `json:"number"`
	Name     string    `json:"name"`
	State    State     `json:"state"`
	Ignored  bool      `json:"ignored,omitempty"` // it failed, and continue-on-error says go on
	Reason   string    `json:"reason,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
}

// Annotation is a message that a step attached to a place in a file.
type Annotation struct {
	Level   string `json:"level"` // error, warning, notice
	Message string `json:"message"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Col     int    `json:"col,omitempty"`
	Title   string `json:"title,omitempty"`
	Step    int    `json:"step,omitempty"`
}

// Current is the latest attempt, or nil.
func (j *Job) Current() *Attempt {
	if len(j.Attempts) == 0 {
		return nil
	}
	return &j.Attempts[len(j.Attempts)-1]
}

// Job finds a job by id; nil if there is none.
func (r *Run) Job(id JobID) *Job {
	for i := range r.Jobs {
		if r.Jobs[i].ID == id {
			return &r.Jobs[i]
		}
	}
	return nil
}

// Result is what a runner reports of an attempt.
type Result struct {
	State       State // Success, Failure or Cancelled
	Reason      string
	Outputs     map[string]string
	Steps       []Step
	Annotations []Annotation
	Summary     string
	Confined    bool
	Network     string
	Unenforced  []string // limits that the machine could not hold it to
	Images      []Image  // that its containers were made of
	Caches      []CacheUse
}

// CacheUse is one time that a job asked for a cache entry, or kept one.
type CacheUse struct {
	Key      string `json:"key"`
	Found    string `json:"found,omitempty"` // the key of the entry that it got; "" is a miss
	Kept     bool   `json:"kept,omitempty"`  // it kept an entry rather than ask for one
	Restored int64  `json:"restored,omitempty"`
	Saved    int64  `json:"saved,omitempty"`
}

// Image is what a container of a job was made of.
type Image struct {
	Name   string `json:"name"` // as the workflow names it
	Digest string `json:"digest"`
	Use    string `json:"use"` // "container", "service db", "step docker://..."
}

// Severity of a diagnostic.
type Severity string

// An error refuses the workflow, a warning does not.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Diagnostic is a finding in a workflow file, with the place to look at.
type Diagnostic struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Col      int      `json:"col"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
}

// Artifact is a named set of files that a job of a run kept for others: a tar in the blob store.
type Artifact struct {
	Name    string
	JobID   JobID
	Digest  blob.Digest
	Size    int64
	Created time.Time
}
