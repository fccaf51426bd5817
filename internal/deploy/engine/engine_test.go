package engine_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
	"weir/internal/catalog"
	"weir/internal/deploy"
	"weir/internal/deploy/deploydb"
	"weir/internal/deploy/engine"
	"weir/internal/deploy/target/targettest"
	"weir/internal/guard/identity"
)

const weirYAML = `weir: 1
name: checkout
artifact: {build: {go: ./cmd/checkout}}
run: {web: {kind: http, port: 8080, ready: /readyz}}
environments:
  staging: {}
  production:
    after: {staging: {healthy_for: 0s}}
    approvals: {count: 1}
    strategy: {canary: {steps: [5%, 25%, 50%, 100%], bake: 1ms}}
`

// declared is a trunk, and what older revisions say if it is not the same.
type declared struct {
	mu      sync.Mutex
	service catalog.Declared
	at      map[string]catalog.Declared
}

func (d *declared) Declared(context.Context, string) (catalog.Declared, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.service, nil
}

func (d *declared) At(_ context.Context, _, revision string) (*catalog.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.at[revision]
	if !ok {
		s = d.service
	}
	return &catalog.File{Services: []catalog.Declared{s}}, nil
}

// lands makes text what the trunk says, as of a revision.
func (d *declared) lands(t *testing.T, revision, text string) {
	t.Helper()
	f, diags := catalog.Parse("weir.yaml", []byte(text), "checkout")
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at == nil {
		d.at = map[string]catalog.Declared{}
	}
	d.service, d.at[revision] = f.Services[0], f.Services[0]
}

// gate lets in what has been healthy before and what was approved.
type gate struct {
	mu       sync.Mutex
	frozen   string // why no step may begin
	approved map[string]bool
	asked    []deploy.GateAction
	exposed  string // what is over the limit in what runs
}

func (g *gate) freeze(why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frozen = why
}

func (g *gate) Decide(_ context.Context, r deploy.GateRequest) (deploy.GateDecision, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, r.Action)
	d := deploy.GateDecision{DecisionID: "dec_1", Allow: true}
	block := func(rule, message string) {
		d.Allow = false
		d.Blocks = append(d.Blocks, deploy.Block{Rule: rule, Message: message})
	}
	if r.Action == deploy.ActionStep && g.frozen != "" {
		block("freeze", g.frozen)
	}
	for _, a := range r.After {
		if !a.Healthy || r.Time.Sub(a.Since) < a.Need {
			block("after", a.Environment+" first")
		}
	}
	if r.Action == deploy.ActionPromote && r.Declared.Approvals.Count > 0 && !g.approved[r.Release.Version] {
		block("approvals", "0 of 1 approvals")
	}
	if r.Action == deploy.ActionRun {
		if d.DecisionID = "dec_" + g.exposed; g.exposed != "" {
			block("vulnerabilities", g.exposed)
		}
	}
	if r.RememberedBad != "" {
		block("not-bad", r.RememberedBad)
	}
	return d, nil
}

type judge struct {
	mu      sync.Mutex
	verdict deploy.Verdict
}

func (j *judge) Look(context.Context, deploy.Rollout, []deploy.Counters, time.Time) (deploy.Verdict, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.verdict, nil
}

func (j *judge) say(o deploy.Outcome, words string) {
	j.mu.Lock()
	j.verdict = deploy.Verdict{Outcome: o, Words: words}
	j.mu.Unlock()
}

type rig struct {
	t       *testing.T
	db      *db.DB
	journal *journal.Journal
	store   *deploydb.Store
	service *deploy.Service
	target  *targettest.Memory
	gate    *gate
	judge   *judge
	engine  *engine.Engine
	stop    func()
	trunk   *declared
}

