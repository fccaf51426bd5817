package plan

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/expr"
	"weir/internal/pipeline/spec"
)

// Limits on workflows that call others.
const (
	MaxCalls = 10 // one inside the other, the first included
	MaxFiles = 50 // in one run
)

// Lookup finds what a workflow uses. A fault's sentence becomes the diagnostic; a nil function finds nothing.
type Lookup struct {
	// Workflow returns a called workflow under the name that it has in diagnostics. From is the name of the caller.
	Workflow func(from, uses string) (name string, source []byte, err error)
	// Action returns what an action of another repository is resolved to: "owner/name[/path]@<sha>".
	Action func(uses string) (string, error)
	// File reads a file of the revision that is checked out ("folder/action.yml"), or of another repository
	// ("owner/name/folder/action.yml@<sha>"); NotFound if there is none. Nil: what actions use is found out when they run.
	File func(path string) ([]byte, error)
}

// ErrElsewhere is returned by a Lookup that knows that it cannot know: what is used is neither right nor wrong.
var ErrElsewhere = errors.New("it is kept elsewhere")

// Check says what is wrong with what w uses, near and far, without planning a run.
func Check(w *spec.Workflow, l Lookup) []pipeline.Diagnostic {
	m := &maker{w: w, plan: &pipeline.Plan{}, lookup: l}
	m.resolve(w, nil, spec.LimitedRead)
	for i := range w.Jobs {
		if k := w.Jobs[i].Matrix; k != nil && !computed(k, func(string) bool { return true }) {
			m.combinations(&w.Jobs[i])
		}
	}
	return m.diags
}

// resolve reads every workflow and action that w uses, near and far, into the plan. Nothing that a run needs is looked for later.
func (m *maker) resolve(w *spec.Workflow, chain []string, allowed spec.Permissions) {
	if w.Permissions != nil {
		allowed = w.Permissions
	}
	chain = append(slices.Clone(chain), w.Path)
	at := &maker{w: w, lookup: m.lookup, plan: m.plan, seen: m.seen}
	for i := range w.Jobs {
		j := &w.Jobs[i]
		if j.Matrix != nil && late(j.Matrix) {
			if m.plan.Files == nil {
				m.plan.Files = map[string]string{}
			}
			m.plan.Files[w.Path] = w.Source
		}
		for k := range j.Steps {
			at.action(j, &j.Steps[k])
		}
		if j.Use != nil && len(m.diags) == 0 {
			mine := allowed
			if j.Permissions != nil {
				mine = j.Permissions
			}
			at.called(j, chain, mine)
		}
		m.diags, at.diags = append(m.diags, at.diags...), nil
	}
	m.seen = at.seen
}

// Unmirrored is the fault of an action or workflow whose repository has no mirror.
func Unmirrored(uses string) error {
	repo, _, _ := Remote(uses)
	return fault.New(fault.NotFound, "There is no mirror of %s. Weir never fetches code by itself: add one with `weir mirror add %s URL`, or write the step as run:.", repo, repo)
}

func said(err error) string {
	if fault.KindOf(err) != "" {
		return fault.Sentence(err)
	}
	return err.Error()
}

// Remote cuts "owner/name/path@ref".
func Remote(uses string) (repo, path, ref string) {
	at, ref, _ := strings.Cut(uses, "@")
	parts := append(strings.SplitN(at, "/", 3), "", "")
	return parts[0] + "/" + parts[1], parts[2], ref
}

// FileName is the key of a called workflow in Plan.Files: a workflow that came from a mirror calls its own neighbours.
func FileName(from, uses string) string {
	if local, ok := strings.CutPrefix(uses, "./"); ok {
		if repo, _, remote := strings.Cut(from, "@"); remote {
			owner, rest, _ := strings.Cut(repo, "/")
			name, _, _ := strings.Cut(rest, "/")
			return owner + "/" + name + "/" + local + from[strings.LastIndex(from, "@"):]
		}
		return local
	}
	return uses
}

func (m *maker) fileOf(uses string) string {
	name := FileName(m.w.Path, uses)
	if to, ok := m.plan.Actions[name]; ok {
		return to
	}
	return name
}

