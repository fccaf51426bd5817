package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"weir/internal/base/confine"
	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/command"
	"weir/internal/pipeline/expr"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/plan"
	"weir/internal/pipeline/runner"
)

// job is one attempt while it runs. Only Run's goroutine uses it, except where a field says otherwise.
type job struct {
	runner.Job
	runner   *Runner
	host     runner.Host
	log      *logs.Writer
	dir      string // what the sandbox may write
	root     *os.Root
	cache    string
	readOnly []string // installed tools outside the system's folders
	box      *confine.Sandbox

	env      map[string]string // of the workflow and the job, and what steps exported
	path     []string          // what steps put before PATH, the latest first
	goroot   string
	told     bool // the event file is written
	steps    []pipeline.Step
	outcomes *expr.Object // the steps context
	failed   bool
	reason   string
	outputs  map[string]string
	summary  strings.Builder
	commands command.Job                   // what the streams of all steps share
	post     []func(context.Context) error // work after the last step, run in reverse
}

func newJob(r *Runner, rj runner.Job, h runner.Host, log *logs.Writer, dir string, root *os.Root) *job {
	j := &job{Job: rj, runner: r, host: h, log: log, dir: dir, root: root, env: map[string]string{}, outcomes: expr.NewObject()}
	j.commands.Open = j.matchers
	return j
}

func (j *job) close() {
	if j.box != nil {
		_ = j.box.Close()
	}
}

func (j *job) result() pipeline.Result {
	res := pipeline.Result{State: pipeline.Success, Reason: j.reason, Outputs: j.outputs, Steps: j.steps, Annotations: j.commands.Notes, Summary: j.summary.String(),
		Confined: !j.runner.cfg.Unconfined, Network: string(j.runner.cfg.Network)}
	if j.runner.cfg.Unconfined {
		res.Network = string(confine.Host)
	}
	if j.failed {
		res.State = pipeline.Failure
	}
	return res
}

// run goes through the steps. An error is the runner's own; what a step does wrong is in the result.
func (j *job) run(ctx context.Context) (err error) {
	if j.cache, err = j.runner.cache(j.Job); err != nil {
		return fmt.Errorf("make cache: %w", err)
	}
	for _, v := range j.Secrets {
		j.log.Mask(v)
	}
	for _, layer := range []map[string]string{j.Env, j.Plan.Env} {
		values, err := j.fill(layer, j.contexts(nil))
		if err != nil {
			j.fail("the environment of the job could not be computed: " + err.Error())
			return nil
		}
		maps.Copy(j.env, values)
	}
	for i := range j.Plan.Steps {
		j.steps = append(j.steps, pipeline.Step{Number: i + 1, Name: j.name(i), State: pipeline.Pending})
	}
	for i := range j.Plan.Steps {
		if ctx.Err() != nil {
			return nil
		}
		if err := j.step(ctx, i); err != nil {
			return err
		}
	}
	for i := len(j.post) - 1; i >= 0 && ctx.Err() == nil; i-- {
		if err := j.post[i](ctx); err != nil {
			j.log.Say("%s", said(err))
		}
	}
	j.outputs = map[string]string{}
	for name, text := range j.Plan.Outputs {
		v, err := expr.Interpolate(text, j.expressions(j.contexts(nil)))
		if err != nil {
			j.fail(fmt.Sprintf("the output %s could not be computed: %v", name, err))
			continue
		}
		if len(v) > 1<<20 {
			j.fail(fmt.Sprintf("the output %s has %d bytes; an output may have 1 MiB. Upload it as an artifact", name, len(v)))
			continue
		}
		j.outputs[name] = v
	}
	return nil
}

func (j *job) fail(reason string) {
	j.failed = true
	if j.reason == "" {
		j.reason = reason
	}
	j.log.Say("%s", reason)
}

// said is what a job's log shows of an error.
func said(err error) string {
	if fault.KindOf(err) != "" {
		return fault.Sentence(err)
	}
	return err.Error()
}

// name is how a step is shown before its expressions are known.
func (j *job) name(i int) string {
	s := &j.Plan.Steps[i]
	switch {
	case s.Name != "":
		if v, err := expr.Interpolate(s.Name, j.expressions(j.contexts(nil))); err == nil {
			return v
		}
		return s.Name
	case s.Uses != "":
		return s.Uses
	}
	line, _, _ := strings.Cut(strings.TrimSpace(s.Run), "\n")
	if len(line) > 80 {
		line = line[:77] + "..."
	}
	return "Run " + strings.ToValidUTF8(line, "")
}

