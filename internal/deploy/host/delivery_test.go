package host

import (
	"archive/tar"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
	"weir/internal/catalog"
	"weir/internal/control/controldb"
	judge "weir/internal/control/engine"
	"weir/internal/deploy"
	"weir/internal/deploy/deploydb"
	"weir/internal/deploy/engine"
	"weir/internal/deploy/protocol"
	target "weir/internal/deploy/target/host"
	"weir/internal/deploy/target/targettest"
	"weir/internal/guard/identity"
)

const declaration = `weir: 1
name: checkout
artifact: {build: {go: ./cmd/checkout}}
run: {web: {kind: http, port: 8080, ready: /readyz, replicas: 2}}
environments:
  production:
    strategy: {canary: {steps: [5%, 25%, 50%, 100%], bake: 300ms}}
`

type open struct{ service catalog.Declared }

func (o open) Declared(context.Context, string) (catalog.Declared, error) { return o.service, nil }

func (o open) At(context.Context, string, string) (*catalog.File, error) {
	return &catalog.File{Services: []catalog.Declared{o.service}}, nil
}

func (open) Decide(context.Context, deploy.GateRequest) (deploy.GateDecision, error) {
	return deploy.GateDecision{DecisionID: "dec", Allow: true}, nil
}

// server is the part of Weir that drives a host, over a database that outlives it.
type server struct {
	t       *testing.T
	db      *db.DB
	store   *deploydb.Store
	service *deploy.Service
	target  *target.Target
	kill    func()
}

