package spec_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/internal/pipeline"
	"weir/internal/pipeline/spec"
)

func TestHostileFilesAreRefusedWithASentence(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x]\n")
	for i := 1; i < 12; i++ {
		n := string(rune('a' + i))
		p := string(rune('a' + i - 1))
		if i == 1 {
			p = "a0"
		}
		bomb.WriteString(n + ": &" + n + " [" + strings.Repeat("*"+p+",", 9) + "*" + p + "]\n")
	}
	for name, c := range map[string]struct{ in, want string }{
		"large":     {"on: push\n" + strings.Repeat("#", spec.MaxBytes), "a workflow may have"},
		"aliases":   {bomb.String(), "YAML nodes"},
		"empty":     {"", "empty"},
		"self":      {"on: push\njobs: &a {b: *a}\n", ""},
		"deep":      {strings.Repeat("{a: ", 5000), ""},
		"binary":    {"\x00\x01\x02", ""},
		"two steps": {"on: push\njobs: {a: {runs-on: x, steps: []}}\n", ""},
	} {
		w, diags := spec.Parse("ci.yml", []byte(c.in))
		if w != nil || !spec.Refused(diags) {
			t.Errorf("%s: accepted", name)
			continue
		}
		if d := diags[0]; d.File != "ci.yml" || d.Line < 1 || d.Col < 1 || !strings.Contains(d.Message, c.want) {
			t.Errorf("%s: diagnostic %+v; want a place and %q", name, d, c.want)
		}
	}
}

func TestAdviceDoesNotRefuse(t *testing.T) {
	w, diags := spec.Parse("ci.yml", []byte("on: pull_request\njobs:\n  a:\n    runs-on: x\n    steps: [{run: 'echo ${{ github.event.pull_request.title }}'}]\n"))
	if w == nil || len(diags) != 1 || diags[0].Severity != pipeline.Warning {
		t.Errorf("Parse() = %v, %v; want a workflow and one warning", w, diags)
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("../plan/testdata/*.txtar")
	for _, p := range files {
		b, _ := os.ReadFile(p)
		_, after, _ := strings.Cut(string(b), "-- workflow.yml --\n")
		in, _, _ := strings.Cut(after, "-- result --")
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		_ = spec.JobIDs([]byte(in))
		w, diags := spec.Parse("ci.yml", []byte(in))
		if (w == nil) != spec.Refused(diags) {
			t.Errorf("workflow %v with diagnostics %v", w, diags)
		}
	})
}
