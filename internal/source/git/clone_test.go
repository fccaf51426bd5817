package git_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/source"
)

func TestACloneHasTheHistoryThatIsAskedFor(t *testing.T) {
	w, ann, first := landed(t, dbtest.SQLite(t))
	second := ann.Commit("second", "a.txt", "2\n")
	ann.Git("push", "--quiet", "origin", "HEAD:refs/heads/topic")
	ann.Git("tag", "v1", first)
	ctx, id := t.Context(), w.Repo.ID
	in := func(dir string, args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("git %v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	clone := func(c source.Clone) string {
		t.Helper()
		c.Revision, c.Origin = first, "https://weir.example/git/shop.git"
		dir := t.TempDir()
		if _, err := w.Git.Clone(ctx, id, c, dir); err != nil {
			t.Fatal(err)
		}
		if in(dir, "remote", "get-url", "origin") != "https://weir.example/git/shop.git" || in(dir, "status", "--porcelain") != "" {
			t.Errorf("the clone is not clean, or says it came from elsewhere: %s", in(dir, "status"))
		}
		in(dir, "fsck", "--connectivity-only")
		return dir
	}

	dir := clone(source.Clone{RunRef: "refs/heads/main", Depth: 1})
	if got := in(dir, "rev-parse", "HEAD"); got != first || in(dir, "branch", "--show-current") != "main" || in(dir, "rev-parse", "origin/main") != first {
		t.Errorf("HEAD is %s on %q; want main at %s", got, in(dir, "branch", "--show-current"), first)
	}
	if _, err := os.Stat(filepath.Join(dir, ".git", "objects", "info", "alternates")); err == nil {
		t.Error("the clone shares objects with the cached repository")
	}

	dir = clone(source.Clone{RunRef: "refs/changes/1/1", Depth: 1, Ref: "topic"})
	if got := in(dir, "rev-parse", "HEAD"); got != second || in(dir, "rev-list", "--count", "HEAD") != "1" {
		t.Errorf("HEAD is %s with %s revisions; want %s alone", got, in(dir, "rev-list", "--count", "HEAD"), second)
	}
	dir = clone(source.Clone{RunRef: "refs/changes/1/1", Depth: 0, Ref: second})
	if got := in(dir, "rev-list", "--count", "HEAD"); got != "2" || in(dir, "rev-parse", "origin/topic") != second {
		t.Errorf("the whole history has %s revisions; want 2", got)
	}
	if got := in(dir, "branch", "--show-current"); got != "" {
		t.Errorf("a revision was checked out as the branch %s", got)
	}
	dir = clone(source.Clone{RunRef: "refs/heads/main", Depth: 1, Sparse: []string{"dir/deep"}, Cone: true})
	if _, err := os.Stat(filepath.Join(dir, "dir", "deep", "c.txt")); err != nil {
		t.Errorf("the folder that was asked for is missing: %v", err)
	}
	dir = clone(source.Clone{RunRef: "refs/heads/main", Depth: 1, Sparse: []string{"/a.txt"}})
	if _, err := os.Stat(filepath.Join(dir, "dir")); err == nil {
		t.Error("a sparse checkout wrote a folder that nobody asked for")
	}
	clone(source.Clone{RunRef: "refs/heads/main", Depth: 1, Filter: "blob:none"})

	for _, bad := range []source.Clone{{Ref: "nothing"}, {Ref: "--upload-pack=touch /tmp/x"}, {Filter: "sparse:oid=x"}} {
		bad.Revision = first
		if _, err := w.Git.Clone(ctx, id, bad, t.TempDir()); fault.KindOf(err) == "" {
			t.Errorf("Clone(%+v) = %v; want a sentence", bad, err)
		}
	}
}
