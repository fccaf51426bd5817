package spec

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rhysd/actionlint"
	"github.com/robfig/cron/v3"

	"weir/internal/pipeline/expr"
)

// Cron reads the five fields of a schedule, with names of months and days.
var Cron = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

func (c *checker) event(w *Workflow, e actionlint.Event) {
	switch e := e.(type) {
	case *actionlint.WebhookEvent:
		c.hook(w, e)
	case *actionlint.WorkflowDispatchEvent:
		w.Dispatch = c.dispatch(e)
	case *actionlint.WorkflowCallEvent:
		w.Call = c.called(e)
	case *actionlint.ScheduledEvent:
		for _, s := range e.Schedules {
			c.schedule(w, s)
		}
	case *actionlint.RepositoryDispatchEvent:
		c.never(e.Pos, e.EventName())
	case *actionlint.ImageVersionEvent:
		c.never(e.Pos, e.EventName())
	default:
		c.unsupported(nil, "on: "+e.EventName(), "remove this trigger")
	}
}

// never warns of an event that has no counterpart here. The workflow's other events start it all the same.
func (c *checker) never(p *actionlint.Pos, name string) {
	c.warnf(pos(p), "on: %s never starts a run in Weir, which knows push, pull_request, workflow_dispatch, workflow_call and schedule", name)
}

func (c *checker) hook(w *Workflow, hook *actionlint.WebhookEvent) {
	name := hook.Hook.Value
	switch name {
	case "push", "pull_request":
	case "pull_request_target":
		c.warnf(pos(hook.Pos), "on: pull_request_target never starts a run in Weir. Use pull_request: Weir reads its workflow from the target branch anyway")
		return
	default:
		c.never(hook.Pos, name)
		return
	}
	for _, t := range hook.Types {
		if name == "pull_request" && !slices.Contains([]string{"opened", "synchronize", "reopened"}, t.Value) {
			c.warnf(pos(t.Pos), "on.pull_request.types: %s never starts a run in Weir: a change starts runs when it is opened and when it gets a new patchset", t.Value)
		}
	}
	t := &Trigger{Branches: filter(hook.Branches), BranchesIgnore: filter(hook.BranchesIgnore), Tags: filter(hook.Tags), TagsIgnore: filter(hook.TagsIgnore),
		Paths: filter(hook.Paths), PathsIgnore: filter(hook.PathsIgnore)}
	if name == "push" {
		w.Push = t
		return
	}
	opened := func(s *actionlint.String) bool {
		return slices.Contains([]string{"opened", "synchronize", "reopened"}, s.Value)
	}
	if len(hook.Types) == 0 || slices.ContainsFunc(hook.Types, opened) {
		w.PullRequest = t
	}
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

func (c *checker) schedule(w *Workflow, e *actionlint.ScheduleEntry) {
	s := Schedule{Cron: text(e.Cron).Value, Zone: text(e.Timezone).Value, Pos: text(e.Cron).Pos}
	if _, err := Cron.Parse(s.Cron); err != nil {
		c.errorf(s.Pos, "the schedule %q cannot be read: %v. Write minute, hour, day of month, month and day of week", s.Cron, err)
		return
	}
	if _, err := time.LoadLocation(s.Zone); err != nil {
		c.errorf(s.Pos, "the time zone %q of the schedule is not known; write a name such as Europe/Berlin", s.Zone)
		return
	}
	w.Schedules = append(w.Schedules, s)
}

func (c *checker) dispatch(e *actionlint.WorkflowDispatchEvent) *Dispatch {
	d := &Dispatch{}
	kinds := map[actionlint.WorkflowDispatchEventInputType]string{
		actionlint.WorkflowDispatchEventInputTypeNone: "string", actionlint.WorkflowDispatchEventInputTypeString: "string",
		actionlint.WorkflowDispatchEventInputTypeNumber: "number", actionlint.WorkflowDispatchEventInputTypeBoolean: "boolean",
		actionlint.WorkflowDispatchEventInputTypeChoice: "choice", actionlint.WorkflowDispatchEventInputTypeEnvironment: "environment",
	}
	for _, a := range slices.SortedFunc(maps.Values(e.Inputs), func(a, b *actionlint.DispatchInput) int { return byPlace(a.Name, b.Name) }) {
		in := Input{Name: a.Name.Value, Description: text(a.Description).Value, Type: kinds[a.Type], Required: a.Required != nil && a.Required.Value, Pos: pos(a.Name.Pos)}
		for _, o := range a.Options {
			in.Options = append(in.Options, o.Value)
		}
		if a.Default != nil {
			c.fallback(&in, a.Default)
		}
		d.Inputs = append(d.Inputs, in)
	}
	return d
}

func (c *checker) called(e *actionlint.WorkflowCallEvent) *Called {
	k := &Called{Outputs: map[string]Text{}, Secrets: map[string]bool{}}
	kinds := map[actionlint.WorkflowCallEventInputType]string{
		actionlint.WorkflowCallEventInputTypeBoolean: "boolean", actionlint.WorkflowCallEventInputTypeNumber: "number", actionlint.WorkflowCallEventInputTypeString: "string",
	}
	for _, a := range e.Inputs {
		in := Input{Name: a.Name.Value, Description: text(a.Description).Value, Type: kinds[a.Type], Required: a.Required != nil && a.Required.Value, Pos: pos(a.Name.Pos)}
		if in.Type == "" {
			c.errorf(in.Pos, "the input %s has no type; write string, number or boolean", in.Name)
		}
		if a.Default != nil {
			c.fallback(&in, a.Default)
		}
		k.Inputs = append(k.Inputs, in)
	}
	for _, o := range e.Outputs {
		k.Outputs[o.Name.Value] = c.text(o.Value)
	}
	for _, s := range e.Secrets {
		k.Secrets[s.Name.Value] = s.Required != nil && s.Required.Value
	}
	return k
}

func byPlace(a, b *actionlint.String) int {
	return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Col, b.Pos.Col))
}

// fallback sets the default of an input; with an expression in it, it is computed when a run starts.
func (c *checker) fallback(in *Input, s *actionlint.String) {
	t := c.text(s)
	if strings.Contains(t.Value, "${{") {
		in.Default = t.Value
		return
	}
	v, ok := Coerce(in.Type, t.Value)
	if !ok {
		c.errorf(t.Pos, "the default %q of the input %s is no %s", t.Value, in.Name, in.Type)
	}
	in.Default = v
}

// Coerce reads the text of an input as its type.
func Coerce(kind, s string) (expr.Value, bool) {
	switch kind {
	case "boolean":
		switch strings.ToLower(s) {
		case "true":
			return true, true
		case "false", "":
			return false, true
		}
		return nil, false
	case "number":
		n := expr.Number(s)
		return n, n == n
	}
	return s, true
}

// permissions name what a job's token opens. One that opens nothing in Weir is worth a warning: what needs it will not work.
func (c *checker) permissions(p *actionlint.Permissions) {
	if p == nil {
		return
	}
	for _, s := range p.Scopes {
		if s.Value == nil || s.Name == nil {
			continue
		}
		if why := without(s.Name.Value, levels[s.Value.Value]); why != "" {
			c.warnf(pos(s.Name.Pos), "permissions.%s: %s opens nothing in Weir: %s", s.Name.Value, s.Value.Value, why)
		}
	}
}