func newRig(t *testing.T, d *db.DB) *rig {
	t.Helper()
	ctx := t.Context()
	for _, migrate := range []func(context.Context, *db.DB) error{journal.Migrate, lease.Migrate, deploydb.Migrate} {
		if err := migrate(ctx, d); err != nil {
			t.Fatal(err)
		}
	}
	f, diags := catalog.Parse("weir.yaml", []byte(weirYAML), "checkout")
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	r := &rig{t: t, db: d, journal: journal.New(d), target: targettest.New(), gate: &gate{approved: map[string]bool{}}, judge: &judge{}}
	r.judge.say(deploy.Pass, "No worse.")
	r.store = deploydb.New(d, r.journal, nil)
	r.trunk = &declared{service: f.Services[0]}
	r.service = deploy.NewService(r.store, r.trunk, r.gate, nil)
	return r
}

func (r *rig) start() { r.startWith(func(*engine.Config) {}) }

func (r *rig) startWith(more func(*engine.Config)) {
	r.t.Helper()
	c := engine.Config{DB: r.db, Journal: r.journal, Store: r.store, Service: r.service, Targets: map[string]deploy.Target{"local": r.target}, Judge: r.judge, Holder: "one", Look: 5 * time.Millisecond}
	more(&c)
	r.engine = engine.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.engine.Run(ctx) }()
	r.stop = sync.OnceFunc(func() { cancel(); <-done })
	r.t.Cleanup(r.stop)
}

func (r *rig) admit(version string) {
	r.t.Helper()
	ctx := identity.With(r.t.Context(), identity.System("deploy"))
	err := r.service.Admit(ctx, artifact.AdmittedFact{ServiceID: "svc_1", Service: "checkout", Version: version, Revision: "rev" + version, Image: "shop/checkout@sha256:" + version, Digest: "sha256:" + version, ConfigDigest: "c", Author: "ann"})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) approve(version string) {
	r.gate.mu.Lock()
	r.gate.approved[version] = true
	r.gate.mu.Unlock()
	r.engine.Handle(r.t.Context(), journal.Fact{Type: "source.pushed"})
}

func person(name, role string) context.Context {
	return identity.With(context.Background(), identity.Actor{ID: name, Name: name, Kind: identity.User, Roles: []string{role}})
}

// until waits for something to be true of the rows.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	woken, cancel := r.store.Subscribe()
	defer cancel()
	deadline := time.After(15 * time.Second)
	for !ok() {
		select {
		case <-woken:
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			envs, _ := r.store.Environments(r.t.Context(), "default")
			rs, _ := r.store.Rollouts(r.t.Context(), deploy.Filter{})
			ps, _ := r.store.Promotions(r.t.Context(), deploy.Filter{})
			r.t.Fatalf("waited 15 s for %s\nenvironments %+v\nrollouts %+v\npromotions %+v", what, envs, rs, ps)
		}
	}
}

func (r *rig) runs(environment, version string) func() bool {
	return func() bool {
		e, _ := r.store.Environment(r.t.Context(), "svc_1", environment)
		return e.Version == version && e.Rollout == ""
	}
}

func (r *rig) last(environment string) deploy.Rollout {
	r.t.Helper()
	rs, err := r.store.Rollouts(r.t.Context(), deploy.Filter{Environment: environment, Limit: 1})
	if err != nil || len(rs) == 0 {
		r.t.Fatal(rs, err)
	}
	return rs[0]
}

func (r *rig) deliver(version string) {
	r.t.Helper()
	r.admit(version)
	r.until("staging to run "+version, r.runs("staging", version))
	r.approve(version)
	r.until("production to run "+version, r.runs("production", version))
}