// step decides whether step i runs, runs it and records what came of it.
func (j *job) step(ctx context.Context, i int) error {
	p, s := &j.Plan.Steps[i], &j.steps[i]
	env, err := j.fill(p.Env, j.contexts(nil))
	if err != nil {
		env = nil
	}
	c := j.contexts(env)
	run, cerr := expr.Condition(p.If, j.expressions(c))
	if cerr == nil && !run {
		s.State = pipeline.Skipped
		j.outcome(p, nil, pipeline.Skipped, pipeline.Skipped)
		j.log.End(*s)
		return nil
	}
	s.Name, s.State, s.Started = j.name(i), pipeline.Running, time.Now().UTC()
	j.log.Begin(*s)
	outputs := map[string]string{}
	var reason string
	switch {
	case cerr != nil:
		reason = "its if: could not be evaluated: " + cerr.Error()
	case err != nil:
		reason = "its env could not be computed: " + err.Error()
	default:
		sctx, stop, terr := j.limit(ctx, p, c)
		if terr != nil {
			reason = terr.Error()
			break
		}
		if p.Uses != "" {
			err = j.action(sctx, p, c, outputs)
		} else {
			err = j.script(sctx, i, env, c, outputs)
		}
		if errors.Is(context.Cause(sctx), errStepTimeout) {
			err = failure("it took longer than its timeout-minutes")
		}
		stop()
		var f failure
		switch {
		case err == nil:
		case ctx.Err() != nil: // killed from outside; nothing more is known
			reason = "stopped"
		case errors.As(err, &f):
			reason = string(f)
		case fault.KindOf(err) != "":
			reason = fault.Sentence(err)
		default:
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	j.conclude(p, s, reason, outputs, c)
	return nil
}

func (j *job) conclude(p *pipeline.StepPlan, s *pipeline.Step, reason string, outputs map[string]string, c *expr.Object) {
	outcome, conclusion := pipeline.Success, pipeline.Success
	if reason != "" {
		outcome, conclusion = pipeline.Failure, pipeline.Failure
		j.log.Say("%s", reason)
		v, err := expr.Eval(p.ContinueOnError, j.expressions(c))
		if err == nil && v != "false" && expr.Truthy(v) {
			conclusion, s.Ignored = pipeline.Success, true
		} else {
			j.failed = true
			if j.reason == "" {
				j.reason = fmt.Sprintf("step %d (%s): %s", s.Number, s.Name, reason)
			}
		}
	}
	s.State, s.Reason, s.Finished = outcome, reason, time.Now().UTC()
	j.outcome(p, outputs, outcome, conclusion)
	j.log.End(*s)
}

func (j *job) outcome(p *pipeline.StepPlan, outputs map[string]string, outcome, conclusion pipeline.State) {
	if p.ID != "" {
		j.outcomes.Set(p.ID, expr.NewObject().Set("outputs", expr.From(outputs)).Set("outcome", string(outcome)).Set("conclusion", string(conclusion)))
	}
}

var errStepTimeout = errors.New("step timed out")

// failure is a step's own: its job fails with that reason.
type failure string

func (f failure) Error() string { return string(f) }

func (j *job) limit(ctx context.Context, p *pipeline.StepPlan, c *expr.Object) (context.Context, context.CancelFunc, error) {
	if p.TimeoutMinutes == "" {
		ctx, stop := context.WithCancel(ctx)
		return ctx, stop, nil
	}
	v, err := expr.Eval(p.TimeoutMinutes, j.expressions(c))
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

// fill evaluates a map of texts.
func (j *job) fill(texts map[string]string, c *expr.Object) (map[string]string, error) {
	out := make(map[string]string, len(texts))
	for k, t := range texts {
		v, err := expr.Interpolate(t, j.expressions(c))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
		out[k] = v
	}
	return out, nil
}

// contexts is what the expressions of a step see; env is the step's own.
func (j *job) contexts(env map[string]string) *expr.Object {
	all := maps.Clone(j.env)
	maps.Copy(all, env)
	status := "success"
	if j.failed {
		status = "failure"
	}
	needs := expr.NewObject()
	for id, n := range j.Needs {
		needs.Set(id, expr.NewObject().Set("result", string(n.Result)).Set("outputs", expr.From(n.Outputs)))
	}
	github := expr.NewObject()
	if o, ok := expr.From(j.GitHub).(*expr.Object); ok {
		o.Each(func(k string, v expr.Value) { github.Set(k, v) })
	}
	github.Set("workspace", j.workspace()).Set("job", j.Plan.JobID).Set("run_id", string(j.RunID)).Set("run_attempt", fmt.Sprint(j.Attempt))
	total := max(j.Plan.MatrixTotal, 1)
	parallel := j.Plan.MaxParallel
	if parallel == 0 {
		parallel = total
	}
	return expr.NewObject().
		Set("github", github).Set("env", expr.From(all)).Set("needs", needs).Set("steps", j.outcomes).
		Set("matrix", plan.Matrix(&j.Plan)).Set("inputs", j.inputsContext()).Set("vars", expr.From(j.Vars)).Set("secrets", expr.From(j.Secrets)).
		Set("strategy", expr.NewObject().Set("fail-fast", j.Plan.FailFast).Set("job-index", float64(j.Plan.MatrixIndex)).
			Set("job-total", float64(total)).Set("max-parallel", float64(parallel))).
		Set("job", expr.NewObject().Set("status", status)).
		Set("runner", expr.NewObject().Set("os", "Linux").Set("arch", arch()).Set("name", "local").Set("temp", "/tmp").
			Set("tool_cache", j.cache).Set("environment", "self-hosted"))
}

func (j *job) inputsContext() expr.Value {
	if v, err := expr.ParseJSON(j.Inputs); err == nil {
		return v
	}
	return expr.NewObject()
}

func arch() string {
	return map[string]string{"amd64": "X64", "arm64": "ARM64", "386": "X86", "arm": "ARM"}[runtime.GOARCH]
}

func (j *job) expressions(c *expr.Object) expr.Env {
	is := func(v bool) func([]expr.Value) (expr.Value, error) {
		return func([]expr.Value) (expr.Value, error) { return v, nil }
	}
	return expr.Env{Contexts: c, Functions: map[string]func([]expr.Value) (expr.Value, error){
		"success": is(!j.failed), "failure": is(j.failed), "always": is(true), "cancelled": is(false),
		"hashfiles": func(args []expr.Value) (expr.Value, error) { return j.hashFiles(args) },
	}}
}

func (j *job) workspace() string { return filepath.Join(j.dir, "workspace") }
