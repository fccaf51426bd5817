package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"

	"weir/internal/base/fault"
	"weir/internal/base/id"
	"weir/internal/base/journal"
	"weir/internal/pipeline"
	"weir/internal/pipeline/plan"
	"weir/internal/pipeline/spec"
	"weir/internal/source"
)

// handle makes runs of a fact. It may see a fact again: Create knows the runs that exist.
func (e *Engine) handle(ctx context.Context, f journal.Fact) error {
	switch f.Type {
	case source.FactPushed:
		var p source.Pushed
		if err := json.Unmarshal(f.Body, &p); err != nil {
			slog.ErrorContext(ctx, "fact not understood", "fact", f.ID, "type", f.Type, "error", err)
			return nil
		}
		if strings.HasPrefix(p.Ref, "refs/tags/") && !zero(p.New) {
			return e.settled(ctx, f, e.tagged(ctx, f, p))
		}
		if !p.Landed && !p.Bootstrap || zero(p.New) {
			return nil
		}
		return e.settled(ctx, f, e.landed(ctx, f, p))
	case source.FactChangeUpdated:
		var u source.ChangeUpdated
		if err := json.Unmarshal(f.Body, &u); err != nil {
			slog.ErrorContext(ctx, "fact not understood", "fact", f.ID, "type", f.Type, "error", err)
			return nil
		}
		return e.settled(ctx, f, e.changed(ctx, f, u))
	case source.FactChangeEnded:
		var c struct {
			ChangeID string `json:"change_id"`
			State    string `json:"state"`
		}
		if err := json.Unmarshal(f.Body, &c); err != nil || c.ChangeID == "" {
			return nil
		}
		return e.ended(ctx, f, c.ChangeID, c.State)
	}
	return nil
}

// settled lets a fact go that can never make a run, such as one of a repository that is gone: it must not hold up those after it.
func (e *Engine) settled(ctx context.Context, f journal.Fact, err error) error {
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) {
		slog.WarnContext(ctx, "fact makes no run", "fact", f.ID, "type", f.Type, "subject", f.Subject, "error", err)
		return nil
	}
	return err
}

func zero(revision string) bool { return strings.Trim(revision, "0") == "" }

func branch(ref string) string {
	return strings.TrimPrefix(strings.TrimPrefix(ref, "refs/heads/"), "refs/tags/")
}

func refType(ref string) string {
	if strings.HasPrefix(ref, "refs/tags/") {
		return "tag"
	}
	return "branch"
}

func (e *Engine) landed(ctx context.Context, f journal.Fact, p source.Pushed) error {
	base := pipeline.Run{Org: f.Org, RepositoryID: p.RepositoryID, Repository: p.Repository, Event: "push", Ref: p.Ref, Base: p.Old, Revision: p.New,
		Trust: pipeline.Landed, Actor: p.Actor}
	ev := plan.Event{Name: "push", Branch: branch(p.Ref)}
	if !zero(p.Old) {
		var err error
		if ev.Changed, err = e.changedFiles(ctx, p.RepositoryID, p.Old, p.New); err != nil {
			return err
		}
	}
	base.GitHub = e.github(base, map[string]any{"event": map[string]any{"ref": p.Ref, "before": p.Old, "after": p.New}})
	runs, err := e.plan(ctx, base, p.New, ev)
	if err != nil {
		return err
	}
	if err := e.reschedule(ctx, base); err != nil {
		return err
	}
	if runs, err = e.withBuilds(ctx, base, runs); err != nil {
		return err
	}
	return e.create(ctx, runs)
}

func (e *Engine) changed(ctx context.Context, f journal.Fact, u source.ChangeUpdated) error {
	base := pipeline.Run{Org: f.Org, RepositoryID: u.RepositoryID, Repository: u.Repository, Event: "pull_request", Base: u.Base, Revision: u.Revision,
		Ref: fmt.Sprintf("refs/changes/%d/%d", u.Number, u.Patchset), Trust: pipeline.Change, ChangeID: u.ChangeID, ChangeNumber: int(u.Number), Patchset: u.Patchset, Actor: u.Author}
	changed, err := e.changedFiles(ctx, u.RepositoryID, u.Base, u.Revision)
	if err != nil {
		return err
	}
	ev := plan.Event{Name: "pull_request", Branch: branch(u.Target), Changed: changed}
	base.GitHub = e.github(base, map[string]any{
		"base_ref": branch(u.Target), "head_ref": fmt.Sprintf("change-%d", u.Number),
		"event": map[string]any{"number": u.Number, "action": "synchronize", "pull_request": map[string]any{
			"number": u.Number, "head": map[string]any{"sha": u.Revision}, "base": map[string]any{"sha": u.Base, "ref": branch(u.Target)}}},
	})
	// The workflows of the target branch, never the change's own: a change cannot loosen what guards it.
	runs, err := e.plan(ctx, base, u.Base, ev)
	if err != nil {
		return err
	}
	return e.create(ctx, runs)
}

