package git

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"weir/internal/base/fault"
	"weir/internal/source"
)

// maxFile bounds a file that is read whole into memory.
const maxFile = 8 << 20

// IsAncestor reports whether old is reachable from new.
func (c *Cache) IsAncestor(ctx context.Context, repositoryID, old, new string) (bool, error) {
	if err := revision(old); err != nil {
		return false, err
	}
	if err := revision(new); err != nil {
		return false, err
	}
	_, err := c.ask(ctx, repositoryID, nil, "merge-base", "--is-ancestor", old, new)
	switch exitCode(err) {
	case 1:
		return false, nil
	case 128: // A tag may point to a file, say, which nothing descends from.
		out, kerr := c.ask(ctx, repositoryID, strings.NewReader(old+"^{commit}\n"+new+"^{commit}\n"), "cat-file", "--batch-check")
		if kerr == nil && bytes.Contains(out, []byte("missing")) {
			return false, nil
		}
	}
	return err == nil, err
}

// Kind returns what an object is, or "" if there is none.
func (c *Cache) Kind(ctx context.Context, repositoryID, object string) (string, error) {
	if err := revision(object); err != nil {
		return "", err
	}
	out, err := c.ask(ctx, repositoryID, strings.NewReader(object+"\n"), "cat-file", "--batch-check=%(objecttype)")
	if err != nil {
		return "", err
	}
	kind := strings.TrimSpace(string(out))
	if strings.HasSuffix(kind, "missing") {
		return "", nil
	}
	return kind, nil
}

// clean refuses a path that leaves the tree.
func clean(p string) (string, error) {
	c := path.Clean(p)
	if path.IsAbs(p) || c == ".." || strings.HasPrefix(c, "../") || strings.ContainsAny(p, "\x00\n") {
		return "", fault.New(fault.Invalid, "%q is not a path inside a repository.", p)
	}
	return c, nil
}

// ReadFile returns a file of a revision, or a NotFound fault.
func (c *Cache) ReadFile(ctx context.Context, repositoryID, rev, name string) ([]byte, error) {
	if err := revision(rev); err != nil {
		return nil, err
	}
	name, err := clean(name)
	if err != nil {
		return nil, err
	}
	out, err := c.ask(ctx, repositoryID, strings.NewReader(rev+":"+name+"\n"), "cat-file", "--batch")
	if err != nil {
		return nil, err
	}
	header, body, _ := bytes.Cut(out, []byte("\n"))
	f := strings.Fields(string(header))
	if len(f) != 3 || f[1] != "blob" {
		return nil, fault.New(fault.NotFound, "Revision %.12s has no file %s.", rev, name)
	}
	size, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || size > maxFile || int64(len(body)) < size {
		return nil, fault.New(fault.Invalid, "%s is larger than 8 MiB and is not read.", name)
	}
	return body[:size], nil
}

// List returns the paths of the files directly in dir.
func (c *Cache) List(ctx context.Context, repositoryID, rev, dir string) ([]string, error) {
	if err := revision(rev); err != nil {
		return nil, err
	}
	dir, err := clean(dir)
	if err != nil {
		return nil, err
	}
	args := []string{"ls-tree", "-z", "--full-tree", rev}
	if dir != "." {
		args = append(args, "--", dir+"/")
	}
	out, err := c.ask(ctx, repositoryID, nil, args...)
	if err != nil {
		return nil, err
	}
	var files []string
	for entry := range strings.SplitSeq(string(out), "\x00") {
		meta, name, ok := strings.Cut(entry, "\t")
		if f := strings.Fields(meta); ok && len(f) == 3 && f[1] == "blob" {
			files = append(files, name)
		}
	}
	return files, nil
}

