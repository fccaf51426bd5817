package e2e

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/internal/base/db/dbtest"
	"weir/internal/edge/api/client"
)

func TestTheMainJobOnPostgreSQL(t *testing.T) {
	t.Parallel()
	database := dbtest.PostgresURL(t)
	w := newWorld(t, "database: "+quote(database)+"\n")
	mainJob(w)
	w.audit("--database", database)
}

func TestTheMainJobOnSQLite(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	mainJob(w)
	w.audit()
}

func quote(s string) string { return `"` + s + `"` }

// mainJob takes two releases to production, the second with review, approval
// and canary, and then goes back.
func mainJob(w *world) {
	t := w.t
	ctx := context.Background()
	first := w.released(w.bootstrap(tiny("first", guardedRules)))
	w.serves("staging", "1.0.0")
	if err := w.approve("author", first, "production"); err == nil {
		t.Error("the author could approve their own release")
	}
	w.must(w.approve("reviewer", first, "production"))
	w.serves("production", "1.0.0")

	revision := w.commit("feat: second", tiny("second", guardedRules))
	if out, err := w.git("push", w.remote("author"), "HEAD:refs/heads/main"); err == nil || !strings.Contains(out, "main is protected") && !strings.Contains(out, "Weir:") {
		t.Errorf("a direct push to main: %v\n%s", err, out)
	}
	c := w.propose("second")
	if err := w.review("author", c.Change.ID, "approve"); err == nil {
		t.Error("the author could approve their own change")
	}
	if err := w.land(c.Change.ID); err == nil {
		t.Error("a change landed without review and checks")
	}
	w.landed(c)
	second := w.released(revision)
	w.serves("staging", "1.1.0")
	await(t, 20*time.Second, "production to wait for a person", func() bool {
		for _, p := range w.releases()[0].Promotions {
			if p.Environment == "production" && p.State == "waiting" && len(p.Blocks) == 1 && strings.Contains(p.Blocks[0].Rule, "approv") {
				return true
			}
		}
		return false
	})
	w.must(w.approve("reviewer", second, "production"))
	var rollout client.Rollout
	await(t, 30*time.Second, "the canary to bake", func() bool {
		for _, r := range w.rollouts() {
			if r.Environment == "production" && r.Version == "1.1.0" && r.State == "baking" {
				rollout = r
			}
		}
		return rollout.ID != ""
	})
	if rollout.Share != .25 {
		t.Errorf("the canary gets %v of requests", rollout.Share)
	}
	await(t, 20*time.Second, "the canary to be promoted", func() bool {
		err := w.as("maintainer").Post(ctx, "/rollouts/"+rollout.ID+"/promote", map[string]string{"reason": "no traffic in this test"}, nil)
		e, _ := w.environment("production")
		return err == nil || e.Version == "1.1.0"
	})
	w.serves("production", "1.1.0")
	w.must(w.rollback("production"))
	w.serves("production", "1.0.0")
	if got := w.says("production"); !strings.HasPrefix(got, "tiny 1.0.0 first hello production") {
		t.Errorf("production says %q", got)
	}
}

// front passes connections on to the first server that takes them, as a load
// balancer does.
type front struct {
	listener net.Listener
	behind   atomic.Pointer[[]string]
}

func newFront(t testing.TB) *front {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{listener: l}
	f.behind.Store(&[]string{})
	var parts sync.WaitGroup
	parts.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			parts.Go(func() { f.pass(c) })
		}
	})
	t.Cleanup(func() { l.Close() })
	return f
}

func (f *front) pass(in net.Conn) {
	defer in.Close()
	for _, addr := range *f.behind.Load() {
		out, err := net.Dial("tcp", addr)
		if err != nil {
			continue
		}
		defer out.Close()
		go func() { _, _ = io.Copy(out, in); out.(*net.TCPConn).CloseWrite() }()
		_, _ = io.Copy(in, out)
		return
	}
}

