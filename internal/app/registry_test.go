package app

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"weir/internal/base/id"
	"weir/internal/guard/identity"
	"weir/internal/pipeline"
)

// pushTo pushes a fresh image with a stock client.
func pushTo(t *testing.T, srv *httptest.Server, ref, token string) error {
	t.Helper()
	img, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	return remote.Write(parseRef(t, srv, ref), img, remote.WithAuth(&authn.Basic{Username: "x", Password: token}))
}

func pullFrom(t *testing.T, srv *httptest.Server, ref, token string) error {
	t.Helper()
	auth := authn.Anonymous
	if token != "" {
		auth = &authn.Basic{Username: "x", Password: token}
	}
	_, err := remote.Get(parseRef(t, srv, ref), remote.WithAuth(auth))
	return err
}

func parseRef(t *testing.T, srv *httptest.Server, ref string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(strings.TrimPrefix(srv.URL, "http://")+"/"+ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func refusedWith(t *testing.T, what string, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: %v; want %q", what, err, want)
	}
}

// runningJob stores a run with one job under way and returns the job's token.
func runningJob(t *testing.T, s *System, trust pipeline.Trust) (token string, end func()) {
	t.Helper()
	now := time.Now()
	r := pipeline.Run{ID: pipeline.RunID(id.New("run")), Org: "default", RepositoryID: "repo_x", Repository: "shop", Workflow: "ci.yml", Event: "push", Ref: "refs/heads/main",
		Revision: strings.Repeat("a", 40), Trust: trust, State: pipeline.Pending, Attempt: 1, Created: now, Base: id.New("base")}
	if trust == pipeline.Change {
		r.ChangeID = id.New("change")
	}
	r.Plan.Jobs = []pipeline.JobPlan{{Key: "build", JobID: "build"}}
	r.Jobs = []pipeline.Job{{ID: pipeline.JobID(id.New("job")), Key: "build", State: pipeline.Running, Since: now, Rev: 1,
		Attempts: []pipeline.Attempt{{Number: 1, State: pipeline.Running, Started: now}}}}
	if created, err := s.runs.Create(t.Context(), r); err != nil || !created {
		t.Fatal(created, err)
	}
	stored, err := s.runs.Load(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	next := stored
	next.Jobs = append([]pipeline.Job(nil), stored.Jobs...)
	next.Jobs[0].Attempts = r.Jobs[0].Attempts
	next.Jobs[0].Rev++
	if err := s.runs.Save(t.Context(), nil, stored, next); err != nil {
		t.Fatal(err)
	}
	return s.jobRegistry(r.ID, r.Jobs[0].ID, 1).Token, func() {
		prev, err := s.runs.Load(t.Context(), r.ID)
		if err != nil {
			t.Fatal(err)
		}
		done := prev
		done.Jobs = append([]pipeline.Job(nil), prev.Jobs...)
		a := prev.Jobs[0].Attempts[0]
		a.State, a.Finished = pipeline.Success, time.Now()
		done.Jobs[0].Attempts = []pipeline.Attempt{a}
		done.Jobs[0].Rev++
		if err := s.runs.Save(t.Context(), nil, prev, done); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRegistryLetsInByRoleAndJob(t *testing.T) {
	s := openSystem(t, func(c *Config) {
		c.Registry.Readable = []string{"base/**"}
		c.Registry.Access = []AccessConf{{Repositories: []string{"vault/*"}, Pull: []string{"team:crypto", "main"}}}
	})
	srv := handlerOf(t, s)
	s.Config.URL = srv.URL
	system := identity.With(t.Context(), identity.System("test"))
	developer, maintainer := account(t, s, "dev", identity.Developer), account(t, s, "main", identity.Maintainer)
	refusedWith(t, "developer pushes", pushTo(t, srv, "shop:x", developer), "registry.push is not among the permissions")
	refusedWith(t, "anonymous pulls", pullFrom(t, srv, "shop:x", ""), "sign in with a token")
	for _, ref := range []string{"shop:x", "base/go:1.26", "vault/key:x", "other:x"} {
		refusedWith(t, "maintainer pushes "+ref, pushTo(t, srv, ref, maintainer), "")
	}
	refusedWith(t, "developer pulls", pullFrom(t, srv, "shop:x", developer), "")
	refusedWith(t, "developer pulls what a rule narrows", pullFrom(t, srv, "vault/key:x", developer), "lets only team:crypto, main do that")
	if err := s.accounts.SetRoles(system, "dev", []string{identity.Developer}, []string{"crypto"}); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, "now in the team", pullFrom(t, srv, "vault/key:x", developer), "")
	refusedWith(t, "a release tag", pushTo(t, srv, "shop:1.2.3-abcdef0", maintainer), "given by Weir itself")

	landed, end := runningJob(t, s, pipeline.Landed)
	change, _ := runningJob(t, s, pipeline.Change)
	refusedWith(t, "landed job pulls base", pullFrom(t, srv, "base/go:1.26", landed), "")
	refusedWith(t, "job of a change pulls base", pullFrom(t, srv, "base/go:1.26", change), "")
	refusedWith(t, "job of a change pulls shop", pullFrom(t, srv, "shop:x", change), "the run of a change may pull only")
	for want, token := range map[string]string{"only the run of a landed revision may push": change, "only to the repositories of its own services": landed} {
		if status, body, _ := send(t, "POST", srv.URL+"/v2/other/blobs/uploads/", token, ""); status != 403 || !strings.Contains(body, want) {
			t.Errorf("a job pushes elsewhere: %d %s; want %q", status, body, want)
		}
	}
	end()
	refusedWith(t, "after its end", pullFrom(t, srv, "base/go:1.26", landed), "has ended")
	refusedWith(t, "forged", pullFrom(t, srv, "base/go:1.26", landed+"x"), "not a token of a job")
}

func TestHostPullsWithATokenOfItsOwn(t *testing.T) {
	s := openSystem(t)
	srv := handlerOf(t, s)
	if err := s.letHostPull(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Config.Host.Dir, hostToken)
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", st, err)
	}
	read := func() string {
		token, err := pullToken(s.Config.Host.Dir, "")(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	first := read()
	refusedWith(t, "maintainer pushes", pushTo(t, srv, "shop:x", account(t, s, "main", identity.Maintainer)), "")
	refusedWith(t, "host pulls", pullFrom(t, srv, "shop:x", first), "")
	refusedWith(t, "host pushes", pushTo(t, srv, "shop:y", first), "registry.push is not among")
	if err := s.letHostPull(t.Context()); err != nil || read() != first {
		t.Errorf("a good token was replaced: %v", err)
	}
	// One that is old, or that this server does not know, is replaced.
	old := time.Now().Add(-hostLife / 2)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if err := s.letHostPull(t.Context()); err != nil || read() == first {
		t.Errorf("an old token was kept: %v", err)
	}
	s.hostTold = false
	if err := os.WriteFile(path, []byte("weir_of_another_server\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.letHostPull(t.Context()); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, "host pulls again", pullFrom(t, srv, "shop:x", read()), "")
}

func TestAHostsAccountDoesNotEndTheFirstSignIn(t *testing.T) {
	s := openSystem(t)
	for range 2 {
		if link, err := s.accounts.Bootstrap(t.Context()); err != nil || link == "" {
			t.Errorf("Bootstrap() = %q, %v; want a link", link, err)
		}
		if err := s.letHostPull(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