func newServer(t *testing.T, socket string) *server {
	d := dbtest.SQLite(t)
	for _, migrate := range []func(context.Context, *db.DB) error{journal.Migrate, lease.Migrate, deploydb.Migrate, controldb.Migrate} {
		if err := migrate(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	f, diags := catalog.Parse("weir.yaml", []byte(declaration), "checkout")
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	s := &server{t: t, db: d, target: target.New(socket)}
	s.store = deploydb.New(d, journal.New(d), nil)
	s.service = deploy.NewService(s.store, open{f.Services[0]}, open{}, nil)
	return s
}

func (s *server) start() {
	e := engine.New(engine.Config{DB: s.db, Journal: journal.New(s.db), Store: s.store, Service: s.service, Targets: map[string]deploy.Target{"local": s.target}, Judge: judge.New(controldb.New(s.db)), Holder: "one", Look: 100 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	s.kill = sync.OnceFunc(func() { cancel(); <-done })
	s.t.Cleanup(s.kill)
}

func (s *server) admit(version, digest string) {
	s.t.Helper()
	ctx := identity.With(s.t.Context(), identity.System("deploy"))
	if err := s.service.Admit(ctx, artifact.AdmittedFact{ServiceID: "svc_1", Service: "checkout", Version: version, Image: "shop/checkout@" + digest, Digest: digest, ConfigDigest: "c"}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) until(what string, ok func(deploy.Environment, deploy.Rollout) bool) (deploy.Environment, deploy.Rollout) {
	s.t.Helper()
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		e, _ := s.store.Environment(s.t.Context(), "svc_1", "production")
		rs, _ := s.store.Rollouts(s.t.Context(), deploy.Filter{Limit: 1})
		if len(rs) == 1 && ok(e, rs[0]) {
			return e, rs[0]
		}
	}
	e, _ := s.store.Environment(s.t.Context(), "svc_1", "production")
	rs, _ := s.store.Rollouts(s.t.Context(), deploy.Filter{Limit: 1})
	ds, _ := s.store.Decisions(s.t.Context(), rs[0].ID)
	s.t.Fatalf("waited 40 s for %s:\n%+v\n%+v\n%+v", what, e, rs, ds)
	return e, deploy.Rollout{}
}

func complete(version string) func(deploy.Environment, deploy.Rollout) bool {
	return func(e deploy.Environment, r deploy.Rollout) bool { return e.Version == version && e.Rollout == "" }
}

func TestHostKeepsTheContractOfTargets(t *testing.T) {
	reg := newFakeRegistry(t)
	r := start(t, config(t.TempDir(), reg))
	one, two := release("1.0.0", reg.pushApp(t, "a"), nil), release("1.1.0", reg.pushApp(t, "b"), nil)
	r.settleUp()
	targettest.Run(t, target.New(r.host.Socket()), one, two)
}

// settleUp waits until the host answers at all.
func (r *rig) settleUp() { r.call("GET", "hello", nil, nil) }

func TestUnderLoadAGoodReleaseArrivesABadOneIsTakenBackAndNothingElseFails(t *testing.T) {
	if testing.Short() {
		t.Skip("takes about ten seconds")
	}
	reg := newFakeRegistry(t)
	r := start(t, config(t.TempDir(), reg))
	r.settleUp()
	s := newServer(t, r.host.Socket())
	s.start()
	s.admit("1.0.0", reg.pushApp(t, "a"))
	_, first := s.until("1.0.0", complete("1.0.0"))
	if first.Plan.Strategy != deploy.First {
		t.Errorf("the first release went by %s", first.Plan.Strategy)
	}
	e := r.settle("it", func(e protocol.Environment) bool { return len(e.Slots) == 1 })
	url := "http://" + e.Address
	stop := load(url)
	s.admit("1.1.0", reg.pushApp(t, "b"))
	// The server is killed in the middle of the canary; requests go on, and so does the next server.
	s.until("a canary", func(_ deploy.Environment, r deploy.Rollout) bool { return r.State == deploy.Baking && r.Step == 1 })
	s.kill()
	time.Sleep(200 * time.Millisecond) // requests while nobody drives
	s.start()
	s.until("1.1.0", complete("1.1.0"))
	if n, failed, seen := stop(); failed != 0 || seen["1.0.0"] == 0 || seen["1.1.0"] == 0 {
		t.Errorf("%d of %d requests failed while 1.1.0 came and the server died; seen %v", failed, n, seen)
	}

	stop = load(url)
	b, err := app()
	if err != nil {
		t.Fatal(err)
	}
	bad := reg.push(t, entry{tar.Header{Name: "app", Mode: 0o755, Typeflag: tar.TypeReg}, b}, entry{tar.Header{Name: "fail", Mode: 0o644, Typeflag: tar.TypeReg}, []byte("0.05")})
	s.admit("1.2.0", bad)
	env, ro := s.until("1.2.0 to be taken back", func(_ deploy.Environment, r deploy.Rollout) bool {
		return r.Version == "1.2.0" && r.State == deploy.RolledBack
	})
	if !strings.Contains(ro.Reason, "Worse than the baseline") || env.Bad[bad] == "" || env.Version != "1.1.0" {
		t.Errorf("rollout %+v of %+v; want it stopped by the judge and remembered", ro, env)
	}
	if took := ro.Finished.Sub(ro.Decided); took > time.Second {
		t.Errorf("requests were back after %s; want less than a second", took)
	}
	t.Logf("stopped at step %d: %s", ro.Step+1, ro.Reason)

	ctx := identity.With(t.Context(), identity.Actor{ID: "ann", Name: "ann", Kind: identity.User, Roles: []string{identity.Maintainer}})
	n, _, _ := stop()
	stop = load(url)
	back, err := s.service.Rollback(ctx, "checkout", "production", "")
	if err != nil {
		t.Fatal(err)
	}
	_, ro = s.until("1.0.0", complete("1.0.0"))
	if ro.ID != back.ID || ro.Finished.Sub(ro.Decided) > time.Second {
		t.Errorf("rollback took %s; want less than a second", ro.Finished.Sub(ro.Decided))
	}
	t.Logf("%d requests; back to 1.0.0 in %s", n, ro.Finished.Sub(ro.Decided))
	if _, failed, _ := stop(); failed != 0 {
		t.Errorf("%d requests failed during the rollback", failed)
	}
}