func TestReleasesGoThroughEnvironmentsAndABadOneComesBack(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		r.start()
		r.admit("1.0.0")
		r.admit("1.0.0") // a fact seen twice
		r.until("staging", r.runs("staging", "1.0.0"))
		r.until("the promotion to say what it waits for", func() bool {
			ps, _ := r.store.Promotions(t.Context(), deploy.Filter{Environment: "production", Live: true})
			return len(ps) == 1 && len(ps[0].Blocks) == 1 && ps[0].Blocks[0].Rule == "approvals" && !ps[0].Blocks[0].Since.IsZero()
		})
		r.approve("1.0.0")
		r.until("production", r.runs("production", "1.0.0"))
		if got := r.last("production"); got.Plan.Strategy != deploy.First {
			t.Errorf("first release went by %s", got.Plan.Strategy)
		}

		r.deliver("1.1.0")
		rollout := r.last("production")
		ds, _ := r.store.Decisions(t.Context(), rollout.ID)
		var said []string
		for _, d := range ds {
			said = append(said, d.Kind+" "+d.Bold)
		}
		want := []string{"started Started", "step 5% of requests", "promoted On to 25%", "step 25% of requests", "promoted On to 50%", "step 50% of requests", "promoted On to 100%", "completed Complete"}
		if !slices.Equal(said, want) {
			t.Errorf("decisions %q; want %q", said, want)
		}

		r.judge.say(deploy.Stop, "Worse than the baseline: 40 of 800 requests failed.")
		r.admit("1.2.0")
		r.until("staging", r.runs("staging", "1.2.0"))
		r.approve("1.2.0")
		r.until("1.2.0 to be taken back", func() bool {
			rs, _ := r.store.Rollouts(t.Context(), deploy.Filter{Environment: "production", Limit: 1})
			return rs[0].Version == "1.2.0" && rs[0].State == deploy.RolledBack
		})
		if got := r.target.InForce("svc_1", "production"); !slices.Equal(got, []string{"stable 1.1.0 10000"}) {
			t.Errorf("in force %v", got)
		}
		e, _ := r.store.Environment(t.Context(), "svc_1", "production")
		if e.Bad["sha256:1.2.0"] == "" || e.Version != "1.1.0" {
			t.Errorf("environment %+v; want 1.2.0 remembered as bad", e)
		}

		// A person goes back by hand: no build, no approval, and to 1.0.0, never to the bad one.
		if _, err := r.service.Rollback(person("dan", identity.Developer), "checkout", "production", ""); !fault.Is(err, fault.Denied) {
			t.Errorf("rollback by a developer = %v; want it denied", err)
		}
		_, err := r.service.Rollback(person("ann", identity.Maintainer), "checkout", "production", "1.2.0")
		if got, want := fault.Sentence(err), "checkout 1.2.0 was never complete in production, so a rollback cannot go there. These were: 1.1.0, 1.0.0."; got != want {
			t.Errorf("error %q; want %q", got, want)
		}
		began := time.Now()
		back, err := r.service.Rollback(person("ann", identity.Maintainer), "checkout", "production", "")
		if err != nil {
			t.Fatal(err)
		}
		r.until("1.0.0", r.runs("production", "1.0.0"))
		if took := time.Since(began); took > time.Second {
			t.Errorf("rollback took %s", took)
		}
		if back.Intent != deploy.Rollback || back.By != "ann" || back.Plan.Strategy != deploy.Direct {
			t.Errorf("rollback %+v", back)
		}
		_, err = r.service.Rollback(person("ann", identity.Maintainer), "checkout", "production", "")
		if got, want := fault.Sentence(err), "There is no earlier good release of checkout in production to go back to."; got != want {
			t.Errorf("error %q; want %q", got, want)
		}
		assertOnce(t, r)
	})
}

// assertOnce checks that nothing happened twice: rollouts, generations, releases.
func assertOnce(t *testing.T, r *rig) {
	t.Helper()
	seen := map[string]bool{}
	rs, err := r.store.Rollouts(t.Context(), deploy.Filter{Limit: 500})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range rs {
		key := fmt.Sprint(x.Environment, x.Version, x.Intent)
		if seen[key] && x.Intent != deploy.Rollback {
			t.Errorf("two rollouts of %s", key)
		}
		seen[key] = true
	}
	gens := map[string]int64{}
	for _, d := range r.target.Applied {
		if d.Generation != gens[d.Environment]+1 {
			t.Errorf("%s went from generation %d to %d", d.Environment, gens[d.Environment], d.Generation)
		}
		gens[d.Environment] = d.Generation
	}
}

