package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/plan"
	"weir/internal/pipeline/runner"
)

// execute runs one attempt and returns its result.
func (e *Engine) execute(ctx context.Context, r pipeline.Run, a pipeline.Action, at runner.Runner, cancel <-chan struct{}) (res pipeline.Result, err error) {
	open := e.Logs.Begin
	if a.Again {
		open = e.Logs.Create
	}
	log, err := open(r.ID, a.Job, a.Attempt)
	if err != nil {
		return res, err
	}
	defer func() {
		if p := recover(); p != nil { // a broken promise of ours: a person must look, trying again would not help
			slog.ErrorContext(ctx, "runner panicked", "run", r.ID, "job", a.Job, "panic", p, "stack", string(debug.Stack()))
			res, err = pipeline.Result{State: pipeline.Failure, Reason: "an internal error of the runner; the log of the server has the details"}, nil
		}
		state := res.State
		if errors.Is(err, runner.ErrDetached) {
			if derr := log.Detach(); derr != nil {
				slog.ErrorContext(ctx, "log incomplete", "run", r.ID, "job", a.Job, "error", derr)
			}
			return
		}
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
		Trust: r.Trust, ChangeID: r.ChangeID, Workflow: r.Workflow, Plan: r.Plan.Jobs[a.Index], Env: r.Plan.Env, GitHub: r.GitHub, Needs: plan.LocalNeeds(q), Cancel: cancel}
	j.Network, j.Actions = r.Plan.Network, r.Plan.Actions
	if b := j.Plan.Build; b != nil {
		j.Network = b.Network
	}
	if e.Registry != nil {
		j.Registry = e.Registry(r.ID, a.Job, a.Attempt)
	}
	if e.Token != nil {
		j.Token = e.Token(&r, a.Job, a.Attempt, j.Plan.Permissions)
	}
	if err := e.settle(ctx, &r, &j); err != nil {
		return res, err
	}
	res, err = at.Run(ctx, j, &host{e, j}, log)
	res = runner.Masked(res, log)
	if err == nil && !res.State.Done() {
		err = fmt.Errorf("the runner ended job %s in state %q", a.Job, res.State)
	}
	if fault.KindOf(err) != "" && closed(cancel) {
		return pipeline.Result{State: pipeline.Cancelled}, nil
	}
	return res, err
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func lostReason(err error) string {
	if fault.KindOf(err) != "" {
		return fault.Sentence(err)
	}
	return "the runner failed; the log of the server has the details"
}
