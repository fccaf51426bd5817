package live

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"weir/internal/edge/web"
	"weir/internal/pipeline"
)

// Runs implements web.Data.
func (d *Data) Runs(ctx context.Context, f web.RunFilter) (web.Runs, error) {
	var v web.Runs
	filter := pipeline.Filter{Before: pipeline.RunID(f.Before), Workflow: f.Workflow, Branch: f.Branch, State: pipeline.State(f.State), Actor: f.Actor, Limit: 50}
	repositories, err := d.Catalog.Repositories(ctx)
	if err != nil {
		return v, err
	}
	for _, r := range repositories {
		v.Repositories = append(v.Repositories, r.Name)
		if r.Name == f.Repository {
			filter.RepositoryID = r.ID
		}
	}
	if f.Repository != "" && filter.RepositoryID == "" {
		return v, nil
	}
	runs, err := d.Pipeline.List(ctx, filter)
	if err != nil {
		return v, err
	}
	v.Rows = make([]web.RunRow, len(runs))
	for i, r := range runs {
		v.Rows[i] = runRow(r)
		d.entitle(ctx, r, &v.Rows[i])
	}
	return v, nil
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
	v.Jobs = jobs(r, v.Now)
	v.State = runState(r)
	if v.Typical, v.TypicalOf, err = d.typical(ctx, r); err != nil {
		return v, err
	}
	return v, d.failures(ctx, r, &v)
}

// typical is the median time of the runs of the same workflow that passed before.
func (d *Data) typical(ctx context.Context, r pipeline.Run) (time.Duration, int, error) {
	runs, err := d.Pipeline.List(ctx, pipeline.Filter{RepositoryID: r.RepositoryID, Workflow: r.Workflow, State: pipeline.Success, Before: r.ID, Limit: 20})
	if err != nil || len(runs) == 0 {
		return 0, 0, err
	}
	took := make([]time.Duration, len(runs))
	for i, p := range runs {
		took[i] = p.Finished.Sub(p.Created)
	}
	slices.Sort(took)
	return took[len(took)/2], len(took), nil
}

// shownFailures is how many tests that failed stand at the top of a run.
const shownFailures = 3

// failures puts in how many tests there are, and the first that failed with how they did before.
func (d *Data) failures(ctx context.Context, r pipeline.Run, v *web.Run) error {
	t, err := d.Pipeline.TestsOf(ctx, r, pipeline.TestFilter{Outcome: pipeline.TestFailed, Limit: shownFailures})
	if err != nil {
		return err
	}
	v.Tests = t.Count
	history, err := d.Pipeline.TestHistories(ctx, keysOf(t.Results), 20)
	if err != nil {
		return err
	}
	for _, x := range t.Results {
		f := web.Failure{Result: x}
		for _, h := range history[x.Key] {
			if h.At.Before(x.At) {
				f.History = append(f.History, h)
			}
		}
		v.Failures = append(v.Failures, f)
	}
	return nil
}

func keysOf(results []pipeline.TestResult) (keys []string) {
	for _, r := range results {
		keys = append(keys, r.Key)
	}
	return keys
}

// RunTests implements web.Data.
func (d *Data) RunTests(ctx context.Context, run string, f pipeline.TestFilter) (web.Tests, error) {
	t, err := d.Pipeline.RunTests(ctx, pipeline.RunID(run), f)
	if err != nil {
		return web.Tests{}, err
	}
	v := web.Tests{Count: t.Count}
	for _, r := range t.Reports {
		v.Sources = append(v.Sources, prefixed("the log of "+r.Job, r.Job+": ", r.Sources)...)
		v.Problems = append(v.Problems, prefixed("", r.Job+": ", r.Problems)...)
	}
	for _, r := range t.Results {
		if f.Text != "" || r.Outcome == pipeline.TestFailed || r.Flaky {
			v.Results = append(v.Results, r)
		} else if r.Outcome == pipeline.TestPassed && len(v.Slowest) < 10 {
			v.Slowest = append(v.Slowest, r)
		}
	}
	if f.Text == "" && len(v.Slowest) == 0 { // failures fill the page
		passed, err := d.Pipeline.RunTests(ctx, pipeline.RunID(run), pipeline.TestFilter{Outcome: pipeline.TestPassed, Limit: 10})
		if err != nil {
			return v, err
		}
		v.Slowest = passed.Results
	}
	v.History, err = d.Pipeline.TestHistories(ctx, keysOf(v.Results), 20)
	return v, err
}