// called reads the workflow that job j uses and checks that the two fit.
func (m *maker) called(j *spec.Job, chain []string, allowed spec.Permissions) {
	u := j.Use
	name := FileName(m.w.Path, u.Path)
	w := m.load(u, name, chain)
	if w == nil {
		return
	}
	k := w.Call
	if k == nil {
		m.errorf(u.Pos, "%s cannot be called: it has no on: workflow_call", name)
		return
	}
	known := map[string]*spec.Input{}
	for i := range k.Inputs {
		in := &k.Inputs[i]
		known[strings.ToLower(in.Name)] = in
		if _, given := u.With[strings.ToLower(in.Name)]; in.Required && !given {
			m.errorf(u.Pos, "%s needs the input %s; give it under with:", name, in.Name)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(u.With)) {
		t := u.With[n]
		in := known[n]
		if in == nil {
			m.errorf(t.Pos, "%s has no input %s", name, n)
		} else if _, ok := spec.Coerce(in.Type, t.Value); !ok && !strings.Contains(t.Value, "${{") {
			m.errorf(t.Pos, "the input %s of %s is a %s; %q is none", in.Name, name, in.Type, t.Value)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(u.Secrets)) {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(k.Secrets)), func(s string) bool { return strings.EqualFold(s, n) }) {
			m.errorf(u.Secrets[n].Pos, "%s has no secret %s", name, n)
		}
	}
	for n, required := range k.Secrets {
		if _, given := u.Secrets[n]; required && !given && !u.Inherit {
			m.errorf(u.Pos, "%s needs the secret %s; give it under secrets:, or write secrets: inherit", name, n)
		}
	}
	more := w.Permissions.Exceeds(allowed)
	for i := range w.Jobs {
		if more == "" {
			more = w.Jobs[i].Permissions.Exceeds(allowed)
		}
	}
	if more != "" {
		m.errorf(u.Pos, "%s asks for the permission %s, which job %s does not have. Give it under permissions: there", name, more, j.ID)
	}
	sub := &maker{w: m.w, plan: m.plan, lookup: m.lookup, seen: m.seen}
	sub.resolve(w, chain, allowed)
	m.seen = sub.seen
	m.diags = append(m.diags, sub.diags...)
}

// load reads a called workflow, once.
func (m *maker) load(u *spec.Use, name string, chain []string) *spec.Workflow {
	if slices.Contains(chain, name) {
		m.errorf(u.Pos, "the workflow %s calls itself: %s", name, strings.Join(append(chain, name), " -> "))
		return nil
	}
	if len(chain) >= MaxCalls {
		m.errorf(u.Pos, "workflows call each other more than %d deep: %s", MaxCalls, strings.Join(append(chain, name), " -> "))
		return nil
	}
	if to, ok := m.plan.Actions[name]; ok {
		name = to
	}
	if src, ok := m.plan.Files[name]; ok {
		w, _ := spec.Parse(name, []byte(src))
		return w
	}
	if m.lookup.Workflow == nil {
		m.errorf(u.Pos, "the workflow %s cannot be read here", name)
		return nil
	}
	found, src, err := m.lookup.Workflow(m.w.Path, u.Path)
	if errors.Is(err, ErrElsewhere) {
		return nil
	}
	if err != nil {
		m.errorf(u.Pos, "uses: %s: %s", u.Path, said(err))
		return nil
	}
	if found != name { // a revision became a digest
		if m.plan.Actions == nil {
			m.plan.Actions = map[string]string{}
		}
		m.plan.Actions[name] = found
	}
	w, diags := spec.Parse(found, src)
	for _, d := range diags {
		if d.Severity == pipeline.Error {
			m.errorf(u.Pos, "%s cannot be called; it says at line %d: %s", found, d.Line, d.Message)
			return nil
		}
	}
	if m.plan.Files == nil {
		m.plan.Files = map[string]string{}
	}
	if len(m.plan.Files) >= MaxFiles {
		m.errorf(u.Pos, "the run uses more than %d workflows", MaxFiles)
		return nil
	}
	m.plan.Files[found] = string(src)
	return w
}

// Expand makes the jobs that a group stands for, now that what it needs has ended. It implements pipeline.Language.
func Expand(q pipeline.Question) (pipeline.Expansion, error) {
	p, g := &q.Run.Plan, q.Job.Group
	w, diags := spec.Parse(g.File, []byte(p.Files[g.File]))
	if w == nil {
		return pipeline.Expansion{}, problem(diags)
	}
	m := &maker{w: w, plan: p, github: expr.From(q.Run.GitHub), vars: expr.From(q.Vars), inputs: Inputs(p, q.Job.Scope), needs: Needs(q), group: q.Job, scope: q.Job.Scope}
	var out pipeline.Expansion
	room := MaxJobs - len(p.Jobs)
	if g.Kind == pipeline.MatrixGroup {
		m.computed = true
		m.prefix = prefix(q.Job.JobID)
		i := slices.IndexFunc(w.Jobs, func(j spec.Job) bool { return m.prefix+j.ID == q.Job.JobID })
		if i < 0 {
			return out, fmt.Errorf("job %s is gone from %s", q.Job.JobID, g.File)
		}
		s := w.Jobs[i]
		s.If = spec.Text{Value: "always()"} // the condition has been answered for all of them
		out.Jobs = m.job(&s)
		for i := range out.Jobs {
			out.Jobs[i].Always = q.Job.Always
		}
		if len(out.Jobs) > room {
			m.errorf(s.Pos, "the run would have more than %d jobs; use smaller matrices", MaxJobs)
		}
	} else {
		scope, err := m.enter(q, w)
		if err != nil {
			return out, err
		}
		out.Scope, m.scope, m.prefix, m.inputs, m.needs = scope, q.Job.Key, q.Job.Key+"/", Inputs(&pipeline.Plan{Inputs: scope.Inputs}, ""), nil
		out.Jobs = m.jobs(room)
	}
	return out, problem(m.diags)
}