func TestPauseHoldsPromoteNeedsAReasonAndResumeGoesOn(t *testing.T) {
	r := newRig(t, dbtest.SQLite(t))
	r.start()
	r.deliver("1.0.0")
	r.judge.say(deploy.Hold, "Too few requests to tell a fault from chance: 212 of 420.")
	r.admit("1.1.0")
	r.until("staging", r.runs("staging", "1.1.0"))
	r.approve("1.1.0")
	r.until("a canary that is held", func() bool {
		rs, _ := r.store.Rollouts(t.Context(), deploy.Filter{Environment: "production", Limit: 1})
		return rs[0].Held
	})
	id := r.last("production").ID
	ann := person("ann", identity.Maintainer)
	why, err := r.service.Why(ann, id)
	if err != nil || len(why) != 1 || why[0].Message != "Too few requests to tell a fault from chance: 212 of 420." {
		t.Errorf("why %+v, %v", why, err)
	}
	if _, err := r.service.Pause(person("dan", identity.Developer), id); !fault.Is(err, fault.Denied) {
		t.Errorf("pause by a developer = %v; want it denied", err)
	}
	if _, err := r.service.Promote(person("dan", identity.Developer), id, "x"); !fault.Is(err, fault.Denied) {
		t.Errorf("promote by a developer = %v; want it denied", err)
	}
	if _, err := r.service.Pause(ann, id); err != nil {
		t.Fatal(err)
	}
	r.judge.say(deploy.Pass, "No worse.")
	if why, _ := r.service.Why(ann, id); len(why) != 1 || why[0].Message != "ann paused the rollout." {
		t.Errorf("why %+v", why)
	}
	r.judge.say(deploy.Hold, "Too few.")
	if x, err := r.service.Resume(ann, id); err != nil || x.State != deploy.Baking {
		t.Errorf("resume = %s, %v", x.State, err)
	}
	_, err = r.service.Promote(ann, id, "  ")
	if got, want := fault.Sentence(err), "Say why 1.1.0 may go on before its time. The reason is recorded."; got != want {
		t.Errorf("error %q; want %q", got, want)
	}
	r.gate.freeze("Production is frozen until Monday.")
	_, err = r.service.Promote(ann, id, "no traffic at night")
	if got, want := fault.Sentence(err), "Policy does not let 1.1.0 go on: Production is frozen until Monday."; got != want {
		t.Errorf("error %q; want %q", got, want)
	}
	r.gate.freeze("")
	if _, err := r.service.Promote(ann, id, "no traffic at night"); err != nil {
		t.Fatal(err)
	}
	r.until("25 %", func() bool { x := r.last("production"); return x.Step == 1 && x.State == deploy.Baking })
	ds, _ := r.store.Decisions(t.Context(), id)
	if !slices.ContainsFunc(ds, func(d deploy.Decision) bool { return d.By == "ann" && d.Reason == "no traffic at night" }) {
		t.Errorf("decisions %+v; want the reason", ds)
	}
	// Back by hand in the middle of a canary goes to what runs beside it.
	if _, err := r.service.Rollback(ann, "checkout", "production", ""); err != nil {
		t.Fatal(err)
	}
	r.until("1.0.0 alone", func() bool {
		return slices.Equal(r.target.InForce("svc_1", "production"), []string{"stable 1.0.0 10000"}) && r.last("production").State == deploy.RolledBack
	})
	if e, _ := r.store.Environment(t.Context(), "svc_1", "production"); len(e.Bad) != 0 {
		t.Errorf("bad %v; want nothing remembered of what a person took back", e.Bad)
	}
}

func TestReleaseThatDoesNotStartFailsAndTheReasonIsKept(t *testing.T) {
	r := newRig(t, dbtest.SQLite(t))
	r.start()
	r.deliver("1.0.0")
	r.target.Fail("1.1.0", "it ended (exit code 3)")
	r.admit("1.1.0")
	r.until("the failure", func() bool { x := r.last("staging"); return x.State == deploy.Failed })
	if x := r.last("staging"); x.Reason != "it ended (exit code 3)" {
		t.Errorf("reason %q", x.Reason)
	}
	if !r.runs("staging", "1.0.0")() {
		t.Error("staging does not run 1.0.0")
	}
}

