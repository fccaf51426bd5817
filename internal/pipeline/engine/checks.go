package engine

import (
	"context"
	"encoding/json"
	"log/slog"
	"path"
	"slices"
	"strings"

	"weir/internal/base/journal"
	"weir/internal/pipeline"
)

// report follows our own facts and tells what became of jobs. It is off the path of the runs and sees every fact at least once,
// so a crash neither slows a run nor loses a check.
func (e *Engine) report(ctx context.Context, f journal.Fact) error {
	if !strings.HasPrefix(f.Type, "pipeline.") {
		return nil
	}
	var b pipeline.JobFact
	if err := json.Unmarshal(f.Body, &b); err != nil {
		slog.ErrorContext(ctx, "fact not understood", "fact", f.ID, "type", f.Type, "error", err)
		return nil
	}
	if b.Event != "push" && b.Event != "pull_request" || strings.HasPrefix(b.Ref, "refs/tags/") {
		return nil // what somebody or a clock starts says nothing about whether the revision may go on
	}
	switch f.Type {
	case pipeline.FactRunCreated, pipeline.FactJobStarted, pipeline.FactJobFinished:
	case pipeline.FactRunFinished:
		delete(e.told, b.RunID) // its last job was told of before
		return nil
	default:
		return nil
	}
	k, err := e.reported(ctx, f, b)
	if err != nil {
		return err
	}
	for _, c := range Checks(k.run, b.JobName) {
		// Of a matrix that is under way, another job runs every moment; which one it is matters once it has ended.
		open := c.State == "pending" || c.State == "running"
		if last, ok := k.last[c.Name]; ok && last.State == c.State && last.Summary == c.Summary && (last.JobID == c.JobID || open) {
			continue
		}
		if err := e.Checks.Report(ctx, c); err != nil {
			return err
		}
		k.last[c.Name] = c
	}
	return nil
}

// told is what the follower of checks knows of a run, so that a matrix of a thousand jobs is not read a thousand times. Only that
// follower's goroutine uses it.
type told struct {
	run  pipeline.Run
	last map[string]pipeline.Check // what was reported, by name
}

// maxTold bounds how many runs the follower remembers; one that it has forgotten is read again.
const maxTold = 32

// reported is a run as the facts up to f have it. It is read once, and then follows the facts of its jobs. What was read may be
// newer than f: an older fact changes nothing.
func (e *Engine) reported(ctx context.Context, f journal.Fact, b pipeline.JobFact) (*told, error) {
	k := e.told[b.RunID]
	known := k != nil && (b.JobID == "" || k.run.Job(b.JobID) != nil) // a group may have made it since
	if !known || f.Type == pipeline.FactRunCreated || k.run.Attempt != b.Attempt {
		r, err := e.Store.Load(ctx, b.RunID)
		if err != nil {
			return nil, err
		}
		if e.told == nil || len(e.told) >= maxTold {
			e.told = map[pipeline.RunID]*told{}
		}
		k = &told{run: r, last: map[string]pipeline.Check{}}
		e.told[b.RunID] = k
		return k, nil
	}
	if j := k.run.Job(b.JobID); j != nil && f.Time.After(j.Since) {
		j.State, j.Reason, j.Since = b.JobState, b.JobReason, f.Time
	}
	return k, nil
}

// Checks folds a run into its checks: one for each job id, or only the one named. A matrix is one check, green when all of it is.
func Checks(r pipeline.Run, only string) []pipeline.Check {
	file := path.Base(r.Workflow)
	c := pipeline.Check{RepositoryID: r.RepositoryID, Revision: r.Revision, Base: base(r.Trust, r.Base), RunID: r.ID, At: r.Created}
	if r.State == pipeline.Refused {
		// The file fails as a whole and so does each check that a merge may wait for.
		c.Name, c.State, c.Summary, c.At = file, "failure", r.Reason, r.Finished
		out := []pipeline.Check{c}
		for _, j := range r.Plan.Jobs {
			if c.Name = file + "/" + j.JobID; !slices.ContainsFunc(out, func(k pipeline.Check) bool { return k.Name == c.Name }) {
				out = append(out, c)
			}
		}
		return out
	}
	var out []pipeline.Check
	at := map[string]int{}
	for i := range r.Jobs {
		j, name := &r.Jobs[i], r.Plan.Jobs[i].JobID
		if only != "" && name != only {
			continue
		}
		state := checkState(j.State)
		if j.State == pipeline.Failure && r.Plan.Jobs[i].ContinueOnError {
			state = "success"
		}
		k, ok := at[name]
		if !ok {
			at[name] = len(out)
			c := c
			c.Name, c.JobID, c.State, c.Summary, c.At = file+"/"+name, j.ID, state, j.Reason, j.Since
			out = append(out, c)
			continue
		}
		if worse[state] > worse[out[k].State] {
			out[k].State, out[k].Summary, out[k].JobID = state, j.Reason, j.ID
		}
		if j.Since.After(out[k].At) {
			out[k].At = j.Since
		}
	}
	return out
}

// base is what a check counts under: a result for a change holds only as long as its target is what it was.
func base(t pipeline.Trust, revision string) string {
	if t == pipeline.Change {
		return revision
	}
	return ""
}

// worse orders states: what is not decided yet hides what is, and a failure hides everything.
var worse = map[string]int{"success": 1, "skipped": 2, "pending": 3, "running": 4, "cancelled": 5, "failure": 6}

func checkState(s pipeline.State) string {
	switch s {
	case pipeline.Waiting, pipeline.Queued, pipeline.Lost:
		return "pending"
	}
	return string(s)
}