func TestTwoReplicasShareTheWorkAndOneTakesOver(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	database := dbtest.PostgresURL(t)
	shared, err := os.MkdirTemp("", "we")
	if err != nil {
		t.Fatal(err)
	}
	conf := "database: " + quote(database) + "\nblobs: " + quote("dir://"+filepath.Join(shared, "blobs")) + "\nurl: " + quote("http://"+f.listener.Addr().String()) + "\n"
	a := &world{server: newServer(t, conf), tokens: map[string]string{}}
	t.Cleanup(func() { os.RemoveAll(shared) })
	a.work = filepath.Join(a.dir, "work")
	a.start()
	b := &world{server: newServer(t, conf+"host: {dir: "+quote(a.hostDir())+"}\n"), tokens: a.tokens, work: a.work}
	a.people()
	a.init("tiny")
	b.must(os.MkdirAll(b.data, 0o700))
	for _, name := range []string{"keys", "instance.json"} {
		if out, err := exec.Command("cp", "-a", filepath.Join(a.data, name), filepath.Join(b.data, name)).CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
	}
	b.start()
	f.behind.Store(&[]string{a.listen, b.listen})

	// Push through one, and everything else through either.
	revision := a.bootstrap(tiny("first", ""))
	if got := b.mustGit("ls-remote", b.remote("reviewer"), "refs/heads/main"); !strings.HasPrefix(got, revision) {
		t.Errorf("the other replica has %q of main; want %s", got, revision)
	}
	clone := filepath.Join(b.dir, "clone")
	b.mustGit("clone", "--quiet", b.remote("reviewer"), clone)
	if raw, err := os.ReadFile(filepath.Join(clone, "main.go")); err != nil || !strings.Contains(string(raw), `"first"`) {
		t.Errorf("clone from the other replica: %v", err)
	}
	b.serves("production", "1.0.0")

	// New keys, made on one server, are used on the other without anybody carrying them there.
	direct := func(w *world, args ...string) string {
		t.Helper()
		out, stderr, status := weir(t, []string{"WEIR_SERVER=http://" + w.listen, "WEIR_TOKEN=" + w.tokens["admin"]}, args...)
		if status != 0 {
			t.Fatalf("weir %v: %s", args, stderr)
		}
		return out
	}
	direct(a, "keys", "rotate", "--reason", "drill")
	direct(a, "keys", "rotate", "--ledger", "--reason", "drill")
	await(t, 30*time.Second, "the new keys to reach the other server", func() bool {
		for _, name := range []string{"evidence/2/issuing.key", "log-2.key"} {
			if _, err := os.Stat(filepath.Join(b.data, "keys", name)); err != nil {
				return false
			}
		}
		for _, name := range []string{"evidence/issuing.key", "log.key"} { // and the old ones to be gone there
			if _, err := os.Stat(filepath.Join(b.data, "keys", name)); err == nil {
				return false
			}
		}
		return direct(a, "keys", "list") == direct(b, "keys", "list")
	})
	second := a.commit("feat: second", tiny("second", ""))
	c := a.propose("second")
	b.must(b.review("reviewer", c.Change.ID, "approve"))
	var last error
	if tryAwait(time.Minute, "landing", func() bool { last = a.land(c.Change.ID); return last == nil }) != nil {
		t.Fatal(last)
	}
	if got := b.mustGit("ls-remote", b.remote("reviewer"), "refs/heads/main"); !strings.HasPrefix(got, second) {
		t.Errorf("the other replica has %q of main; want %s", got, second)
	}
	b.serves("production", "1.1.0")

	// The one that holds the leases dies with a landed change to deliver.
	files := tiny("third", "")
	files[".github/workflows/ci.yml"] = strings.Replace(tinyWorkflow, `run: "true"`, `run: sleep 1`, 1)
	third := a.commit("feat: third", files)
	c = b.propose("third")
	a.must(a.review("reviewer", c.Change.ID, "approve"))
	if tryAwait(time.Minute, "landing", func() bool { last = b.land(c.Change.ID); return last == nil }) != nil {
		t.Fatal(last)
	}
	await(t, 20*time.Second, "the run to be under way", func() bool {
		runs := b.runs(third)
		return len(runs) == 2 && runs[0].State == "running"
	})
	died := time.Now()
	a.kill()
	run := b.ended(third, "landed")
	if run.State != "success" {
		t.Errorf("run %s is %s: %s", run.ID, run.State, run.Reason)
	}
	b.serves("production", "1.2.0")
	t.Logf("the other replica had everything done %s after the death", time.Since(died).Round(time.Millisecond))
	b.revision(third)
	b.audit("--database", database)

	// The first comes back and is a replica like any other.
	a.start()
	if got := a.mustGit("ls-remote", a.remote("reviewer"), "refs/heads/main"); !strings.HasPrefix(got, third) {
		t.Errorf("the replica that came back has %q of main; want %s", got, third)
	}
	a.serves("production", "1.2.0")
}

// revision has one run for each trust, one release, and one rollout for each
// environment.
func (w *world) revision(revision string) {
	w.t.Helper()
	seen := map[string]int{}
	for _, r := range w.runs(revision) {
		seen["run "+r.Trust]++
	}
	for _, r := range w.releases() {
		if r.Revision == revision {
			seen["release"]++
			for _, x := range w.rollouts() {
				if x.Version == r.Version {
					seen["rollout "+x.Environment]++
				}
			}
		}
	}
	for _, what := range []string{"run change", "run landed", "release", "rollout staging", "rollout production"} {
		if seen[what] != 1 {
			w.t.Errorf("%d of %s for %s; want one", seen[what], what, revision)
		}
	}
}
