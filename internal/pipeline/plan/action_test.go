package plan_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/plan"
	"weir/internal/pipeline/spec"
)

const sha = "0123456789012345678901234567890123456789"

// world answers for actions: files of the repository by path, those of mirrors by "owner/name/path".
func actionsOf(files map[string]string) plan.Lookup {
	return plan.Lookup{
		Action: func(uses string) (string, error) {
			repo, _, _ := plan.Remote(uses)
			for name := range files {
				if strings.HasPrefix(name, repo+"/") {
					at, _, _ := strings.Cut(uses, "@")
					return at + "@" + sha, nil
				}
			}
			return "", plan.Unmirrored(uses)
		},
		File: func(name string) ([]byte, error) {
			at, _, _ := strings.Cut(name, "@")
			if src, ok := files[at]; ok {
				return []byte(src), nil
			}
			return nil, fault.New(fault.NotFound, "There is no file %s.", name)
		},
		Workflow: func(from, uses string) (string, []byte, error) {
			name := plan.FileName(from, uses)
			if src, ok := files[name]; ok {
				return name, []byte(src), nil
			}
			return name, nil, fault.New(fault.NotFound, "There is no file %s.", name)
		},
	}
}

func composite(uses ...string) string {
	s := "runs:\n  using: composite\n  steps:\n    - {run: x, shell: bash}\n"
	for _, u := range uses {
		s += "    - uses: " + u + "\n"
	}
	return s
}

func planned(t *testing.T, workflow string, files map[string]string) (pipeline.Plan, string) {
	t.Helper()
	w, diags := spec.Parse("ci.yml", []byte(workflow))
	if w == nil {
		t.Fatal(diags)
	}
	made, more := plan.Make(w, plan.Event{Name: "push"}, actionsOf(files))
	var all []string
	for _, d := range more {
		all = append(all, fmt.Sprintf("%d: %s", d.Line, d.Message))
	}
	return made.Plan, strings.Join(all, "\n")
}

func steps(uses ...string) string {
	s := "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n"
	for _, u := range uses {
		s += "      - uses: " + u + "\n"
	}
	return s
}

const script = "runs: {using: node20, main: x.js}\n"

func TestActionsInsideOfActionsAreInThePlan(t *testing.T) {
	files := map[string]string{
		"o/outer/action.yml":        composite("o/inner/sub@v2", "actions/checkout@v4", "./local", "docker://base/x:1"),
		"o/inner/sub/action.yaml":   composite("o/leaf@main"),
		"o/leaf/action.yml":         script,
		"local/action.yml":          composite("o/third@v3"),
		"o/third/action.yml":        script,
		"near/action.yml":           composite("o/leaf@v9"),
		".github/workflows/sub.yml": "on: workflow_call\njobs: {b: {runs-on: x, steps: [{uses: o/fourth@v4}]}}\n",
		"o/fourth/action.yml":       composite("o/leaf@v1"),
	}
	p, wrong := planned(t, steps("o/outer@v1", "./near")+"  b: {uses: ./.github/workflows/sub.yml}\n", files)
	want := map[string]string{"o/outer@v1": "o/outer@" + sha, "o/inner/sub@v2": "o/inner/sub@" + sha, "o/leaf@main": "o/leaf@" + sha, "o/third@v3": "o/third@" + sha,
		"o/leaf@v9": "o/leaf@" + sha, "o/fourth@v4": "o/fourth@" + sha, "o/leaf@v1": "o/leaf@" + sha}
	if wrong != "" || !maps.Equal(p.Actions, want) {
		t.Errorf("%s\ngot  %v\nwant %v", wrong, p.Actions, want)
	}
}

func TestLocalActionIsFoundWhereItIsCheckedOut(t *testing.T) {
	files := map[string]string{"tools/action.yml": composite("o/leaf@v1"), "o/leaf/action.yml": script}
	p, wrong := planned(t, "on: push\njobs: {a: {runs-on: x, steps: [{uses: actions/checkout@v4, with: {path: src/here}}, {uses: ./src/here/tools}]}}\n", files)
	if wrong != "" || p.Actions["o/leaf@v1"] == "" {
		t.Errorf("%s %v", wrong, p.Actions)
	}
	// What is nowhere may be made by a step.
	if p, wrong := planned(t, steps("./made"), files); wrong != "" || len(p.Actions) != 0 {
		t.Errorf("%s %v", wrong, p.Actions)
	}
}

