package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"weir/internal/base/db"
	"weir/internal/edge/api/client"
)

// template is a stopped server with people, a repository and a first release
// in production, made once; iterations begin with a copy.
var template = sync.OnceValues(func() (*world, error) {
	t := &once{}
	w := &world{server: newServer(t, ""), tokens: map[string]string{}}
	w.work = filepath.Join(w.dir, "work")
	err := t.do(func() {
		w.start()
		w.people()
		w.init("tiny")
		w.bootstrap(tiny("first", ""))
		w.serves("production", "1.0.0")
		w.stop()
		w.stopHost()
	})
	return w, err
})

// copyOf is a server of its own that begins where the template ended.
func copyOf(t testing.TB) *world {
	t.Helper()
	from, err := template()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{server: newServer(t, ""), tokens: from.tokens}
	w.work = filepath.Join(w.dir, "work")
	for _, name := range []string{"data", "work"} {
		if out, err := exec.Command("cp", "-a", "--reflink=auto", filepath.Join(from.dir, name), filepath.Join(w.dir, name)).CombinedOutput(); err != nil {
			t.Fatalf("copy the template: %v\n%s", err, out)
		}
	}
	w.moveProxies()
	return w
}

// moveProxies makes the host of a copy forget the addresses of its proxies:
// several copies run at the same time.
func (w *world) moveProxies() {
	w.t.Helper()
	path := filepath.Join(w.hostDir(), "state.json")
	raw, err := os.ReadFile(path)
	w.must(err)
	w.must(os.WriteFile(path, regexp.MustCompile(`"address":\s*"[^"]*"`).ReplaceAll(raw, []byte(`"address":""`)), 0o600))
}

// once lets the kit be used outside of a test. What it made is removed at the
// end of the program.
type once struct {
	testing.TB
	failed error
}

func (o *once) Helper()          {}
func (o *once) Failed() bool     { return o.failed != nil }
func (o *once) Cleanup(f func()) { atExit = append(atExit, f) }
func (o *once) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
func (o *once) Fatal(args ...any) { panic(failure(fmt.Sprint(args...))) }
func (o *once) Fatalf(format string, args ...any) {
	panic(failure(fmt.Sprintf(format, args...)))
}

type failure string

var atExit []func()

func (o *once) do(f func()) (err error) {
	defer func() {
		if r, ok := recover().(failure); ok {
			o.failed = errors.New(string(r))
			err = o.failed
		}
	}()
	f()
	return nil
}

// TestServerKilledAtAnyWriteGoesOnAndDoesNothingTwice kills the server before
// or after a numbered write, while a change is pushed, checked, reviewed,
// landed, built and rolled out; starts it again; and expects that everything
// gets done, once.
func TestServerKilledAtAnyWriteGoesOnAndDoesNothingTwice(t *testing.T) {
	t.Parallel()
	first, stride := 5, 21
	if long {
		first, stride = 2, 1
	}
	if _, err := template(); err != nil {
		t.Fatal(err)
	}
	var (
		mu     sync.Mutex
		next   = first
		ended  bool
		deaths int
	)
	// Two at a time: each waits more than it computes.
	var walkers sync.WaitGroup
	for range 2 {
		walkers.Go(func() {
			for {
				mu.Lock()
				n := next
				next += stride
				stop := ended
				mu.Unlock()
				if stop {
					return
				}
				died := true
				t.Run(fmt.Sprintf("write%d", n), func(t *testing.T) { died = crashAt(t, n) })
				mu.Lock()
				if died {
					deaths++
				} else {
					ended = true // there are not so many writes
				}
				ended = ended || t.Failed() && !long
				mu.Unlock()
			}
		})
	}
	walkers.Wait()
	if t.Logf("the server was killed at %d writes", deaths); deaths < 15 && !t.Failed() {
		t.Errorf("the server was killed %d times; want at least 15 points on the way", deaths)
	}
}

// crashAt makes one delivery with a death on the way, and reports whether the
// server died before everything was done.
func crashAt(t *testing.T, n int) (died bool) {
	w := copyOf(t)
	w.launch(fmt.Sprintf("%s=%d", db.CrashVariable, n))
	done, supervised := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(supervised)
		select {
		case <-w.exited:
			var exit *exec.ExitError
			if !errors.As(w.exit, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Errorf("the server ended by itself: %v\n%s", w.exit, w.log)
				return
			}
			died = true
		case <-done:
			w.kill() // it could still come to that write while it is looked at
		}
		w.launch()
	}()
	d := &delivery{world: w}
	err := d.do(w.commit("feat: second", tiny(fmt.Sprintf("second%d", n), "")))
	close(done)
	<-supervised
	if err != nil {
		t.Fatal(err)
	}
	w.must(w.ready())
	d.check()
	return died
}

