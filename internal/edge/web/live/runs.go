package live

import (
	"context"
	"fmt"
	"time"

	"weir/internal/edge/web"
	"weir/internal/pipeline"
)

// Runs implements web.Data.
func (d *Data) Runs(ctx context.Context, before string) ([]web.RunRow, error) {
	runs, err := d.Pipeline.List(ctx, pipeline.Filter{Before: pipeline.RunID(before), Limit: 50})
	if err != nil {
		return nil, err
	}
	rows := make([]web.RunRow, len(runs))
	for i, r := range runs {
		rows[i] = runRow(r)
		d.entitle(ctx, r, &rows[i])
	}
	return rows, nil
}

func runRow(r pipeline.Run) web.RunRow {
	row := web.RunRow{ID: string(r.ID), Title: r.Title, Workflow: r.Workflow, Repository: r.Repository, State: stateOf(r.State), Ref: shortRef(r.Ref), Revision: r.Revision, Actor: r.Actor, Created: r.Created}
	if r.ChangeID != "" {
		row.Ref = fmt.Sprintf("#%d, patchset %d", r.ChangeNumber, r.Patchset)
	}
	if row.Title == "" {
		row.Title = r.Name
	}
	if row.Title == "" {
		row.Title = r.Workflow
	}
	if !r.Finished.IsZero() && !r.Started.IsZero() {
		row.Took = r.Finished.Sub(r.Started)
	}
	return row
}

// entitle names a run by what it ran on: the first line of the revision's message.
func (d *Data) entitle(ctx context.Context, r pipeline.Run, row *web.RunRow) {
	if r.Title != "" || d.Git == nil || r.Revision == "" {
		return
	}
	if subject, ok := d.subjects.Load(r.Revision); ok {
		row.Title = subject.(string)
		return
	}
	log, err := d.Git.Log(ctx, r.RepositoryID, "", r.Revision, 1)
	if err != nil || len(log) == 0 || log[0].Subject == "" {
		return // The workflow's name does as well.
	}
	if d.known.Add(1) > 4096 {
		d.subjects.Clear()
		d.known.Store(0)
	}
	d.subjects.Store(r.Revision, log[0].Subject)
	row.Title = log[0].Subject
}

func shortRef(ref string) string {
	for _, p := range []string{"refs/heads/", "refs/tags/"} {
		if len(ref) > len(p) && ref[:len(p)] == p {
			return ref[len(p):]
		}
	}
	return ref
}

// Run implements web.Data.
func (d *Data) Run(ctx context.Context, id string) (web.Run, error) {
	r, waits, err := d.Pipeline.Why(ctx, pipeline.RunID(id))
	if err != nil {
		return web.Run{}, err
	}
	v := web.Run{RunRow: runRow(r), Now: d.now(), Live: !r.State.Done(), Event: r.Event, Attempt: r.Attempt, Reason: r.Reason, Started: r.Started, Finished: r.Finished,
		CanCancel: !r.State.Done() && r.Cancel == nil && may(ctx, "run.cancel"),
		CanRerun:  (r.State == pipeline.Failure || r.State == pipeline.Cancelled) && may(ctx, "run.rerun")}
	if r.ChangeID != "" {
		v.Change = web.Link{Text: fmt.Sprintf("#%d", r.ChangeNumber), Href: "/changes/" + r.ChangeID}
	}
	for _, x := range r.Diagnostics {
		v.Diagnostics = append(v.Diagnostics, web.Annotation{Level: string(x.Severity), File: x.File, Line: x.Line, Message: x.Message})
	}
	for _, w := range waits {
		v.Waits = append(v.Waits, web.Wait{What: w.Job, For: w.For, Who: w.Who, Since: w.Since})
	}
	d.entitle(ctx, r, &v.RunRow)
	v.Jobs = jobs(r)
	v.State = runState(r)
	return v, nil
}

// runState says early that a run will fail.
func runState(r pipeline.Run) web.Status {
	if r.State != pipeline.Running {
		return stateOf(r.State)
	}
	failed, open := 0, 0
	for _, j := range r.Jobs {
		if j.State == pipeline.Failure {
			failed++
		}
		if !j.State.Done() {
			open++
		}
	}
	if failed > 0 && open > 0 {
		return web.Status{Kind: "bad", Word: "Failing, " + plural(open, "job is", "jobs are") + " not over"}
	}
	return stateOf(r.State)
}

func jobs(r pipeline.Run) []web.Job {
	keys := map[string][]string{} // of each job id, which a matrix shares
	ended := map[string]time.Time{}
	for i := range r.Jobs {
		if i < len(r.Plan.Jobs) {
			keys[r.Plan.Jobs[i].JobID] = append(keys[r.Plan.Jobs[i].JobID], r.Jobs[i].Key)
		}
		if a := r.Jobs[i].Current(); a != nil {
			ended[r.Jobs[i].Key] = a.Finished
		}
	}
	out := make([]web.Job, len(r.Jobs))
	for i := range r.Jobs {
		j := &r.Jobs[i]
		v := web.Job{ID: string(j.ID), Key: j.Key, Name: j.Key, State: stateOf(j.State), Done: j.State.Done(), Reason: j.Reason, Since: j.Since, Attempts: len(j.Attempts)}
		if i < len(r.Plan.Jobs) {
			p := r.Plan.Jobs[i]
			v.Release = p.Build != nil
			if p.Name != "" {
				v.Name = p.Name
			}
			for _, n := range p.Needs {
				v.Needs = append(v.Needs, keys[n]...)
			}
		}
		if a := j.Current(); a != nil {
			v.Started, v.Finished, v.Attempt, v.Confined, v.Network, v.Summary = a.Started, a.Finished, a.Number, a.Confined, a.Network, a.Summary
			if v.Reason == "" {
				v.Reason = a.Reason
			}
			for _, n := range a.Annotations {
				v.Annotations = append(v.Annotations, web.Annotation{Level: n.Level, Title: n.Title, Message: n.Message, File: n.File, Line: n.Line})
			}
			// It could have started when the last job that it needs had ended.
			ready := r.Created
			for _, n := range v.Needs {
				if ended[n].After(ready) {
					ready = ended[n]
				}
			}
			if a.Number == 1 && a.Started.After(ready) {
				v.Queued = a.Started.Sub(ready)
			}
		}
		out[i] = v
	}
	return out
}
