package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/source"
	"weir/internal/source/git"
)

// worktree is a folder of somebody's machine as the one repository of `weir run`. It has one revision: what is in it now.
type worktree struct {
	dir  string
	root *os.Root
	git  bool // it is the working tree of a git repository
}

// maxWorktree bounds what is copied for each checkout.
const maxWorktree = 200_000

func openWorktree(dir string) (*worktree, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "There is no folder %s.", dir)
	}
	_, err = root.Stat(".git")
	return &worktree{abs, root, err == nil}, nil
}

// ask runs git in the folder.
func (w *worktree) ask(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", w.dir, "-c", "core.fsmonitor=false"}, args...)...)
	cmd.Env = git.Env()
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(said.String()))
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// head returns the branch and the revision that is checked out; empty if there is none.
func (w *worktree) head(ctx context.Context) (branch, revision string) {
	if !w.git {
		return "", ""
	}
	branch, _ = w.ask(ctx, "symbolic-ref", "--quiet", "--short", "HEAD")
	revision, _ = w.ask(ctx, "rev-parse", "--quiet", "--verify", "HEAD")
	return branch, revision
}

func (w *worktree) ReadFile(_ context.Context, _, _, name string) ([]byte, error) {
	b, err := fs.ReadFile(w.root.FS(), path.Clean(name))
	if err != nil {
		return nil, fault.New(fault.NotFound, "There is no file %s.", name)
	}
	return b, nil
}

func (w *worktree) List(_ context.Context, _, _, dir string) (out []string, err error) {
	entries, err := fs.ReadDir(w.root.FS(), path.Clean(dir))
	if err != nil {
		return nil, nil
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			out = append(out, path.Join(dir, e.Name()))
		}
	}
	return out, nil
}

// ChangedFiles knows none, so that every filter of paths matches.
func (w *worktree) ChangedFiles(context.Context, string, string, string) ([]string, error) {
	return nil, fault.New(fault.NotFound, "A working tree has no revision before it.")
}

// files lists what a checkout holds: what git tracks and what it does not ignore.
func (w *worktree) files(ctx context.Context) ([]string, error) {
	if w.git {
		out, err := w.ask(ctx, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate")
		if err != nil {
			return nil, err
		}
		return strings.FieldsFunc(out, func(r rune) bool { return r == 0 }), nil
	}
	var out []string
	err := fs.WalkDir(w.root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, p)
		}
		return err
	})
	return out, err
}

// Checkout copies the working tree.
func (w *worktree) Checkout(ctx context.Context, _, _, dir string) error {
	files, err := w.files(ctx)
	if err != nil {
		return err
	}
	if len(files) > maxWorktree {
		return fault.New(fault.Invalid, "The folder has %d files; a run takes at most %d. Ignore what is not part of it in .gitignore.", len(files), maxWorktree)
	}
	to, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	for _, name := range files {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := w.copy(to, name); err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	return nil
}

func (w *worktree) copy(to *os.Root, name string) error {
	info, err := w.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // tracked and deleted
	}
	if err != nil {
		return err
	}
	if err := to.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := w.root.Readlink(name)
		if err != nil {
			return err
		}
		return to.Symlink(target, name)
	case !info.Mode().IsRegular():
		return nil // a submodule's folder, a socket
	}
	in, err := w.root.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm()|0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// Clone makes a repository with the working tree as it is now, or with another ref of it.
func (w *worktree) Clone(ctx context.Context, id string, c source.Clone, dir string) (string, error) {
	_, head := w.head(ctx)
	if head == "" {
		return "", w.Checkout(ctx, id, "", dir)
	}
	if c.Ref != "" && c.Ref != head {
		if _, err := w.ask(ctx, "clone", "--quiet", "--no-checkout", "--", w.dir, dir); err != nil {
			return "", err
		}
		if _, err := w.ask(ctx, "-C", dir, "checkout", "--quiet", "--detach", c.Ref, "--"); err != nil {
			return "", fault.Wrap(fault.NotFound, err, "There is no %s to check out in this repository.", c.Ref)
		}
		return w.ask(ctx, "-C", dir, "rev-parse", "HEAD")
	}
	if _, err := w.ask(ctx, "clone", "--quiet", "--no-checkout", "--", w.dir, dir); err != nil {
		return "", err
	}
	if err := w.Checkout(ctx, id, "", dir); err != nil {
		return "", err
	}
	_, err := w.ask(ctx, "-C", dir, "reset", "--quiet")
	return head, err
}
