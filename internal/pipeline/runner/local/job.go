package local

import (
	"context"
	"fmt"
	"maps"
	"os"
	"runtime"
	"strings"
	"sync/atomic"

	"weir/internal/base/confine"
	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/command"
	"weir/internal/pipeline/expr"
	"weir/internal/pipeline/jobapi"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/plan"
	"weir/internal/pipeline/runner"
)

// job is one attempt while it runs. Only Run's goroutine uses it, except where a field says otherwise.
type job struct {
	runner.Job
	runner     *Runner
	host       *bookkeeper
	log        *logs.Writer
	dir        string // what the sandbox may write
	root       *os.Root
	cache      string
	readOnly   []string // installed tools outside the system's folders
	box        *confine.Sandbox
	main       *place                                   // the container that the job runs in; nil is the machine
	group      *group                                   // containers of the job
	begun      map[*pipeline.StepPlan]map[string]string // what actions said before the first step, for their main and post
	unprepared bool                                     // its containers could not be set up
	beside     *place                                   // the container of the step under way, if it has one of its own
	api        *jobapi.API
	named      bool        // the job may name its token
	signed     atomic.Bool // git goes on without one; read by the job API
	running    string      // the script of the step under way, filled in

	env       map[string]string // of the workflow and the job, and what steps exported
	path      []string          // what steps put before PATH, the latest first
	goroot    string
	soft      []string // limits that are not enforced
	told      bool     // the event file is written
	steps     []pipeline.Step
	top       frame // of the job's own steps
	failed    bool
	reason    string
	serial    int             // counts what ran, to name its files
	hard      context.Context // ends when everything must end at once
	stopping  error           // why steps are no longer begun, save those that clean up
	tidy      context.Context // of the steps that clean up, once stopping is set
	outputs   map[string]string
	summary   strings.Builder
	commands  command.Job         // what the streams of all steps share
	materials []pipeline.Material // what went into a build besides the revision
	fetched   map[string]string   // actions of other repositories, and where they are
	post      []post              // what is left to do after the last step, done in reverse
}

func newJob(r *Runner, rj runner.Job, h runner.Host, log *logs.Writer, dir string, root *os.Root) *job {
	j := &job{Job: rj, runner: r, host: &bookkeeper{Host: h}, log: log, dir: dir, root: root, env: map[string]string{}, fetched: map[string]string{}, begun: map[*pipeline.StepPlan]map[string]string{}, top: frame{outcomes: expr.NewObject()}}
	j.commands.Open = j.matchers
	return j
}

func (j *job) close() {
	j.group.close()
	if j.box != nil {
		_ = j.box.Close()
	}
	if j.api != nil {
		_ = j.api.Close()
	}
}

func (j *job) result() pipeline.Result {
	res := pipeline.Result{State: pipeline.Success, Reason: j.reason, Outputs: j.outputs, Steps: j.steps, Annotations: j.commands.Notes, Summary: j.summary.String(),
		Confined: !j.runner.cfg.Unconfined, Network: string(j.network()), Unenforced: j.soft, Images: j.group.used(), Caches: j.host.used()}
	if j.runner.cfg.Unconfined {
		res.Network = string(confine.Host)
	}
	if j.failed {
		res.State = pipeline.Failure
	}
	return res
}