func problem(diags []pipeline.Diagnostic) error {
	for _, d := range diags {
		if d.Severity == pipeline.Error {
			return fault.New(fault.Invalid, "%s:%d:%d: %s", d.File, d.Line, d.Col, d.Message)
		}
	}
	return nil
}

// enter computes what the called workflow is given.
func (m *maker) enter(q pipeline.Question, w *spec.Workflow) (*pipeline.Scope, error) {
	g := q.Job.Group
	env := m.env(nil)
	if q.Job.Matrix != "" {
		env.Contexts.Set("matrix", Matrix(q.Job))
	}
	in := expr.NewObject()
	for _, d := range w.Call.Inputs {
		text, given := g.With[strings.ToLower(d.Name)]
		v := d.Default
		var err error
		if s, ok := v.(string); ok && !given && strings.Contains(s, "${{") {
			text, given = s, true
		}
		if given {
			if v, err = expr.Eval(text, env); err != nil {
				return nil, fault.New(fault.Invalid, "The input %s of %s could not be computed: %v.", d.Name, g.File, err)
			}
			var ok bool
			if v, ok = coerce(d.Type, v); !ok {
				return nil, fault.New(fault.Invalid, "The input %s of %s is a %s; %s is none.", d.Name, g.File, d.Type, expr.JSON(v))
			}
		}
		if v == nil {
			v, _ = spec.Coerce(d.Type, "")
		}
		in.Set(d.Name, v)
	}
	return &pipeline.Scope{File: g.File, Inputs: expr.JSON(in), Env: raw(w.Env), Secrets: g.Secrets, Inherit: g.Inherit, Parent: q.Job.Scope}, nil
}

// coerce makes a value that an expression gave what an input is declared as.
func coerce(kind string, v expr.Value) (expr.Value, bool) {
	switch kind {
	case "boolean":
		if _, ok := v.(bool); ok {
			return v, true
		}
	case "number":
		if _, ok := v.(float64); ok {
			return v, true
		}
	default:
		return expr.String(v), true
	}
	if s, ok := v.(string); ok {
		return spec.Coerce(kind, s)
	}
	return v, false
}

func prefix(id string) string { return id[:strings.LastIndex(id, "/")+1] }

// Inputs is the inputs context of a scope.
func Inputs(p *pipeline.Plan, scope string) expr.Value {
	text := p.Inputs
	if s := p.Scopes[scope]; s != nil {
		text = s.Inputs
	}
	if v, err := expr.ParseJSON(text); err == nil {
		return v
	}
	return expr.NewObject()
}

// Needs is the needs context of a job, by the ids that its file uses.
func Needs(q pipeline.Question) *expr.Object {
	needs := expr.NewObject()
	for _, id := range q.Job.Needs {
		n := q.Needs[id]
		needs.Set(id[strings.LastIndex(id, "/")+1:], expr.NewObject().Set("result", string(n.Result)).Set("outputs", expr.From(maps.Clone(n.Outputs))))
	}
	return needs
}

// LocalNeeds is what a job needs, by the ids that its file uses.
func LocalNeeds(q pipeline.Question) map[string]pipeline.Need {
	out := make(map[string]pipeline.Need, len(q.Needs))
	for id, n := range q.Needs {
		out[id[strings.LastIndex(id, "/")+1:]] = n
	}
	return out
}

// Outputs computes what a called workflow gives back, from the outcomes of its jobs. It implements pipeline.Language.
func Outputs(r *pipeline.Run, group *pipeline.JobPlan, results map[string]pipeline.Need) (map[string]string, error) {
	g := group.Group
	if g.Kind != pipeline.CallGroup {
		return nil, nil
	}
	w, diags := spec.Parse(g.File, []byte(r.Plan.Files[g.File]))
	if w == nil {
		return nil, problem(diags)
	}
	jobs := expr.NewObject()
	for _, id := range slices.Sorted(maps.Keys(results)) {
		jobs.Set(id[strings.LastIndex(id, "/")+1:], expr.NewObject().Set("result", string(results[id].Result)).Set("outputs", expr.From(maps.Clone(results[id].Outputs))))
	}
	env := expr.Env{Contexts: expr.NewObject().Set("github", expr.From(r.GitHub)).Set("inputs", Inputs(&r.Plan, group.Key)).Set("jobs", jobs)}
	out := map[string]string{}
	for name, t := range w.Call.Outputs {
		v, err := expr.Interpolate(t.Value, env)
		if err != nil {
			return nil, fault.New(fault.Invalid, "The output %s of %s could not be computed: %v.", name, g.File, err)
		}
		out[name] = v
	}
	return out, nil
}
