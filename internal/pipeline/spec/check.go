package spec

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/rhysd/actionlint"

	"weir/internal/pipeline/expr"
)

func (c *checker) workflow(a *actionlint.Workflow) *Workflow {
	w := &Workflow{Path: c.file, Name: text(a.Name).Value, RunName: c.text(a.RunName), Env: c.env(a.Env), Defaults: c.defaults(a.Defaults)}
	if w.Name == "" {
		w.Name = c.file
	}
	for _, e := range a.On {
		c.event(w, e)
	}
	c.permissions(a.Permissions)
	w.Concurrency, w.Permissions = c.concurrency(a.Concurrency), permissionsOf(a.Permissions)
	if len(a.Jobs) > MaxJobs {
		c.errorf(Pos{1, 1}, "the workflow has %d jobs; it may have %d", len(a.Jobs), MaxJobs)
		return w
	}
	for _, j := range slices.SortedFunc(maps.Values(a.Jobs), func(a, b *actionlint.Job) int {
		return cmp.Or(cmp.Compare(a.ID.Pos.Line, b.ID.Pos.Line), cmp.Compare(a.ID.Pos.Col, b.ID.Pos.Col))
	}) {
		w.Jobs = append(w.Jobs, c.job(j))
	}
	return w
}

func (c *checker) job(a *actionlint.Job) Job {
	j := Job{ID: a.ID.Value, Name: c.text(a.Name), If: c.cond(a.If), Env: c.env(a.Env), Defaults: c.defaults(a.Defaults), Pos: pos(a.ID.Pos),
		ContinueOnError: c.flag(a.ContinueOnError), Timeout: c.float(a.TimeoutMinutes), CancelTimeout: c.cancelTimeout(a.ID.Value)}
	c.permissions(a.Permissions)
	if strings.HasPrefix(strings.ToLower(j.ID), "release-") {
		c.errorf(j.Pos, "the job id %q begins with release-, which Weir keeps for the jobs that build releases. Choose another id", j.ID)
	}
	for _, n := range a.Needs {
		j.Needs = append(j.Needs, jobID(n.Value))
	}
	j.ID = jobID(j.ID)
	if s := a.Strategy; s != nil {
		j.FailFast = c.flag(s.FailFast)
		if s.MaxParallel != nil {
			j.MaxParallel = Amount{Set: true, Value: float64(s.MaxParallel.Value), Expr: c.text(s.MaxParallel.Expression)}
		}
		j.Matrix = c.matrix(j.ID, s.Matrix)
	}
	j.Concurrency, j.Permissions = c.concurrency(a.Concurrency), permissionsOf(a.Permissions)
	if a.WorkflowCall != nil {
		j.Use = c.use(a.WorkflowCall)
		if a.Concurrency != nil {
			c.unsupported(a.Concurrency.Pos, "jobs."+j.ID+".concurrency together with uses", "write it in the workflow that is called")
		}
		return j
	}
	j.Container = c.container(a.Container, a.ID.Value, "")
	if a.Container != nil && !Runs.Containers {
		c.unsupported(a.Container.Pos, "jobs."+j.ID+".container", "jobs run on the runner's own tools, confined. Remove it and use what is installed there")
	}
	if a.Services != nil && !Runs.Containers {
		c.unsupported(a.Services.Pos, "jobs."+j.ID+".services", "start what the test needs in a step, in the background")
	}
	if a.Services != nil {
		if x := a.Services.Expression; x != nil {
			c.unsupported(x.Pos, "jobs."+j.ID+".services as one expression", "name the services one by one")
		}
		j.Services = map[string]Container{}
		for name, s := range a.Services.Value {
			if k := c.container(s.Container, a.ID.Value, name); k != nil {
				j.Services[strings.ToLower(name)] = *k
			}
		}
	}
	if a.Snapshot != nil && !Runs.Snapshots {
		c.unsupported(a.Pos, "jobs."+j.ID+".snapshot", "remove it")
	}
	if e := a.Environment; e != nil {
		j.Environment = &Environment{Name: c.text(e.Name), URL: c.text(e.URL)}
	}
	c.runsOn(&j, a)
	if len(a.Outputs) > 0 {
		j.Outputs = map[string]Text{}
		for _, o := range a.Outputs {
			j.Outputs[o.Name.Value] = c.text(o.Value)
		}
	}
	if len(a.Steps) > MaxSteps {
		c.errorf(j.Pos, "job %s has %d steps; it may have %d", j.ID, len(a.Steps), MaxSteps)
		return j
	}
	for _, s := range a.Steps {
		j.Steps = append(j.Steps, c.step(s))
	}
	c.toolsInside(&j)
	return j
}

