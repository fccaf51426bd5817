package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"weir/examples"
	"weir/internal/artifact"
	"weir/internal/base/fault"
	"weir/internal/deploy"
	"weir/internal/guard/evidence"
	"weir/internal/guard/identity"
	"weir/internal/pipeline"
)

// demo is a running demonstration.
type demo struct {
	opts    DemoOptions
	out     io.Writer
	dir     string
	started time.Time
	sys     *System
	cancel  context.CancelFunc
	ended   chan error

	admin       context.Context // acting as the admin
	tokens      map[string]string
	as          map[string]context.Context
	repo        string // id
	service     string // id
	load        *load
	loadStop    func()
	rep         demoReport
	firstDigest string

	badRequests                 int64
	verifyCommand, auditCommand string
}

// start runs a server on a free port, with its host process beside it.
func (d *demo) start(ctx context.Context) error {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	c, err := Configure("", func(c *Config) {
		c.Listen, c.Data = l.Addr().String(), filepath.Join(d.dir, "data")
		c.Log.Level = "warn"
		c.Runner.CacheSeed = demoCache()
	})
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(d.dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	SetupLog(c.Log, log)
	if d.sys, err = Open(ctx, c); err != nil {
		l.Close()
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.cancel, d.ended = cancel, make(chan error, 1)
	var hello bytes.Buffer
	go func() { d.ended <- errors.Join(d.sys.Run(run, l, &hello), d.sys.Close()) }()
	return d.await(ctx, 30*time.Second, "the server to be ready", func() (bool, error) {
		res, err := http.Get(c.URL + "/readyz")
		if err != nil {
			return false, nil
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK, nil
	})
}

func (d *demo) stop() {
	d.stopLoad()
	d.cancel()
	<-d.ended
	_ = stopHost(d.sys.Config.Host.Dir)
}

func (d *demo) stopLoad() {
	if d.loadStop != nil {
		d.loadStop()
		d.loadStop = nil
	}
}

// demoCache is where the demo keeps what it compiled for the next time: the
// packages of the example, below the user's own cache folder.
func demoCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "weir", "demo-cache")
}

// keepCache is for the next demo; failing to keep it costs that one a minute.
func (d *demo) keepCache() {
	to := demoCache()
	from := filepath.Join(d.sys.Config.Data, "cache", d.repo, string(pipeline.Landed))
	if _, err := os.Stat(to); err == nil || to == "" || d.repo == "" {
		return
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err == nil {
		_ = os.CopyFS(to+".new", os.DirFS(from))
		_ = os.Rename(to+".new", to)
	}
}

// link signs a browser in as the maintainer, once.
func (d *demo) link() string {
	if d.admin == nil {
		return d.sys.Config.URL
	}
	t, err := d.sys.accounts.Link(d.admin, "maintainer")
	if err != nil {
		return d.sys.Config.URL
	}
	return d.sys.Config.URL + "/signin?link=" + t
}

// await asks until something is so. What it waits for is changed by other
// parts of this process, so asking often is cheap.
func (d *demo) await(ctx context.Context, limit time.Duration, what string, so func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	for {
		ok, err := so()
		if err != nil || ok {
			return err
		}
		select {
		case err := <-d.ended:
			d.ended <- err
			return fault.New(fault.Unavailable, "The server stopped: %v. Its log is %s.", err, filepath.Join(d.dir, "server.log"))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(15 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fault.New(fault.Unavailable, "Waited %s for %s. The log is %s.", limit, what, filepath.Join(d.dir, "server.log"))
		}
	}
}

// people makes the accounts: who writes, who reviews and approves, who operates.
func (d *demo) people(ctx context.Context) error {
	d.title("People and a repository")
	d.admin = identity.With(ctx, identity.System("demo"))
	d.tokens, d.as = map[string]string{}, map[string]context.Context{}
	for _, a := range []identity.Account{
		{Name: "author", Roles: []string{identity.Developer}, Teams: []string{"team-payments"}},
		{Name: "reviewer", Roles: []string{identity.Developer, identity.Approver, identity.Auditor}, Teams: []string{"team-payments", "release-managers"}},
		{Name: "maintainer", Roles: []string{identity.Maintainer, identity.Approver, identity.Auditor}, Teams: []string{"team-payments", "release-managers"}},
	} {
		made, err := d.sys.accounts.Create(d.admin, a)
		if err != nil {
			return err
		}
		if d.tokens[a.Name], err = d.sys.accounts.Token(d.admin, a.Name, "demo", 24*time.Hour); err != nil {
			return err
		}
		d.as[a.Name] = identity.With(ctx, made.Actor())
	}
	repo, err := d.sys.catalog.CreateRepository(d.as["maintainer"], "checkout")
	if err != nil {
		return err
	}
	d.repo = repo.ID
	d.line("author writes, reviewer reviews and approves, maintainer operates. Sign in to the pages as maintainer:\n%s", d.link())
	return nil
}

// first pushes the service as it is: 1.0.0, the first release.
func (d *demo) first(ctx context.Context) error {
	d.title("1.0.0: the first push")
	files, err := examples.Checkout()
	if err != nil {
		return err
	}
	if err := d.write(files); err != nil {
		return err
	}
	for _, args := range [][]string{{"init", "--quiet", "--initial-branch=main"}, {"add", "--all"}, {"commit", "--quiet", "--message", "feat: the checkout service"}, {"tag", "v1.0.0"}} {
		if _, err := d.git(args...); err != nil {
			return err
		}
	}
	t := newTimes()
	said, err := d.git("push", "--quiet", d.remote("author"), "HEAD:refs/heads/main", "refs/tags/v1.0.0")
	if err != nil {
		return err
	}
	t.mark("push_accepted")
	d.line("git push: %s", weirLines(said))
	rev, err := d.git("rev-parse", "HEAD")
	if err != nil {
		return err
	}
	rel, err := d.deliver(ctx, t, strings.TrimSpace(rev), "")
	if err != nil {
		return err
	}
	d.firstDigest = rel.Digest()
	if err := d.toProduction(ctx, t, rel, "full switch after health: it is the first, there is nothing to compare it with"); err != nil {
		return err
	}
	d.rep.First = demoOutcome{OK: true, Outcome: "live by full switch, no baseline", Version: rel.Version, Digest: rel.Digest(), Times: t.ms}

	address, err := d.address(ctx)
	if err != nil {
		return err
	}
	d.load = newLoad("http://"+address, d.opts.Rate)
	run, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); d.load.run(run) }()
	d.loadStop = func() { stop(); <-done }
	d.line("Users arrive: %d requests a second to http://%s, half of them on new connections.", d.opts.Rate, address)
	return nil
}

// good lands and delivers 1.1.0 by canary.
func (d *demo) good(ctx context.Context) error {
	d.title("1.1.0: a good change, by canary")
	rev, t, err := d.change(ctx, "1.1.0", true)
	if err != nil {
		return err
	}
	before, _ := d.load.failedBut("")
	rel, err := d.deliver(ctx, t, rev, d.firstDigest)
	if err != nil {
		return err
	}
	if err := d.toProduction(ctx, t, rel, "canary"); err != nil {
		return err
	}
	if _, at := d.load.seen("1.1.0"); !at.IsZero() {
		t.set("first_canary_request", at)
	}
	after, _ := d.load.failedBut("")
	failed := after - before
	d.rep.Good = demoOutcome{OK: failed == 0, Outcome: "live by canary", Version: rel.Version, Digest: rel.Digest(), Times: t.ms, Failed: &failed}
	d.line("1.1.0 serves all requests; %d failed meanwhile.", failed)
	return nil
}

// bad lands 1.2.0, whose tests pass, and watches Weir take it back.
func (d *demo) bad(ctx context.Context) error {
	d.title("1.2.0: a bad change that its tests do not see")
	rev, t, err := d.change(ctx, "1.2.0", false)
	if err != nil {
		return err
	}
	rel, err := d.deliver(ctx, t, rev, "")
	if err != nil {
		return err
	}
	r, err := d.promote(ctx, t, rel)
	if err != nil {
		return err
	}
	ended, err := d.follow(ctx, r)
	if err != nil {
		return err
	}
	if ended.State != deploy.RolledBack {
		return fault.New(fault.Conflict, "1.2.0 should have been taken back, but its rollout is %s: %s", ended.State, ended.Reason)
	}
	if _, at := d.load.seen("1.2.0"); !at.IsZero() {
		t.set("first_canary_request", at)
	}
	t.set("bad_change_detected", ended.Decided)
	t.set("rolled_back", ended.Finished)
	// Answers that were under way when traffic moved are still counted.
	if err := d.await(ctx, 30*time.Second, "1.2.0 to have answered its last request", func() (bool, error) {
		c, _ := d.load.seen("1.2.0")
		same := c.Requests == d.badRequests
		d.badRequests = c.Requests
		if same {
			return true, nil
		}
		time.Sleep(300 * time.Millisecond)
		return false, nil
	}); err != nil {
		return err
	}
	c, _ := d.load.seen("1.2.0")
	failed := c.Failed
	d.rep.Bad = demoOutcome{OK: failed > 0, Outcome: "caught and rolled back by itself", Version: rel.Version, Digest: rel.Digest(), Times: t.ms, Failed: &failed, FailedFor: ended.Reason}
	d.line("Taken back %s after the verdict. %d users saw a failure; %s", ended.Finished.Sub(ended.Decided).Round(time.Millisecond), failed, ended.Reason)
	return nil
}

// back goes to 1.0.0 by command.
func (d *demo) back(ctx context.Context) error {
	d.title("weir rollback checkout production")
	asked := time.Now()
	r, err := d.sys.deploy.Rollback(d.as["maintainer"], d.service, "production", "")
	if err != nil {
		return err
	}
	ended, err := d.follow(ctx, r)
	if err != nil {
		return err
	}
	took := time.Since(asked)
	env, err := d.sys.deploy.Environment(d.as["maintainer"], d.service, "production")
	if err != nil {
		return err
	}
	// What was under way when traffic moved may still answer.
	if err := d.await(ctx, 10*time.Second, "1.1.0 to have answered its last request", func() (bool, error) {
		return time.Since(d.load.lastOf("1.1.0")) > 500*time.Millisecond, nil
	}); err != nil {
		return err
	}
	last := d.load.lastOf("1.1.0").Sub(ended.Decided)
	ok := ended.State == deploy.Completed && strings.HasPrefix(env.Version, "1.0.0") && took < time.Second
	d.rep.Rollback = demoOutcome{OK: ok, Outcome: "production serves " + env.Version, Version: env.Version, Digest: env.Digest, Times: map[string]int64{"asked_to_done": took.Milliseconds(), "decision_to_switch": ended.Finished.Sub(ended.Decided).Milliseconds(), "decision_to_last_old_response": last.Milliseconds()}}
	d.line("Production is back on %s after %s: no build, no approval.", env.Version, took.Round(time.Millisecond))
	if !ok {
		return fault.New(fault.Conflict, "The rollback ended as %s on %s after %s; it should be 1.0.0 in under a second.", ended.State, env.Version, took)
	}
	return nil
}

// verify proves the chain of what runs with a registry, a digest and a trusted
// root, and the ledger with a checkpoint kept aside.
func (d *demo) verify(ctx context.Context) error {
	d.title("Prove it")
	root := filepath.Join(d.dir, "trusted_root.json")
	if err := os.WriteFile(root, d.sys.evidence.TrustedRoot().JSON(), 0o644); err != nil {
		return err
	}
	started := time.Now()
	u, err := url.Parse(d.sys.Config.URL)
	if err != nil {
		return err
	}
	image := u.Host + "/checkout@" + d.rep.Good.Digest
	rep, err := Verify(ctx, image, d.sys.evidence.TrustedRoot().JSON(), VerifyOptions{Token: d.tokens["maintainer"], Insecure: true, Confined: !d.sys.Config.Runner.Unconfined})
	if err != nil {
		return err
	}
	took := time.Since(started)
	for _, l := range rep.Links {
		d.line("%s: %s", l.Name, l.Says)
	}
	head, err := d.sys.ledger.Head(ctx)
	if err != nil {
		return err
	}
	checkpoint := filepath.Join(d.dir, "checkpoint.txt")
	if err := os.WriteFile(checkpoint, []byte(head.Note), 0o644); err != nil {
		return err
	}
	audit, err := AuditVerify(ctx, d.sys.Config.Database, checkpoint, root)
	if err != nil {
		return err
	}
	if err := AuditOutcome(audit); err != nil {
		return err
	}
	d.line("ledger: %d entries hash to the checkpoint's root; nothing was edited, removed, cut off or rewritten.", audit.CheckpointSize)
	d.verifyCommand = fmt.Sprintf("weir verify %s --trusted-root %s", image, root)
	d.auditCommand = fmt.Sprintf("weir audit verify --checkpoint %s --trusted-root %s --database %s", checkpoint, root, d.sys.Config.Database)
	d.rep.Verify = demoOutcome{OK: true, Outcome: fmt.Sprintf("%d links and %d ledger entries hold", len(rep.Links), audit.CheckpointSize), Digest: d.rep.Good.Digest, Times: map[string]int64{"verify": took.Milliseconds()}}
	return nil
}

// settle ends the load and counts.
func (d *demo) settle(context.Context) error {
	d.stopLoad()
	l := &d.rep.Load
	l.Rate = d.opts.Rate
	l.NotInjected, l.Requests = d.load.failedBut("1.2.0")
	bad, _ := d.load.seen("1.2.0")
	l.Injected = bad.Failed
	l.ByVersion = map[string]counts{}
	for v, c := range d.load.versions {
		if v == "" {
			v = "no answer"
		}
		l.ByVersion[v] = *c
	}
	l.OK = l.NotInjected == 0
	if !l.OK {
		return fault.New(fault.Conflict, "%d requests failed that the injected fault did not cause.", l.NotInjected)
	}
	return nil
}

// times are milliseconds since a push.
type times struct {
	from time.Time
	ms   map[string]int64
}

func newTimes() *times                     { return &times{time.Now(), map[string]int64{}} }
func (t *times) mark(name string)          { t.set(name, time.Now()) }
func (t *times) set(n string, w time.Time) { t.ms[n] = w.Sub(t.from).Milliseconds() }

// baked adds how long a rollout took between its first share and all requests,
// and how much of that it waited for more requests after the bake.
func (t *times) baked(r deploy.Rollout, log []deploy.Decision) {
	var first, held time.Time
	var waited time.Duration
	for _, d := range log {
		switch d.Kind {
		case "step":
			if first.IsZero() {
				first = d.At
			}
		case "held":
			held = d.At
		case "promoted":
			if !held.IsZero() {
				waited += d.At.Sub(held)
				held = time.Time{}
			}
		}
	}
	if !first.IsZero() {
		t.ms["baked"], t.ms["waited_for_events"] = r.Finished.Sub(first).Milliseconds(), waited.Milliseconds()
	}
}

// change proposes, checks, reviews and lands one change of the example.
func (d *demo) change(ctx context.Context, version string, narrate bool) (revision string, t *times, err error) {
	ch, err := examples.CheckoutChange(version)
	if err != nil {
		return "", nil, err
	}
	if err := d.write(ch.Files); err != nil {
		return "", nil, err
	}
	if _, err := d.git("add", "--all"); err != nil {
		return "", nil, err
	}
	if _, err := d.git("commit", "--quiet", "--message", ch.Message); err != nil {
		return "", nil, err
	}
	if narrate {
		said, err := d.git("push", "--quiet", d.remote("author"), "HEAD:refs/heads/main")
		if err == nil {
			return "", nil, fault.New(fault.Conflict, "A direct push to main was accepted; it should have been refused.")
		}
		d.line("A direct push to main is refused:\n%s", weirLines(said))
	}
	t = newTimes()
	branch := "release-" + strings.ReplaceAll(version, ".", "-")
	said, err := d.git("push", "--quiet", "-o", "change", "-o", "title="+ch.Message, d.remote("author"), "HEAD:refs/heads/"+branch)
	if err != nil {
		return "", nil, err
	}
	t.mark("push_accepted")
	d.line("git push: %s", weirLines(said))
	out, err := d.git("rev-parse", "HEAD")
	if err != nil {
		return "", nil, err
	}
	revision = strings.TrimSpace(out)
	changes, err := d.sys.source.List(d.as["author"], d.repo, "open")
	if err != nil || len(changes) != 1 {
		return "", nil, errors.Join(err, fault.New(fault.Conflict, "There should be one open change, not %d.", len(changes)))
	}
	id := changes[0].ID
	if err := d.finished(ctx, t, revision, pipeline.Change, "change_"); err != nil {
		return "", nil, err
	}
	d.line("Its checks have passed, by main's rules. The author cannot approve it; reviewer does.")
	if _, err := d.sys.source.Review(d.as["author"], id, "approve", ""); !fault.Is(err, fault.Denied) {
		return "", nil, fault.New(fault.Conflict, "The author could approve their own change (%v).", err)
	}
	if _, err := d.sys.source.Review(d.as["reviewer"], id, "approve", "Looks right."); err != nil {
		return "", nil, err
	}
	if err := d.await(ctx, 30*time.Second, "the change to land", func() (bool, error) {
		_, err := d.sys.source.Land(d.as["author"], id)
		if fault.Is(err, fault.Conflict) {
			return false, nil
		}
		return err == nil, err
	}); err != nil {
		return "", nil, err
	}
	t.mark("landed")
	d.line("It lands by fast-forward: main is %.12s, the very revision that was checked.", revision)
	return revision, t, nil
}

// finished waits for the runs of a revision, and says how long they took.
func (d *demo) finished(ctx context.Context, t *times, revision string, trust pipeline.Trust, prefix string) error {
	var run pipeline.Run
	err := d.await(ctx, 6*time.Minute, "the run to finish", func() (bool, error) {
		runs, err := d.sys.pipeline.List(d.as["maintainer"], pipeline.Filter{RepositoryID: d.repo, Revision: revision})
		if err != nil {
			return false, err
		}
		for _, r := range runs {
			if r.Trust == trust {
				if run.ID == "" {
					d.line("Run %s starts: %s/runs/%s", r.Name, d.sys.Config.URL, r.ID)
				}
				run = r
				return r.State.Done(), nil
			}
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	t.set(prefix+"run_started", run.Started)
	t.set(prefix+"run_finished", run.Finished)
	if run.State != pipeline.Success {
		return fault.New(fault.Conflict, "Run %s is %s: %s", run.ID, run.State, run.Reason)
	}
	full, err := d.sys.pipeline.Get(d.as["maintainer"], run.ID)
	if err != nil {
		return err
	}
	var jobs []string
	for _, j := range full.Jobs {
		if a := j.Current(); a != nil {
			jobs = append(jobs, fmt.Sprintf("%s %.1f s", j.Key, a.Finished.Sub(a.Started).Seconds()))
		}
	}
	d.line("Run finished after %.1f s: %s.", run.Finished.Sub(run.Created).Seconds(), strings.Join(jobs, ", "))
	return nil
}

// deliver waits until the landed revision is a release.
func (d *demo) deliver(ctx context.Context, t *times, revision, notDigest string) (deploy.Release, error) {
	var rel deploy.Release
	if err := d.finished(ctx, t, revision, pipeline.Landed, ""); err != nil {
		return rel, err
	}
	if d.service == "" {
		ref, err := d.sys.catalog.Service(ctx, "checkout")
		if err != nil {
			return rel, err
		}
		d.service = ref.ID
	}
	err := d.await(ctx, time.Minute, "the artifact to be signed and admitted", func() (bool, error) {
		intakes, err := d.sys.artifact.Intakes(d.as["maintainer"], artifact.Filter{Revision: revision})
		if err != nil {
			return false, err
		}
		for _, i := range intakes {
			if i.State == artifact.Rejected || i.State == artifact.Refused {
				return false, fault.New(fault.Conflict, "The artifact is %s: %s", i.State, i.Failure)
			}
		}
		rels, err := d.sys.deploy.Releases(d.as["maintainer"], deploy.Filter{ServiceID: d.service})
		for _, r := range rels {
			if r.Revision == revision {
				rel = r
			}
		}
		return rel.ID != "", err
	})
	if err != nil {
		return rel, err
	}
	about, err := d.sys.evidence.Find(ctx, evidence.Query{Subject: rel.Digest(), PredicateType: evidence.CosignSignature})
	if err != nil {
		return rel, err
	}
	for _, e := range about {
		t.set("artifact_signed", e.Time)
	}
	if rel.Digest() == notDigest {
		return rel, fault.New(fault.Conflict, "The new release has the bytes of the old one.")
	}
	d.line("Built once: checkout %s, %.19s…, with signature, provenance and SBOM. Admitted by policy.", rel.Version, rel.Digest())
	return rel, nil
}

// promote waits for staging, approves, and returns production's rollout.
func (d *demo) promote(ctx context.Context, t *times, rel deploy.Release) (deploy.Rollout, error) {
	var r deploy.Rollout
	m := d.as["maintainer"]
	if err := d.await(ctx, time.Minute, "staging to be live", func() (bool, error) {
		env, err := d.sys.deploy.Environment(m, d.service, "staging")
		if fault.Is(err, fault.NotFound) {
			return false, nil
		}
		if err == nil && env.Current == rel.ID {
			t.set("staging_live", env.Since)
			return true, nil
		}
		return false, err
	}); err != nil {
		return r, err
	}
	d.line("Staging serves %s.", rel.Version)
	if err := (deliveryAPI{d.sys}).Approve(d.as["reviewer"], rel.ID, "production", "approve", "Healthy in staging."); err != nil {
		return r, err
	}
	d.line("reviewer approves %s for production; it may go once staging has been healthy for a second.", rel.Version)
	err := d.await(ctx, time.Minute, "the rollout to production to start", func() (bool, error) {
		all, err := d.sys.deploy.Rollouts(m, deploy.Filter{ServiceID: d.service, Environment: "production", ReleaseID: rel.ID})
		if err == nil && len(all) > 0 {
			r = all[0]
		}
		return r.ID != "", err
	})
	if err == nil {
		d.line("Rollout to production: %s/rollouts/%s", d.sys.Config.URL, r.ID)
	}
	return r, err
}

// toProduction delivers a release that is expected to stay.
func (d *demo) toProduction(ctx context.Context, t *times, rel deploy.Release, how string) error {
	r, err := d.promote(ctx, t, rel)
	if err != nil {
		return err
	}
	ended, err := d.follow(ctx, r)
	if err != nil {
		return err
	}
	_, log, err := d.sys.deploy.Rollout(d.as["maintainer"], r.ID)
	if err != nil {
		return err
	}
	if ended.State != deploy.Completed {
		return fault.New(fault.Conflict, "%s should be in production, but its rollout is %s: %s", rel.Version, ended.State, ended.Reason)
	}
	t.set("production_complete", ended.Finished)
	t.baked(ended, log)
	d.line("Production serves %s (%s).", rel.Version, how)
	return nil
}

// follow narrates a rollout's decisions until it ends.
func (d *demo) follow(ctx context.Context, r deploy.Rollout) (deploy.Rollout, error) {
	told := 0
	err := d.await(ctx, 4*time.Minute, "the rollout to end", func() (bool, error) {
		now, log, err := d.sys.deploy.Rollout(d.as["maintainer"], r.ID)
		if err != nil {
			return false, err
		}
		for ; told < len(log); told++ {
			d.line("  %s. %s", log[told].Bold, log[told].Reason)
		}
		r = now
		return !now.State.Live(), nil
	})
	return r, err
}

// address is where production's proxy listens.
func (d *demo) address(ctx context.Context) (string, error) {
	var at string
	err := d.await(ctx, 20*time.Second, "production's address", func() (bool, error) {
		if run := (deliveryAPI{d.sys}).Running(ctx, d.service, "production"); run != nil {
			at = run.Address
		}
		return at != "", nil
	})
	return at, err
}

// remote is the repository's address with a person's token.
func (d *demo) remote(who string) string {
	u, err := url.Parse(d.sys.Config.URL)
	if err != nil {
		return ""
	}
	u.User, u.Path = url.UserPassword(who, d.tokens[who]), "/git/checkout.git"
	return u.String()
}

// git runs git as the author, in the working tree, and returns what it says.
func (d *demo) git(args ...string) (string, error) {
	work := filepath.Join(d.dir, "checkout")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return "", err
	}
	cmd := exec.Command("git", args...)
	cmd.Dir = work
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C", "NO_PROXY=127.0.0.1",
		"GIT_AUTHOR_NAME=author", "GIT_AUTHOR_EMAIL=author@users.invalid", "GIT_COMMITTER_NAME=author", "GIT_COMMITTER_EMAIL=author@users.invalid"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fault.Wrap(fault.Conflict, err, "git %s: %s", args[0], strings.ReplaceAll(string(out), d.tokens["author"], "…"))
	}
	return string(out), err
}

// weirLines takes what Weir said out of git's output.
func weirLines(out string) string {
	var lines []string
	for l := range strings.Lines(out) {
		if _, said, ok := strings.Cut(l, "Weir: "); ok {
			lines = append(lines, strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(said), "\x1b[K")))
		}
	}
	return strings.Join(lines, "\n")
}

// write puts files into the working tree.
func (d *demo) write(files fs.FS) error {
	return fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		to := filepath.Join(d.dir, "checkout", filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, body, 0o644)
	})
}
