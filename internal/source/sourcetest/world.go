// Package sourcetest puts the source layer together for tests: rows, a folder
// of bare repositories, people with tokens, and git over HTTP on a loopback
// port, so that tests push with the real git and are judged by the real hook.
//
// Only signing is not real here; what was asked to be signed is kept.
package sourcetest

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/blob/dir"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
	"weir/internal/catalog"
	"weir/internal/edge/gitd"
	"weir/internal/guard/evidence"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
	"weir/internal/guard/policy"
	"weir/internal/guard/policy/rules"
	"weir/internal/source"
	"weir/internal/source/git"
)

// Main runs the tests of a package, or, when git starts the test binary as its
// hook, the hook. A package that pushes has a TestMain that calls it.
func Main(m *testing.M) int {
	if filepath.Base(os.Args[0]) == gitd.HookName {
		return gitd.Hook(os.Stdin, os.Stderr)
	}
	return m.Run()
}

// World is one replica of the source layer with its git host.
type World struct {
	DB       *db.DB
	Blobs    blob.Store
	Journal  *journal.Journal
	Ledger   *ledger.Log
	Accounts *identity.Accounts
	Policy   *policy.Policy
	Catalog  *catalog.Catalog
	Source   *source.Service
	Git      *git.Cache
	Handler  *gitd.Handler
	Signed   *Signer
	URL      string // of the git host, without /git
	Repo     catalog.Repository

	mu     sync.Mutex
	full   error
	tokens map[string]string
}

// New returns a world with the repository "shop" and these people: ann, ben and
// kim are developers, mia is a maintainer, ada is an admin and a developer, ops
// is only an admin, and ben is in the team payments.
func New(t testing.TB, d *db.DB) *World {
	t.Helper()
	ctx := t.Context()
	blobs, err := dir.Open(t.TempDir())
	must(t, err)
	for _, migrate := range []func(context.Context, *db.DB) error{lease.Migrate, journal.Migrate, source.Migrate} {
		must(t, migrate(ctx, d))
	}
	key, err := ledger.LoadKey(filepath.Join(t.TempDir(), "log.key"), "log.test")
	must(t, err)
	log, err := ledger.Open(ctx, d, key)
	must(t, err)
	w := &World{DB: d, Blobs: blobs, Journal: journal.New(d), Ledger: log, Signed: newSigner(), tokens: map[string]string{}}
	record := func(ctx context.Context, tx *db.Tx, action, subject string, data any) error {
		_, err := log.Append(ctx, tx, ledger.Entry{Actor: identity.From(ctx), Action: action, Subject: subject, Data: data})
		return err
	}
	w.Accounts, err = identity.Open(ctx, d, record, time.Now)
	must(t, err)
	w.Policy, err = policy.New(ctx, d, log, rules.All(), time.Now)
	must(t, err)
	w.assemble(t)
	system := identity.With(ctx, identity.System("test"))
	for _, a := range []identity.Account{
		{Name: "ann", Roles: []string{identity.Developer}}, {Name: "ben", Roles: []string{identity.Developer}, Teams: []string{"payments"}},
		{Name: "kim", Roles: []string{identity.Developer}}, {Name: "mia", Roles: []string{identity.Maintainer}},
		{Name: "ada", Roles: []string{identity.Admin, identity.Developer}}, {Name: "ops", Roles: []string{identity.Admin}},
	} {
		_, err := w.Accounts.Create(system, a)
		must(t, err)
		w.tokens[a.Name], err = w.Accounts.Token(system, a.Name, "test", time.Hour)
		must(t, err)
	}
	w.Repo, err = w.Catalog.CreateRepository(system, "shop")
	must(t, err)
	return w
}

// Replica returns another process's view of the same rows and bytes, with a
// folder of repositories of its own.
func (w *World) Replica(t testing.TB) *World {
	t.Helper()
	r := &World{DB: w.DB, Blobs: w.Blobs, Journal: w.Journal, Ledger: w.Ledger, Accounts: w.Accounts, Policy: w.Policy, Signed: w.Signed, Repo: w.Repo, tokens: w.tokens}
	r.assemble(t)
	return r
}

