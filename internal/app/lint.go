package app

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/catalog"
	"weir/internal/pipeline"
	"weir/internal/pipeline/plan"
	"weir/internal/pipeline/spec"
)

// Finding is something wrong in a repository, with its place.
type Finding struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Severity string `json:"severity"` // error | warning
	Message  string `json:"message"`
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d:%d: %s: %s", f.File, f.Line, f.Column, f.Severity, f.Message)
}

// workflows reads the workflow files of a folder, path to content.
func workflows(root fs.FS) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, pattern := range []string{".github/workflows/*.yml", ".github/workflows/*.yaml", ".weir/workflows/*.yml", ".weir/workflows/*.yaml"} {
		found, err := fs.Glob(root, pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range found {
			src, err := fs.ReadFile(root, name)
			if err != nil {
				return nil, err
			}
			files[name] = src
		}
	}
	return files, nil
}

// Lint checks weir.yaml and the workflows of a folder.
func Lint(dir string) ([]Finding, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "There is no folder %s.", dir)
	}
	defer root.Close()
	findings := []Finding{}
	src, err := fs.ReadFile(root.FS(), catalog.FileName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		findings = append(findings, Finding{catalog.FileName, 1, 1, "error", "there is no weir.yaml; make one with weir init"})
	case err != nil:
		return nil, err
	default:
		_, diags := catalog.Parse(catalog.FileName, src, filepath.Base(abs))
		for _, d := range diags {
			findings = append(findings, Finding{d.File, d.Line, d.Column, "error", d.Message})
		}
	}
	files, err := workflows(root.FS())
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		w, diags := spec.Parse(name, files[name])
		if w != nil {
			diags = append(diags, plan.Check(w, neighbours(root))...)
		}
		for _, d := range diags {
			findings = append(findings, Finding{d.File, d.Line, d.Col, string(d.Severity), d.Message})
		}
	}
	return findings, nil
}

// neighbours finds the workflows of a folder that call each other. What comes from a mirror, only a server knows.
func neighbours(root *os.Root) plan.Lookup {
	return plan.Lookup{
		Workflow: func(from, uses string) (string, []byte, error) {
			name := plan.FileName(from, uses)
			if strings.Contains(name, "@") {
				return name, nil, plan.ErrElsewhere
			}
			src, err := fs.ReadFile(root.FS(), path.Clean(name))
			if err != nil {
				return name, nil, fault.New(fault.NotFound, "There is no file %s.", name)
			}
			return name, src, nil
		},
		Action: func(uses string) (string, error) { return uses, nil },
		File: func(name string) ([]byte, error) {
			if strings.Contains(name, "@") {
				return nil, plan.ErrElsewhere
			}
			src, err := fs.ReadFile(root.FS(), name)
			if err != nil {
				return nil, fault.New(fault.NotFound, "There is no file %s.", name)
			}
			return src, nil
		},
	}
}

// LintOutcome is an error if a finding is one.
func LintOutcome(findings []Finding) error {
	n := 0
	for _, f := range findings {
		if f.Severity == string(pipeline.Error) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	if n == 1 {
		return fault.New(fault.Invalid, "One error. Correct it; the server would refuse this.")
	}
	return fault.New(fault.Invalid, "%d errors. Correct them; the server would refuse this.", n)
}