func prefixed(log, prefix string, all []string) (out []string) {
	for _, s := range all {
		if s == "log" && log != "" {
			out = append(out, log)
			continue
		}
		out = append(out, prefix+s)
	}
	return out
}

// TestHistory implements web.Data.
func (d *Data) TestHistory(ctx context.Context, key string) (pipeline.Test, []pipeline.TestResult, error) {
	return d.Pipeline.TestHistory(ctx, key, 100)
}

// RunArtifacts implements web.Data.
func (d *Data) RunArtifacts(ctx context.Context, run string) ([]web.RunArtifact, error) {
	r, err := d.Pipeline.Get(ctx, pipeline.RunID(run))
	if err != nil {
		return nil, err
	}
	all, err := d.Pipeline.Artifacts(ctx, r.ID)
	out := make([]web.RunArtifact, len(all))
	for i, a := range all {
		out[i] = web.RunArtifact{Name: a.Name, Digest: string(a.Digest), Size: a.Size, Created: a.Created}
		if j := r.Job(a.JobID); j != nil {
			out[i].Job = j.Key
		}
	}
	return out, err
}

// OpenArtifact implements web.Data.
func (d *Data) OpenArtifact(ctx context.Context, run, name string) (io.ReadCloser, int64, error) {
	return d.Pipeline.OpenArtifact(ctx, pipeline.RunID(run), name)
}

// LogOutline implements web.Data.
func (d *Data) LogOutline(ctx context.Context, run, job string, attempt int) (pipeline.LogOutline, error) {
	return d.Pipeline.LogOutline(ctx, pipeline.RunID(run), job, attempt)
}

// LogLines implements web.Data.
func (d *Data) LogLines(ctx context.Context, run, job string, attempt int, from int64, limit int) ([]pipeline.LogLine, error) {
	return d.Pipeline.LogLines(ctx, pipeline.RunID(run), job, attempt, from, limit)
}

// SearchLog implements web.Data.
func (d *Data) SearchLog(ctx context.Context, run, job string, attempt int, q pipeline.LogQuery) (pipeline.LogMatches, error) {
	return d.Pipeline.SearchLog(ctx, pipeline.RunID(run), job, attempt, q)
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

func jobs(r pipeline.Run, now time.Time) []web.Job {
	ended := map[string]time.Time{} // of each job id, which a matrix shares: when the last of them ended
	for i := range r.Jobs {
		if a := r.Jobs[i].Current(); a != nil && i < len(r.Plan.Jobs) {
			if id := r.Plan.Jobs[i].JobID; a.Finished.After(ended[id]) {
				ended[id] = a.Finished
			}
		}
	}
	out := make([]web.Job, len(r.Jobs))
	for i := range r.Jobs {
		j := &r.Jobs[i]
		v := web.Job{ID: string(j.ID), Key: j.Key, Name: j.Key, Group: j.Key, State: stateOf(j.State), Done: j.State.Done(), Reason: j.Reason, Since: j.Since, Attempts: len(j.Attempts)}
		if i < len(r.Plan.Jobs) {
			p := r.Plan.Jobs[i]
			v.Release, v.Group, v.Needs = p.Build != nil, p.JobID, p.Needs
			if p.Name != "" {
				v.Name = p.Name
			}
		}
		for k := range j.Attempts {
			switch a := &j.Attempts[k]; {
			case !a.Finished.IsZero():
				v.Used += a.Finished.Sub(a.Started)
			case !a.State.Done():
				v.Used += now.Sub(a.Started)
			}
		}
		if a := j.Current(); a != nil {
			v.Started, v.Finished, v.Attempt, v.Confined, v.Network, v.Summary = a.Started, a.Finished, a.Number, a.Confined, a.Network, a.Summary
			if v.Reason == "" {
				v.Reason = a.Reason
			}
			v.Unenforced = a.Unenforced
			for _, c := range a.Caches {
				v.Caches = append(v.Caches, web.CacheUse(c))
			}
			for _, img := range a.Images {
				v.Images = append(v.Images, img.Use+": "+img.Name+" "+img.Digest)
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
