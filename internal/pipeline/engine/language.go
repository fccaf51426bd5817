package engine

import (
	"context"
	"log/slog"
	"slices"

	"weir/internal/base/fault"
	"weir/internal/base/id"
	"weir/internal/pipeline"
	"weir/internal/pipeline/expr"
	"weir/internal/pipeline/plan"
)

// language answers for a run what only the language of workflows can.
func (e *Engine) language(ctx context.Context, r *pipeline.Run) pipeline.Language {
	var vars map[string]string
	asked := false
	with := func(q pipeline.Question) pipeline.Question {
		if !asked && e.Settings != nil { // only where a question needs them
			asked = true
			var err error
			if vars, err = e.Settings.Vars(ctx, r.RepositoryID, ""); err != nil {
				slog.ErrorContext(ctx, "variables not read", "run", r.ID, "error", err)
			}
		}
		q.Vars = vars
		return q
	}
	return pipeline.Language{
		If: func(q pipeline.Question) (bool, error) { return expr.Condition(q.Job.If, conditions(with(q))) },
		Expand: func(q pipeline.Question) (pipeline.Expansion, error) {
			x, err := plan.Expand(with(q))
			if e.cfg.Select != nil {
				x.Jobs = slices.DeleteFunc(x.Jobs, func(j pipeline.JobPlan) bool { return !e.cfg.Select(&j) })
			}
			return x, err
		},
		Outputs: plan.Outputs,
		Resolve: func(q pipeline.Question) (pipeline.JobPlan, error) { return resolve(with(q)) },
		ID:      func() pipeline.JobID { return pipeline.JobID(id.New("job")) },
	}
}

// conditions is what a job's own expressions see before it runs.
func conditions(q pipeline.Question) expr.Env {
	is := func(v bool) func([]expr.Value) (expr.Value, error) {
		return func([]expr.Value) (expr.Value, error) { return v, nil }
	}
	return expr.Env{
		Contexts: expr.NewObject().Set("github", expr.From(q.Run.GitHub)).Set("needs", plan.Needs(q)).Set("vars", expr.From(q.Vars)).
			Set("inputs", plan.Inputs(&q.Run.Plan, q.Job.Scope)),
		Functions: map[string]func([]expr.Value) (expr.Value, error){
			"success": is(q.Success), "failure": is(q.Failure), "cancelled": is(q.Cancelled), "always": is(true),
		},
	}
}

// resolve fills in a job's concurrency group and its environment.
func resolve(q pipeline.Question) (pipeline.JobPlan, error) {
	p := *q.Job
	env := conditions(q)
	env.Contexts.Set("matrix", plan.Matrix(q.Job))
	var err error
	if p.Environment, err = expr.Interpolate(p.Environment, env); err != nil {
		return p, fault.New(fault.Invalid, "Its environment could not be computed: %v.", err)
	}
	if p.Concurrency == nil {
		return p, nil
	}
	c := pipeline.Concurrency{Resolved: true}
	if c.Group, err = expr.Interpolate(p.Concurrency.Group, env); err != nil {
		return p, fault.New(fault.Invalid, "Its concurrency group could not be computed: %v.", err)
	}
	cancel, err := expr.Eval(p.Concurrency.Cancel, env)
	if err != nil {
		return p, fault.New(fault.Invalid, "Its concurrency.cancel-in-progress could not be computed: %v.", err)
	}
	c.CancelInProgress = cancel == true || cancel == "true"
	p.Concurrency = &c
	return p, nil
}
