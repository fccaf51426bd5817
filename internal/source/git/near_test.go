package git_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"weir/internal/base/fault"
	"weir/internal/source"
	"weir/internal/source/git"
)

// far is a repository behind HTTP that wants a header.
type far struct {
	t     *testing.T
	dir   string
	at    source.Remote
	mu    sync.Mutex
	packs int // how often somebody fetched
	hang  func(r *http.Request) bool
}

func elsewhere(t *testing.T) *far {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Skip("git is not installed")
	}
	backend := filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		t.Skip("git-http-backend is not installed")
	}
	f := &far{t: t, dir: filepath.Join(t.TempDir(), "shop.git")}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f.git("init", "--quiet", "--initial-branch=main")
	f.git("config", "uploadpack.allowAnySHA1InWant", "true")
	h := &cgi.Handler{Path: backend, Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(f.dir), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}, InheritEnv: []string{"PATH"}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Basic x" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		f.mu.Lock()
		hang := f.hang
		if strings.HasSuffix(r.URL.Path, "/git-upload-pack") {
			f.packs++
		}
		f.mu.Unlock()
		if hang != nil && hang(r) {
			_, _ = io.Copy(io.Discard, r.Body) // only then the server looks whether the other side is still there
			<-r.Context().Done()
			return
		}
		r.Header.Del("Authorization")
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	f.at = source.Remote{URL: srv.URL + "/shop.git", Header: "Authorization: Basic x"}
	return f
}

func (f *far) git(args ...string) string {
	f.t.Helper()
	return gitIn(f.t, f.dir, args...)
}

func gitIn(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=x", "-c", "user.email=x@example.com"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (f *far) commit(n int) string {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, "file.txt"), []byte(strconv.Itoa(n)), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.git("add", ".")
	f.git("commit", "--quiet", "--allow-empty", "-m", strconv.Itoa(n))
	return f.git("rev-parse", "HEAD")
}

func (f *far) fetched() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.packs
}