// toolsInside refuses what cannot work: a step that chooses among the machine's tools, in a job that runs in an image. Where a condition
// or an expression decides, it is found out when the step runs.
func (c *checker) toolsInside(j *Job) {
	if j.Container == nil || j.Container.Image.Value == "" || strings.Contains(j.Container.Image.Value, "${{") {
		return
	}
	for i := range j.Steps {
		s := &j.Steps[i]
		if strings.HasPrefix(s.Uses, "setup-") && s.If.Value == "" && !s.ContinueOnError.Set {
			c.errorf(s.Pos, "%s chooses among the machine's tools, and job %s runs in the image %s, which has its own. Remove the step, or choose an image that has the version", s.Uses, j.ID, j.Container.Image.Value)
		}
	}
}

// jobID is how ids are compared; GitHub ignores their case.
func jobID(s string) string { return strings.ToLower(s) }

func (c *checker) runsOn(j *Job, a *actionlint.Job) {
	r := a.RunsOn
	if r == nil {
		return
	}
	if r.Group != nil { // a group is a label with a prefix
		t := c.text(r.Group)
		t.Value = "group:" + t.Value
		j.RunsOn = append(j.RunsOn, t)
	}
	labels := r.Labels
	if r.LabelsExpr != nil {
		labels = append(slices.Clone(labels), r.LabelsExpr)
	}
	for _, l := range labels {
		t := c.text(l)
		j.RunsOn = append(j.RunsOn, t)
		if os := ForeignOS(t.Value); os != "" {
			c.errorf(t.Pos, "runs-on: %s asks for %s, and the runner is Linux. Choose a Linux label", t.Value, os)
		}
	}
}

// ForeignOS names the system that a label stands for if it is not Linux.
func ForeignOS(label string) string {
	switch l := strings.ToLower(label); {
	case Runs.Foreign:
	case l == "windows" || strings.HasPrefix(l, "windows-"):
		return "Windows"
	case l == "macos" || strings.HasPrefix(l, "macos-"):
		return "macOS"
	}
	return ""
}

func (c *checker) step(a *actionlint.Step) Step {
	s := Step{Name: c.text(a.Name), If: c.cond(a.If), Env: c.env(a.Env), Pos: pos(a.Pos), ContinueOnError: c.flag(a.ContinueOnError), Timeout: c.float(a.TimeoutMinutes)}
	if a.ID != nil {
		s.ID = a.ID.Value
	}
	switch e := a.Exec.(type) {
	case *actionlint.ExecRun:
		s.Run, s.Shell, s.WorkingDirectory = c.text(e.Run), c.text(e.Shell), c.text(e.WorkingDirectory)
		c.shell(s.Shell)
	case *actionlint.ExecAction:
		c.action(&s, e)
	default:
		c.errorf(s.Pos, "the step has neither run: nor uses:. Give it one of them")
	}
	return s
}

func (c *checker) shell(t Text) {
	switch t.Value {
	case "", "bash", "sh", "python", "pwsh":
	default:
		if !Runs.Shells && t.Pos.Line > 0 && !strings.Contains(t.Value, "${{") && !slices.Contains(strings.Fields(t.Value), "{0}") {
			c.errorf(t.Pos, "shell: %s is not supported by Weir: use bash, sh, python, pwsh, or a command with {0} where the script's file goes", t.Value)
		}
	}
}

