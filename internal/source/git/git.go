// Package git keeps a bare repository on disk for each repository, as a cache
// of what the rows and the blob store hold, and asks the real git about it.
//
// Before a repository is used, Sync brings it in line: packs that it lacks are
// indexed from the blob store, and its refs are set to the rows. So a crash
// between commit and disk, a lost folder or a push through another replica are
// the same thing here: a cache that is behind.
package git

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/source"
)

// Cache is a folder of bare repositories.
type Cache struct {
	root  string
	db    *db.DB
	blobs blob.Store

	mu    sync.Mutex
	repos map[string]*state
}

// state is one repository. Its lock is held by whoever changes the folder, and
// shared by whoever reads it.
type state struct {
	sync.RWMutex
	version int64 // of the rows that the folder is in line with; 0 is unknown
}

// ErrNoGit says that what a server needs for repositories is not there. The
// rest of it works: registry, rollouts, rollbacks.
var ErrNoGit = fault.New(fault.Unavailable, "git is not installed on the server. Install it (Debian: apt-get install -y git); repositories cannot be read or written without it.")

// Open makes the folder if needed.
func Open(root string, d *db.DB, blobs blob.Store) (*Cache, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("open repositories: %w", err)
	}
	return &Cache{root: root, db: d, blobs: blobs, repos: map[string]*state{}}, nil
}

func (c *Cache) state(repositoryID string) *state {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.repos[repositoryID] == nil {
		c.repos[repositoryID] = &state{}
	}
	return c.repos[repositoryID]
}

// Dir is the bare repository's folder.
func (c *Cache) Dir(repositoryID string) string { return filepath.Join(c.root, repositoryID+".git") }

// Env is the environment that git runs in: nothing of ours.
func Env(more ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C"}, more...)
}

// Read runs fn while the repository is in line with the rows and does not change.
func (c *Cache) Read(ctx context.Context, repositoryID string, fn func(dir string) error) error {
	s := c.state(repositoryID)
	want, err := c.version(ctx, repositoryID)
	if err != nil {
		return err
	}
	s.RLock()
	if s.version == want && want > 0 && c.exists(repositoryID) {
		defer s.RUnlock()
		return fn(c.Dir(repositoryID))
	}
	s.RUnlock()
	if err := c.Write(ctx, repositoryID, func(string) error { return nil }); err != nil {
		return err
	}
	s.RLock()
	defer s.RUnlock()
	return fn(c.Dir(repositoryID))
}

// Write brings the repository in line and runs fn alone in it: a push. What fn
// leaves is brought in line again before the next use.
func (c *Cache) Write(ctx context.Context, repositoryID string, fn func(dir string) error) error {
	s := c.state(repositoryID)
	s.Lock()
	defer s.Unlock()
	if err := c.sync(ctx, repositoryID, s); err != nil {
		return fmt.Errorf("bring repository %s in line: %w", repositoryID, err)
	}
	err := fn(c.Dir(repositoryID))
	if now, verr := c.version(ctx, repositoryID); verr != nil || now != s.version {
		s.version = 0
	}
	return err
}

func (c *Cache) version(ctx context.Context, repositoryID string) (int64, error) {
	var v int64
	err := c.db.QueryRow(ctx, "select version from git_state where repository_id = ?", repositoryID).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return v, err
}

type pack struct {
	seq    int64
	digest blob.Digest
}

// sync runs under the write lock.
func (c *Cache) sync(ctx context.Context, repositoryID string, s *state) error {
	version, err := c.version(ctx, repositoryID)
	if err != nil {
		return err
	}
	dir := c.Dir(repositoryID)
	if version == s.version && c.exists(repositoryID) && version > 0 {
		return nil
	}
	if !c.exists(repositoryID) {
		if _, err := run(ctx, "", nil, "init", "--quiet", "--bare", "--initial-branch=main", dir); err != nil {
			return err
		}
	}
	// Locks are left behind by a git that was killed; nobody else is in here.
	removeStaleLocks(dir)
	if err := c.syncPacks(ctx, repositoryID, dir); err != nil {
		return err
	}
	if err := c.syncRefs(ctx, repositoryID, dir); err != nil {
		return err
	}
	s.version = version
	return nil
}

// exists reports whether there is a repository on disk.
func (c *Cache) exists(repositoryID string) bool {
	_, err := os.Stat(filepath.Join(c.Dir(repositoryID), "HEAD"))
	return err == nil
}

func removeStaleLocks(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "objects" {
			return fs.SkipDir
		}
		if err == nil && strings.HasSuffix(path, ".lock") {
			_ = os.Remove(path)
		}
		return nil
	})
}