// Restart returns the world as a new process would find it: the same folder of
// repositories, nothing remembered.
func (w *World) Restart(t testing.TB) *World {
	t.Helper()
	r := &World{DB: w.DB, Blobs: w.Blobs, Journal: w.Journal, Ledger: w.Ledger, Accounts: w.Accounts, Policy: w.Policy, Signed: w.Signed, Repo: w.Repo, tokens: w.tokens}
	r.start(t, filepath.Dir(w.Git.Dir("x")))
	return r
}

func (w *World) assemble(t testing.TB) { w.start(t, filepath.Join(t.TempDir(), "git")) }

func (w *World) start(t testing.TB, root string) {
	t.Helper()
	var err error
	w.Git, err = git.Open(root, w.DB, w.Blobs)
	must(t, err)
	w.Catalog, err = catalog.New(t.Context(), w.DB, w.Ledger, files{w})
	must(t, err)
	w.Source = source.New(source.Config{DB: w.DB, Journal: w.Journal, Ledger: w.Ledger, Policy: w.Policy, Signer: w.Signed, People: people{w.Accounts}, Catalog: w.Catalog, Git: w.Git, Now: time.Now})
	exe, err := os.Executable()
	must(t, err)
	hooks := t.TempDir()
	must(t, gitd.InstallHook(hooks, exe))
	// Paths of sockets are short, those of tests are not.
	sockets, err := os.MkdirTemp("", "weir-hook-")
	must(t, err)
	w.Handler = gitd.New(gitd.Config{Source: w.Source, Catalog: w.Catalog, Repositories: w.Git, Authenticate: w.Accounts.Authenticate, Room: w.room,
		MaxPush: 4 << 20, HooksDir: hooks, Socket: filepath.Join(sockets, "s")})
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.Handler.Run(ctx); err != nil && !errors.Is(err, context.Canceled) && ctx.Err() == nil {
			t.Error(err)
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	srv := &http.Server{Handler: w.Handler}
	wg.Go(func() { _ = srv.Serve(l) })
	w.URL = "http://" + l.Addr().String()
	t.Cleanup(func() {
		_ = srv.Close()
		stop()
		wg.Wait()
		_ = os.RemoveAll(sockets)
	})
}

func (w *World) room() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.full
}

// Fill makes the disk look full, or, with nil, as it was.
func (w *World) Fill(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.full = err
}

// As returns a context in which a person acts.
func (w *World) As(t testing.TB, name string) context.Context {
	t.Helper()
	a, err := w.Accounts.Find(t.Context(), name)
	must(t, err)
	return identity.With(t.Context(), a.Actor())
}

// Token is a person's token for git.
func (w *World) Token(name string) string { return w.tokens[name] }

// Pass reports checks of a change as passed, under the change's base.
func (w *World) Pass(t testing.TB, c source.Change, names ...string) {
	t.Helper()
	for _, name := range names {
		must(t, w.Source.Report(t.Context(), source.Check{RepositoryID: c.RepositoryID, Revision: c.Revision, Base: c.Base, Name: name, State: "success", RunID: "run_1", Time: time.Now()}))
	}
}

// Change returns a change of shop by its number, as it is now.
func (w *World) Change(t testing.TB, number int64) source.Change {
	t.Helper()
	c, err := w.Source.Find(w.As(t, "ann"), "shop", number)
	must(t, err)
	return c
}

// Work is a clone in which one person works.
type Work struct {
	t   testing.TB
	Dir string
	who string
}

// Work returns an empty clone of a person, with the remote set.
func (w *World) Work(t testing.TB, name string) *Work {
	t.Helper()
	k := &Work{t, t.TempDir(), name}
	k.Git("init", "--quiet", "--initial-branch=main")
	k.Git("remote", "add", "origin", w.Remote(name))
	return k
}