func (c *checker) action(s *Step, e *actionlint.ExecAction) {
	name, ok := builtin(e.Uses.Value)
	if !ok {
		c.foreign(s, e)
		return
	}
	if e.Entrypoint != nil {
		c.unsupported(e.Entrypoint.Pos, "with.entrypoint", "remove it")
	}
	if e.Args != nil {
		c.unsupported(e.Args.Pos, "with.args", "remove it")
	}
	s.Uses, s.With = name, map[string]Text{}
	for k, in := range e.Inputs {
		kind, known := inputs[name][k]
		v := c.text(in.Value)
		switch low := strings.ToLower(v.Value); {
		case !known:
			c.unsupported(in.Name.Pos, "input "+in.Name.Value+" of "+e.Uses.Value, "remove it")
		case kind == falsy && low != "" && low != "false":
			c.unsupported(in.Name.Pos, "input "+in.Name.Value+": "+v.Value+" of "+e.Uses.Value, "remove it")
		case kind == shallow && low != "" && low != "1":
			c.unsupported(in.Name.Pos, "input "+in.Name.Value+": "+v.Value+" of "+e.Uses.Value, "a checkout is the tree of the revision, without its history. Remove it")
		case kind == taken:
			s.With[k] = v
		}
	}
	for _, must := range map[string][]string{"cache": {"path", "key"}, "upload-artifact": {"path"}}[name] {
		if s.With[must].Value == "" {
			c.errorf(pos(e.Uses.Pos), "uses: %s needs the input %s under with:", e.Uses.Value, must)
		}
	}
}

func (c *checker) defaults(d *actionlint.Defaults) Defaults {
	if d == nil || d.Run == nil {
		return Defaults{}
	}
	out := Defaults{Shell: c.text(d.Run.Shell), WorkingDirectory: c.text(d.Run.WorkingDirectory)}
	c.shell(out.Shell)
	return out
}

func (c *checker) env(e *actionlint.Env) map[string]Text {
	if e == nil {
		return nil
	}
	if e.Expression != nil {
		c.unsupported(e.Expression.Pos, "env as one expression", "name the variables one by one")
		return nil
	}
	out := map[string]Text{}
	for _, v := range e.Vars {
		if reserved[strings.ToUpper(v.Name.Value)] {
			c.errorf(pos(v.Name.Pos), "the variable %s is set by the runner and cannot be given. Choose another name", v.Name.Value)
		}
		out[v.Name.Value] = c.text(v.Value)
	}
	return out
}

func (c *checker) flag(b *actionlint.Bool) Flag {
	if b == nil {
		return Flag{}
	}
	return Flag{Set: true, Value: b.Value, Expr: c.text(b.Expression)}
}

func (c *checker) float(f *actionlint.Float) Amount {
	if f == nil {
		return Amount{}
	}
	return Amount{Set: true, Value: f.Value, Expr: c.text(f.Expression)}
}

func (c *checker) cond(s *actionlint.String) Text {
	t := text(s)
	if t.Value == "" {
		return t
	}
	if _, err := expr.ConditionSource(t.Value); err != nil {
		c.errorf(t.Pos, "if: %v", err)
	}
	return t
}

// text converts s and refuses what is no expression.
func (c *checker) text(s *actionlint.String) Text {
	t := text(s)
	if _, err := expr.Split(t.Value, expr.Names{}); err != nil {
		c.errorf(t.Pos, "%v", err)
	}
	return t
}

// reserved are the variables that the runner sets and that no workflow changes.
var reserved = func() map[string]bool {
	out := map[string]bool{}
	for _, n := range strings.Fields(`ACTION ACTION_PATH ACTION_REPOSITORY ACTIONS ACTOR ACTOR_ID API_URL BASE_REF ENV EVENT_NAME EVENT_PATH GRAPHQL_URL HEAD_REF JOB
		OUTPUT PATH REF REF_NAME REF_PROTECTED REF_TYPE REPOSITORY REPOSITORY_ID REPOSITORY_OWNER REPOSITORY_OWNER_ID RUN_ATTEMPT RUN_ID RUN_NUMBER SERVER_URL
		SHA STATE STEP_SUMMARY TRIGGERING_ACTOR WORKFLOW WORKFLOW_REF WORKFLOW_SHA WORKSPACE`) {
		out["GITHUB_"+n] = true
	}
	return out
}()
