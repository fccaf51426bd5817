package plan_test

import (
	"fmt"
	"strings"
	"testing"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/plan"
	"weir/internal/pipeline/spec"
)

const head = "on: push\njobs:\n"

func job(id, more string) string {
	return "  " + id + ": {runs-on: x, " + more + "steps: [{run: x}]}\n"
}

func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d,", i)
	}
	return "[" + strings.TrimSuffix(b.String(), ",") + "]"
}

// files answers for called workflows by name.
func files(all map[string]string) plan.Lookup {
	return plan.Lookup{Workflow: func(from, uses string) (string, []byte, error) {
		name := plan.FileName(from, uses)
		if src, ok := all[name]; ok {
			return name, []byte(src), nil
		}
		return name, nil, fault.New(fault.NotFound, "There is no file %s.", name)
	}}
}

// Whatever a workflow asks for too much of is refused with a sentence, before anything runs.
func TestTooMuchIsRefusedWithASentence(t *testing.T) {
	call := func(uses string) string { return "on: workflow_call\njobs: {a: {uses: " + uses + "}}\n" }
	deep := map[string]string{}
	for i := range 30 {
		deep[fmt.Sprintf(".github/workflows/%d.yml", i)] = call(fmt.Sprintf("./.github/workflows/%d.yml", i+1))
	}
	wide := head
	for i := range 41 {
		wide += job(fmt.Sprintf("j%d", i), "strategy: {matrix: {a: "+numbers(250)+"}}, ")
	}
	many := head
	for i := range 60 {
		many += fmt.Sprintf("  j%d: {uses: ./.github/workflows/f%d.yml}\n", i, i)
	}
	leaves := map[string]string{}
	for i := range 60 {
		leaves[fmt.Sprintf(".github/workflows/f%d.yml", i)] = "on: workflow_call\njobs:\n" + job("a", "")
	}
	for name, c := range map[string]struct {
		src, want string
		files     map[string]string
	}{
		"matrix over 256":      {head + job("a", "strategy: {matrix: {a: "+numbers(257)+"}}, "), "the matrix of job a has 257 combinations; it may have 256", nil},
		"matrix of 1000^4":     {head + job("a", "strategy: {matrix: {a: "+numbers(1000)+", b: "+numbers(1000)+", c: "+numbers(1000)+", d: "+numbers(1000)+"}}, "), "far more than 256", nil},
		"includes over 256":    {head + job("a", "strategy: {matrix: {include: '${{ fromJSON(format(''[{0}]'', ''"+strings.TrimSuffix(strings.Repeat("{},", 300), ",")+"'')) }}'}}, "), "it may have 256", nil},
		"10250 jobs":           {wide, "more than 10000 jobs", nil},
		"cyclic needs":         {head + job("a", "needs: b, ") + job("b", "needs: a, "), "cyclic", nil},
		"needs itself":         {head + job("a", "needs: a, "), "cyclic", nil},
		"recursive":            {head + "  a: {uses: ./.github/workflows/r.yml}\n", "calls itself: ci.yml -> .github/workflows/r.yml -> .github/workflows/r.yml", map[string]string{".github/workflows/r.yml": call("./.github/workflows/r.yml")}},
		"mutually recursive":   {head + "  a: {uses: ./.github/workflows/r.yml}\n", "calls itself", map[string]string{".github/workflows/r.yml": call("./.github/workflows/s.yml"), ".github/workflows/s.yml": call("./.github/workflows/r.yml")}},
		"30 deep":              {head + "  a: {uses: ./.github/workflows/0.yml}\n", "more than 10 deep", deep},
		"60 files":             {many, "uses more than 50 workflows", leaves},
		"a name that leads up": {head + "  a: {uses: ./../../etc/passwd.yml}\n", "There is no file ../../etc/passwd.yml", nil},
		"deep expression":      {head + job("a", "if: '"+strings.Repeat("(", 1000)+"1"+strings.Repeat(")", 1000)+"', "), "Exceeded max expression depth 50", nil},
		"deep YAML":            {head + job("a", "env: {A: "+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+"}, "), "", nil},
	} {
		w, diags := spec.Parse("ci.yml", []byte(c.src))
		if w != nil {
			_, more := plan.Make(w, plan.Event{Name: "push"}, files(c.files))
			diags = append(diags, more...)
		}
		if !spec.Refused(diags) || !strings.Contains(said(diags), c.want) {
			t.Errorf("%s: %s; want %q", name, short(said(diags)), c.want)
		}
	}
}