// delivery takes a revision to production by a client that tries again.
type delivery struct {
	*world
	revision     string
	pushed       bool // the push was acknowledged
	change       client.Change
	acknowledged []string // what the server said yes to
}

// do does each step until its effect is seen, whatever the answers were.
func (d *delivery) do(revision string) error {
	ctx := context.Background()
	d.revision = revision
	const limit = 60 * time.Second
	var last error
	step := func(what string, try func() error, so func() bool) error {
		err := tryAwait(limit, what, func() bool {
			if so() {
				return true
			}
			if last = try(); last == nil {
				d.acknowledged = append(d.acknowledged, what)
			}
			return so()
		})
		if err != nil {
			err = fmt.Errorf("%w: %w", err, last)
		}
		return err
	}
	wait := func() error { return errors.New("not yet") }
	for _, s := range []struct {
		what string
		try  func() error
		so   func() bool
	}{
		{"push", func() error {
			_, err := d.git("push", "--quiet", "-o", "change", d.remote("author"), "HEAD:refs/heads/second")
			d.pushed = d.pushed || err == nil
			return err
		}, func() bool {
			c, ok := d.openChange(revision)
			if d.change = c; !ok && d.pushed && d.answers() {
				if c, ok = d.openChange(revision); !ok { // It was not just away.
					d.t.Errorf("an acknowledged push is lost")
				}
				d.change = c
			}
			return ok
		}},
		{"review", func() error { return d.review("reviewer", d.change.Change.ID, "approve") }, func() bool { return d.now() && len(d.change.Reviews) > 0 }},
		{"land", func() error { return d.land(d.change.Change.ID) }, func() bool { return d.now() && d.change.Change.State == "landed" }},
		{"release", wait, func() bool {
			return slices.ContainsFunc(d.releases(), func(r client.Release) bool { return r.Revision == revision })
		}},
		{"production", wait, func() bool {
			e, ok := d.environment("production")
			return ok && e.Version == "1.1.0" && e.Rollout == "" && !e.HealthySince.IsZero()
		}},
	} {
		if err := step(s.what, s.try, s.so); err != nil {
			var intakes []client.Intake
			_ = d.as("maintainer").Get(ctx, "/intakes", &intakes)
			return fmt.Errorf("%w\nacknowledged %q\nchange %+v\nruns %+v\nintakes %+v\nreleases %+v\nrollouts %+v", err, d.acknowledged, d.change, d.runs(revision), intakes, d.releases(), d.rollouts())
		}
	}
	return nil
}

func (d *delivery) now() bool {
	var c client.Change
	if err := d.as("author").Get(context.Background(), "/changes/"+d.change.Change.ID, &c); err != nil {
		return false
	}
	d.change = c
	return true
}

func (d *delivery) answers() bool {
	_, err := get(d.url + "/readyz")
	return err == nil
}

// check holds what there is against what was asked for: all of it, once.
func (d *delivery) check() {
	d.t.Helper()
	ctx := context.Background()
	seen := map[string]int{}
	for _, r := range d.runs("") {
		seen["run of "+r.Revision+" "+r.Workflow+" "+r.Trust]++
		if r.State != "success" {
			d.t.Errorf("run %s is %s: %s", r.ID, r.State, r.Reason)
		}
		var full client.Run
		d.must(d.as("maintainer").Get(ctx, "/runs/"+r.ID, &full))
		for _, j := range full.Jobs {
			d.attempts(r.ID, j)
		}
	}
	for _, trust := range []string{"change", "landed"} {
		if len(slices.DeleteFunc(d.runs(d.revision), func(r client.Run) bool { return r.Trust != trust })) != 1 {
			d.t.Errorf("runs of the revision: %+v; want one of trust %s", d.runs(d.revision), trust)
		}
	}
	for _, r := range d.releases() {
		seen["release of "+r.Revision]++
	}
	for _, r := range d.rollouts() {
		seen["rollout of "+r.Version+" to "+r.Environment]++
		if r.State != "completed" {
			d.t.Errorf("rollout %s of %s to %s is %s: %s", r.ID, r.Version, r.Environment, r.State, r.Reason)
		}
	}
	var artifacts []client.Artifact
	d.must(d.as("maintainer").Get(ctx, "/artifacts", &artifacts))
	for _, a := range artifacts {
		seen["artifact of "+a.Revision]++
		var full client.ArtifactDetails
		d.must(d.as("maintainer").Get(ctx, "/artifacts/"+a.ID, &full))
		for _, e := range full.Evidence {
			seen[e.PredicateType+" about "+e.Subject+" "+e.Key]++
		}
	}
	entries := d.ledger()
	for _, e := range entries {
		if e.Kind == "entry" && !strings.HasPrefix(e.Action, "policy.") {
			seen[fmt.Sprintf("entry %s %s %v %v", e.Action, e.Subject, e.Leaf.Data["ref"], e.Leaf.Data["environment"])]++
		}
	}
	for what, n := range seen {
		if n != 1 {
			d.t.Errorf("%d times: %s", n, what)
		}
	}
	out := d.mustGit("ls-remote", d.remote("author"))
	for _, ref := range []string{"refs/heads/main", "refs/heads/second", "refs/tags/v1.1.0"} {
		if !strings.Contains(out, d.revision+"\t"+ref) {
			d.t.Errorf("ls-remote says\n%s\nwant %s at %s", out, ref, d.revision)
		}
	}
	d.audit()
	if got, want := d.says("production"), "tiny 1.1.0 "; !strings.HasPrefix(got, want) {
		d.t.Errorf("production says %q; want %q", got, want)
	}
}