// Remote is the address of shop with a person's token.
func (w *World) Remote(name string) string {
	return strings.Replace(w.URL, "://", "://"+name+":"+w.tokens[name]+"@", 1) + "/git/shop.git"
}

// Try runs git and returns what it says.
func (k *Work) Try(args ...string) (string, error) {
	k.t.Helper()
	cmd := exec.CommandContext(k.t.Context(), "git", args...)
	cmd.Dir = k.Dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + k.Dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=true", "LC_ALL=C",
		"GIT_AUTHOR_NAME=" + k.who, "GIT_AUTHOR_EMAIL=" + k.who + "@test", "GIT_COMMITTER_NAME=" + k.who, "GIT_COMMITTER_EMAIL=" + k.who + "@test"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Git runs git, which must succeed.
func (k *Work) Git(args ...string) string {
	k.t.Helper()
	out, err := k.Try(args...)
	if err != nil {
		k.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

// Commit writes files, path and content in turn, and returns the revision.
func (k *Work) Commit(message string, files ...string) string {
	k.t.Helper()
	for i := 0; i < len(files); i += 2 {
		name := filepath.Join(k.Dir, files[i])
		must(k.t, os.MkdirAll(filepath.Dir(name), 0o755))
		must(k.t, os.WriteFile(name, []byte(files[i+1]), 0o644))
	}
	k.Git("add", "-A")
	k.Git("commit", "--quiet", "--allow-empty", "-m", message)
	return k.Git("rev-parse", "HEAD")
}

// Refused runs git, which must fail and say want.
func (k *Work) Refused(want string, args ...string) {
	k.t.Helper()
	out, err := k.Try(args...)
	// Git cuts what the server says into lines of its own.
	flat := strings.Join(strings.Fields(strings.ReplaceAll(strings.ReplaceAll(out, "remote: Weir: ", " "), "remote:", " ")), " ")
	if err == nil || !strings.Contains(flat, want) {
		k.t.Errorf("git %s = %v\n%s\nwant a refusal that says %q", strings.Join(args, " "), err, out, want)
	}
}

// Signer keeps what it was asked to sign.
type Signer struct {
	mu         sync.Mutex
	changed    sync.Cond
	Statements []evidence.Statement
}

func newSigner() *Signer {
	s := &Signer{}
	s.changed.L = &s.mu
	return s
}

// Sign implements source.Signer.
func (s *Signer) Sign(_ context.Context, st evidence.Statement) (evidence.Evidence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := slices.ContainsFunc(s.Statements, func(k evidence.Statement) bool {
		return k.PredicateType == st.PredicateType && k.Key == st.Key && maps.Equal(k.Subjects[0].Digest, st.Subjects[0].Digest)
	})
	if !known { // As the real one: signing again is the same signature.
		s.Statements = append(s.Statements, st)
		s.changed.Broadcast()
	}
	return evidence.Evidence{PredicateType: st.PredicateType}, nil
}

// Wait returns the statements of a type once there are n of them.
func (s *Signer) Wait(predicateType string, n int) []evidence.Statement {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var found []evidence.Statement
		for _, st := range s.Statements {
			if st.PredicateType == predicateType {
				found = append(found, st)
			}
		}
		if len(found) >= n {
			return found
		}
		s.changed.Wait()
	}
}

type files struct{ w *World }

func (f files) Head(ctx context.Context, repositoryID, branch string) (string, error) {
	return f.w.Source.Head(ctx, repositoryID, branch)
}

func (f files) ReadFile(ctx context.Context, repositoryID, revision, path string) ([]byte, error) {
	return f.w.Git.ReadFile(ctx, repositoryID, revision, path)
}

// people resolves @name to a person or a team.
type people struct{ accounts *identity.Accounts }

func (p people) Resolve(ctx context.Context, owner string) ([]string, error) {
	name := strings.TrimPrefix(owner, "@")
	a, err := p.accounts.Find(ctx, name)
	if fault.Is(err, fault.NotFound) {
		return p.accounts.Team(ctx, name[strings.LastIndexByte(name, '/')+1:])
	}
	return []string{a.Name}, err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
