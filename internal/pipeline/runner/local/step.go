package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/expr"
	"weir/internal/pipeline/spec"
)

// frame is what the steps of one list share: those of the job, or those of a composite action.
type frame struct {
	inputs   *expr.Object      // of an action; nil for the job
	env      map[string]string // of the step that uses the action
	outcomes *expr.Object      // the steps context
	action   string            // folder of the action, as steps see it
	folder   string            // the same below the job's folder
	failed   bool              // a step of an action failed
	depth    int
}

// post is what a step has left to do when the others are done.
type post struct {
	name      string
	condition string
	do        func(ctx context.Context) error
}

// failure is a step's own: its job fails with that reason.
type failure string

func (f failure) Error() string { return string(f) }

var errStepTimeout = errors.New("step timed out")

// outcome is what became of a step, before and after continue-on-error.
type outcome struct {
	state, conclusion pipeline.State
	reason            string
	outputs           map[string]string
	began             bool
}

// step runs a step of the job and records what came of it.
func (j *job) step(ctx context.Context, p *pipeline.StepPlan, s *pipeline.Step) error {
	o, err := j.try(ctx, p, &j.top, s.Number, func() {
		s.Name, s.State, s.Started = j.name(p, &j.top), pipeline.Running, time.Now().UTC()
		j.log.Begin(*s)
	})
	if err != nil {
		return fmt.Errorf("step %d: %w", s.Number, err)
	}
	s.State, s.Reason, s.Ignored = o.state, o.reason, o.state == pipeline.Failure && o.conclusion == pipeline.Success
	if o.began {
		s.Finished = time.Now().UTC()
	}
	if o.conclusion == pipeline.Failure {
		j.failed = true
		if j.reason == "" {
			j.reason = fmt.Sprintf("step %d (%s): %s", s.Number, s.Name, o.reason)
		}
	}
	j.log.End(*s)
	return nil
}

// try decides whether a step of a frame runs, and runs it. An error is the runner's own.
func (j *job) try(ctx context.Context, p *pipeline.StepPlan, fr *frame, number int, begin func()) (o outcome, err error) {
	o = outcome{state: pipeline.Success, conclusion: pipeline.Success, outputs: map[string]string{}}
	env, enverr := j.fill(p.Env, fr, j.contexts(fr, nil))
	if enverr != nil {
		env = nil
	}
	c := j.contexts(fr, env)
	run, cerr := expr.Condition(p.If, j.expressions(fr, c))
	if cerr == nil && !run {
		o.state, o.conclusion = pipeline.Skipped, pipeline.Skipped
		j.outcome(fr, p, o)
		return o, nil
	}
	o.began = true
	begin()
	switch {
	case cerr != nil:
		o.reason = "its if: could not be evaluated: " + cerr.Error()
	case enverr != nil:
		o.reason = "its env could not be computed: " + enverr.Error()
	default:
		sctx, stop, terr := j.limit(ctx, p, fr, c)
		if terr != nil {
			o.reason = terr.Error()
			break
		}
		err = j.perform(sctx, p, fr, number, env, c, o.outputs)
		if errors.Is(context.Cause(sctx), errStepTimeout) {
			err = failure("it took longer than its timeout-minutes")
		}
		stop()
		var f failure
		switch {
		case err == nil:
		case ctx.Err() != nil: // stopped from outside; nothing more is known
			o.state, o.conclusion, o.reason = pipeline.Cancelled, pipeline.Cancelled, "it was stopped"
			j.outcome(fr, p, o)
			return o, nil
		case errors.As(err, &f):
			o.reason = string(f)
		case fault.KindOf(err) != "":
			o.reason = fault.Sentence(err)
		default:
			return o, err
		}
	}
	if o.reason != "" {
		o.state, o.conclusion = pipeline.Failure, pipeline.Failure
		j.log.Say("%s", o.reason)
		v, err := expr.Eval(p.ContinueOnError, j.expressions(fr, c))
		if err == nil && v != "false" && expr.Truthy(v) {
			o.conclusion = pipeline.Success
		}
	}
	j.outcome(fr, p, o)
	return o, nil
}

// perform does what a step says.
func (j *job) perform(ctx context.Context, p *pipeline.StepPlan, fr *frame, number int, env map[string]string, c *expr.Object, outputs map[string]string) error {
	switch {
	case p.Uses == "":
		return j.script(ctx, p, fr, number, env, c, outputs)
	case j.main != nil && strings.HasPrefix(p.Uses, "setup-"):
		return failure(fmt.Sprintf("%s chooses among the machine's tools, and this job runs in the image %s, which has its own. Remove the step, or choose an image that has the version", p.Uses, j.main.image.Name))
	case builtins[p.Uses] != nil:
		with, err := j.inputs(p.With, fr, c)
		if err != nil {
			return err
		}
		if fr != &j.top { // those of the workflow itself were looked at before the run
			for _, k := range slices.Sorted(maps.Keys(with)) {
				if why := spec.Misgiven(p.Uses, k, with[k]); why != "" {
					return failure(fmt.Sprintf("uses: %s: %s", p.Uses, why))
				}
			}
		}
		return builtins[p.Uses](j, ctx, with, outputs)
	}
	return j.use(ctx, p, fr, number, env, c, outputs)
}

// after runs one post step, with a place of its own among the steps.
func (j *job) after(ctx context.Context, p post) error {
	run, err := expr.Condition(p.condition, j.expressions(&j.top, j.contexts(&j.top, nil)))
	if err == nil && !run {
		return nil
	}
	s := pipeline.Step{Number: len(j.steps) + 1, Name: "Post " + p.name, State: pipeline.Running, Started: time.Now().UTC()}
	j.log.Begin(s)
	s.State = pipeline.Success
	if err == nil {
		err = p.do(ctx)
	}
	var f failure
	switch {
	case err == nil:
	case ctx.Err() != nil:
		s.State, s.Reason = pipeline.Cancelled, "it was stopped"
	case errors.As(err, &f), fault.KindOf(err) != "":
		s.State, s.Reason = pipeline.Failure, said(err)
		j.fail(fmt.Sprintf("step %d (%s): %s", s.Number, s.Name, s.Reason))
	default:
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	s.Finished = time.Now().UTC()
	j.steps = append(j.steps, s)
	j.log.End(s)
	return nil
}

// outcome puts a step into the steps context.
func (j *job) outcome(fr *frame, p *pipeline.StepPlan, o outcome) {
	if p.ID != "" {
		fr.outcomes.Set(p.ID, expr.NewObject().Set("outputs", expr.From(o.outputs)).Set("outcome", string(o.state)).Set("conclusion", string(o.conclusion)))
	}
}

func (j *job) limit(ctx context.Context, p *pipeline.StepPlan, fr *frame, c *expr.Object) (context.Context, context.CancelFunc, error) {
	if p.TimeoutMinutes == "" {
		ctx, stop := context.WithCancel(ctx)
		return ctx, stop, nil
	}
	v, err := expr.Eval(p.TimeoutMinutes, j.expressions(fr, c))
	if err != nil {
		return nil, nil, fmt.Errorf("its timeout-minutes could not be computed: %w", err)
	}
	n := expr.Number(v)
	if !(n > 0 && n < 1e6) {
		return nil, nil, fmt.Errorf("its timeout-minutes is %s; write a number above 0", expr.String(v))
	}
	ctx, stop := context.WithTimeoutCause(ctx, time.Duration(n*float64(time.Minute)), errStepTimeout)
	return ctx, stop, nil
}
