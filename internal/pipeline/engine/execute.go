package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/expr"
	"weir/internal/pipeline/runner"
)

// execute runs one attempt and returns its result.
func (e *Engine) execute(ctx context.Context, r pipeline.Run, a pipeline.Action) (res pipeline.Result, err error) {
	log, err := e.Logs.Create(r.ID, a.Job, a.Attempt)
	if err != nil {
		return res, err
	}
	defer func() {
		if p := recover(); p != nil { // a broken promise of ours: a person must look, trying again would not help
			slog.ErrorContext(ctx, "runner panicked", "run", r.ID, "job", a.Job, "panic", p, "stack", string(debug.Stack()))
			res, err = pipeline.Result{State: pipeline.Failure, Reason: "an internal error of the runner; the log of the server has the details"}, nil
		}
		state := res.State
		if err != nil {
			log.Say("the runner could not do its part: %s", lostReason(err))
			state = pipeline.Lost
		}
		if cerr := log.Close(state); cerr != nil {
			slog.ErrorContext(ctx, "log incomplete", "run", r.ID, "job", a.Job, "error", cerr)
		}
	}()
	q := r.Question(a.Index)
	j := runner.Job{Org: r.Org, RunID: r.ID, JobID: a.Job, Attempt: a.Attempt, RepositoryID: r.RepositoryID, Repository: r.Repository, Revision: r.Revision,
		Trust: r.Trust, ChangeID: r.ChangeID, Workflow: r.Workflow, Plan: r.Plan.Jobs[a.Index], Env: r.Plan.Env, GitHub: r.GitHub, Needs: q.Needs}
	res, err = e.Runner.Run(ctx, j, &host{e, j}, log)
	res = masked(res, log)
	if err == nil && !res.State.Done() {
		err = fmt.Errorf("the runner ended job %s in state %q", a.Job, res.State)
	}
	if fault.KindOf(err) != "" && errors.Is(context.Cause(ctx), errStopped) {
		return pipeline.Result{State: pipeline.Cancelled}, nil
	}
	return res, err
}

func lostReason(err error) string {
	if fault.KindOf(err) != "" {
		return fault.Sentence(err)
	}
	return "the runner failed; the log of the server has the details"
}

// Evaluate implements pipeline.Evaluate for the if: of jobs.
func Evaluate(q pipeline.Question) (bool, error) {
	needs := expr.NewObject()
	for _, id := range q.Job.Needs {
		n := q.Needs[id]
		needs.Set(id, expr.NewObject().Set("result", string(n.Result)).Set("outputs", expr.From(maps.Clone(n.Outputs))))
	}
	is := func(v bool) func([]expr.Value) (expr.Value, error) {
		return func([]expr.Value) (expr.Value, error) { return v, nil }
	}
	return expr.Condition(q.Job.If, expr.Env{
		Contexts: expr.NewObject().Set("github", expr.From(q.Run.GitHub)).Set("needs", needs),
		Functions: map[string]func([]expr.Value) (expr.Value, error){
			"success": is(q.Success), "failure": is(q.Failure), "cancelled": is(q.Cancelled), "always": is(true),
		},
	})
}
