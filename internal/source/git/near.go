package git

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"weir/internal/base/fault"
	"weir/internal/source"
)

// Near keeps copies of repositories on a machine that is not the server, so that a checkout there fetches what is new and no more.
//
// A copy is a bare repository with a configuration of our own: what a repository holds can name no hook, filter or other repository to
// it, and what is cloned from it shares no file with it. One process uses the folder. A fetch that was killed in the middle leaves a
// mark, by which the next start throws that copy away. Copies are evicted, the longest unused first, when all together outgrow Most.
type Near struct {
	dir  string
	most int64

	mu     sync.Mutex
	copies map[string]*nearCopy
}

type nearCopy struct {
	sync.RWMutex // held for reading by clones, for writing by fetches and eviction
	used         time.Time
}

const (
	nearRefs  = "refs/near/" // one for each revision that was asked for
	keptRefs  = 50
	keptPacks = 20
)

var nearName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)

// OpenNear opens the copies in a folder, which is made if need be.
func OpenNear(dir string, most int64) (*Near, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open copies of repositories: %w", err)
	}
	n := &Near{dir: dir, most: most, copies: map[string]*nearCopy{}}
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open copies of repositories: %w", err)
	}
	for _, d := range found {
		id, ok := strings.CutSuffix(d.Name(), ".git")
		path := filepath.Join(dir, d.Name())
		if _, err := os.Stat(mark(path)); !ok || !d.IsDir() || err == nil || !nearName.MatchString(id) {
			if err := os.RemoveAll(path); err != nil {
				return nil, fmt.Errorf("remove what an earlier fetch left: %w", err)
			}
			continue
		}
		s := &nearCopy{}
		if info, err := d.Info(); err == nil {
			s.used = info.ModTime()
		}
		n.copies[id] = s
	}
	return n, nil
}

// mark is there while a copy is being changed.
func mark(bare string) string { return filepath.Join(bare, "weir-fetching") }

// Clone makes a repository with a working tree of dir, which exists and is empty, as Cache.Clone does. It fetches from the remote only
// what the copy has not. An error that is no fault is about the copy, and another way may still lead there.
func (n *Near) Clone(ctx context.Context, repositoryID string, from source.Remote, c source.Clone, dir string) (string, error) {
	if !nearName.MatchString(repositoryID) {
		return "", fmt.Errorf("%q is not the id of a repository", repositoryID)
	}
	if err := revision(c.Revision); err != nil {
		return "", err
	}
	if c.Filter != "" && !filters.MatchString(c.Filter) {
		return "", fault.New(fault.Invalid, "The filter %q is not known; blob:none, blob:limit=1m and tree:0 are.", c.Filter)
	}
	n.mu.Lock()
	s := n.copies[repositoryID]
	if s == nil {
		s = &nearCopy{}
		n.copies[repositoryID] = s
	}
	s.used = time.Now()
	n.mu.Unlock()
	bare := filepath.Join(n.dir, repositoryID+".git")
	rev, ref := c.Revision, c.RunRef
	if c.Ref != "" {
		var err error
		if ref, rev, err = n.ask(ctx, from, c.Ref); err != nil {
			return "", err
		}
	}
	for range 2 { // an eviction may come between the fetch and the clone
		if err := n.bring(ctx, s, bare, from, rev, c); err != nil {
			return "", err
		}
		s.RLock()
		if !has(ctx, bare, rev) {
			s.RUnlock()
			continue
		}
		err := clone(ctx, bare, dir, rev, ref, c)
		now := time.Now()
		_ = os.Chtimes(bare, now, now) // eviction goes by it after a restart
		s.RUnlock()
		if err != nil {
			return "", err
		}
		return rev, n.evict(repositoryID)
	}
	return "", fmt.Errorf("the copy of %s does not keep %s", repositoryID, rev)
}

func (n *Near) remote(ctx context.Context, bare string, from source.Remote, args ...string) ([]byte, error) {
	env := []string{"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.extraHeader", "GIT_CONFIG_VALUE_0=" + from.Header}
	for _, k := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		env = append(env, "GIT_SSL_CAINFO="+file)
	}
	return runEnv(ctx, bare, env, nil, append([]string{"-c", "protocol.allow=never", "-c", "protocol.http.allow=always", "-c", "protocol.https.allow=always", "-c", "http.followRedirects=false",
		"-c", "core.hooksPath=/dev/null", "-c", "credential.helper=", "-c", "gc.auto=0", "-c", "maintenance.auto=false"}, args...)...)
}

// ask resolves a name at the remote, in the order that GitHub's checkout does.
func (n *Near) ask(ctx context.Context, from source.Remote, name string) (ref, rev string, err error) {
	if revision(name) == nil {
		return "", name, nil
	}
	var want []string
	for _, full := range []string{name, "refs/heads/" + name, "refs/tags/" + name} {
		if strings.HasPrefix(full, "refs/") && !strings.ContainsAny(full, "*?[ ") {
			want = append(want, full, full+"^{}")
		}
	}
	out, err := n.remote(ctx, "", from, append([]string{"ls-remote", "--quiet", "--", from.URL}, want...)...)
	if err != nil {
		return "", "", err
	}
	at := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if sha, name, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			at[name] = sha
		}
	}
	for i := 0; i < len(want); i += 2 {
		full := want[i]
		if sha := cmp.Or(at[full+"^{}"], at[full]); sha != "" {
			return full, sha, nil
		}
	}
	return "", "", fault.New(fault.NotFound, "The repository has no branch or tag %q to check out.", name)
}

