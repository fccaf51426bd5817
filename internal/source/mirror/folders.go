package mirror

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/source"
)

// Folders are repositories on this machine that stand for mirrors when a workflow runs without a server. They are read as they are at
// that moment; nothing is fetched or kept.
type Folders struct {
	named map[string]string // "owner/name" to a path
	below string            // has the others as owner/name or owner/name.git; "" for none
}

// NewFolders takes what is written as owner/name=PATH, and a folder with more of them.
func NewFolders(given []string, below string) (Folders, error) {
	f := Folders{named: map[string]string{}, below: below}
	for _, g := range given {
		name, path, ok := strings.Cut(g, "=")
		name = strings.ToLower(name)
		if !ok || path == "" || !validName.MatchString(name) || strings.Contains(name, "..") {
			return f, fault.New(fault.Invalid, "%q does not name a mirror. Write owner/name=PATH, such as acme/tools=../tools.", g)
		}
		f.named[name] = path
		if _, err := f.bare(context.Background(), name); err != nil {
			return f, err
		}
	}
	if info, err := os.Stat(below); below != "" && (err != nil || !info.IsDir()) {
		return f, fault.New(fault.NotFound, "There is no folder %s with mirrors in it.", below)
	}
	return f, nil
}

// bare is the git folder of a repository.
func (f Folders) bare(ctx context.Context, name string) (string, error) {
	name = strings.ToLower(name)
	path, ok := f.named[name]
	if !ok && f.below != "" && validName.MatchString(name) && !strings.Contains(name, "..") {
		for _, ending := range []string{"", ".git"} {
			if p := filepath.Join(f.below, filepath.FromSlash(name)+ending); isDir(p) {
				path, ok = p, true
			}
		}
	}
	if !ok {
		return "", fault.New(fault.NotFound, "There is no copy of %s here, and nothing is fetched. Clone it and name the folder: --mirror %s=PATH, or --mirrors DIR for a folder that has %s in it.", name, name, name)
	}
	if !isDir(path) {
		return "", fault.New(fault.NotFound, "There is no folder %s, which --mirror names for %s.", path, name)
	}
	out, err := run(ctx, "", "-C", path, "rev-parse", "--absolute-git-dir")
	if err != nil {
		return "", fault.New(fault.Invalid, "%s, which stands for %s, is no git repository: %s", path, name, lastLine(err))
	}
	return strings.TrimSpace(out), nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Resolve implements pipeline.Mirrors.
func (f Folders) Resolve(ctx context.Context, name, ref string) (string, error) {
	bare, err := f.bare(ctx, name)
	if err != nil {
		return "", err
	}
	tries := []string{"refs/tags/" + ref, "refs/heads/" + ref, "refs/remotes/origin/" + ref}
	if source.ValidRevision(ref) {
		tries = []string{ref}
	}
	for _, full := range tries {
		if out, err := run(ctx, bare, "rev-parse", "--verify", "--quiet", "--end-of-options", full+"^{commit}"); err == nil {
			return strings.TrimSpace(out), nil
		}
	}
	return "", fault.New(fault.NotFound, "The copy of %s in %s has no %s. Fetch it there: git fetch --tags.", name, bare, ref)
}

// ReadFile implements pipeline.Mirrors.
func (f Folders) ReadFile(ctx context.Context, name, revision, path string) ([]byte, error) {
	bare, err := f.bare(ctx, name)
	if err != nil {
		return nil, err
	}
	return readFile(ctx, bare, name, revision, path)
}

// Checkout implements pipeline.Mirrors.
func (f Folders) Checkout(ctx context.Context, name, revision, dir string) error {
	bare, err := f.bare(ctx, name)
	if err != nil {
		return err
	}
	return checkout(ctx, bare, revision, dir)
}
