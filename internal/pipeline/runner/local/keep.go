package local

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"weir/internal/base/fault"
)

const (
	maxEntries = 200_000
	maxUnpack  = 8 << 30
)

// pack streams files as a tar. names are relative to the job's folder; shown gives the name in the tar.
func (j *job) pack(names []string, shown func(string) string) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := func() error {
			for _, name := range names {
				if err := j.packOne(t, name, shown(name)); err != nil {
					return err
				}
			}
			return t.Close()
		}()
		w.CloseWithError(err)
	}()
	return r
}

func (j *job) packOne(t *tar.Writer, name, shown string) error {
	info, err := j.root.Lstat(name)
	if err != nil {
		return nil // it went away meanwhile
	}
	if info.Mode()&os.ModeSymlink != 0 {
		to, err := j.root.Readlink(name)
		if err != nil {
			return nil
		}
		return t.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: shown, Linkname: to, Mode: 0o777, Format: tar.FormatPAX})
	}
	f, err := j.open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: shown, Size: info.Size(), Mode: int64(info.Mode().Perm()), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = io.CopyN(t, f, info.Size())
	if errors.Is(err, io.EOF) {
		return failure(fmt.Sprintf("%s shrank while it was read", name))
	}
	return err
}

// unpack writes a tar below base. It never leaves it: os.Root resolves every name.
func (j *job) unpack(r io.Reader, base string) (n int, err error) {
	if err := j.root.MkdirAll(base, 0o700); err != nil {
		return 0, failure(fmt.Sprintf("the folder %s cannot be made: %v", base, err))
	}
	dir, err := j.root.OpenRoot(base)
	if err != nil {
		return 0, failure(fmt.Sprintf("the folder %s cannot be opened: %v", base, err))
	}
	defer dir.Close()
	defer j.giveAll(base)
	t, total := tar.NewReader(r), int64(0)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("read archive: %w", err)
		}
		name := path.Clean(h.Name)
		if n++; n > maxEntries || total+h.Size > maxUnpack {
			return n, failure("the archive has too many files or bytes")
		}
		if !filepath.IsLocal(name) || name == "." {
			continue
		}
		total += h.Size
		if err := dir.MkdirAll(path.Dir(name), 0o700); err != nil {
			return n, failure(fmt.Sprintf("%s cannot be made: %v", path.Dir(name), err))
		}
		_ = dir.Remove(name)
		switch h.Typeflag {
		case tar.TypeSymlink:
			if err := dir.Symlink(h.Linkname, name); err != nil {
				return n, failure(fmt.Sprintf("%s cannot be written: %v", name, err))
			}
		case tar.TypeReg:
			f, err := dir.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fs.FileMode(h.Mode)&0o777|0o600)
			if err != nil {
				return n, failure(fmt.Sprintf("%s cannot be written: %v", name, err))
			}
			_, err = io.Copy(f, t)
			if cerr := f.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				return n, fmt.Errorf("write %s: %w", name, err)
			}
		}
	}
}