func TestRollbackOnTheMachineIsTakenOver(t *testing.T) {
	r := newRig(t, dbtest.SQLite(t))
	r.start()
	r.deliver("1.0.0")
	r.deliver("1.1.0")
	r.stop() // the server is away
	e, _ := r.store.Environment(t.Context(), "svc_1", "production")
	from, _ := r.store.Spec(t.Context(), "svc_1", "production", e.Current)
	to := e.Ran[0].Spec
	r.target.Operator("svc_1", "production", from, to)
	r.start()
	r.until("1.0.0 to be known", r.runs("production", "1.0.0"))
	x := r.last("production")
	if x.Intent != deploy.Rollback || x.State != deploy.Completed || x.By != "the operator of local (root)" {
		t.Errorf("rollout %+v", x)
	}
	r.until("the event to be acknowledged", func() bool { ev, _ := r.target.Events(t.Context()); return len(ev) == 0 })
	r.until("the target to be told what it is", func() bool {
		o, _ := r.target.Observe(t.Context(), -1, 0)
		e, _ := r.store.Environment(t.Context(), "svc_1", "production")
		for _, env := range o.Environments {
			if env.Environment == "production" {
				return env.Generation == e.Generation && !env.Pending
			}
		}
		return false
	})
}

func TestReleaseRunsAsItsOwnRevisionDeclaresAndByTheTrunksRules(t *testing.T) {
	says := func(greeting, rules string) string {
		return fmt.Sprintf("weir: 1\nname: checkout\nartifact: {build: {go: .}}\nrun: {web: {port: 8080, ready: /%s}}\nenvironments: {staging: {}, production: {config: {GREETING: %s}, %s}}\n", greeting, greeting, rules)
	}
	r := newRig(t, dbtest.SQLite(t))
	r.trunk.lands(t, "rev1.0.0", says("one", "approvals: {count: 1}"))
	r.start()
	r.admit("1.0.0")
	r.until("staging", r.runs("staging", "1.0.0"))
	// The trunk goes on before production takes 1.0.0.
	r.trunk.lands(t, "rev1.1.0", says("two", "approvals: {count: 1}, strategy: {canary: {steps: [10%, 100%], bake: 1ms}}"))
	r.approve("1.0.0")
	r.until("production", r.runs("production", "1.0.0"))
	config := func() string {
		e, err := r.store.Environment(t.Context(), "svc_1", "production")
		if err != nil || len(e.Slots) != 1 {
			t.Fatal(e, err)
		}
		s := e.Slots[0].Release
		return s.Version + " " + s.Env["GREETING"] + " " + s.Workload.Ready
	}
	if got := config(); got != "1.0.0 one /one" {
		t.Errorf("production runs %q; want 1.0.0 as its revision declares it", got)
	}
	r.deliver("1.1.0")
	if got := config(); got != "1.1.0 two /two" {
		t.Errorf("production runs %q", got)
	}
	if got := r.last("production").Plan; got.Strategy != deploy.Steps || got.Steps[0] != .1 {
		t.Errorf("plan %+v; want the trunk's canary", got)
	}
	r.trunk.lands(t, "rev1.2.0", says("three", ""))
	if _, err := r.service.Rollback(person("ann", identity.Maintainer), "checkout", "production", ""); err != nil {
		t.Fatal(err)
	}
	r.until("1.0.0", r.runs("production", "1.0.0"))
	if got := config(); got != "1.0.0 one /one" {
		t.Errorf("after the rollback production runs %q", got)
	}
}

