package git

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/source"
)

var filters = regexp.MustCompile(`^(blob:none|blob:limit=\d+[kmg]?|tree:\d+)$`)

// upload serves any revision that the repository has, not only what a ref is at. The text is constant: git gives it to a shell.
const upload = "git -c uploadpack.allowAnySHA1InWant=true -c uploadpack.allowFilter=true upload-pack"

// Clone makes a repository with a working tree of dir, which exists and is empty. It shares no file with the cached repository,
// because whoever gets it may write it.
func (c *Cache) Clone(ctx context.Context, repositoryID string, o source.Clone, dir string) (string, error) {
	if err := revision(o.Revision); err != nil {
		return "", err
	}
	if o.Filter != "" && !filters.MatchString(o.Filter) {
		return "", fault.New(fault.Invalid, "The filter %q is not known; blob:none, blob:limit=1m and tree:0 are.", o.Filter)
	}
	rev, ref := o.Revision, o.RunRef
	err := c.Read(ctx, repositoryID, func(bare string) error {
		if o.Ref != "" {
			var err error
			if ref, rev, err = resolve(ctx, bare, o.Ref); err != nil {
				return err
			}
		}
		return clone(ctx, bare, dir, rev, ref, o)
	})
	return rev, err
}

// resolve finds what a person means by a ref, in the order that GitHub's checkout does.
func resolve(ctx context.Context, bare, name string) (ref, rev string, err error) {
	if revision(name) == nil {
		return "", name, nil
	}
	for _, full := range []string{name, "refs/heads/" + name, "refs/tags/" + name} {
		if !strings.HasPrefix(full, "refs/") {
			continue
		}
		out, err := run(ctx, bare, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", full+"^{commit}")
		if err == nil {
			return full, strings.TrimSpace(string(out)), nil
		}
		if exitCode(err) != 1 {
			return "", "", err
		}
	}
	return "", "", fault.New(fault.NotFound, "The repository has no branch or tag %q to check out.", name)
}

func clone(ctx context.Context, bare, dir, rev, ref string, o source.Clone) error {
	branch, isBranch := strings.CutPrefix(ref, "refs/heads/")
	name := branch
	if !isBranch {
		name = "main"
	}
	if _, err := run(ctx, "", nil, "init", "--quiet", "--template=", "--initial-branch="+name, dir); err != nil {
		return err
	}
	tracked := "refs/remotes/origin/" + branch
	switch {
	case strings.HasPrefix(ref, "refs/tags/"):
		tracked = ref
	case strings.HasPrefix(ref, "refs/changes/"):
		tracked = "refs/remotes/" + strings.TrimPrefix(ref, "refs/")
	case !isBranch:
		tracked = "refs/remotes/origin/HEAD-of-run"
	}
	args := []string{"fetch", "--quiet", "--no-write-fetch-head", "--no-auto-gc", "--no-tags", "--upload-pack=" + upload}
	if o.Depth > 0 {
		args = append(args, "--depth="+strconv.Itoa(o.Depth))
	}
	remote := "file://" + bare
	if o.Filter != "" {
		args = append(args, "--filter="+o.Filter)
		// What is left out must be known to be elsewhere.
		if err := configure(dir, remote, true); err != nil {
			return err
		}
		remote = "origin"
	}
	args = append(args, remote)
	if o.Depth == 0 {
		args = append(args, "+refs/heads/*:refs/remotes/origin/*")
	}
	if o.Depth == 0 || o.Tags {
		args = append(args, "+refs/tags/*:refs/tags/*")
	}
	if o.Depth > 0 || !isBranch {
		args = append(args, "+"+rev+":"+tracked)
	}
	if _, err := in(ctx, dir, nil, args...); err != nil {
		return err
	}
	if o.Depth == 0 && isBranch {
		// The branch may have moved on since; the run is about its own revision.
		if _, err := in(ctx, dir, nil, "cat-file", "-e", rev+"^{commit}"); err != nil {
			if _, err := in(ctx, dir, nil, "fetch", "--quiet", "--no-write-fetch-head", "--no-tags", "--upload-pack="+upload, remote, "+"+rev+":"+tracked); err != nil {
				return err
			}
		}
	}
	if len(o.Sparse) > 0 {
		set := []string{"sparse-checkout", "set", "--stdin"}
		if o.Cone {
			set = append(set, "--cone")
		} else {
			set = append(set, "--no-cone")
		}
		if _, err := in(ctx, dir, strings.NewReader(strings.Join(o.Sparse, "\n")+"\n"), set...); err != nil {
			return fault.New(fault.Invalid, "The patterns of sparse-checkout were refused: %v.", err)
		}
	}
	out := []string{"-c", "advice.detachedHead=false", "-c", "core.symlinks=true", "checkout", "--quiet", "--force"}
	if isBranch {
		out = append(out, "-B", branch, rev)
	} else {
		out = append(out, "--detach", rev)
	}
	if _, err := in(ctx, dir, nil, out...); err != nil {
		return err
	}
	return configure(dir, o.Origin, o.Filter != "")
}

// in runs git in a repository with a working tree.
func in(ctx context.Context, dir string, stdin io.Reader, args ...string) ([]byte, error) {
	return run(ctx, filepath.Join(dir, ".git"), stdin, append([]string{"--work-tree=" + dir}, args...)...)
}

// configure writes where the copy comes from.
func configure(dir, origin string, partial bool) error {
	path := filepath.Join(dir, ".git", "config")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.ContainsAny(origin, "\n\"\\") {
		return fmt.Errorf("origin %q cannot be written into a configuration", origin)
	}
	url := "\turl = \"" + origin + "\""
	if place := remoteURL.FindIndex(text); place != nil {
		return os.WriteFile(path, append(append(text[:place[0]:place[0]], url...), text[place[1]:]...), 0o600)
	}
	more := "[remote \"origin\"]\n" + url + "\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
	if partial {
		more += "\tpromisor = true\n\tpartialclonefilter = blob:none\n"
	}
	return os.WriteFile(path, append(text, more...), 0o600)
}

var remoteURL = regexp.MustCompile(`(?m)^\turl = .*$`)
