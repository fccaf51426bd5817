package engine

import (
	"context"
	"log/slog"
	"slices"

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
		Outputs:     plan.Outputs,
		Concurrency: func(q pipeline.Question) (pipeline.Concurrency, error) { return concurrency(with(q)) },
		ID:          func() pipeline.JobID { return pipeline.JobID(id.New("job")) },
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

func concurrency(q pipeline.Question) (pipeline.Concurrency, error) {
	c := pipeline.Concurrency{Resolved: true}
	env := conditions(q)
	env.Contexts.Set("matrix", plan.Matrix(q.Job))
	group, err := expr.Interpolate(q.Job.Concurrency.Group, env)
	if err != nil {
		return c, err
	}
	cancel, err := expr.Eval(q.Job.Concurrency.Cancel, env)
	c.Group, c.CancelInProgress = group, cancel == true || cancel == "true"
	return c, err
}
