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
	if k := a.Concurrency; k != nil {
		w.Concurrency = &Concurrency{Group: c.text(k.Group), Cancel: c.flag(k.CancelInProgress)}
	}
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

func (c *checker) event(w *Workflow, e actionlint.Event) {
	hook, ok := e.(*actionlint.WebhookEvent)
	if !ok {
		p := eventPos(e)
		c.unsupported(p, "on: "+e.EventName(), "it starts runs on push and pull_request only. Remove this trigger")
		return
	}
	name := hook.Hook.Value
	if name != "push" && name != "pull_request" {
		c.unsupported(hook.Pos, "on: "+name, "it starts runs on push and pull_request only. Remove this trigger")
		return
	}
	for _, f := range []*actionlint.WebhookEventFilter{hook.Tags, hook.TagsIgnore} {
		if f != nil {
			c.unsupported(f.Name.Pos, "on."+name+"."+f.Name.Value, "runs start from branches; a release is made from the landed revision, not from a tag. Remove the filter")
		}
	}
	for _, w := range hook.Workflows {
		c.unsupported(w.Pos, "on."+name+".workflows", "remove it")
	}
	for _, t := range hook.Types {
		if name == "push" || !slices.Contains([]string{"opened", "synchronize", "reopened"}, t.Value) {
			c.unsupported(t.Pos, "on.pull_request.types: "+t.Value, "a change starts runs when it is opened and when it gets a new patchset. Remove the type")
		}
	}
	t := &Trigger{Branches: filter(hook.Branches), BranchesIgnore: filter(hook.BranchesIgnore), Paths: filter(hook.Paths), PathsIgnore: filter(hook.PathsIgnore)}
	if name == "push" {
		w.Push = t
	} else {
		w.PullRequest = t
	}
}

func eventPos(e actionlint.Event) *actionlint.Pos {
	switch e := e.(type) {
	case *actionlint.ScheduledEvent:
		return e.Pos
	case *actionlint.WorkflowDispatchEvent:
		return e.Pos
	case *actionlint.RepositoryDispatchEvent:
		return e.Pos
	case *actionlint.WorkflowCallEvent:
		return e.Pos
	case *actionlint.ImageVersionEvent:
		return e.Pos
	}
	return nil
}

func filter(f *actionlint.WebhookEventFilter) []string {
	if f == nil {
		return nil
	}
	var out []string
	for _, v := range f.Values {
		out = append(out, v.Value)
	}
	return out
}

// permissions are accepted as long as they take away: jobs get no token that could write.
func (c *checker) permissions(p *actionlint.Permissions) {
	if p == nil {
		return
	}
	if p.All != nil && p.All.Value == "write-all" {
		c.unsupported(p.All.Pos, "permissions: write-all", "jobs get no token. Write read-all, or leave permissions out")
	}
	for _, s := range p.Scopes {
		if s.Value != nil && s.Value.Value == "write" {
			c.unsupported(s.Name.Pos, "permissions."+s.Name.Value+": write", "jobs get no token that can write. Remove it; what a run proves is signed by Weir itself")
		}
	}
}