// attempts of a job: each but the last was lost with the server, the last succeeded.
func (d *delivery) attempts(run string, j client.Job) {
	d.t.Helper()
	for i, a := range j.Attempts {
		want := "lost"
		if i == len(j.Attempts)-1 {
			want = "success"
		}
		if a.State != want || a.Number != i+1 {
			d.t.Errorf("attempt %d (number %d) of %s in %s is %s: %s; want %s", i+1, a.Number, j.Key, run, a.State, a.Reason, want)
		}
	}
	if len(j.Attempts) > 2 {
		d.t.Errorf("%s in %s took %d attempts; the server died once", j.Key, run, len(j.Attempts))
	}
}

type entry struct {
	ID, Kind, Action, Subject, Actor string
	Position                         int64
	Leaf                             struct{ Data map[string]any }
}

func (w *world) ledger() (all []entry) {
	w.t.Helper()
	for {
		var page []entry
		w.must(w.as("reviewer").Get(context.Background(), fmt.Sprintf("/ledger/entries?limit=500&ascending=true&from=%d", len(all)), &page))
		if all = append(all, page...); len(page) < 500 {
			return all
		}
	}
}

// audit keeps the checkpoint of now and holds the database against it.
func (w *world) audit(more ...string) {
	w.t.Helper()
	out, errs, status := w.cli("reviewer", "audit", "checkpoint")
	if status != 0 {
		w.t.Fatalf("audit checkpoint: %d\n%s", status, errs)
	}
	kept := filepath.Join(w.dir, "checkpoint")
	w.must(os.WriteFile(kept, []byte(out), 0o600))
	if len(more) == 0 {
		more = []string{"--database", "sqlite://" + filepath.Join(w.data, "weir.db")}
	}
	out, errs, status = weir(w.t, nil, append([]string{"audit", "verify", "--checkpoint", kept, "--trusted-root", filepath.Join(w.data, "trusted_root.json")}, more...)...)
	if status != 0 || !strings.Contains(out, "Nothing was edited, removed, cut off or rewritten.") {
		w.t.Errorf("audit verify: %d\n%s%s", status, out, errs)
	}
}

// TestJobThatWasInterruptedIsASecondAttempt kills the server while a step runs.
func TestJobThatWasInterruptedIsASecondAttempt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	files := tiny("first", "")
	files[".github/workflows/ci.yml"] = strings.Replace(tinyWorkflow, `run: "true"`, `run: echo "step begins"; test -e left && exit 1; touch left; sleep 2`, 1)
	revision := w.bootstrap(files)
	await(t, 30*time.Second, "the step to begin", func() bool {
		runs := w.runs(revision)
		return len(runs) == 1 && strings.Contains(w.logNow(runs[0].ID, "test"), "step begins")
	})
	w.kill()
	w.start()
	run := w.ended(revision, "landed")
	if run.State != "success" || len(w.runs(revision)) != 1 {
		t.Errorf("run %s: %s; %d runs", run.State, run.Reason, len(w.runs(revision)))
	}
	for _, j := range run.Jobs {
		if j.Key != "test" {
			continue
		}
		if len(j.Attempts) != 2 || j.Attempts[0].State != "lost" || j.Attempts[0].Reason == "" || j.Attempts[1].State != "success" {
			t.Errorf("attempts %+v; want one lost, with a reason, then one that succeeded", j.Attempts)
		}
	}
	w.serves("production", "1.0.0")
	if out, _, _ := w.cli("maintainer", "runs", "show", run.ID); !strings.Contains(out, "lost") {
		t.Errorf("runs show does not tell of the lost attempt:\n%s", out)
	}
}

// logNow is what a job has written until now, "" if it has not begun.
func (w *world) logNow(run, job string) string {
	in, err := w.as("maintainer").Stream(context.Background(), "/runs/"+run+"/jobs/"+job+"/log")
	if err != nil {
		return ""
	}
	defer in.Close()
	buf := make([]byte, 64<<10)
	n, _ := in.Read(buf)
	return string(buf[:n])
}