// changedFiles is never nil when the paths are known. When they cannot be known, every path filter matches: rather one run too many.
func (e *Engine) changedFiles(ctx context.Context, repositoryID, from, to string) ([]string, error) {
	files, err := e.Repository.ChangedFiles(ctx, repositoryID, from, to)
	if fault.KindOf(err) != "" && !fault.Is(err, fault.Unavailable) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("changed files of %s: %w", to, err)
	}
	return append([]string{}, files...), nil
}

// ended stops the runs of a change that nobody waits for any more.
func (e *Engine) ended(ctx context.Context, f journal.Fact, change, state string) error {
	runs, err := e.Store.List(ctx, pipeline.Filter{Org: f.Org, ChangeID: change})
	if err != nil {
		return fmt.Errorf("runs of change %s: %w", change, err)
	}
	reason := "the change was " + state
	for _, r := range runs {
		if r.State.Done() {
			continue
		}
		entry := pipeline.Entry{Actor: "system:pipeline", Action: "pipeline.run_cancel_requested", Subject: string(r.ID), Data: map[string]string{"reason": reason}}
		err := e.Store.Update(ctx, r.ID, entry, func(r pipeline.Run) (pipeline.Run, error) {
			if r.Cancel == nil && !r.State.Done() {
				r.Cancel = &pipeline.Cancellation{By: entry.Actor, Reason: reason, At: f.Time}
			}
			return r, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) github(r pipeline.Run, more map[string]any) map[string]any {
	owner, _, _ := strings.Cut(r.Repository, "/")
	g := map[string]any{"event_name": r.Event, "ref": r.Ref, "ref_name": branch(r.Ref), "ref_type": refType(r.Ref), "sha": r.Revision, "actor": r.Actor,
		"triggering_actor": r.Actor, "server_url": e.URL, "repository": r.Repository, "repository_id": r.RepositoryID, "repository_owner": owner}
	for k, v := range more {
		g[k] = v
	}
	return plan.GitHub(g)
}

// folders are where workflows live, in this order.
var folders = []string{".github/workflows", ".weir/workflows"}

// maxWorkflows bounds what one revision may start.
const maxWorkflows = 100

// plan reads the workflows at a revision and plans those that ev starts. A workflow that cannot be run becomes a refused run.
func (e *Engine) plan(ctx context.Context, base pipeline.Run, at string, ev plan.Event) ([]pipeline.Run, error) {
	files, err := e.workflows(ctx, base.RepositoryID, at)
	if err != nil {
		return nil, err
	}
	var runs []pipeline.Run
	for _, file := range files {
		content, err := e.Repository.ReadFile(ctx, base.RepositoryID, at, file)
		if err != nil {
			return nil, fmt.Errorf("read %s at %s: %w", file, at, err)
		}
		if r, ok := e.one(ctx, base, at, file, content, ev); ok {
			runs = append(runs, r)
		}
	}
	return runs, nil
}

// workflows lists the workflow files of a revision.
func (e *Engine) workflows(ctx context.Context, repositoryID, at string) ([]string, error) {
	var files []string
	for _, dir := range folders {
		found, err := e.Repository.List(ctx, repositoryID, at, dir)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, fmt.Errorf("list %s at %s: %w", dir, at, err)
		}
		for _, f := range found {
			if ext := path.Ext(f); ext == ".yml" || ext == ".yaml" {
				files = append(files, path.Join(dir, path.Base(f)))
			}
		}
	}
	slices.Sort(files)
	return files[:min(len(files), maxWorkflows)], nil
}

func (e *Engine) one(ctx context.Context, base pipeline.Run, at, file string, content []byte, ev plan.Event) (pipeline.Run, bool) {
	r := fresh(base, file)
	w, diags := spec.Parse(file, content)
	r.Diagnostics = diags
	if w == nil {
		// Who knows what starts a file that cannot be read: only what everybody waits for is told of it.
		return refuse(r, content), ev.Name != "schedule" && ev.Tag == ""
	}
	if !plan.Triggered(w, ev) {
		return r, false
	}
	return e.made(ctx, r, at, w, content, ev), true
}

// planned plans one workflow whether its filters let the event start it or not.
func (e *Engine) planned(ctx context.Context, base pipeline.Run, at, file string, content []byte, ev plan.Event) pipeline.Run {
	r := fresh(base, file)
	w, diags := spec.Parse(file, content)
	if r.Diagnostics = diags; w == nil {
		return refuse(r, content)
	}
	return e.made(ctx, r, at, w, content, ev)
}

func fresh(base pipeline.Run, file string) pipeline.Run {
	r := base
	r.ID, r.Workflow, r.Name, r.State, r.Attempt, r.Created = pipeline.RunID(id.New("run")), file, path.Base(file), pipeline.Pending, 1, time.Now().UTC()
	return r
}

// made gives a run its plan, or the reason why there is none.
func (e *Engine) made(ctx context.Context, r pipeline.Run, at string, w *spec.Workflow, content []byte, ev plan.Event) pipeline.Run {
	r.Name = w.Name
	ev.GitHub = map[string]any{}
	for k, v := range r.GitHub {
		ev.GitHub[k] = v
	}
	if ev.Vars == nil && e.Settings != nil {
		vars, err := e.Settings.Vars(ctx, r.RepositoryID, "")
		if err != nil {
			slog.ErrorContext(ctx, "variables not read", "repository", r.RepositoryID, "error", err)
		}
		ev.Vars = vars
	}
	ev.GitHub["workflow"], ev.GitHub["run_id"], ev.GitHub["run_attempt"] = w.Name, string(r.ID), "1"
	r.GitHub = ev.GitHub
	made, more := plan.Make(w, ev, e.lookup(ctx, r.RepositoryID, at, r.Revision))
	if r.Diagnostics = append(r.Diagnostics, more...); len(more) > 0 {
		return refuse(r, content)
	}
	r.Plan, r.Title = made.Plan, made.Title
	if e.Networks != nil {
		network, err := e.Networks.Network(ctx, r.RepositoryID, at, r.Workflow)
		if err != nil { // a rule that cannot be read is not one to be without
			slog.ErrorContext(ctx, "network of the run not known; its jobs get none", "repository", r.RepositoryID, "revision", at, "error", err)
			network = "none"
		}
		r.Plan.Network = network
	}
	jobs(&r)
	return r
}

// refuse ends a run before it began. Its plan names the jobs of the file, so that each of their checks fails; none of them exists.
func refuse(r pipeline.Run, content []byte) pipeline.Run {
	for _, id := range spec.JobIDs(content) {
		r.Plan.Jobs = append(r.Plan.Jobs, pipeline.JobPlan{Key: id, JobID: id, Name: id})
	}
	r.State, r.Finished, r.Reason = pipeline.Refused, r.Created, "the workflow cannot be run as it is written"
	for _, d := range r.Diagnostics {
		if d.Severity == pipeline.Error {
			r.Reason = fmt.Sprintf("%s:%d:%d: %s", d.File, d.Line, d.Col, d.Message)
			break
		}
	}
	return r
}

// jobs makes the jobs of a plan.
func jobs(r *pipeline.Run) {
	for i := len(r.Jobs); i < len(r.Plan.Jobs); i++ {
		r.Jobs = append(r.Jobs, pipeline.Job{ID: pipeline.JobID(id.New("job")), Key: r.Plan.Jobs[i].Key, State: pipeline.Waiting, Since: r.Created, Rev: 1})
	}
}

// ReleaseWorkflow is the path that a run carries which has builds and no workflow.
const ReleaseWorkflow = "weir.yaml"

// withBuilds adds the release jobs of a landed revision to its first run, or to one of their own.
func (e *Engine) withBuilds(ctx context.Context, base pipeline.Run, runs []pipeline.Run) ([]pipeline.Run, error) {
	if e.Builds == nil {
		return runs, nil
	}
	builds, err := e.Builds.Plan(ctx, base.RepositoryID, base.Revision)
	own := base
	own.ID, own.Workflow, own.Name, own.State, own.Attempt, own.Created = pipeline.RunID(id.New("run")), ReleaseWorkflow, "Release", pipeline.Pending, 1, time.Now().UTC()
	if fault.Is(err, fault.Invalid) || fault.Is(err, fault.NotFound) {
		own.State, own.Finished, own.Reason = pipeline.Refused, own.Created, fault.Sentence(err)
		own.Diagnostics = []pipeline.Diagnostic{{File: ReleaseWorkflow, Line: 1, Col: 1, Severity: pipeline.Error, Message: own.Reason}}
		return append(runs, own), nil
	}
	if err != nil {
		return nil, fmt.Errorf("plan builds of %s: %w", base.Revision, err)
	}
	if len(builds) == 0 {
		return runs, nil
	}
	if len(runs) == 0 {
		runs = append(runs, own)
	}
	r := &runs[0]
	if r.State == pipeline.Refused { // nothing is released from a revision whose workflow does not run
		return runs, nil
	}
	var needs []string
	for _, j := range r.Plan.Jobs {
		if !slices.Contains(needs, j.JobID) {
			needs = append(needs, j.JobID)
		}
	}
	for _, b := range builds {
		r.Plan.Jobs = append(r.Plan.Jobs, pipeline.ReleaseJob(b, needs))
	}
	jobs(r)
	return runs, nil
}

// create stores runs. While there is no room they are stored as cancelled, with the reason, and can be run again later.
func (e *Engine) create(ctx context.Context, runs []pipeline.Run) error {
	full := e.cfg.Room()
	for _, r := range runs {
		if full != nil && r.State == pipeline.Pending {
			r.State, r.Finished, r.Reason = pipeline.Cancelled, r.Created, fault.Sentence(full)
			for i := range r.Jobs {
				r.Jobs[i].State, r.Jobs[i].Reason = pipeline.Cancelled, r.Reason
			}
		}
		created, err := e.Store.Create(ctx, r)
		if err != nil {
			return err
		}
		if created {
			slog.InfoContext(ctx, "run created", "run", r.ID, "workflow", r.Workflow, "revision", r.Revision, "trust", r.Trust, "state", r.State)
		}
	}
	return nil
}
