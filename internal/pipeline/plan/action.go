package plan

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/pipeline/spec"
)

// Limits on actions that use others.
const (
	MaxActionDepth = 10 // one inside the other, the first included; the runner holds to the same
	MaxActions     = 200
)

// action resolves what a step uses, and what that uses in turn, so that the plan has every commit before the run starts.
func (m *maker) action(j *spec.Job, s *spec.Step) {
	switch {
	case strings.HasPrefix(s.Uses, "./"):
		for _, at := range workspace(j, s.Uses) {
			if m.local(s.Pos, at, []string{s.Uses}) {
				return
			}
		}
	case strings.Contains(s.Uses, "@") && !strings.HasPrefix(s.Uses, spec.Image):
		m.other(s.Pos, s.Uses, nil)
	}
}

// workspace are the folders of the repository that a path in the workspace may be: the same, or one below where it is checked out.
func workspace(j *spec.Job, uses string) []string {
	all := []string{uses}
	for i := range j.Steps {
		c := &j.Steps[i]
		if c.Uses != "checkout" || c.With["repository"].Value != "" && !strings.Contains(c.With["repository"].Value, "github.repository") {
			continue
		}
		if p := c.With["path"].Value; p != "" && !strings.Contains(p, "${{") {
			if rest, ok := strings.CutPrefix(path.Clean(uses), path.Clean(p)+"/"); ok {
				all = append(all, "./"+rest)
			}
		}
	}
	return all
}

// other resolves an action of another repository. Chain is what uses what.
func (m *maker) other(p spec.Pos, uses string, chain []string) {
	if _, ok := m.plan.Actions[uses]; ok && !slices.Contains(chain, uses) {
		return // and so is all that it uses
	}
	if !m.room(p, uses, chain) {
		return
	}
	chain = append(slices.Clone(chain), uses)
	err := Unmirrored(uses)
	to := ""
	if m.lookup.Action != nil {
		to, err = m.lookup.Action(uses)
	}
	if err != nil {
		m.errorf(p, "uses: %s: %s", strings.Join(chain, " -> "), said(err))
		return
	}
	if m.plan.Actions == nil {
		m.plan.Actions = map[string]string{}
	}
	m.plan.Actions[uses] = to
	found, err := m.definition(to)
	switch {
	case errors.Is(err, ErrElsewhere):
	case err != nil:
		m.errorf(p, "uses: %s: %s", strings.Join(chain, " -> "), said(err))
	case found == nil:
		m.errorf(p, "uses: %s has no action.yml in its folder; correct the path in uses:", strings.Join(chain, " -> "))
	default:
		m.uses(p, found, chain)
	}
}

// local looks at an action of the repository. One that is not there may be made during the run: false.
func (m *maker) local(p spec.Pos, uses string, chain []string) bool {
	found, err := m.definition(uses)
	if found == nil && err == nil || errors.Is(err, ErrElsewhere) {
		return false
	}
	if err != nil {
		m.errorf(p, "uses: %s: %s", strings.Join(chain, " -> "), said(err))
		return true
	}
	m.uses(p, found, chain)
	return true
}

func (m *maker) uses(p spec.Pos, a *spec.Action, chain []string) {
	for _, s := range a.Steps {
		switch {
		case s.Other():
			m.other(p, s.Uses, chain)
		case s.Local():
			if m.room(p, s.Uses, chain) {
				m.local(p, s.Uses, append(slices.Clone(chain), s.Uses))
			}
		}
		if len(m.diags) > 0 {
			return
		}
	}
}

// room refuses actions that use each other without end.
func (m *maker) room(p spec.Pos, uses string, chain []string) bool {
	shown := func() string { return strings.Join(append(slices.Clone(chain), uses), " -> ") }
	switch {
	case slices.Contains(chain, uses):
		m.errorf(p, "uses: the action %s uses itself: %s", uses, shown())
	case len(chain) >= MaxActionDepth:
		m.errorf(p, "uses: actions use each other more than %d deep: %s", MaxActionDepth, shown())
	case m.seen >= MaxActions:
		m.errorf(p, "the run uses more than %d actions", MaxActions)
	default:
		m.seen++
		return true
	}
	return false
}

// definition reads the action.yml of an action, as the plan names it; nil if there is none.
func (m *maker) definition(uses string) (*spec.Action, error) {
	if m.lookup.File == nil {
		return nil, ErrElsewhere
	}
	folder, at, _ := strings.Cut(uses, "@")
	for _, name := range []string{"action.yml", "action.yaml"} {
		file := path.Join(folder, name)
		if strings.HasPrefix(uses, "./") {
			if strings.HasPrefix(file, "../") {
				return nil, fault.New(fault.Invalid, "The path leads out of the repository.")
			}
		} else {
			file += "@" + at
		}
		src, err := m.lookup.File(file)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		a, err := spec.ParseAction(src)
		if err != nil {
			return nil, fmt.Errorf("its %s: %w", name, err)
		}
		return &a, nil
	}
	return nil, nil
}