// syncPacks indexes what the blob store has and the folder has not. A marker
// beside the packs is named after the blob and holds git's own name of the pack.
func (c *Cache) syncPacks(ctx context.Context, repositoryID, dir string) error {
	rows, err := c.db.Query(ctx, "select seq, digest from git_pack where repository_id = ? order by seq", repositoryID)
	packs, err := db.Collect(rows, err, func(r *sql.Rows) (p pack, err error) { return p, r.Scan(&p.seq, &p.digest) })
	if err != nil {
		return err
	}
	for _, p := range packs {
		marker := filepath.Join(dir, "weir-pack-"+p.digest.Hex())
		if indexed(dir, marker) {
			continue
		}
		r, _, err := c.blobs.Open(ctx, p.digest)
		if err != nil {
			return fmt.Errorf("pack %d: %w", p.seq, err)
		}
		out, err := run(ctx, dir, r, "index-pack", "--stdin", "--fix-thin")
		r.Close()
		if err != nil {
			return fmt.Errorf("pack %d: %w", p.seq, err)
		}
		name := strings.TrimPrefix(strings.TrimSpace(string(out)), "pack\t")
		if err := os.WriteFile(marker, []byte(name), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// indexed reports whether the pack of a marker is there.
func indexed(dir, marker string) bool {
	name, err := os.ReadFile(marker)
	if err != nil || len(name) == 0 {
		return false
	}
	for _, ext := range []string{".pack", ".idx"} {
		if _, err := os.Stat(filepath.Join(dir, "objects", "pack", "pack-"+string(name)+ext)); err != nil {
			return false
		}
	}
	return true
}

func (c *Cache) syncRefs(ctx context.Context, repositoryID, dir string) error {
	rows, err := c.db.Query(ctx, "select name, revision from git_ref where repository_id = ?", repositoryID)
	if err != nil {
		return err
	}
	defer rows.Close()
	want := map[string]string{}
	for rows.Next() {
		var name, revision string
		if err := rows.Scan(&name, &revision); err != nil {
			return err
		}
		want[name] = revision
	}
	if err := rows.Err(); err != nil {
		return err
	}
	out, err := run(ctx, dir, nil, "for-each-ref", "--format=%(objectname) %(refname)")
	if err != nil {
		return err
	}
	var b strings.Builder
	for line := range strings.Lines(string(out)) {
		revision, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch w, ok := want[name]; {
		case !ok:
			fmt.Fprintf(&b, "delete %s\n", name)
		case w == revision:
			delete(want, name)
		}
	}
	names := make([]string, 0, len(want))
	for name := range want {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "update %s %s\n", name, want[name])
	}
	if b.Len() == 0 {
		return nil
	}
	_, err = run(ctx, dir, strings.NewReader(b.String()), "update-ref", "--stdin")
	return err
}

// run executes git in a repository, with nothing of the environment.
func run(ctx context.Context, dir string, stdin io.Reader, args ...string) ([]byte, error) {
	return runEnv(ctx, dir, nil, stdin, args...)
}

func runEnv(ctx context.Context, dir string, env []string, stdin io.Reader, args ...string) ([]byte, error) {
	if dir != "" {
		args = append([]string{"--git-dir=" + dir}, args...)
	}
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Env, cmd.Stdin, cmd.WaitDelay = Env(env...), stdin, 2*time.Second
	// With its helpers: one that waits for a remote would outlive a git that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, ErrNoGit
		}
		return nil, &commandError{args: args, err: err, stderr: strings.TrimSpace(errOut.String())}
	}
	return out.Bytes(), nil
}

type commandError struct {
	args   []string
	err    error
	stderr string
}

func (e *commandError) Error() string {
	return fmt.Sprintf("git %s: %v: %s", strings.Join(e.args, " "), e.err, e.stderr)
}

func (e *commandError) Unwrap() error { return e.err }

func exitCode(err error) int {
	if x, ok := errors.AsType[*exec.ExitError](err); ok {
		return x.ExitCode()
	}
	return -1
}

type quarantineKey struct{}

// Quarantined returns a context whose questions also see the objects of a push
// that is being judged, which git keeps apart until it is accepted. They run
// while that push holds the repository, so they take no lock.
func (*Cache) Quarantined(ctx context.Context, repositoryID, objects string) context.Context {
	return context.WithValue(ctx, quarantineKey{}, [2]string{repositoryID, objects})
}

// ask runs a question about a repository, inside a push if ctx belongs to one.
func (c *Cache) ask(ctx context.Context, repositoryID string, stdin io.Reader, args ...string) (out []byte, err error) {
	dir := c.Dir(repositoryID)
	if q, ok := ctx.Value(quarantineKey{}).([2]string); ok && q[0] == repositoryID {
		env := []string{}
		if q[1] != "" {
			env = append(env, "GIT_OBJECT_DIRECTORY="+q[1], "GIT_ALTERNATE_OBJECT_DIRECTORIES="+filepath.Join(dir, "objects"))
		}
		return runEnv(ctx, dir, env, stdin, args...)
	}
	err = c.Read(ctx, repositoryID, func(dir string) error {
		out, err = run(ctx, dir, stdin, args...)
		return err
	})
	return out, err
}

// StorePack keeps the pack that a push brought, if it brought one.
func (c *Cache) StorePack(ctx context.Context, objects string) (*source.Pack, error) {
	if objects == "" {
		return nil, nil
	}
	found, err := filepath.Glob(filepath.Join(objects, "pack", "*.pack"))
	if err != nil || len(found) == 0 {
		return nil, err
	}
	if len(found) > 1 {
		return nil, fmt.Errorf("a push left %d packs; git is asked to keep one", len(found))
	}
	f, err := os.Open(found[0])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, n, err := c.blobs.Put(ctx, f)
	if err != nil {
		return nil, err
	}
	return &source.Pack{Digest: string(d), Size: n}, nil
}

func revision(s string) error {
	if !source.ValidRevision(s) {
		return fault.New(fault.Invalid, "%s is not a full revision of 40 hexadecimal digits.", strconv.Quote(s))
	}
	return nil
}

// Env is the environment that git runs in, for callers that know this cache by
// interface.
func (c *Cache) Env(more ...string) []string { return Env(more...) }
