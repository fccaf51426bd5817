package pipeline

import "time"

// The facts that this layer announces, all version 1. The subject is the run's id.
const (
	FactRunCreated  = "pipeline.run_created"
	FactRunStarted  = "pipeline.run_started"
	FactJobStarted  = "pipeline.job_started"
	FactJobFinished = "pipeline.job_finished"
	FactRunFinished = "pipeline.run_finished"
)

// RunFact is the body of a run's facts.
type RunFact struct {
	RunID        RunID     `json:"run_id"`
	RepositoryID string    `json:"repository_id"`
	Repository   string    `json:"repository"`
	Revision     string    `json:"revision"`
	Base         string    `json:"base,omitempty"`
	Ref          string    `json:"ref"`
	Trust        Trust     `json:"trust"`
	ChangeID     string    `json:"change_id,omitempty"`
	Workflow     string    `json:"workflow"`
	Event        string    `json:"event"`
	State        State     `json:"state"`
	Reason       string    `json:"reason,omitempty"`
	Attempt      int       `json:"attempt"`
	Created      time.Time `json:"created"`
	Started      time.Time `json:"started,omitzero"`
	Finished     time.Time `json:"finished,omitzero"`
}

// JobFact is the body of a job's facts: one attempt that began or ended, or a job that ended without one.
type JobFact struct {
	RunFact
	JobID       JobID     `json:"job_id"`
	Job         string    `json:"job"` // the key: unique in the run
	JobName     string    `json:"job_name"`
	JobState    State     `json:"job_state"`
	JobReason   string    `json:"job_reason,omitempty"`
	Matrix      string    `json:"matrix,omitempty"` // of the job, as its plan has it
	JobAttempt  int       `json:"job_attempt"`
	Confined    bool      `json:"confined"`
	Network     string    `json:"network,omitempty"`
	JobStarted  time.Time `json:"job_started,omitzero"`
	JobFinished time.Time `json:"job_finished,omitzero"`
}

// Announcement is a fact before it is in the journal.
type Announcement struct {
	Type string
	Body any
}

// Announce derives the facts of a step from one stored state to the next. A run that is new has a zero prev.
func Announce(prev, next Run) []Announcement {
	var out []Announcement
	add := func(kind string, body any) { out = append(out, Announcement{kind, body}) }
	run := runFact(next)
	if prev.ID == "" {
		add(FactRunCreated, run)
	}
	if !next.Started.IsZero() && !next.Started.Equal(prev.Started) && next.State != Refused {
		add(FactRunStarted, run)
	}
	for i := range next.Jobs {
		j := &next.Jobs[i]
		var old Job
		if i < len(prev.Jobs) {
			old = prev.Jobs[i]
		}
		for k := range j.Attempts {
			a := &j.Attempts[k]
			if k >= len(old.Attempts) {
				add(FactJobStarted, jobFact(run, &next, i, a))
			}
			if a.State.Done() && (k >= len(old.Attempts) || !old.Attempts[k].State.Done()) {
				add(FactJobFinished, jobFact(run, &next, i, a))
			}
		}
		// Skipped, cancelled or failed without having run, or a group whose jobs have ended.
		if j.State.Done() && !old.State.Done() && len(j.Attempts) == len(old.Attempts) && (old.State != Running || next.Plan.Jobs[i].Group != nil) {
			add(FactJobFinished, jobFact(run, &next, i, nil))
		}
	}
	if next.State.Done() && (!prev.State.Done() || prev.ID == "") {
		add(FactRunFinished, run)
	}
	return out
}

func runFact(r Run) RunFact {
	return RunFact{RunID: r.ID, RepositoryID: r.RepositoryID, Repository: r.Repository, Revision: r.Revision, Base: r.Base, Ref: r.Ref, Trust: r.Trust,
		ChangeID: r.ChangeID, Workflow: r.Workflow, Event: r.Event, State: r.State, Reason: r.Reason, Attempt: r.Attempt,
		Created: r.Created, Started: r.Started, Finished: r.Finished}
}

func jobFact(run RunFact, r *Run, i int, a *Attempt) JobFact {
	j := &r.Jobs[i]
	f := JobFact{RunFact: run, JobID: j.ID, Job: j.Key, JobName: r.Plan.Jobs[i].JobID, JobState: j.State, JobReason: j.Reason, JobFinished: j.Since, Matrix: r.Plan.Jobs[i].Matrix}
	if a != nil {
		f.JobState, f.JobReason, f.JobAttempt, f.Confined, f.Network = a.State, a.Reason, a.Number, a.Confined, a.Network
		f.JobStarted, f.JobFinished = a.Started, a.Finished
	}
	return f
}
