package app

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/catalog"
	"weir/internal/catalog/detect"
	"weir/internal/pipeline"
	"weir/internal/pipeline/spec"
	"weir/internal/source/git"
)

// InitReport is what weir init found, and what it wrote.
type InitReport struct {
	Lines    []detect.Line `json:"lines"`
	YAML     string        `json:"yaml"`
	Workflow string        `json:"workflow,omitempty"` // a first workflow, if there was none and one could be written
	Written  string        `json:"written,omitempty"`  // path, or "" if nothing was
}

// Init looks at a repository and writes a weir.yaml for it, unless check says
// to write nothing.
func Init(dir string, check, force bool) (InitReport, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return InitReport{}, err
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return InitReport{}, fault.Wrap(fault.NotFound, err, "There is no folder %s.", dir)
	}
	defer root.Close()
	found, err := detect.Inspect(root.FS(), gitFacts(abs), checkWorkflow)
	rep := InitReport{Lines: found.Lines, YAML: string(found.YAML), Workflow: string(found.Workflow)}
	if err != nil || check {
		return rep, err
	}
	if _, err := fs.Stat(root.FS(), catalog.FileName); err == nil && !force {
		return rep, fault.New(fault.Conflict, "There is a weir.yaml already. Look at what would be written with --check, or replace it with --force.")
	}
	path := filepath.Join(abs, catalog.FileName)
	if err := os.WriteFile(path, found.YAML, 0o644); err != nil {
		return rep, fault.Wrap(fault.Unavailable, err, "%s cannot be written.", path)
	}
	rep.Written = path
	if found.Workflow != nil {
		dir := filepath.Join(abs, ".github", "workflows")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return rep, fault.Wrap(fault.Unavailable, err, "%s cannot be made.", dir)
		}
		if err := os.WriteFile(filepath.Join(dir, detect.FirstWorkflow), found.Workflow, 0o644); err != nil {
			return rep, fault.Wrap(fault.Unavailable, err, "%s cannot be written.", dir)
		}
	}
	return rep, nil
}

func checkWorkflow(path string, content []byte) []detect.Finding {
	var out []detect.Finding
	for _, d := range spec.Check(path, content) {
		out = append(out, detect.Finding{Line: d.Line, Message: d.Message, Refused: d.Severity == pipeline.Error})
	}
	return out
}

// gitFacts asks git, if the folder is a repository.
func gitFacts(dir string) detect.Git {
	ask := func(args ...string) string {
		cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
		cmd.Env = git.Env()
		out, err := cmd.Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	g := detect.Git{Name: filepath.Base(dir), Branch: ask("symbolic-ref", "--short", "HEAD")}
	if remote := ask("remote", "get-url", "origin"); remote != "" {
		g.Name = strings.TrimSuffix(remote[strings.LastIndexAny(remote, "/:")+1:], ".git")
	}
	if tags := ask("tag", "--list"); tags != "" {
		g.Tags = strings.Split(tags, "\n")
	}
	return g
}
