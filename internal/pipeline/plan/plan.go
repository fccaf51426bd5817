package plan

import (
	"encoding/json"
	"fmt"
	"strings"

	"weir/internal/pipeline"
	"weir/internal/pipeline/expr"
	"weir/internal/pipeline/spec"
)

// MaxJobs is how many jobs a run may have after its matrices are unfolded.
const MaxJobs = 10_000

// MaxMatrix is how many combinations a matrix may have.
const MaxMatrix = 256

// DefaultTimeout of a job, in minutes.
const DefaultTimeout = 60

// Made is a plan with the title of its run.
type Made struct {
	Plan  pipeline.Plan
	Title string
}

// Make plans w for ev. The diagnostics are errors; with any of them the plan is not to be run.
func Make(w *spec.Workflow, ev Event, l Lookup) (Made, []pipeline.Diagnostic) {
	m := &maker{w: w, plan: &pipeline.Plan{Env: raw(w.Env)}, github: expr.From(ev.GitHub), vars: expr.From(ev.Vars), inputs: expr.NewObject(), lookup: l}
	if in, ok := ev.Inputs.(*expr.Object); ok && in.Len() > 0 {
		m.inputs, m.plan.Inputs = in, expr.JSON(in)
	}
	made := Made{Title: m.string(w.RunName, m.env(nil))}
	if k := w.Concurrency; k != nil {
		env := m.env(nil)
		m.plan.Concurrency = &pipeline.Concurrency{Group: m.string(k.Group, env), CancelInProgress: m.bool(k.Cancel, false, env)}
	}
	m.resolve(w, nil, spec.LimitedRead)
	m.plan.Jobs = m.jobs(MaxJobs)
	made.Plan = *m.plan
	return made, m.diags
}

// maker makes jobs of one workflow: of the run's own, or of one that it calls.
type maker struct {
	w        *spec.Workflow
	plan     *pipeline.Plan
	github   expr.Value
	vars     expr.Value
	inputs   expr.Value
	needs    expr.Value // nil before the run starts
	lookup   Lookup
	group    *pipeline.JobPlan // the job that stands for those made; nil for the run's own
	scope    string
	prefix   string // of keys and ids
	diags    []pipeline.Diagnostic
	computed bool // the matrix of the group may look at needs
	seen     int  // actions that were looked at
}

// jobs plans every job of the workflow, at most limit.
func (m *maker) jobs(limit int) []pipeline.JobPlan {
	var out []pipeline.JobPlan
	for i := range m.w.Jobs {
		out = append(out, m.job(&m.w.Jobs[i])...)
		if len(out) > limit {
			m.errorf(m.w.Jobs[i].Pos, "the run would have more than %d jobs; use smaller matrices", MaxJobs)
			return nil
		}
	}
	return out
}

func (m *maker) errorf(p spec.Pos, format string, args ...any) {
	m.diags = append(m.diags, pipeline.Diagnostic{File: m.w.Path, Line: max(p.Line, 1), Col: max(p.Col, 1), Severity: pipeline.Error, Message: fmt.Sprintf(format, args...)})
}

// env is what plan-time expressions see.
func (m *maker) env(matrix *expr.Object) expr.Env {
	c := expr.NewObject().Set("github", m.github).Set("inputs", m.inputs).Set("vars", m.vars)
	if m.needs != nil {
		c.Set("needs", m.needs)
	}
	if matrix != nil {
		c.Set("matrix", matrix)
	}
	return expr.Env{Contexts: c}
}

func (m *maker) eval(t spec.Text, env expr.Env) expr.Value {
	v, err := expr.Eval(t.Value, env)
	if err != nil {
		m.errorf(t.Pos, "%v", err)
	}
	return v
}

func (m *maker) string(t spec.Text, env expr.Env) string { return expr.String(m.eval(t, env)) }

func (m *maker) bool(f spec.Flag, otherwise bool, env expr.Env) bool {
	switch {
	case !f.Set:
		return otherwise
	case f.Expr.Value == "":
		return f.Value
	}
	return expr.Truthy(m.eval(f.Expr, env))
}