func said(diags []pipeline.Diagnostic) string {
	var b strings.Builder
	for _, d := range diags {
		fmt.Fprintf(&b, "%s:%d:%d: %s\n", d.File, d.Line, d.Col, d.Message)
	}
	return b.String()
}

func short(s string) string { return s[:min(len(s), 500)] }

// A matrix that is made during the run keeps to the same bounds: the group fails with the sentence.
func TestALateMatrixIsBoundedToo(t *testing.T) {
	w, diags := spec.Parse("ci.yml", []byte(head+job("b", "")+job("a", "needs: b, strategy: {matrix: {a: '${{ fromJSON(needs.b.outputs.x) }}'}}, ")))
	if w == nil {
		t.Fatal(diags)
	}
	made, more := plan.Make(w, plan.Event{Name: "push"}, plan.Lookup{})
	if len(more) > 0 {
		t.Fatal(more)
	}
	for out, want := range map[string]string{numbers(257): "it may have 256", "[]": "no combinations", "{": "Error parsing fromJson", "3": "is not a list", "": "empty input"} {
		q := pipeline.Question{Run: &pipeline.Run{Plan: made.Plan}, Job: &made.Plan.Jobs[1], Needs: map[string]pipeline.Need{"b": {Result: pipeline.Success, Outputs: map[string]string{"x": out}}}}
		if _, err := plan.Expand(q); err == nil || !strings.Contains(fault.Sentence(err), want) {
			t.Errorf("output %.20s: %v; want %q", out, err, want)
		}
	}
}

func TestALongWorkflowIsReadOrRefused(t *testing.T) {
	var lines strings.Builder
	lines.WriteString(head)
	for i := 0; lines.Len() < 1<<20; i++ {
		fmt.Fprintf(&lines, "  j%d:\n    runs-on: x\n    steps:\n      - run: |\n          echo %d\n", i, i)
	}
	if n := strings.Count(lines.String(), "\n"); n < 90_000 {
		lines.WriteString(strings.Repeat("#\n", 100_000-n))
	}
	w, diags := spec.Parse("ci.yml", []byte(lines.String()))
	if w != nil || !strings.Contains(said(diags), "a workflow may have") {
		t.Errorf("100,000 lines: %s", short(said(diags)))
	}
	long := head + "  a:\n    runs-on: x\n    steps:\n" + strings.Repeat("      - run: x\n", 2000)
	if _, diags := spec.Parse("ci.yml", []byte(long)); !strings.Contains(said(diags), "job a has 2000 steps; it may have 1000") {
		t.Errorf("2000 steps: %s", short(said(diags)))
	}
}

func FuzzMake(f *testing.F) {
	f.Add(head + job("a", "strategy: {matrix: {a: [1, 2], include: [{a: 3}]}}, "))
	f.Add(head + "  a: {uses: ./x.yml, with: {a: 1}}\n")
	f.Fuzz(func(t *testing.T, in string) {
		w, _ := spec.Parse("ci.yml", []byte(in))
		if w == nil {
			return
		}
		made, diags := plan.Make(w, plan.Event{Name: "push", GitHub: map[string]any{}}, files(map[string]string{"x.yml": "on: workflow_call\njobs:\n" + job("a", "")}))
		if len(diags) == 0 && len(made.Plan.Jobs) == 0 {
			t.Errorf("a workflow without jobs: %q", in)
		}
		if len(made.Plan.Jobs) > plan.MaxJobs {
			t.Errorf("%d jobs", len(made.Plan.Jobs))
		}
		for i := range made.Plan.Jobs {
			if made.Plan.Jobs[i].Group != nil {
				_, _ = plan.Expand(pipeline.Question{Run: &pipeline.Run{Plan: made.Plan}, Job: &made.Plan.Jobs[i]})
			}
		}
	})
}