func lines(s string) (out []string) {
	for line := range strings.Lines(s) {
		if p := strings.TrimSpace(line); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// upload is actions/upload-artifact.
func (j *job) upload(ctx context.Context, with, outputs map[string]string) error {
	name := with["name"]
	if name == "" {
		name = "artifact"
	}
	if strings.ContainsAny(name, "\":<>|*?\r\n\\/") || len(name) > 200 {
		return failure(fmt.Sprintf("the artifact name %q has a character that file names may not have", name))
	}
	var patterns []string
	for _, p := range lines(with["path"]) {
		p = j.within("workspace", p)
		if strings.HasPrefix(strings.TrimPrefix(p, "!"), "/") || strings.HasPrefix(p, "~") {
			return failure(fmt.Sprintf("the path %s leads out of the workspace", p))
		}
		patterns = append(patterns, p)
	}
	found, err := j.match("workspace", patterns)
	if err != nil {
		return err
	}
	if with["include-hidden-files"] != "true" {
		kept := found[:0]
		for _, f := range found {
			if !hidden(f) {
				kept = append(kept, f)
			}
		}
		found = kept
	}
	if len(found) == 0 {
		sentence := fmt.Sprintf("no file matches path: %s", strings.Join(patterns, ", "))
		switch with["if-no-files-found"] {
		case "error":
			return failure(sentence)
		case "ignore":
			return nil
		}
		j.log.Say("%s; nothing was uploaded", sentence)
		return nil
	}
	base := common(found, patterns)
	full := make([]string, len(found))
	for i, f := range found {
		full[i] = path.Join("workspace", f)
	}
	r := j.pack(full, func(p string) string {
		return strings.TrimPrefix(strings.TrimPrefix(p, path.Join("workspace", base)), "/")
	})
	defer r.Close()
	if err := j.host.Upload(ctx, name, with["overwrite"] == "true", r); err != nil {
		return told(err, "upload artifact "+name)
	}
	j.log.Say("uploaded artifact %s with %d files", name, len(found))
	return nil
}

func hidden(p string) bool {
	for part := range strings.SplitSeq(p, "/") {
		if strings.HasPrefix(part, ".") {
			return true
		}
	}
	return false
}

// common is the folder that names in an artifact are relative to: that of a single pattern, else the nearest one above all files.
func common(found, patterns []string) string {
	if len(patterns) == 1 {
		p := strings.TrimSuffix(strings.TrimPrefix(patterns[0], "./"), "/")
		base, pattern := doublestar.SplitPattern(p)
		if pattern != path.Base(p) || strings.ContainsAny(pattern, "*?[{") {
			return base
		}
		if len(found) == 1 && found[0] == p {
			return base
		}
		return p
	}
	base := path.Dir(found[0])
	for _, f := range found[1:] {
		for base != "." && f != base && !strings.HasPrefix(f, base+"/") {
			base = path.Dir(base)
		}
	}
	return base
}

func told(err error, what string) error {
	var f failure
	switch {
	case errors.As(err, &f):
		return f
	case fault.KindOf(err) != "":
		return failure(fault.Sentence(err))
	}
	return fmt.Errorf("%s: %w", what, err)
}

// download is actions/download-artifact.
func (j *job) download(ctx context.Context, with, outputs map[string]string) error {
	to, err := below("workspace", j.within("workspace", with["path"]))
	if err != nil {
		return err
	}
	outputs["download-path"] = j.seen(to)
	if name := with["name"]; name != "" {
		return j.fetch(ctx, name, to)
	}
	all, err := j.host.Artifacts(ctx)
	if err != nil {
		return told(err, "list artifacts")
	}
	for _, name := range all {
		if p := with["pattern"]; p != "" {
			if ok, err := doublestar.Match(p, name); err != nil || !ok {
				continue
			}
		}
		dir := to
		if with["merge-multiple"] != "true" {
			dir = path.Join(to, name)
		}
		if err := j.fetch(ctx, name, dir); err != nil {
			return err
		}
	}
	return nil
}

func (j *job) fetch(ctx context.Context, name, to string) error {
	r, err := j.host.Download(ctx, name)
	if err != nil {
		return told(err, "download artifact "+name)
	}
	defer r.Close()
	n, err := j.unpack(r, to)
	if err != nil {
		return told(err, "unpack artifact "+name)
	}
	j.log.Say("downloaded artifact %s with %d files", name, n)
	return nil
}

// restore is actions/cache: now what was kept, and after the last step what is to be kept.
func (j *job) restore(ctx context.Context, with, outputs map[string]string) error {
	key := with["key"]
	if len(key) > 512 || strings.Contains(key, ",") {
		return failure("the cache key may have 512 characters and no comma")
	}
	paths, err := j.cachePaths(with["path"])
	if err != nil {
		return err
	}
	found, r, err := j.host.FindCache(ctx, key, lines(with["restore-keys"]))
	if err != nil {
		return told(err, "find cache")
	}
	outputs["cache-hit"], outputs["cache-primary-key"], outputs["cache-matched-key"] = fmt.Sprint(found == key), key, found
	if found != "" {
		defer r.Close()
		if with["lookup-only"] != "true" {
			n, err := j.unpack(r, ".")
			if err != nil {
				return told(err, "unpack cache "+found)
			}
			j.log.Say("restored %d files from cache %s", n, found)
		}
	} else {
		if with["fail-on-cache-miss"] == "true" {
			return failure("there is no cache entry for key " + key)
		}
		j.log.Say("no cache entry for key %s", key)
	}
	if found == key || with["lookup-only"] == "true" {
		return nil
	}
	j.post = append(j.post, post{name: "cache " + key, condition: "success()", do: func(ctx context.Context) error { return j.keep(ctx, key, paths) }})
	return nil
}

// restoreOnly is actions/cache/restore.
func (j *job) restoreOnly(ctx context.Context, with, outputs map[string]string) error {
	n := len(j.post)
	err := j.restore(ctx, with, outputs)
	j.post = j.post[:n]
	return err
}

// saveOnly is actions/cache/save.
func (j *job) saveOnly(ctx context.Context, with, _ map[string]string) error {
	paths, err := j.cachePaths(with["path"])
	if err != nil {
		return err
	}
	return j.keep(ctx, with["key"], paths)
}

// keep saves a cache entry.
func (j *job) keep(ctx context.Context, key string, paths []string) error {
	var names []string
	for _, p := range paths {
		list, err := j.tree(p)
		if err != nil {
			return err
		}
		names = append(names, list...)
	}
	if len(names) == 0 {
		j.log.Say("nothing to cache: %s does not exist", strings.Join(paths, ", "))
		return nil
	}
	r := j.pack(names, func(p string) string { return p })
	defer r.Close()
	if err := j.host.SaveCache(ctx, key, r); err != nil {
		return told(err, "save cache "+key)
	}
	j.log.Say("saved cache %s with %d files", key, len(names))
	return nil
}

// cachePaths turns the paths of a user, relative to the workspace or to ~, into paths in the job's folder.
func (j *job) cachePaths(text string) ([]string, error) {
	var out []string
	for _, p := range lines(text) {
		base := "workspace"
		if rest, ok := strings.CutPrefix(p, "~"); ok {
			base, p = "home", strings.TrimPrefix(rest, "/")
		} else if rest, ok := j.rel(p); ok {
			base, p = ".", rest
		}
		if strings.ContainsAny(p, "*?[{!") {
			return nil, failure(fmt.Sprintf("the cache path %s is a pattern; name folders or files", p))
		}
		full, err := below(base, p)
		if err != nil {
			return nil, err
		}
		out = append(out, full)
	}
	return out, nil
}

func (j *job) tree(base string) (names []string, err error) {
	info, err := j.root.Lstat(base)
	if err != nil {
		return nil, nil
	}
	if !info.IsDir() {
		return []string{base}, nil
	}
	dir, err := j.root.OpenRoot(base)
	if err != nil {
		return nil, nil
	}
	defer dir.Close()
	err = fs.WalkDir(dir.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if len(names) > maxEntries {
			return failure(fmt.Sprintf("%s holds more than %d files", base, maxEntries))
		}
		if d.Type().IsRegular() || d.Type()&fs.ModeSymlink != 0 {
			names = append(names, path.Join(base, p))
		}
		return nil
	})
	return names, err
}
