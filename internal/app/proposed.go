package app

import (
	"bytes"
	"context"
	"fmt"
	"path"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/spec"
	"weir/internal/source/git"
)

// proposed looks at the workflows of a change. Its checks run by the workflows
// of the target branch, so nothing else would find out before they land that
// the new ones cannot run.
type proposed struct{ git *git.Cache }

// check is a source.WorkflowCheck. Workflows that the change leaves alone are
// not looked at: a trunk that has a bad one can still take changes.
func (p proposed) check(ctx context.Context, repositoryID, from, to string) error {
	for _, dir := range []string{".github/workflows", ".weir/workflows"} {
		files, err := p.git.List(ctx, repositoryID, to, dir)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return fmt.Errorf("list %s at %s: %w", dir, to, err)
		}
		for _, name := range files {
			file := path.Join(dir, path.Base(name))
			if ext := path.Ext(file); ext != ".yml" && ext != ".yaml" {
				continue
			}
			content, err := p.git.ReadFile(ctx, repositoryID, to, file)
			if err != nil {
				return fmt.Errorf("read %s at %s: %w", file, to, err)
			}
			if before, err := p.git.ReadFile(ctx, repositoryID, from, file); err == nil && bytes.Equal(before, content) {
				continue
			}
			for _, d := range spec.Check(file, content) {
				if d.Severity == pipeline.Error {
					return fault.New(fault.Invalid, "%s:%d:%d: %s", d.File, d.Line, d.Col, d.Message)
				}
			}
		}
	}
	return nil
}
