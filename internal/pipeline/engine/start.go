package engine

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/base/id"
	"weir/internal/base/journal"
	"weir/internal/pipeline"
	"weir/internal/pipeline/expr"
	"weir/internal/pipeline/plan"
	"weir/internal/pipeline/spec"
	"weir/internal/source"
)

// tagged makes the runs of a tag. Tags point to what has landed, so its workflows are as trusted as those of the trunk.
func (e *Engine) tagged(ctx context.Context, f journal.Fact, p source.Pushed) error {
	if e.Refs == nil || strings.HasPrefix(p.Actor, "job/") { // as at GitHub, what a job pushes starts nothing: it might push again
		return nil
	}
	tag := branch(p.Ref)
	revision, err := e.Refs.Tag(ctx, p.RepositoryID, tag)
	if err != nil {
		return err
	}
	base := pipeline.Run{Org: f.Org, RepositoryID: p.RepositoryID, Repository: p.Repository, Event: "push", Ref: p.Ref, Base: p.Ref, Revision: revision,
		Trust: pipeline.Landed, Actor: p.Actor}
	base.GitHub = e.github(base, map[string]any{"event": map[string]any{"ref": p.Ref, "before": p.Old, "after": revision}})
	runs, err := e.plan(ctx, base, revision, plan.Event{Name: "push", Tag: tag})
	if err != nil {
		return err
	}
	return e.create(ctx, runs)
}

// Dispatch starts a run by hand, of the trunk or of a tag: revisions that have landed.
func (e *Engine) Dispatch(ctx context.Context, s pipeline.StartRequest) (pipeline.Run, error) {
	if e.Refs == nil {
		return pipeline.Run{}, fault.New(fault.Unavailable, "This server starts no runs by hand.")
	}
	repositoryID, name, err := e.Refs.Repository(ctx, s.Repository)
	if err != nil {
		return pipeline.Run{}, err
	}
	base := pipeline.Run{Org: e.cfg.Org, RepositoryID: repositoryID, Repository: name, Event: "workflow_dispatch", Trust: pipeline.Landed, Actor: s.By}
	if base.Ref, base.Revision, err = e.start(ctx, repositoryID, s.Ref); err != nil {
		return base, err
	}
	file, content, err := e.find(ctx, repositoryID, base.Revision, s.Workflow)
	if err != nil {
		return base, err
	}
	w, diags := spec.Parse(file, content)
	if w == nil {
		for _, d := range diags {
			if d.Severity == pipeline.Error {
				return base, fault.New(fault.Invalid, "%s:%d:%d: %s", d.File, d.Line, d.Col, d.Message)
			}
		}
	}
	if w.Dispatch == nil {
		return base, fault.New(fault.Conflict, "%s is not started by hand: it has no on: workflow_dispatch.", file)
	}
	in, err := plan.DispatchInputs(w, s.Inputs)
	if err != nil {
		return base, err
	}
	texts := map[string]any{}
	in.Each(func(k string, v expr.Value) { texts[k] = expr.String(v) })
	base.Base = "workflow_dispatch:" + id.New("start")
	base.GitHub = e.github(base, map[string]any{"event": map[string]any{"inputs": texts, "ref": base.Ref, "workflow": file}})
	r, _ := e.one(ctx, base, base.Revision, file, content, plan.Event{Name: "workflow_dispatch", Branch: branch(base.Ref), Inputs: in})
	if r.State == pipeline.Refused {
		return r, fault.New(fault.Invalid, "%s", r.Reason)
	}
	if err := e.create(ctx, []pipeline.Run{r}); err != nil {
		return r, err
	}
	slog.InfoContext(ctx, "run started by hand", "run", r.ID, "by", s.By)
	return r, nil
}

// start resolves where a run by hand starts.
func (e *Engine) start(ctx context.Context, repositoryID, ref string) (full, revision string, err error) {
	trunk, head, err := e.Refs.Trunk(ctx, repositoryID)
	if err != nil {
		return "", "", err
	}
	if ref == "" || ref == trunk || ref == branch(trunk) {
		if head == "" {
			return "", "", fault.New(fault.Conflict, "The repository is empty. Push %s first.", branch(trunk))
		}
		return trunk, head, nil
	}
	tag := strings.TrimPrefix(ref, "refs/tags/")
	revision, err = e.Refs.Tag(ctx, repositoryID, tag)
	if fault.Is(err, fault.NotFound) {
		return "", "", fault.New(fault.NotFound, "There is no tag %s, and runs start by hand on %s or a tag only: what has landed. A branch is checked by opening a change.", ref, branch(trunk))
	}
	return "refs/tags/" + tag, revision, err
}

// find reads a workflow by its path or the name of its file.
func (e *Engine) find(ctx context.Context, repositoryID, revision, workflow string) (string, []byte, error) {
	files, err := e.workflows(ctx, repositoryID, revision)
	if err != nil {
		return "", nil, err
	}
	i := slices.IndexFunc(files, func(f string) bool {
		return f == workflow || path.Base(f) == workflow || strings.TrimSuffix(path.Base(f), path.Ext(f)) == workflow
	})
	if i < 0 {
		return "", nil, fault.New(fault.NotFound, "There is no workflow %s; there are: %s.", workflow, orNone(strings.Join(files, ", ")))
	}
	content, err := e.Repository.ReadFile(ctx, repositoryID, revision, files[i])
	if err != nil {
		return "", nil, fmt.Errorf("read %s: %w", files[i], err)
	}
	return files[i], content, nil
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