func (m *maker) number(a spec.Amount, otherwise float64, what string, env expr.Env) float64 {
	v := a.Value
	switch {
	case !a.Set:
		return otherwise
	case a.Expr.Value != "":
		v = expr.Number(m.eval(a.Expr, env))
	}
	if !(v > 0 && v < 1e6) {
		m.errorf(a.Expr.Pos, "%s is %v; write a number above 0", what, v)
		return otherwise
	}
	return v
}

func (m *maker) job(s *spec.Job) []pipeline.JobPlan {
	if s.Matrix != nil && !m.computed && late(s.Matrix) {
		j := m.shell(s, m.env(nil), m.prefix+s.ID)
		j.Group = &pipeline.Group{Kind: pipeline.MatrixGroup, File: m.w.Path}
		return []pipeline.JobPlan{j}
	}
	combos := []*expr.Object{nil}
	if s.Matrix != nil {
		combos = m.combinations(s)
	}
	var jobs []pipeline.JobPlan
	for i, c := range combos {
		env := m.env(c)
		key := m.prefix + s.ID
		if len(combos) > 1 || m.computed {
			key = fmt.Sprintf("%s-%d", key, i+1)
		}
		j := m.shell(s, env, key)
		if c != nil {
			j.Matrix, j.MatrixIndex, j.MatrixTotal = expr.JSON(c), i, len(combos)
			j.FailFast = m.bool(s.FailFast, true, env)
			j.MaxParallel = int(m.number(s.MaxParallel, 0, "max-parallel", env))
			if !strings.Contains(s.Name.Value, "${{") {
				j.Name += " (" + label(c) + ")"
			}
		}
		if s.Use != nil {
			j.Group = &pipeline.Group{Kind: pipeline.CallGroup, File: m.fileOf(s.Use.Path), With: raw(s.Use.With), Secrets: raw(s.Use.Secrets), Inherit: s.Use.Inherit}
			jobs = append(jobs, j)
			continue
		}
		j.Outputs, j.Env = raw(s.Outputs), raw(s.Env)
		j.TimeoutMinutes = m.number(s.Timeout, DefaultTimeout, "timeout-minutes", env)
		j.CancelTimeoutMinutes = m.number(s.CancelTimeout, 0, "cancel-timeout-minutes", env)
		if e := s.Environment; e != nil {
			j.Environment, j.EnvironmentURL = e.Name.Value, e.URL.Value
		}
		if s.Container != nil {
			k := containerOf(*s.Container)
			j.Container = &k
		}
		for name, k := range s.Services {
			if j.Services == nil {
				j.Services = map[string]pipeline.Container{}
			}
			j.Services[name] = containerOf(k)
		}
		m.labels(&j, s, env)
		for k := range s.Steps {
			j.Steps = append(j.Steps, m.step(s, &s.Steps[k]))
		}
		jobs = append(jobs, j)
	}
	return jobs
}

// shell is what every job has, also one that stands for others.
func (m *maker) shell(s *spec.Job, env expr.Env, key string) pipeline.JobPlan {
	j := pipeline.JobPlan{Key: key, JobID: m.prefix + s.ID, Name: m.string(s.Name, env), If: s.If.Value, Line: s.Pos.Line, Scope: m.scope,
		ContinueOnError: m.bool(s.ContinueOnError, false, env), Always: always(s.If.Value)}
	for _, n := range s.Needs {
		j.Needs = append(j.Needs, m.prefix+n)
	}
	if j.Name == "" {
		j.Name = s.ID
	}
	if k := s.Concurrency; k != nil {
		j.Concurrency = &pipeline.Concurrency{Group: k.Group.Value, Cancel: flag(k.Cancel)}
	}
	j.Permissions = m.permissions(s)
	if m.group != nil {
		j.Parent = m.group.Key
		if m.group.Group.Kind == pipeline.CallGroup {
			j.Name = m.group.Name + " / " + j.Name
		}
	}
	return j
}

// permissions of a job are its own, else its workflow's, else those of the job that called the workflow.
func (m *maker) permissions(s *spec.Job) map[string]string {
	switch {
	case s.Permissions != nil:
		return s.Permissions.Words()
	case m.w.Permissions != nil:
		return m.w.Permissions.Words()
	case m.group != nil:
		return m.group.Permissions
	}
	return nil
}