func has(ctx context.Context, bare, rev string) bool {
	_, err := run(ctx, bare, nil, "cat-file", "-e", rev+"^{commit}")
	return err == nil
}

func shallow(bare string) bool {
	info, err := os.Stat(filepath.Join(bare, "shallow"))
	return err == nil && info.Size() > 0
}

// bring fetches what a clone needs and the copy has not.
func (n *Near) bring(ctx context.Context, s *nearCopy, bare string, from source.Remote, rev string, c source.Clone) error {
	enough := func() bool {
		_, err := os.Stat(mark(bare))
		return c.Depth == 1 && !c.Tags && err != nil && has(ctx, bare, rev)
	}
	s.RLock()
	done := enough()
	s.RUnlock()
	if done {
		return nil
	}
	s.Lock()
	defer s.Unlock()
	if enough() { // another job's fetch brought it
		return nil
	}
	if _, err := os.Stat(mark(bare)); err == nil { // a fetch of this process was stopped
		if err := os.RemoveAll(bare); err != nil {
			return err
		}
	}
	err := n.fetch(ctx, bare, from, rev, c)
	var refused *commandError
	if err != nil && ctx.Err() == nil && errors.As(err, &refused) && strings.Contains(refused.stderr, "corrupt") {
		if err := os.RemoveAll(bare); err != nil {
			return err
		}
		err = n.fetch(ctx, bare, from, rev, c)
	}
	return err
}

func (n *Near) fetch(ctx context.Context, bare string, from source.Remote, rev string, c source.Clone) error {
	out, err := run(ctx, bare, nil, "for-each-ref", "--count=1")
	empty := err != nil || len(out) == 0
	if empty {
		if err := os.RemoveAll(bare); err != nil {
			return err
		}
		if err := os.MkdirAll(bare, 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(mark(bare), nil, 0o600); err != nil {
		return err
	}
	if empty {
		if _, err := run(ctx, "", nil, "init", "--quiet", "--bare", "--template=", bare); err != nil {
			return err
		}
	}
	args := []string{"fetch", "--quiet", "--no-write-fetch-head", "--no-auto-gc", "--no-tags", "--no-recurse-submodules", "--force"}
	switch {
	case c.Depth == 0 && shallow(bare):
		args = append(args, "--unshallow")
	case c.Depth > 0 && (empty || shallow(bare)): // a copy with the whole history keeps it
		args = append(args, "--depth="+strconv.Itoa(c.Depth))
	}
	args = append(args, "--", from.URL, "+"+rev+":"+nearRefs+rev)
	if c.Depth == 0 {
		args = append(args, "+refs/heads/*:refs/heads/*")
	}
	if c.Depth == 0 || c.Tags {
		args = append(args, "+refs/tags/*:refs/tags/*")
	}
	if _, err := n.remote(ctx, bare, from, args...); err != nil {
		if ctx.Err() == nil { // git has cleaned up behind itself
			_ = os.Remove(mark(bare))
		}
		return err
	}
	n.tidy(ctx, bare)
	return os.Remove(mark(bare))
}

// tidy forgets revisions that nobody has asked for lately, and keeps the number of packs small. Nothing depends on it.
func (n *Near) tidy(ctx context.Context, bare string) {
	packs, _ := filepath.Glob(filepath.Join(bare, "objects", "pack", "*.pack"))
	if len(packs) <= keptPacks {
		return
	}
	out, err := run(ctx, bare, nil, "for-each-ref", "--sort=-creatordate", "--format=%(refname)", nearRefs)
	if err != nil {
		return
	}
	refs := strings.Fields(string(out))
	for _, ref := range refs[min(len(refs), keptRefs):] {
		if _, err := run(ctx, bare, nil, "update-ref", "-d", ref); err != nil {
			return
		}
	}
	_, _ = run(ctx, bare, nil, "repack", "-a", "-d", "-q", "--window=0")
}

// evict removes copies, the longest unused first, until all together fit. The one that was just used stays.
func (n *Near) evict(keep string) error {
	if n.most <= 0 {
		return nil
	}
	type copied struct {
		id   string
		s    *nearCopy
		size int64
		used time.Time
	}
	var all []copied
	var total int64
	n.mu.Lock()
	for id, s := range n.copies {
		all = append(all, copied{id: id, s: s, used: s.used})
	}
	n.mu.Unlock()
	for i := range all {
		all[i].size = sizeOf(filepath.Join(n.dir, all[i].id+".git"))
		total += all[i].size
	}
	slices.SortFunc(all, func(a, b copied) int { return a.used.Compare(b.used) })
	for _, c := range all {
		if total <= n.most {
			return nil
		}
		if c.id == keep || !c.s.TryLock() { // in use
			continue
		}
		err := os.RemoveAll(filepath.Join(n.dir, c.id+".git"))
		c.s.Unlock()
		if err != nil {
			return fmt.Errorf("evict a copy: %w", err)
		}
		total -= c.size
	}
	return nil
}

func sizeOf(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil
	})
	return total
}
