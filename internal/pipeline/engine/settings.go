package engine

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/expr"
	"weir/internal/pipeline/plan"
	"weir/internal/pipeline/runner"
)

// settle gives a job what its scope has: inputs, variables, secrets and the environment of its workflow.
func (e *Engine) settle(ctx context.Context, r *pipeline.Run, j *runner.Job) error {
	j.Inputs = expr.JSON(plan.Inputs(&r.Plan, j.Plan.Scope))
	if s := r.Plan.Scopes[j.Plan.Scope]; s != nil {
		j.Env = s.Env
	}
	if e.Settings == nil {
		return nil
	}
	var err error
	if j.Vars, err = e.Settings.Vars(ctx, r.RepositoryID, j.Plan.Environment); err != nil {
		return fmt.Errorf("variables of job %s: %w", j.JobID, err)
	}
	all := map[string]string{} // what a change runs is not trusted with secrets
	if r.Trust == pipeline.Landed || r.Trust == pipeline.Local {
		if all, err = e.Settings.Secrets(ctx, r.RepositoryID, j.Plan.Environment); err != nil {
			return fmt.Errorf("secrets of job %s: %w", j.JobID, err)
		}
	}
	if j.Token != "" && j.Plan.Scope != "" { // a caller hands its job's token on as any other secret
		all = maps.Clone(all)
		if all == nil {
			all = map[string]string{}
		}
		all[ownToken] = j.Token
	}
	if j.Secrets, err = scoped(r, j.Plan.Scope, all); err != nil {
		return err
	}
	delete(j.Secrets, ownToken) // every job has it anyway
	return nil
}

// ownToken is the name under which workflows find the job's own token among the secrets.
const ownToken = "GITHUB_TOKEN"

// scoped narrows secrets to what a called workflow was given, from the outermost caller inwards.
func scoped(r *pipeline.Run, scope string, all map[string]string) (map[string]string, error) {
	s := r.Plan.Scopes[scope]
	if s == nil {
		return all, nil
	}
	above, err := scoped(r, s.Parent, all)
	if err != nil || s.Inherit {
		return above, err
	}
	env := expr.Env{Contexts: expr.NewObject().Set("secrets", expr.From(above)).Set("github", expr.From(r.GitHub)).Set("inputs", plan.Inputs(&r.Plan, s.Parent))}
	out := make(map[string]string, len(s.Secrets))
	for name, text := range s.Secrets {
		v, err := expr.Interpolate(text, env)
		if err != nil {
			return nil, fault.New(fault.Invalid, "The secret %s that job %s is given could not be computed: %v.", name, scope, err)
		}
		out[name] = v
	}
	return out, nil
}

// lookup finds the workflows and actions that a workflow at a revision uses; tree is the revision that its jobs check out.
func (e *Engine) lookup(ctx context.Context, repositoryID, at, tree string) plan.Lookup {
	l := plan.Lookup{Workflow: func(from, uses string) (string, []byte, error) {
		name := plan.FileName(from, uses)
		if !strings.Contains(name, "@") {
			src, err := e.Repository.ReadFile(ctx, repositoryID, at, name)
			return name, src, err
		}
		repo, file, ref := plan.Remote(name)
		if e.Mirrors == nil {
			return name, nil, plan.Unmirrored(name)
		}
		revision, err := e.Mirrors.Resolve(ctx, repo, ref)
		if err != nil {
			return name, nil, err
		}
		src, err := e.Mirrors.ReadFile(ctx, repo, revision, file)
		return repo + "/" + file + "@" + revision, src, err
	}}
	l.File = func(name string) ([]byte, error) {
		if !strings.Contains(name, "@") {
			return e.Repository.ReadFile(ctx, repositoryID, tree, name)
		}
		repo, file, revision := plan.Remote(name)
		return e.Mirrors.ReadFile(ctx, repo, revision, file) // it was resolved, so there is a mirror
	}
	l.Action = func(uses string) (string, error) { return "", plan.Unmirrored(uses) }
	if e.Mirrors != nil {
		l.Action = func(uses string) (string, error) {
			repo, _, ref := plan.Remote(uses)
			revision, err := e.Mirrors.Resolve(ctx, repo, ref)
			action, _, _ := strings.Cut(uses, "@")
			return action + "@" + revision, err
		}
	}
	return l
}