// Checkout writes the tree of a revision into dir, which exists and is empty.
func (c *Cache) Checkout(ctx context.Context, repositoryID, rev, dir string) error {
	if err := revision(rev); err != nil {
		return err
	}
	index, err := os.CreateTemp("", "weir-index-")
	if err != nil {
		return err
	}
	index.Close()
	os.Remove(index.Name()) // git wants to make it.
	defer os.Remove(index.Name())
	return c.Read(ctx, repositoryID, func(bare string) error {
		env := []string{"GIT_INDEX_FILE=" + index.Name()}
		if _, err := runEnv(ctx, bare, env, nil, "read-tree", rev); err != nil {
			return err
		}
		_, err := runEnv(ctx, bare, env, nil, "-c", "core.symlinks=true", "-c", "core.bare=false", "--work-tree="+dir, "checkout-index", "--all", "--force", "--prefix="+filepath.Clean(dir)+"/")
		return err
	})
}

// ChangedFiles returns the paths that differ between two revisions; from ""
// means every file of to.
func (c *Cache) ChangedFiles(ctx context.Context, repositoryID, from, to string) ([]string, error) {
	if err := revision(to); err != nil {
		return nil, err
	}
	args := []string{"ls-tree", "-r", "-z", "--name-only", "--full-tree", to}
	if from != "" {
		if err := revision(from); err != nil {
			return nil, err
		}
		args = []string{"diff-tree", "-r", "-z", "--name-only", "--no-renames", from, to}
	}
	out, err := c.ask(ctx, repositoryID, nil, args...)
	if err != nil {
		return nil, err
	}
	var files []string
	for name := range strings.SplitSeq(string(out), "\x00") {
		if name != "" {
			files = append(files, name)
		}
	}
	return files, nil
}

// Diff writes a patch for people, at most limit bytes of it.
func (c *Cache) Diff(ctx context.Context, repositoryID, from, to string, w io.Writer, limit int64) error {
	for _, r := range []string{from, to} {
		if err := revision(r); err != nil {
			return err
		}
	}
	return c.Read(ctx, repositoryID, func(dir string) error {
		cmd := exec.CommandContext(ctx, "git", "--git-dir="+dir, "diff-tree", "-p", "--no-color", "--no-ext-diff", "--no-textconv", "-M", from, to)
		cmd.Env = Env()
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		_, err = io.Copy(w, io.LimitReader(out, limit))
		_ = cmd.Process.Kill() // If the limit was reached, git still has something to say.
		_ = cmd.Wait()
		return err
	})
}

// Log lists the commits that to has and from ("" for none) has not, newest first.
func (c *Cache) Log(ctx context.Context, repositoryID, from, to string, limit int) ([]source.Commit, error) {
	if err := revision(to); err != nil {
		return nil, err
	}
	args := []string{"log", "-z", "--no-color", "--format=%H%x1f%s%x1f%b%x1f%an%x1f%ae%x1f%ct", "--max-count=" + strconv.Itoa(limit), to}
	if from != "" {
		if err := revision(from); err != nil {
			return nil, err
		}
		args = append(args, "^"+from)
	}
	out, err := c.ask(ctx, repositoryID, nil, append(args, "--")...)
	if err != nil {
		return nil, err
	}
	var commits []source.Commit
	for rec := range strings.SplitSeq(string(out), "\x00") {
		f := strings.Split(rec, "\x1f")
		if len(f) != 6 {
			continue
		}
		sec, err := strconv.ParseInt(strings.TrimSpace(f[5]), 10, 64)
		if err != nil {
			continue
		}
		commits = append(commits, source.Commit{Revision: f[0], Subject: f[1], Body: f[2], Author: f[3], AuthorEmail: f[4], Time: time.Unix(sec, 0).UTC()})
	}
	return commits, nil
}

// Tags lists the tags that are reachable from a revision, with what they point to.
func (c *Cache) Tags(ctx context.Context, repositoryID, rev string) (map[string]string, error) {
	if err := revision(rev); err != nil {
		return nil, err
	}
	out, err := c.ask(ctx, repositoryID, nil, "for-each-ref", "--merged="+rev, "--format=%(refname) %(objectname) %(*objectname)", "refs/tags/")
	if err != nil {
		return nil, err
	}
	tags := map[string]string{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) >= 2 {
			tags[strings.TrimPrefix(f[0], "refs/tags/")] = f[len(f)-1]
		}
	}
	return tags, nil
}
