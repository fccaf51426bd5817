package plan_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"weir/internal/pipeline/plan"
	"weir/internal/pipeline/spec"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden: each archive has a workflow, maybe an event, and what must come of them: a plan or diagnostics.
func TestGolden(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	if len(files) == 0 {
		t.Fatal("no golden files")
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(f)
			if err != nil {
				t.Fatal(err)
			}
			ev := plan.Event{Name: "push", Branch: "main", GitHub: map[string]any{"ref": "refs/heads/main", "event_name": "push", "event": map[string]any{}}}
			var in, want []byte
			for _, e := range a.Files {
				switch e.Name {
				case "workflow.yml":
					in = e.Data
				case "event.json":
					if err := json.Unmarshal(e.Data, &ev); err != nil {
						t.Fatal(err)
					}
				case "result":
					want = e.Data
				}
			}
			got := result(in, ev)
			if *update {
				a.Files = append(a.Files[:len(a.Files):len(a.Files)], txtar.File{Name: "result", Data: got})
				for i, e := range a.Files[:len(a.Files)-1] {
					if e.Name == "result" {
						a.Files = append(a.Files[:i], a.Files[i+1:]...)
						break
					}
				}
				if err := os.WriteFile(f, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func result(in []byte, ev plan.Event) []byte {
	var b bytes.Buffer
	w, diags := spec.Parse("ci.yml", in)
	if w != nil {
		fmt.Fprintf(&b, "triggered: %v\n", plan.Triggered(w, ev))
		made, more := plan.Make(w, ev, plan.Lookup{})
		diags = append(diags, more...)
		if len(more) == 0 {
			if made.Title != "" {
				fmt.Fprintf(&b, "title: %s\n", made.Title)
			}
			e := json.NewEncoder(&b)
			e.SetEscapeHTML(false)
			e.SetIndent("", "  ")
			_ = e.Encode(made.Plan)
		}
	}
	for _, d := range diags {
		fmt.Fprintf(&b, "%s: %s:%d:%d: %s\n", d.Severity, d.File, d.Line, d.Col, d.Message)
	}
	return b.Bytes()
}

func TestFiltersDecideInOrder(t *testing.T) {
	for _, c := range []struct {
		on      string
		branch  string
		changed []string
		want    bool
	}{
		{"branches: [main]", "main", nil, true},
		{"branches: [main]", "dev", nil, false},
		{"branches: ['release/**', '!release/**-alpha']", "release/1/2", nil, true},
		{"branches: ['release/**', '!release/**-alpha']", "release/1-alpha", nil, false},
		{"branches-ignore: ['wip/*']", "wip/x", nil, false},
		{"branches: ['v[12].[0-9]+']", "v1.20", nil, true},
		{"paths: ['**.go']", "main", []string{"a/b.md"}, false},
		{"paths: ['**.go']", "main", []string{"a/b.md", "a/b.go"}, true},
		{"paths: ['docs/**']", "main", []string{"docs/a/b.md"}, true},
		{"paths: ['**/x.go']", "main", []string{"x.go"}, true},
		{"paths-ignore: ['docs/**']", "main", []string{"docs/a"}, false},
		{"paths-ignore: ['docs/**']", "main", []string{"docs/a", "b"}, true},
		{"paths: ['*.go']", "main", nil, true},
	} {
		w, diags := spec.Parse("ci.yml", []byte("on:\n  push:\n    "+c.on+"\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: 'true'\n"))
		if w == nil {
			t.Fatalf("%s: %v", c.on, diags)
		}
		if got := plan.Triggered(w, plan.Event{Name: "push", Branch: c.branch, Changed: c.changed}); got != c.want {
			t.Errorf("%s on %s %v: Triggered() = %v; want %v", c.on, c.branch, c.changed, got, c.want)
		}
		if plan.Triggered(w, plan.Event{Name: "pull_request", Branch: c.branch}) {
			t.Errorf("%s: a change started a workflow that names push only", c.on)
		}
	}
}