func TestEnvironmentThatIsNewerThanAReleaseWaitsForANewerOne(t *testing.T) {
	r := newRig(t, dbtest.SQLite(t))
	r.trunk.lands(t, "rev1.0.0", "weir: 1\nname: checkout\nartifact: {build: {go: .}}\nrun: {web: {port: 8080}}\nenvironments: {staging: {}}\n")
	r.trunk.lands(t, "rev1.1.0", weirYAML)
	r.start()
	r.admit("1.0.0")
	r.approve("1.0.0")
	want := "The weir.yaml of checkout 1.0.0 has no environment production; it was declared later. A newer release can go there."
	r.until("the promotion to say why it waits", func() bool {
		ps, _ := r.store.Promotions(t.Context(), deploy.Filter{Environment: "production", Live: true})
		return len(ps) == 1 && len(ps[0].Blocks) == 1 && ps[0].Blocks[0].Message == want
	})
}

func TestTargetThatComesBackEmptyIsToldAgain(t *testing.T) {
	r := newRig(t, dbtest.SQLite(t))
	r.start()
	r.deliver("1.0.0")
	r.stop()
	r.target = targettest.New()
	r.start()
	r.until("1.0.0 to run again", func() bool {
		return slices.Equal(r.target.InForce("svc_1", "production"), []string{"stable 1.0.0 10000"}) && slices.Equal(r.target.InForce("svc_1", "staging"), []string{"stable 1.0.0 10000"})
	})
}

// crash is a store that stops the process, as far as the engine can tell, after the n-th write.
type crash struct {
	deploy.Store
	mu   sync.Mutex
	left int
	down bool
	die  func()
}

func (c *crash) Write(ctx context.Context, fence deploy.Fence, fn func(deploy.Tx) error) error {
	c.mu.Lock()
	if c.down {
		c.mu.Unlock()
		return context.Canceled
	}
	c.mu.Unlock()
	err := c.Store.Write(ctx, fence, fn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left == 0 {
		c.down = true
		c.die()
		return context.Canceled // the answer never arrives
	}
	return err
}

func TestEngineKilledAfterAnyWriteGoesOnAndDoesNothingTwice(t *testing.T) {
	for n := 1; ; n++ {
		r := newRig(t, dbtest.SQLite(t))
		r.start()
		r.deliver("1.0.0")
		r.stop()
		before := len(r.target.Applied)

		// The process that dies.
		ctx, cancel := context.WithCancel(context.Background())
		c := &crash{Store: r.store, left: n, die: cancel}
		whole := r.service
		r.service = deploy.NewService(c, r.trunk, r.gate, nil)
		e := engine.New(engine.Config{DB: r.db, Journal: r.journal, Store: c, Service: r.service, Targets: map[string]deploy.Target{"local": r.target}, Judge: r.judge, Holder: "one", Look: 5 * time.Millisecond})
		r.engine = e
		done := make(chan struct{})
		go func() { defer close(done); e.Run(ctx) }()
		r.service = whole
		r.admit("1.1.0")
		r.gate.mu.Lock()
		r.gate.approved["1.1.0"] = true
		r.gate.mu.Unlock()
		died := true
		select {
		case <-ctx.Done():
		case <-func() chan struct{} {
			ch := make(chan struct{})
			go func() {
				for !r.runs("production", "1.1.0")() && ctx.Err() == nil {
					time.Sleep(5 * time.Millisecond)
				}
				close(ch)
			}()
			return ch
		}():
			died = ctx.Err() != nil
		}
		cancel()
		<-done

		r.start()
		r.approve("1.1.0")
		r.until(fmt.Sprintf("production to run 1.1.0 after a crash at write %d", n), r.runs("production", "1.1.0"))
		var gens []string
		for _, d := range r.target.Applied[before:] {
			if d.Environment == "production" {
				gens = append(gens, fmt.Sprint(d.Generation))
			}
		}
		if got, want := strings.Join(gens, " "), "2 3 4 5"; got != want {
			t.Errorf("crash at write %d: production was told generations %s; want %s", n, got, want)
		}
		assertOnce(t, r)
		r.stop()
		if !died {
			t.Logf("a rollout has %d writes", n-1)
			return
		}
		if n > 60 {
			t.Fatal("the rollout never ends")
		}
	}
}
