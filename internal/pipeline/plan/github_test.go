package plan_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"weir/internal/pipeline"
	"weir/internal/pipeline/plan"
	"weir/internal/pipeline/spec"
)

// differs holds GitHub's cases that end otherwise here, with the reason. An unlisted difference fails, a listed agreement too.
var differs = map[string]string{
	"background-steps.yml":                                   "an experiment of GitHub's: steps in the background, wait and cancel; refused by name",
	"concurrency.yml":                                        "concurrency.queue is refused by name, an experiment of GitHub's",
	"job-if.yml":                                             "success() with names of jobs is refused: GitHub documents it nowhere",
	"insert.yml":                                             "${{ insert }} is refused; GitHub's TypeScript parser does not take it either",
	"events-mapping-all.yml":                                 "branches with branches-ignore is refused; so does GitHub's server when the event comes",
	"job-services.yml":                                       "a volume that is a folder of the machine is refused by name: jobs do not see those",
	"round-to-infinity.yml":                                  "numbers beyond floating point are refused; GitHub's TypeScript parser does not take them either",
	"errors-parse-float.yml":                                 "YAML tags are taken as plain text, as GitHub's TypeScript parser does",
	"errors-yaml-tags-explicit-unsupported.yml":              "YAML tags are taken as plain text, as GitHub's TypeScript parser does",
	"errors-max-depth.yml":                                   "the case sets a depth of 5 for itself; ours is 100",
	"errors-max-job-limit-with-reusable-workflow.yml":        "the case sets 8 jobs for itself; ours is 1000",
	"errors-reusable-workflow-max-result-size.yml":           "the case sets 2048 bytes for itself; ours is 512 KiB a file",
	"errors-reusable-workflow-job-nested-depth-exceeded.yml": "the case sets a depth of 2 for itself; ours is 10",
}

// TestGitHubsWorkflowCases: GitHub's own workflows are accepted and rejected as GitHub does. A case is options, a workflow, then
// name and source of each workflow that it calls, then what GitHub's parser makes of it.
func TestGitHubsWorkflowCases(t *testing.T) {
	all := spec.Runs
	defer func() { spec.Runs = all }()
	spec.Runs.Containers, spec.Runs.Local, spec.Runs.Mirrored, spec.Runs.Images = true, true, true, true // the language, not the runners
	spec.Runs.Foreign, spec.Runs.Shells, spec.Runs.Snapshots = true, true, true
	files, _ := filepath.Glob("testdata/github/*.yml")
	if len(files) < 98 {
		t.Fatalf("found %d cases; want 98", len(files))
	}
	same := 0
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		parts := regexp.MustCompile(`(?m)^---[ \t]*\r?\n`).Split(string(raw), -1)
		reject := strings.Contains(parts[len(parts)-1], `"errors"`)
		called := map[string]string{}
		for i := 2; i+1 < len(parts)-1; i += 2 {
			called[strings.TrimSpace(parts[i])] = parts[i+1]
		}
		diags := judged(parts[1], called)
		name := filepath.Base(f)
		reason := differs[name]
		switch agree := spec.Refused(diags) == reject; {
		case agree && reason == "":
			same++
		case agree:
			t.Errorf("%s agrees with GitHub; take it from the list", name)
		case reason == "":
			t.Errorf("%s: refused %v; GitHub %v\n%+v", name, !reject, reject, diags)
		}
	}
	t.Logf("%d of %d as GitHub", same, len(files))
}

func judged(src string, called map[string]string) []pipeline.Diagnostic {
	w, diags := spec.Parse("ci.yml", []byte(src))
	if w == nil || len(called) == 0 { // the rest depends on an event, which the cases have none of
		return diags
	}
	ev := plan.Event{Name: "push", GitHub: map[string]any{"event": map[string]any{}}}
	_, more := plan.Make(w, ev, plan.Lookup{
		Workflow: func(from, uses string) (string, []byte, error) {
			name := plan.FileName(from, uses)
			for have, src := range called {
				if have == name || have == uses {
					return name, []byte(src), nil
				}
			}
			return name, nil, fmt.Errorf("no such file")
		},
		Action: func(uses string) (string, error) { return uses, nil },
	})
	return append(diags, more...)
}
