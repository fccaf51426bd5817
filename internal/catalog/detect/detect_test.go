package detect_test

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"weir/internal/base/fault"
	"weir/internal/catalog"
	"weir/internal/catalog/detect"
	"weir/internal/pipeline/spec"
)

var update = flag.Bool("update", false, "write the golden files anew")

// check is how app judges workflows.
func check(path string, content []byte) (out []detect.Finding) {
	for _, d := range spec.Check(path, content) {
		out = append(out, detect.Finding{Line: d.Line, Message: d.Message, Refused: d.Severity == "error"})
	}
	return out
}

// TestGolden: each archive is a repository, with what must come of it under
// "want/": the report, and the file or the refusal. "git" lists branch and tags.
func TestGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files, git := fstest.MapFS{}, detect.Git{Name: "shop", Branch: "main"}
			var in, want []txtar.File
			for _, f := range a.Files {
				switch {
				case strings.HasPrefix(f.Name, "want/"):
					want = append(want, f)
					continue
				case f.Name == "git":
					words := strings.Fields(string(f.Data))
					git.Branch, git.Tags = words[0], words[1:]
				default:
					files[f.Name] = &fstest.MapFile{Data: f.Data}
				}
				in = append(in, f)
			}
			got := results(t, files, git)
			if *update {
				a.Files = append(in, got...)
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if g, w := txtar.Format(&txtar.Archive{Files: got}), txtar.Format(&txtar.Archive{Files: want}); !bytes.Equal(g, w) {
				t.Errorf("got\n%s\nwant\n%s", g, w)
			}
		})
	}
}

func results(t *testing.T, files fs.FS, git detect.Git) []txtar.File {
	t.Helper()
	r, err := detect.Inspect(files, git, check)
	var report strings.Builder
	for _, l := range r.Lines {
		fmt.Fprintf(&report, "%-13s %-8s %s (%s)\n", l.What, l.Certainty, l.Value, l.Source)
	}
	out := []txtar.File{{Name: "want/report", Data: []byte(report.String())}}
	if err != nil {
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("error %v is not one that a user can mend", err)
		}
		return append(out, txtar.File{Name: "want/refusal", Data: []byte(fault.Sentence(err) + "\n")})
	}
	out = append(out, txtar.File{Name: "want/weir.yaml", Data: r.YAML})
	_, diags := catalog.Parse("weir.yaml", r.YAML, "shop")
	var says strings.Builder
	for _, d := range diags {
		fmt.Fprintln(&says, d)
	}
	if (len(diags) > 0) != bytes.Contains(r.YAML, []byte(": TODO")) {
		t.Errorf("Parse() = %v; a written file is refused for its TODOs and for nothing else", diags)
	}
	return append(out, txtar.File{Name: "want/lint", Data: []byte(says.String())})
}

func TestFileNamesCannotWriteIntoTheFile(t *testing.T) {
	files := fstest.MapFS{
		"go.mod":                                    {Data: []byte("module m\n")},
		"cmd/a\nb: {x: y}\n#/main.go":               {Data: []byte("package main\nimport \"net/http\"\nfunc main() { http.ListenAndServe(\":8080\", nil) }\n")},
		"cmd/ok/main.go":                            {Data: []byte("package main\nimport \"net/http\"\nfunc main() { http.ListenAndServe(\":8080\", nil) }\n")},
		".github/workflows/a, b], x: [.yml":         {Data: []byte("on: pull_request\njobs: {\"x\\ny, z\": {runs-on: a, steps: [{run: a}]}}\n")},
		".github/workflows/\x1b[2Jclear.yml":        {Data: []byte("on: push\n")},
		"CODEOWNERS":                                {Data: []byte("* @a\"}\x1b[2J\n")},
		"cmd/long" + strings.Repeat("x", 60) + "/y": {Data: []byte("")},
	}
	r, err := detect.Inspect(files, detect.Git{Name: "m", Branch: "main"}, func(string, []byte) []detect.Finding { return nil })
	if err != nil {
		t.Fatal(err)
	}
	f, diags := catalog.Parse("weir.yaml", []byte(strings.ReplaceAll(string(r.YAML), ": TODO", ": /x")), "m")
	if len(diags) > 0 || len(f.Services) != 1 || f.Services[0].Name != "ok" {
		t.Errorf("Parse() = %+v, %v of\n%s", f, diags, r.YAML)
	}
	for _, l := range r.Lines {
		if strings.ContainsAny(l.Value+l.Source, "\x1b\n") {
			t.Errorf("line %q moves the cursor", l)
		}
	}
}

func TestEmptyFolderIsRefused(t *testing.T) {
	_, err := detect.Inspect(fstest.MapFS{}, detect.Git{}, check)
	if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), "Nothing here can be delivered") {
		t.Errorf("Inspect() = %v", err)
	}
}
