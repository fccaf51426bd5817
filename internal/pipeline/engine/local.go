package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/expr"
	"weir/internal/pipeline/plan"
	"weir/internal/pipeline/spec"
)

// Local asks for runs without a push: of a working tree, by its owner.
type Local struct {
	Run      pipeline.Run // who, what, where; without workflow and plan
	Workflow string       // path or name of one file; "" for all that the event starts
	Event    string       // "" for the first that the workflow has
	Branch   string
	Job      string            // only this job and what it needs
	Matrix   map[string]string // only combinations with these values
	Inputs   map[string]string
	More     map[string]any // for the github context
}

// order of events when none is asked for.
var localEvents = []string{"push", "pull_request", "workflow_dispatch", "schedule"}

// StartLocal plans and stores the runs of a working tree. A workflow that is named runs whatever branch and paths it filters.
func (e *Engine) StartLocal(ctx context.Context, l Local) ([]pipeline.Run, error) {
	var files []string
	if l.Workflow != "" {
		file, _, err := e.find(ctx, l.Run.RepositoryID, l.Run.Revision, l.Workflow)
		if err != nil {
			return nil, err
		}
		files = []string{file}
	} else {
		var err error
		if files, err = e.workflows(ctx, l.Run.RepositoryID, l.Run.Revision); err != nil {
			return nil, err
		}
		if len(files) == 0 {
			return nil, fault.New(fault.NotFound, "There is no workflow in %s.", strings.Join(folders, " or "))
		}
	}
	var runs []pipeline.Run
	for _, file := range files {
		r, ok, err := e.local(ctx, l, file)
		if err != nil {
			return nil, err
		}
		if ok {
			runs = append(runs, r)
		}
	}
	if len(runs) == 0 {
		return nil, fault.New(fault.NotFound, "No workflow starts on %s of the branch %s. Name one with -W, or another event with --event.", orPush(l.Event), l.Branch)
	}
	return runs, e.create(ctx, runs)
}

func orPush(event string) string {
	if event == "" {
		return "push"
	}
	return event
}

func (e *Engine) local(ctx context.Context, l Local, file string) (pipeline.Run, bool, error) {
	content, err := e.Repository.ReadFile(ctx, l.Run.RepositoryID, l.Run.Revision, file)
	if err != nil {
		return pipeline.Run{}, false, err
	}
	base := l.Run
	w, _ := spec.Parse(file, content)
	ev := plan.Event{Name: l.Event, Branch: l.Branch}
	if ev.Name == "" {
		ev.Name = "push"
	}
	if w != nil {
		if l.Event == "" && l.Workflow != "" {
			i := slices.IndexFunc(localEvents, func(name string) bool { return has(w, name) })
			if i < 0 {
				return base, false, fault.New(fault.Conflict, "%s has no event that starts it by itself; it is called by other workflows.", file)
			}
			ev.Name = localEvents[i]
		}
		if !has(w, ev.Name) {
			if l.Workflow == "" {
				return base, false, nil
			}
			return base, false, fault.New(fault.Conflict, "%s does not start on %s.", file, ev.Name)
		}
		if l.Workflow == "" && !plan.Triggered(w, ev) {
			return base, false, nil
		}
	}
	event := map[string]any{}
	if ev.Name == "workflow_dispatch" && w != nil {
		in, err := plan.DispatchInputs(w, l.Inputs)
		if err != nil {
			return base, false, err
		}
		texts := map[string]any{}
		in.Each(func(k string, v expr.Value) { texts[k] = expr.String(v) })
		event["inputs"], ev.Inputs = texts, in
	} else if len(l.Inputs) > 0 && w != nil {
		return base, false, fault.New(fault.Invalid, "Only workflow_dispatch has inputs, and %s starts on %s. Add --event workflow_dispatch.", file, ev.Name)
	}
	base.Event = ev.Name
	more := map[string]any{"event": event}
	for k, v := range l.More {
		more[k] = v
	}
	base.GitHub = e.github(base, more)
	r := e.planned(ctx, base, base.Revision, file, content, ev)
	if r.State == pipeline.Refused {
		return r, false, fault.New(fault.Invalid, "%s", refusals(r))
	}
	return r, true, narrow(&r, l)
}

func has(w *spec.Workflow, event string) bool {
	switch event {
	case "push":
		return w.Push != nil
	case "pull_request":
		return w.PullRequest != nil
	case "workflow_dispatch":
		return w.Dispatch != nil
	case "schedule":
		return len(w.Schedules) > 0
	}
	return false
}

// refusals is everything that keeps a run from starting, one a line.
func refusals(r pipeline.Run) string {
	var lines []string
	for _, d := range r.Diagnostics {
		if d.Severity == pipeline.Error {
			lines = append(lines, fmt.Sprintf("%s:%d:%d: %s", d.File, d.Line, d.Col, d.Message))
		}
	}
	return strings.Join(lines, "\n")
}

// narrow takes out of a plan what was not asked for.
func narrow(r *pipeline.Run, l Local) error {
	p := &r.Plan
	if l.Job != "" {
		want := map[string]bool{}
		var need func(id string)
		need = func(id string) {
			if want[id] {
				return
			}
			want[id] = true
			for _, j := range p.Jobs {
				if j.JobID == id {
					for _, n := range j.Needs {
						need(n)
					}
				}
			}
		}
		var ids []string
		for _, j := range p.Jobs {
			if strings.EqualFold(j.JobID, l.Job) || strings.EqualFold(j.Key, l.Job) {
				need(j.JobID)
			}
			if !slices.Contains(ids, j.JobID) {
				ids = append(ids, j.JobID)
			}
		}
		if len(want) == 0 {
			return fault.New(fault.NotFound, "%s has no job %s; it has %s.", r.Workflow, l.Job, strings.Join(ids, ", "))
		}
		p.Jobs = slices.DeleteFunc(p.Jobs, func(j pipeline.JobPlan) bool { return !want[j.JobID] })
	}
	if len(l.Matrix) > 0 {
		kept := map[string]bool{}
		had := map[string]bool{}
		p.Jobs = slices.DeleteFunc(p.Jobs, func(j pipeline.JobPlan) bool {
			had[j.JobID] = true
			drop := !Selected(&j, l.Matrix)
			kept[j.JobID] = kept[j.JobID] || !drop
			return drop
		})
		for id := range had {
			if !kept[id] {
				return fault.New(fault.NotFound, "No combination of job %s has the values of --matrix.", id)
			}
		}
	}
	r.Jobs = nil
	jobs(r)
	return nil
}

// Selected reports whether a job has the given values of its matrix, as far as it has these keys.
func Selected(j *pipeline.JobPlan, values map[string]string) bool {
	m, ok := plan.Matrix(j).(*expr.Object)
	if !ok || j.Matrix == "" {
		return true
	}
	for k, want := range values {
		if have, ok := m.Get(k); ok && expr.String(have) != want {
			return false
		}
	}
	return true
}