func (c *checker) job(a *actionlint.Job) Job {
	j := Job{ID: a.ID.Value, Name: c.text(a.Name), If: c.cond(a.If), Env: c.env(a.Env), Defaults: c.defaults(a.Defaults), Pos: pos(a.ID.Pos),
		ContinueOnError: c.flag(a.ContinueOnError), Timeout: c.float(a.TimeoutMinutes)}
	c.permissions(a.Permissions)
	if strings.HasPrefix(strings.ToLower(j.ID), "release-") {
		c.errorf(j.Pos, "the job id %q begins with release-, which Weir keeps for the jobs that build releases. Choose another id", j.ID)
	}
	for _, n := range a.Needs {
		j.Needs = append(j.Needs, jobID(n.Value))
	}
	j.ID = jobID(j.ID)
	if a.WorkflowCall != nil {
		c.unsupported(a.WorkflowCall.Uses.Pos, "jobs."+j.ID+".uses (a reusable workflow)", "copy its jobs into this file")
		return j
	}
	if a.Container != nil {
		c.unsupported(a.Container.Pos, "jobs."+j.ID+".container", "jobs run on the runner's own tools, confined. Remove it and use what is installed there")
	}
	if a.Services != nil {
		c.unsupported(a.Services.Pos, "jobs."+j.ID+".services", "start what the test needs in a step, in the background")
	}
	if a.Snapshot != nil {
		c.unsupported(a.Pos, "jobs."+j.ID+".snapshot", "remove it")
	}
	if a.Environment != nil {
		c.unsupported(a.Environment.Pos, "jobs."+j.ID+".environment", "environments and their gates are declared in weir.yaml. Remove it")
	}
	if a.Concurrency != nil {
		c.unsupported(a.Concurrency.Pos, "jobs."+j.ID+".concurrency", "it works for whole workflows. Move it to the top level of the file")
	}
	c.runsOn(&j, a)
	if len(a.Outputs) > 0 {
		j.Outputs = map[string]Text{}
		for _, o := range a.Outputs {
			j.Outputs[o.Name.Value] = c.text(o.Value)
		}
	}
	if s := a.Strategy; s != nil {
		j.FailFast = c.flag(s.FailFast)
		if s.MaxParallel != nil {
			j.MaxParallel = Amount{Set: true, Value: float64(s.MaxParallel.Value), Expr: c.text(s.MaxParallel.Expression)}
		}
		j.Matrix = c.matrix(j.ID, s.Matrix)
	}
	if len(a.Steps) > MaxSteps {
		c.errorf(j.Pos, "job %s has %d steps; it may have %d", j.ID, len(a.Steps), MaxSteps)
		return j
	}
	for _, s := range a.Steps {
		j.Steps = append(j.Steps, c.step(s))
	}
	return j
}

// jobID is how ids are compared; GitHub ignores their case.
func jobID(s string) string { return strings.ToLower(s) }

func (c *checker) runsOn(j *Job, a *actionlint.Job) {
	r := a.RunsOn
	if r == nil {
		return
	}
	if r.Group != nil {
		c.unsupported(r.Group.Pos, "runs-on.group", "name labels instead")
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
	case "", "bash", "sh", "python":
	default:
		if t.Pos.Line > 0 {
			c.errorf(t.Pos, "shell: %s is not supported by Weir: use bash, sh or python", t.Value)
		}
	}
}

func (c *checker) action(s *Step, e *actionlint.ExecAction) {
	name, ok := builtin(e.Uses.Value)
	if !ok {
		known := make([]string, 0, len(Builtins))
		for k := range Builtins {
			known = append(known, k)
		}
		slices.Sort(known)
		c.unsupported(e.Uses.Pos, "uses: "+e.Uses.Value, "it has these actions built in: "+strings.Join(known, ", ")+". Write the step as run: with the tool itself")
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
		if strings.HasPrefix(strings.ToUpper(v.Name.Value), "GITHUB_") {
			c.errorf(pos(v.Name.Pos), "the variable %s begins with GITHUB_, which only the runner may set. Choose another name", v.Name.Value)
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
	src, err := expr.ConditionSource(t.Value)
	if err != nil {
		c.errorf(t.Pos, "if: %v", err)
		return t
	}
	if e, err := expr.Parse(src, expr.Names{}); err == nil {
		c.uses(t.Pos, e)
	}
	return t
}

// text converts s and refuses expressions that ask for what runs do not have.
func (c *checker) text(s *actionlint.String) Text {
	t := text(s)
	parts, err := expr.Split(t.Value, expr.Names{})
	if err != nil {
		c.errorf(t.Pos, "%v", err)
		return t
	}
	for _, p := range parts {
		if p.Expr != nil {
			c.uses(t.Pos, p.Expr)
		}
	}
	return t
}

func (c *checker) uses(p Pos, e *expr.Expr) {
	e.Uses(func(name string) {
		switch {
		case name == "secrets" || strings.HasPrefix(name, "secrets."):
			c.errorf(p, "%s is not supported by Weir: jobs of a workflow get no secrets; secrets are given to services by weir.yaml. Remove it", name)
		case name == "vars" || strings.HasPrefix(name, "vars."):
			c.errorf(p, "%s is not supported by Weir: there are no configuration variables. Write the value into env:", name)
		case name == "github.token":
			c.errorf(p, "github.token is not supported by Weir: jobs get no token. Remove it")
		case name == "inputs" || strings.HasPrefix(name, "inputs."):
			c.errorf(p, "%s is not supported by Weir: runs start from push and pull_request, which have no inputs", name)
		}
	})
}