func near(t *testing.T, dir string, most int64) *git.Near {
	t.Helper()
	n, err := git.OpenNear(dir, most)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNearCloneHasWhatIsAskedForAndFetchesOnce(t *testing.T) {
	f := elsewhere(t)
	one, two := f.commit(1), f.commit(2)
	f.git("tag", "-a", "-m", "x", "v1", one)
	n := near(t, t.TempDir(), 0)
	clone := func(c source.Clone) (string, string) {
		t.Helper()
		dir := t.TempDir()
		if c.Revision == "" {
			c.Revision = two
		}
		c.RunRef, c.Origin = "refs/heads/main", "https://weir.example/git/shop.git"
		rev, err := n.Clone(t.Context(), "repo_1", f.at, c, dir)
		if err != nil {
			t.Fatal(err)
		}
		gitIn(t, dir, "fsck", "--connectivity-only")
		if gitIn(t, dir, "status", "--porcelain") != "" || gitIn(t, dir, "remote", "get-url", "origin") != c.Origin {
			t.Errorf("the clone is not clean, or says it came from elsewhere")
		}
		if _, err := os.Stat(filepath.Join(dir, ".git", "objects", "info", "alternates")); err == nil {
			t.Error("the clone shares objects with the copy")
		}
		return dir, rev
	}
	count := func(dir string) string { return gitIn(t, dir, "rev-list", "--count", "HEAD") }

	dir, rev := clone(source.Clone{Depth: 1})
	if rev != two || count(dir) != "1" || gitIn(t, dir, "branch", "--show-current") != "main" {
		t.Errorf("shallow: %s with %s revisions", rev, count(dir))
	}
	before := f.fetched()
	clone(source.Clone{Depth: 1})
	clone(source.Clone{Depth: 1, Filter: "blob:none"})
	clone(source.Clone{Depth: 1, Sparse: []string{"nothing"}, Cone: true})
	if f.fetched() != before {
		t.Errorf("%d fetches of a revision that is there", f.fetched()-before)
	}
	if dir, rev := clone(source.Clone{Depth: 1, Ref: "v1"}); rev != one || count(dir) != "1" {
		t.Errorf("a tag: %s with %s revisions; want %s", rev, count(dir), one)
	}
	if dir, _ := clone(source.Clone{Depth: 2}); count(dir) != "2" {
		t.Errorf("two deep: %s revisions", count(dir))
	}
	three := f.commit(3)
	if dir, _ := clone(source.Clone{Revision: three, Depth: 2}); count(dir) != "2" {
		t.Errorf("two deep of the next: %s revisions", count(dir))
	}
	if dir, _ := clone(source.Clone{Revision: three}); count(dir) != "3" || gitIn(t, dir, "tag") != "v1" || gitIn(t, dir, "rev-parse", "origin/main") != three {
		t.Errorf("whole: %s revisions, tags %s", count(dir), gitIn(t, dir, "tag"))
	}
	four := f.commit(4)
	if dir, _ := clone(source.Clone{Revision: four, Depth: 1}); count(dir) != "1" {
		t.Errorf("shallow of a whole copy: %s revisions", count(dir))
	}
	if dir, _ := clone(source.Clone{Revision: four}); count(dir) != "4" {
		t.Errorf("a whole copy stays whole: %s revisions", count(dir))
	}
	for want, c := range map[string]source.Clone{`no branch or tag "gone" to check out`: {Revision: four, Ref: "gone"}, `The filter "x" is not known`: {Revision: four, Filter: "x"}} {
		if _, err := n.Clone(t.Context(), "repo_1", f.at, c, t.TempDir()); fault.KindOf(err) == "" || !strings.Contains(fault.Sentence(err), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	bad := f.at
	bad.Header = "Authorization: Basic y"
	if _, err := n.Clone(t.Context(), "repo_2", bad, source.Clone{Revision: four, Depth: 1}, t.TempDir()); err == nil || fault.KindOf(err) != "" {
		t.Errorf("without a token: %v; want an error that lets another way be tried", err)
	}
	if _, err := n.Clone(t.Context(), "../x", f.at, source.Clone{Revision: four, Depth: 1}, t.TempDir()); err == nil {
		t.Error("a name that leads out was taken")
	}
}

func TestManyJobsCloneAtOnce(t *testing.T) {
	f := elsewhere(t)
	var revisions []string
	for i := range 30 {
		revisions = append(revisions, f.commit(i))
	}
	n := near(t, t.TempDir(), 1) // evicts at every turn
	var all sync.WaitGroup
	for i, rev := range revisions {
		all.Go(func() {
			dir := t.TempDir()
			for _, id := range []string{"repo_1", fmt.Sprintf("repo_%d", 2+i%3)} {
				dir := filepath.Join(dir, id)
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Error(err)
				}
				if _, err := n.Clone(t.Context(), id, f.at, source.Clone{Revision: rev, RunRef: "refs/heads/main", Depth: 1 + i%2}, dir); err != nil {
					t.Error(err)
				} else if got, _ := os.ReadFile(filepath.Join(dir, "file.txt")); string(got) != strconv.Itoa(i) {
					t.Errorf("%d has %s", i, got)
				}
			}
		})
	}
	all.Wait()
}

func TestAFetchThatIsKilledLeavesNothingThatCounts(t *testing.T) {
	f := elsewhere(t)
	one := f.commit(1)
	root := t.TempDir()
	n := near(t, root, 0)
	if _, err := n.Clone(t.Context(), "repo_1", f.at, source.Clone{Revision: one, Depth: 1}, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	two := f.commit(2)
	ctx, cancel := context.WithCancel(t.Context())
	f.mu.Lock()
	f.hang = func(r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/git-upload-pack") {
			cancel()
			return true
		}
		return false
	}
	f.mu.Unlock()
	if _, err := n.Clone(ctx, "repo_1", f.at, source.Clone{Revision: two, Depth: 1}, t.TempDir()); err == nil || !errors.Is(ctx.Err(), context.Canceled) {
		t.Fatalf("a killed fetch: %v", err)
	}
	f.mu.Lock()
	f.hang = nil
	f.mu.Unlock()
	if _, err := os.Stat(filepath.Join(root, "repo_1.git", "weir-fetching")); err != nil {
		t.Error("the copy has no mark of the fetch that was stopped")
	}
	// As after a kill of the process, with what git leaves behind.
	for _, junk := range []string{"shallow.lock", "objects/pack/tmp_pack_x", "packed-refs.lock"} {
		if err := os.WriteFile(filepath.Join(root, "repo_1.git", junk), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, n := range map[string]*git.Near{"another process": near(t, root, 0), "this one": n} {
		if _, err := n.Clone(t.Context(), "repo_1", f.at, source.Clone{Revision: two, Depth: 1}, t.TempDir()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCopiesAreEvictedTheLongestUnusedFirst(t *testing.T) {
	f := elsewhere(t)
	one := f.commit(1)
	root := t.TempDir()
	n := near(t, root, 1)
	for _, id := range []string{"repo_1", "repo_2", "repo_3"} {
		if _, err := n.Clone(t.Context(), id, f.at, source.Clone{Revision: one, Depth: 1}, t.TempDir()); err != nil {
			t.Fatal(err)
		}
	}
	left, _ := filepath.Glob(filepath.Join(root, "*"))
	if len(left) != 1 || filepath.Base(left[0]) != "repo_3.git" {
		t.Errorf("left are %v; want the last one", left)
	}
}

func TestARepositoryCannotReachTheCopyOrTheMachine(t *testing.T) {
	f := elsewhere(t)
	f.commit(1)
	out := filepath.Join(t.TempDir(), "ran")
	for name, text := range map[string]string{
		".gitattributes": "* filter=evil diff=evil merge=evil\n", ".gitmodules": "[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c touch% " + out + "\n",
		"hooks/post-checkout": "#!/bin/sh\ntouch " + out + "\n", "config": "[core]\n\tfsmonitor = touch " + out + "\n[filter \"evil\"]\n\tsmudge = touch " + out + "\n", "objects/info/alternates": "/etc\n",
		"HEAD": "ref: refs/heads/main\n", "refs/x": "x",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(f.dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(f.dir, "link")); err != nil {
		t.Fatal(err)
	}
	rev := f.commit(2)
	root, dir := t.TempDir(), t.TempDir()
	n := near(t, root, 0)
	if _, err := n.Clone(t.Context(), "repo_1", f.at, source.Clone{Revision: rev, RunRef: "refs/heads/main", Depth: 1}, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("the repository ran a command")
	}
	// What a job does to its clone does nothing to the copy.
	if err := os.WriteFile(filepath.Join(dir, ".git", "hooks-x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, ".git", "objects")); err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	if _, err := n.Clone(t.Context(), "repo_1", f.at, source.Clone{Revision: rev, RunRef: "refs/heads/main", Depth: 1}, again); err != nil {
		t.Fatal(err)
	}
	gitIn(t, again, "fsck")
	if config, _ := os.ReadFile(filepath.Join(root, "repo_1.git", "config")); strings.Contains(string(config), "evil") || strings.Contains(string(config), "remote") {
		t.Errorf("the copy's configuration is not ours alone: %s", config)
	}
}
