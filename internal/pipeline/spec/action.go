package spec

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxAction is how many bytes an action.yml may have.
const MaxAction = 1 << 20

// Action is what a plan looks at in an action.yml.
type Action struct {
	Using string // composite, node20, docker, in lower case
	Steps []ActionStep
}

// ActionStep is a step of a composite action that uses another action.
type ActionStep struct {
	Uses string // as it is written
	Line int
}

// Other reports whether the step's action is one of another repository, that no plan can do without.
func (s ActionStep) Other() bool { return remote.MatchString(s.Uses) }

// Local reports whether it is a folder of the workspace.
func (s ActionStep) Local() bool { return strings.HasPrefix(s.Uses, "./") }

// ParseAction reads an action.yml. What cannot run is an error that says which line of it.
func ParseAction(content []byte) (Action, error) {
	if len(content) > MaxAction {
		return Action{}, fmt.Errorf("it has %d bytes; it may have %d", len(content), MaxAction)
	}
	var d struct {
		Runs struct {
			Using string      `yaml:"using"`
			Steps []yaml.Node `yaml:"steps"`
		} `yaml:"runs"`
	}
	if err := yaml.NewDecoder(bytes.NewReader(content)).Decode(&d); err != nil {
		return Action{}, fmt.Errorf("it cannot be read: %w", err)
	}
	a := Action{Using: strings.ToLower(d.Runs.Using)}
	switch {
	case a.Using == "composite":
	case strings.HasPrefix(a.Using, "node"), a.Using == "docker":
		return a, nil
	default:
		return a, fmt.Errorf("it says runs.using: %q, which is not known; composite, node20, node24 and docker are", d.Runs.Using)
	}
	for i := range d.Runs.Steps {
		n := &d.Runs.Steps[i]
		if n.Kind != yaml.MappingNode {
			return a, fmt.Errorf("line %d: a step is a list of keys and values", n.Line)
		}
		var s struct {
			Uses  string               `yaml:"uses"`
			Run   string               `yaml:"run"`
			Shell string               `yaml:"shell"`
			With  map[string]yaml.Node `yaml:"with"`
		}
		if err := n.Decode(&s); err != nil {
			return a, fmt.Errorf("its step %d cannot be read: %w", i+1, err)
		}
		switch {
		case s.Uses == "" && s.Run == "":
			return a, fmt.Errorf("line %d: the step has neither uses: nor run: of its own", n.Line)
		case s.Uses == "" && s.Shell == "":
			return a, fmt.Errorf("line %d: the step has run: without shell:, which actions must name", n.Line)
		case s.Uses == "":
			continue
		}
		if name, ok := builtin(s.Uses); ok {
			for _, k := range slices.Sorted(maps.Keys(s.With)) {
				v := s.With[k]
				if why := Misgiven(name, k, v.Value); why != "" && !strings.Contains(v.Value, "${{") {
					return a, fmt.Errorf("line %d: uses: %s: %s", v.Line, s.Uses, why)
				}
			}
			continue
		}
		step := ActionStep{Uses: s.Uses, Line: n.Line}
		if !step.Other() && !step.Local() && !strings.HasPrefix(s.Uses, Image) {
			return a, fmt.Errorf("line %d: uses: %s is no action", n.Line, s.Uses)
		}
		a.Steps = append(a.Steps, step)
	}
	return a, nil
}

// Misgiven says what is wrong with an input that a built-in action is given; "" if nothing is.
func Misgiven(name, key, value string) string {
	kind, known := inputs[name][strings.ToLower(key)]
	low := strings.ToLower(strings.TrimSpace(value))
	switch {
	case !known && low != "":
		return fmt.Sprintf("its input %s is not supported by Weir", key)
	case kind == falsy && known && low != "" && low != "false", kind == shallow && low != "" && low != "1":
		return fmt.Sprintf("its input %s: %s is not supported by Weir", key, value)
	}
	return ""
}
