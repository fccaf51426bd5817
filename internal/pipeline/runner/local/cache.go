package local

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"weir/internal/pipeline"
	"weir/internal/pipeline/runner"
)

// cache is the folder of tool caches that this job may write. Landed runs and
// changes have one each, since a change must not write what a landed run reads.
// The other way is harmless: a repository's cache for changes begins as a copy
// of what landed runs have compiled, and the first of all as a copy of the seed.
func (r *Runner) cache(j runner.Job) (string, error) {
	trust := string(j.Trust)
	for _, s := range []string{j.RepositoryID, trust} {
		if s == "" || strings.ContainsAny(s, "/\\\x00") || strings.HasPrefix(s, ".") {
			return "", fmt.Errorf("no cache folder for repository %q, trust %q", j.RepositoryID, trust)
		}
	}
	root := filepath.Join(r.cfg.Data, "cache", j.RepositoryID)
	dir := filepath.Join(root, trust)
	r.caches.Lock()
	defer r.caches.Unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return "", err
	}
	from := r.cfg.Seed
	if landed := filepath.Join(root, string(pipeline.Landed)); trust == string(pipeline.Change) && exists(landed) {
		from = landed
	}
	if from == "" || !exists(from) {
		return dir, os.MkdirAll(dir, 0o700)
	}
	tmp := filepath.Join(root, "."+trust)
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := copyTree(from, tmp); err != nil {
		return "", fmt.Errorf("copy cache: %w", err)
	}
	return dir, os.Rename(tmp, dir)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// copyTree copies plain files and folders; whatever else a job has put into a
// cache is left out. A file that goes away meanwhile is left out, too.
func copyTree(from, to string) error {
	root, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		target := filepath.Join(to, filepath.FromSlash(name))
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		return copyFile(root, name, target)
	})
}

func copyFile(root *os.Root, name, target string) error {
	in, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return err
	}
	out, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, st.Mode().Perm()&0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
