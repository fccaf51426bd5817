package engine

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/plan"
	"weir/internal/pipeline/spec"
)

// Proposed looks at the workflows of a change. Its checks run by the workflows
// of the target branch, so nothing else would find out before they land that
// the new ones cannot run. An Invalid fault names the first place that is wrong.
// Workflows that the change leaves alone are not looked at: a trunk that has a
// bad one can still take changes.
func (e *Engine) Proposed(ctx context.Context, repositoryID, from, to string) error {
	for _, dir := range folders {
		files, err := e.Repository.List(ctx, repositoryID, to, dir)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return fmt.Errorf("list %s at %s: %w", dir, to, err)
		}
		for _, name := range files {
			file := path.Join(dir, path.Base(name))
			if ext := path.Ext(file); ext != ".yml" && ext != ".yaml" {
				continue
			}
			content, err := e.Repository.ReadFile(ctx, repositoryID, to, file)
			if err != nil {
				return fmt.Errorf("read %s at %s: %w", file, to, err)
			}
			if before, err := e.Repository.ReadFile(ctx, repositoryID, from, file); err == nil && bytes.Equal(before, content) {
				continue
			}
			if err := e.runnable(ctx, repositoryID, to, file, content); err != nil {
				return err
			}
		}
	}
	return nil
}

// runnable checks one file and that what it uses can be found.
func (e *Engine) runnable(ctx context.Context, repositoryID, at, file string, content []byte) error {
	w, diags := spec.Parse(file, content)
	for _, d := range diags {
		if d.Severity == pipeline.Error {
			return fault.New(fault.Invalid, "%s:%d:%d: %s", d.File, d.Line, d.Col, d.Message)
		}
	}
	if w == nil {
		return fault.New(fault.Invalid, "%s cannot be read as a workflow.", file)
	}
	find := e.lookup(ctx, repositoryID, at, at)
	wrong := func(p spec.Pos, uses string, err error) error {
		if fault.KindOf(err) == "" {
			return fmt.Errorf("look for %s: %w", uses, err)
		}
		return fault.New(fault.Invalid, "%s:%d:%d: uses: %s: %s", file, p.Line, p.Col, uses, fault.Sentence(err))
	}
	for _, j := range w.Jobs {
		if j.Use != nil {
			if _, _, err := find.Workflow(file, j.Use.Path); err != nil {
				return wrong(j.Use.Pos, j.Use.Path, err)
			}
		}
		for _, s := range j.Steps {
			if !strings.Contains(s.Uses, "@") || strings.HasPrefix(s.Uses, "./") || strings.HasPrefix(s.Uses, spec.Image) {
				continue
			}
			if _, err := find.Action(s.Uses); err != nil {
				return wrong(s.Pos, s.Uses, err)
			}
		}
	}
	for _, d := range plan.Check(w, find) { // and what those use in turn
		if d.Severity == pipeline.Error {
			return fault.New(fault.Invalid, "%s:%d:%d: %s", d.File, d.Line, d.Col, d.Message)
		}
	}
	return nil
}
