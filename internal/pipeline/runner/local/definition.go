package local

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"

	"weir/internal/pipeline"
)

// definition is an action.yml.
type definition struct {
	Name    string                  `yaml:"name"`
	Inputs  map[string]actionInput  `yaml:"inputs"`
	Outputs map[string]actionOutput `yaml:"outputs"`
	Runs    struct {
		Using  string       `yaml:"using"`
		Main   string       `yaml:"main"`
		Pre    string       `yaml:"pre"`
		PreIf  string       `yaml:"pre-if"`
		Post   string       `yaml:"post"`
		PostIf string       `yaml:"post-if"`
		Steps  []actionStep `yaml:"steps"`

		// Of actions in containers.
		Image          string            `yaml:"image"`
		Args           []scalar          `yaml:"args"`
		Entrypoint     string            `yaml:"entrypoint"`
		PreEntrypoint  string            `yaml:"pre-entrypoint"`
		PostEntrypoint string            `yaml:"post-entrypoint"`
		Env            map[string]scalar `yaml:"env"`
	} `yaml:"runs"`
}

type actionInput struct {
	Default  scalar `yaml:"default"`
	Required bool   `yaml:"required"`
}

type actionOutput struct {
	Value scalar `yaml:"value"`
}

type actionStep struct {
	ID               string            `yaml:"id"`
	Name             string            `yaml:"name"`
	If               scalar            `yaml:"if"`
	Run              string            `yaml:"run"`
	Shell            string            `yaml:"shell"`
	WorkingDirectory string            `yaml:"working-directory"`
	Uses             string            `yaml:"uses"`
	With             map[string]scalar `yaml:"with"`
	Env              map[string]scalar `yaml:"env"`
	ContinueOnError  scalar            `yaml:"continue-on-error"`
}

// scalar is a value as it is written: true, 1 and text alike.
type scalar string

// UnmarshalYAML implements yaml.Unmarshaler.
func (s *scalar) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: a single value is wanted here", n.Line)
	}
	if n.Tag != "!!null" {
		*s = scalar(n.Value)
	}
	return nil
}

func (s scalar) text() string { return string(s) }

func texts(m map[string]scalar) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = string(v)
	}
	return out
}

// plan is the step as a job's plan would have it.
func (s *actionStep) plan() pipeline.StepPlan {
	with := map[string]string{}
	for k, v := range s.With {
		with[strings.ToLower(k)] = string(v)
	}
	return pipeline.StepPlan{ID: s.ID, Name: s.Name, If: string(s.If), Run: s.Run, Shell: s.Shell, WorkingDirectory: s.WorkingDirectory,
		Uses: s.Uses, With: with, Env: texts(s.Env), ContinueOnError: string(s.ContinueOnError)}
}

// definition reads the action.yml of a folder.
func (j *job) definition(uses, folder string) (*definition, error) {
	for _, name := range []string{"action.yml", "action.yaml"} {
		text, err := j.read(path.Join(folder, name), 1<<20)
		if err != nil {
			return nil, err
		}
		if text == "" {
			continue
		}
		var d definition
		if err := yaml.NewDecoder(bytes.NewReader([]byte(text))).Decode(&d); err != nil {
			return nil, failure(fmt.Sprintf("uses: %s: its %s cannot be read: %v", uses, name, err))
		}
		return &d, nil
	}
	what := "check the repository out before the step that uses it"
	if uses[0] != '.' {
		what = "correct the path in uses:"
	}
	return nil, failure(fmt.Sprintf("uses: %s has no action.yml in its folder; %s", uses, what))
}