// always reports whether a condition asks for a status that a cancelled run has.
func always(cond string) (yes bool) {
	src, err := expr.ConditionSource(cond)
	if err != nil || cond == "" {
		return false
	}
	if e, err := expr.Parse(src, expr.Names{}); err == nil {
		e.Uses(func(name string) { yes = yes || name == "always()" || name == "cancelled()" })
	}
	return yes
}

func containerOf(k spec.Container) pipeline.Container {
	return pipeline.Container{Image: k.Image.Value, Env: raw(k.Env), Ports: values(k.Ports), Volumes: values(k.Volumes), Options: k.Options.Value,
		Username: k.Username.Value, Password: k.Password.Value}
}

func values(texts []spec.Text) (out []string) {
	for _, t := range texts {
		out = append(out, t.Value)
	}
	return out
}

func (m *maker) labels(j *pipeline.JobPlan, s *spec.Job, env expr.Env) {
	for _, t := range s.RunsOn {
		switch v := m.eval(t, env).(type) {
		case expr.Array:
			for _, l := range v {
				j.Labels = append(j.Labels, expr.String(l))
			}
		default:
			j.Labels = append(j.Labels, expr.String(v))
		}
		for _, l := range j.Labels {
			if os := spec.ForeignOS(l); os != "" && strings.Contains(t.Value, "${{") {
				m.errorf(t.Pos, "runs-on: %s gives %s, which asks for %s, and the runner is Linux. Choose Linux labels", t.Value, l, os)
			}
		}
	}
}

func (m *maker) step(j *spec.Job, s *spec.Step) pipeline.StepPlan {
	p := pipeline.StepPlan{ID: s.ID, Name: s.Name.Value, If: s.If.Value, Run: s.Run.Value, Uses: s.Uses, With: raw(s.With), Env: raw(s.Env), Line: s.Pos.Line,
		ContinueOnError: flag(s.ContinueOnError), TimeoutMinutes: amount(s.Timeout)}
	if to, ok := m.plan.Actions[p.Uses]; ok {
		p.Uses = to
	}
	if p.Uses == "" {
		p.Shell = first(s.Shell.Value, j.Defaults.Shell.Value, m.w.Defaults.Shell.Value)
		p.WorkingDirectory = first(s.WorkingDirectory.Value, j.Defaults.WorkingDirectory.Value, m.w.Defaults.WorkingDirectory.Value)
	}
	return p
}

func first(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

func flag(f spec.Flag) string {
	switch {
	case !f.Set:
		return ""
	case f.Expr.Value != "":
		return f.Expr.Value
	}
	return fmt.Sprint(f.Value)
}

func amount(a spec.Amount) string {
	switch {
	case !a.Set:
		return ""
	case a.Expr.Value != "":
		return a.Expr.Value
	}
	return expr.String(a.Value)
}

func raw(m map[string]spec.Text) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, t := range m {
		out[k] = t.Value
	}
	return out
}

// label is how a combination is shown: its plain values.
func label(c *expr.Object) string {
	var parts []string
	c.Each(func(_ string, v expr.Value) {
		switch v.(type) {
		case expr.Array, *expr.Object:
		default:
			parts = append(parts, expr.String(v))
		}
	})
	return strings.Join(parts, ", ")
}

// Matrix decodes JobPlan.Matrix.
func Matrix(j *pipeline.JobPlan) expr.Value {
	if j.Matrix == "" {
		return expr.NewObject()
	}
	v, err := expr.ParseJSON(j.Matrix)
	if err != nil {
		return expr.NewObject()
	}
	return v
}

// GitHub builds the github context of an event from its parts.
func GitHub(parts map[string]any) map[string]any {
	out := map[string]any{"server_url": "", "api_url": "", "workspace": "", "actor": "", "head_ref": "", "base_ref": "", "event": map[string]any{}}
	for k, v := range parts {
		out[k] = v
	}
	b, err := json.Marshal(out) // what is stored and read again is what this run sees too
	if err != nil {
		return parts
	}
	var clean map[string]any
	_ = json.Unmarshal(b, &clean)
	return clean
}