func TestActionsThatCannotRunAreRefusedBeforeTheRun(t *testing.T) {
	deep := map[string]string{"o/0/action.yml": composite("o/1@v1")}
	for i := range 20 {
		deep[fmt.Sprintf("o/%d/action.yml", i)] = composite(fmt.Sprintf("o/%d@v1", i+1))
	}
	many := map[string]string{}
	var all []string
	for i := range 201 {
		many[fmt.Sprintf("o/%d/action.yml", i)] = script
		all = append(all, fmt.Sprintf("o/%d@v1", i))
	}
	for name, c := range map[string]struct {
		uses  []string
		files map[string]string
		want  string
	}{
		"inner mirror is missing":       {[]string{"o/a@v1"}, map[string]string{"o/a/action.yml": composite("p/b@v1")}, "6: uses: o/a@v1 -> p/b@v1: There is no mirror of p/b. Weir never fetches code by itself: add one with"},
		"of a local one":                {[]string{"./a"}, map[string]string{"a/action.yml": composite("p/b@v1")}, "uses: ./a -> p/b@v1: There is no mirror of p/b."},
		"no action.yml":                 {[]string{"o/a/wrong@v1"}, map[string]string{"o/a/action.yml": script}, "uses: o/a/wrong@v1 has no action.yml in its folder; correct the path in uses:"},
		"uses itself":                   {[]string{"o/a@v1"}, map[string]string{"o/a/action.yml": composite("o/b@v1"), "o/b/action.yml": composite("o/a@v1")}, "the action o/a@v1 uses itself: o/a@v1 -> o/b@v1 -> o/a@v1"},
		"local ones use each other":     {[]string{"./a"}, map[string]string{"a/action.yml": composite("./b"), "b/action.yml": composite("./a")}, "the action ./a uses itself: ./a -> ./b -> ./a"},
		"20 deep":                       {[]string{"o/0@v1"}, deep, "actions use each other more than 10 deep: o/0@v1 -> o/1@v1"},
		"201 of them":                   {all, many, "the run uses more than 200 actions"},
		"unknown kind":                  {[]string{"o/a@v1"}, map[string]string{"o/a/action.yml": "runs: {using: wasm}"}, `its action.yml: it says runs.using: "wasm", which is not known`},
		"no YAML":                       {[]string{"o/a@v1"}, map[string]string{"o/a/action.yml": "runs: ["}, "its action.yml: it cannot be read"},
		"too large":                     {[]string{"o/a@v1"}, map[string]string{"o/a/action.yml": strings.Repeat("#", spec.MaxAction+1)}, "it may have 1048576"},
		"no shell":                      {[]string{"o/a@v1"}, map[string]string{"o/a/action.yml": "runs: {using: composite, steps: [{run: x}]}"}, "line 1: the step has run: without shell:, which actions must name"},
		"nothing to do":                 {[]string{"o/a@v1"}, map[string]string{"o/a/action.yml": "runs: {using: composite, steps: [{name: x}]}"}, "line 1: the step has neither uses: nor run: of its own"},
		"no action":                     {[]string{"o/a@v1"}, map[string]string{"o/a/action.yml": composite("nonsense")}, "line 5: uses: nonsense is no action"},
		"an input that Weir has not":    {[]string{"o/a@v1"}, map[string]string{"o/a/action.yml": "runs: {using: composite, steps: [{uses: actions/checkout@v4, with: {submodules: recursive}}]}"}, "line 1: uses: actions/checkout@v4: its input submodules: recursive is not supported by Weir"},
		"an input that nobody has":      {[]string{"o/a@v1"}, map[string]string{"o/a/action.yml": "runs: {using: composite, steps: [{uses: actions/checkout@v4, with: {colour: red}}]}"}, "uses: actions/checkout@v4: its input colour is not supported by Weir"},
		"a path that leads out":         {[]string{"./../x"}, nil, "The path leads out of the repository."},
		"a bomb of aliases":             {[]string{"o/a@v1"}, map[string]string{"o/a/action.yml": bomb()}, "a step is a list of keys and values"},
		"a reusable workflow's actions": {nil, map[string]string{".github/workflows/r.yml": "on: workflow_call\njobs: {b: {runs-on: x, steps: [{uses: o/a@v1}]}}\n", "o/a/action.yml": composite("p/b@v1")}, "uses: o/a@v1 -> p/b@v1: There is no mirror of p/b."},
	} {
		src := steps(c.uses...)
		if c.uses == nil {
			src = "on: push\njobs:\n  a: {uses: ./.github/workflows/r.yml}\n"
		}
		if _, wrong := planned(t, src, c.files); !strings.Contains(wrong, c.want) {
			t.Errorf("%s: %q; want %q", name, wrong, c.want)
		}
	}
}

func bomb() string {
	s := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		s += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	return s + "runs: {using: composite, steps: *j}\n"
}