// run goes through the steps. An error is the runner's own; what a step does wrong is in the result. When soft ends the step under
// way is stopped, and those that follow run only if they want to although the job is cancelled; when hard ends nothing does.
func (j *job) run(hard, soft context.Context) (err error) {
	j.hard = hard
	if j.cache, err = j.runner.cache(j.Job); err != nil {
		return fmt.Errorf("make cache: %w", err)
	}
	if n := j.network(); n != j.runner.cfg.Network {
		j.log.Say("what this job may reach is narrowed to: %s (pipeline.network of weir.yaml)", n)
	}
	for _, v := range j.Secrets {
		j.log.Mask(v)
	}
	if j.named = j.Token != "" && j.namesToken(); j.named {
		j.log.Mask(j.Token)
	}
	for _, layer := range []map[string]string{j.Env, j.Plan.Env} {
		values, err := j.fill(layer, &j.top, j.contexts(&j.top, nil))
		if err != nil {
			j.fail("the environment of the job could not be computed: " + err.Error())
			return nil
		}
		maps.Copy(j.env, values)
	}
	for i := range j.Plan.Steps {
		j.steps = append(j.steps, pipeline.Step{Number: i + 1, Name: j.name(&j.Plan.Steps[i], &j.top), State: pipeline.Pending})
	}
	if err := j.prepare(soft); err != nil {
		return err
	}
	if !j.unprepared {
		if err := j.before(j.phase(soft)); err != nil {
			return err
		}
	}
	for i := range j.Plan.Steps {
		ctx := j.phase(soft)
		if hard.Err() != nil {
			return nil
		}
		if j.unprepared {
			break
		}
		if err := j.step(ctx, &j.Plan.Steps[i], &j.steps[i]); err != nil {
			return err
		}
	}
	for len(j.post) > 0 && hard.Err() == nil {
		p := j.post[len(j.post)-1]
		j.post = j.post[:len(j.post)-1]
		if err := j.after(j.phase(soft), p); err != nil {
			return err
		}
	}
	j.phase(soft)
	j.outputs = map[string]string{}
	for name, text := range j.Plan.Outputs {
		v, err := expr.Interpolate(text, j.expressions(&j.top, j.contexts(&j.top, nil)))
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
func (j *job) name(s *pipeline.StepPlan, fr *frame) string {
	switch {
	case s.Name != "":
		if v, err := expr.Interpolate(s.Name, j.expressions(fr, j.contexts(fr, nil))); err == nil {
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

// fill evaluates a map of texts.
func (j *job) fill(texts map[string]string, fr *frame, c *expr.Object) (map[string]string, error) {
	out := make(map[string]string, len(texts))
	for k, t := range texts {
		v, err := expr.Interpolate(t, j.expressions(fr, c))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
		out[k] = v
	}
	return out, nil
}

// contexts is what the expressions of a step see; env is the step's own.
func (j *job) contexts(fr *frame, env map[string]string) *expr.Object {
	all := maps.Clone(j.env)
	maps.Copy(all, fr.env)
	maps.Copy(all, env)
	status := "success"
	switch {
	case j.stopping != nil:
		status = "cancelled"
	case j.failed:
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
	if fr.action != "" {
		github.Set("action_path", fr.action)
	}
	inputs := expr.Value(fr.inputs)
	if fr.inputs == nil {
		inputs = j.inputsContext()
	}
	secrets := j.Secrets
	if fr != &j.top { // an action gets what its step hands to it, and no more
		secrets = nil
	}
	secrets = j.withToken(github, secrets, fr == &j.top)
	if j.box != nil && j.api != nil && j.Token != "" {
		github.Set("api_url", j.api.Env(j.box.LocalURL())["GITHUB_API_URL"])
	}
	return expr.NewObject().
		Set("github", github).Set("env", expr.From(all)).Set("needs", needs).Set("steps", fr.outcomes).
		Set("matrix", plan.Matrix(&j.Plan)).Set("inputs", inputs).Set("vars", expr.From(j.Vars)).Set("secrets", expr.From(secrets)).
		Set("strategy", expr.NewObject().Set("fail-fast", j.Plan.FailFast).Set("job-index", float64(j.Plan.MatrixIndex)).
			Set("job-total", float64(total)).Set("max-parallel", float64(parallel))).
		Set("job", j.group.context(expr.NewObject().Set("status", status))).
		Set("runner", expr.NewObject().Set("os", "Linux").Set("arch", arch()).Set("name", "local").Set("temp", j.temp()).
			Set("tool_cache", j.tools()).Set("environment", "self-hosted"))
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

func (j *job) expressions(fr *frame, c *expr.Object) expr.Env {
	failed := j.failed
	if fr != &j.top {
		failed = fr.failed
	}
	is := func(v bool) func([]expr.Value) (expr.Value, error) {
		return func([]expr.Value) (expr.Value, error) { return v, nil }
	}
	return expr.Env{Contexts: c, Functions: map[string]func([]expr.Value) (expr.Value, error){
		"success": is(!failed && j.stopping == nil), "failure": is(failed && j.stopping == nil), "always": is(true), "cancelled": is(j.stopping != nil),
		"hashfiles": func(args []expr.Value) (expr.Value, error) { return j.hashFiles(args) },
	}}
}

func (j *job) workspace() string { return j.seen("workspace") }
