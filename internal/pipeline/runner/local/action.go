package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/expr"
	"weir/internal/pipeline/runner"
)

// builtins are the actions that need nothing but this runner, by the name that a plan carries.
var builtins map[string]func(j *job, ctx context.Context, with, outputs map[string]string) error

func init() {
	builtins = map[string]func(*job, context.Context, map[string]string, map[string]string) error{
		"checkout":          (*job).checkout,
		"setup-go":          (*job).setupGo,
		"setup-node":        (*job).setupNode,
		"setup-python":      (*job).setupPython,
		"setup-java":        (*job).setupJava,
		"cache":             (*job).restore,
		"cache/restore":     (*job).restoreOnly,
		"cache/save":        (*job).saveOnly,
		"upload-artifact":   (*job).upload,
		"download-artifact": (*job).download,
		"test-results":      (*job).testResults,
		"build-image":       (*job).buildImage, // of release jobs only: no workflow can name it
	}
}

// named is a built-in by the name that workflows use, for steps of actions, which no plan has resolved.
func named(uses string) (string, bool) {
	name, _, _ := strings.Cut(strings.ToLower(uses), "@")
	if name == "weir/test-results" {
		return "test-results", true
	}
	name, ok := strings.CutPrefix(name, "actions/")
	return name, ok && builtins[name] != nil
}

// checkout writes the revision into a folder that no process of the job can reach and then moves it in, so that nothing the job
// runs meanwhile can redirect the writes.
func (j *job) checkout(ctx context.Context, with, outputs map[string]string) error {
	to, err := below("workspace", with["path"])
	if err != nil {
		return err
	}
	c := runner.Checkout{Ref: with["ref"], Depth: 1, Tags: with["fetch-tags"] == "true", Filter: with["filter"], Sparse: lines(with["sparse-checkout"]), Cone: with["sparse-checkout-cone-mode"] != "false"}
	if d := strings.TrimSpace(with["fetch-depth"]); d != "" {
		if c.Depth, err = strconv.Atoi(d); err != nil || c.Depth < 0 {
			return failure(fmt.Sprintf("fetch-depth is %q; write a number of revisions, or 0 for the whole history", d))
		}
	}
	if r := with["repository"]; r != "" && !strings.EqualFold(r, j.Repository) {
		return failure(fmt.Sprintf("checkout of another repository (%s) is not possible in a job: its token is for %s alone", r, j.Repository))
	}
	stage := j.dir + ".checkout"
	if err := os.Mkdir(stage, 0o700); err != nil {
		return fmt.Errorf("stage checkout: %w", err)
	}
	defer remove(stage)
	revision, err := j.host.Checkout(ctx, c, stage)
	if err != nil {
		if fault.KindOf(err) != "" {
			return failure(fault.Sentence(err))
		}
		return fmt.Errorf("check out %s: %w", j.Revision, err)
	}
	parent, base := path.Split(to)
	if parent = path.Clean(parent); parent != "." {
		if err := j.root.MkdirAll(parent, 0o700); err != nil {
			return failure(fmt.Sprintf("the folder %s cannot be made: %v", parent, err))
		}
	}
	if err := j.root.RemoveAll(to); err != nil {
		return failure(fmt.Sprintf("the folder %s cannot be emptied: %v", to, err))
	}
	dir, err := j.root.Open(parent)
	if err != nil {
		return failure(fmt.Sprintf("the folder %s cannot be opened: %v", parent, err))
	}
	defer dir.Close()
	if err := unix.Renameat(unix.AT_FDCWD, stage, int(dir.Fd()), base); err != nil {
		return failure(fmt.Sprintf("the checkout cannot be moved into %s: %v", to, err))
	}
	j.giveAll(to)
	j.signed.Store(with["persist-credentials"] != "false")
	outputs["commit"], outputs["ref"] = revision, with["ref"]
	if g, ok := j.GitHub["ref"].(string); ok && outputs["ref"] == "" {
		outputs["ref"] = g
	}
	j.log.Say("checked out %s of %s", revision, j.Repository)
	return nil
}

// below joins a path of the user to a folder of the job. Absolute paths of the job are taken as they are meant.
func below(base, p string) (string, error) {
	p = path.Clean(filepath.ToSlash(p))
	if p == "." || p == "" {
		return base, nil
	}
	if !filepath.IsLocal(p) {
		return "", failure(fmt.Sprintf("the path %s leads out of the workspace", p))
	}
	return path.Join(base, p), nil
}

const (
	maxHashFiles = 100_000
	maxHashBytes = 4 << 30
)

// hashFiles is the function of expressions: one digest over the files that match, in order of their paths; "" if none does.
func (j *job) hashFiles(args []expr.Value) (expr.Value, error) {
	var patterns []string
	for _, a := range args {
		for line := range strings.Lines(expr.String(a)) {
			if p := strings.TrimSpace(line); p != "" {
				patterns = append(patterns, p)
			}
		}
	}
	found, err := j.match("workspace", patterns)
	if err != nil {
		return nil, err
	}
	total, sum := int64(0), sha256.New()
	for _, name := range found {
		f, err := j.open(path.Join("workspace", name))
		if err != nil {
			continue
		}
		h := sha256.New()
		n, err := io.Copy(h, io.LimitReader(f, maxHashBytes-total+1))
		f.Close()
		if total += n; err != nil || total > maxHashBytes {
			return nil, fmt.Errorf("hashFiles: more than %d bytes match, or %s cannot be read", int64(maxHashBytes), name)
		}
		sum.Write(h.Sum(nil))
	}
	if len(found) == 0 {
		return "", nil
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// match lists the files below base that the patterns select, a ! taking away, in order.
func (j *job) match(base string, patterns []string) ([]string, error) {
	r, err := j.root.OpenRoot(base)
	if err != nil {
		return nil, failure(fmt.Sprintf("the folder %s cannot be opened: %v", base, err))
	}
	defer r.Close()
	var found []string
	seen := 0
	err = fs.WalkDir(r.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // what cannot be read is not there
		}
		if seen++; seen > 10*maxHashFiles || len(found) > maxHashFiles {
			return failure(fmt.Sprintf("more than %d files match, or the workspace holds too many", maxHashFiles))
		}
		if d.IsDir() || !d.Type().IsRegular() {
			return nil
		}
		in := false
		for _, pattern := range patterns {
			neg := strings.HasPrefix(pattern, "!")
			clean := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(pattern, "!"), "./"), "/")
			ok, err := doublestar.Match(clean, p)
			if err != nil {
				return failure(fmt.Sprintf("the pattern %s cannot be read: %v", pattern, err))
			}
			if !ok { // a folder stands for what is in it
				ok, _ = doublestar.Match(clean+"/**", p)
			}
			if ok || clean == "." || clean == "" {
				in = !neg
			}
		}
		if in {
			found = append(found, p)
		}
		return nil
	})
	slices.Sort(found)
	return found, err
}

// output describes the file of a release job.
func (j *job) output(started time.Time) pipeline.Output {
	b, res := j.Plan.Build, j.result()
	return pipeline.Output{RunID: j.RunID, JobID: j.JobID, Attempt: j.Attempt, RepositoryID: j.RepositoryID, Revision: j.Revision,
		Service: b.Service, ServiceID: b.ServiceID, Version: b.Version, Name: path.Base(filepath.ToSlash(b.Output)),
		Confined: res.Confined, Network: res.Network, Unenforced: res.Unenforced, Materials: j.materials, Started: started.UTC(), Finished: time.Now().UTC()}
}

func failureFault(sentence string, args ...any) error {
	return fault.New(fault.Invalid, sentence, args...)
}
