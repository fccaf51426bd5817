package app

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/fault"
	"weir/internal/edge/ocid"
	"weir/internal/guard/identity"
	"weir/internal/pipeline"
	"weir/internal/pipeline/runner"
)

// AccessConf is one rule of who may do what in the registry.
type AccessConf struct {
	Repositories []string `yaml:"repositories" doc:"Patterns of repositories: shop/checkout, shop/* for those directly below, shop/** for all below."`
	Pull         []string `yaml:"pull" doc:"Who may pull: names, team:NAME, role:NAME. What roles give, if absent."`
	Push         []string `yaml:"push" doc:"Who may push. What roles give, if absent."`
	Delete       []string `yaml:"delete" doc:"Who may delete tags and manifests that no release needs. What roles give, if absent."`
}

func (c RegistryConf) access() artifact.AccessRules {
	r := artifact.AccessRules{Readable: c.Readable}
	for _, a := range c.Access {
		r.Rules = append(r.Rules, artifact.AccessRule{Repositories: a.Repositories, Pull: a.Pull, Push: a.Push, Delete: a.Delete})
	}
	return r
}

// registryHandler is the registry as clients reach it.
func (s *System) registryHandler() http.Handler {
	rules := s.Config.Registry.access()
	return ocid.New(ocid.Config{Registry: s.registry, Authenticate: s.registryActor, AnonymousPull: s.Config.Registry.AnonymousPull,
		Authorize: func(ctx context.Context, access ocid.Access, repository string) error {
			who, err := s.asker(ctx, len(rules.Rules) > 0)
			if err != nil {
				return err
			}
			return rules.Decide(ctx, who, access, repository)
		}})
}

// registryActor reads the token that registry clients send as a password.
func (s *System) registryActor(r *http.Request) (identity.Actor, error) {
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if _, password, ok := r.BasicAuth(); ok {
		token = password
	} else if !bearer {
		return identity.Anonymous, nil
	}
	return s.actorOf(r.Context(), token)
}

// jobActor is who holds a job's token, while the job runs. The actor's id is that of the job with the number of the attempt.
func (s *System) jobActor(ctx context.Context, token string) (identity.Actor, identity.JobClaim, error) {
	c, err := s.jobTokens.Read(token, time.Now())
	if err != nil {
		return identity.Anonymous, c, err
	}
	st, err := s.runs.Standing(ctx, pipeline.JobID(c.JobID), c.Attempt)
	if err != nil {
		return identity.Anonymous, c, err
	}
	a := identity.Actor{ID: c.JobID + "#" + strconv.Itoa(c.Attempt), Name: "job/" + st.Key, Kind: identity.Job}
	if c.Grants == nil { // the runner's own, with which it checks out for the job
		a.Roles, a.Repository = []string{identity.Checkout}, st.RepositoryID
	} else {
		grants := *c.Grants
		if st.Trust != pipeline.Landed {
			grants = grants.ReadOnly()
		}
		a.Roles, a.Repository = grants.Roles(), st.RepositoryID
	}
	return a, c, nil
}

// actorOf is who holds a token: a person, a machine, or a job while it runs.
func (s *System) actorOf(ctx context.Context, token string) (identity.Actor, error) {
	if identity.IsJobToken(token) {
		a, _, err := s.jobActor(ctx, token)
		return a, err
	}
	return s.accounts.Authenticate(ctx, token)
}

// jobToken is what the code of an attempt holds as github.token.
func (s *System) jobToken(r *pipeline.Run, job pipeline.JobID, attempt int, permissions map[string]string) string {
	grants := identity.DefaultGrants
	if permissions != nil {
		grants = permissions
	}
	if r.Trust != pipeline.Landed {
		grants = grants.ReadOnly()
	}
	return s.jobTokens.Issue(identity.JobClaim{RunID: string(r.ID), JobID: string(job), Attempt: attempt, Expires: time.Now().Add(jobLife), Grants: &grants})
}

// asker is the actor of ctx with what the rules look at.
func (s *System) asker(ctx context.Context, teams bool) (artifact.Asker, error) {
	who := artifact.Asker{Actor: identity.From(ctx)}
	switch {
	case who.Actor.Kind == identity.Job:
		scope, err := s.jobScope(ctx, who.Actor.ID)
		who.Job = &scope
		if a := who.Actor; a.Repository != "" && !slices.Contains(a.Roles, identity.Checkout) { // the token that the job's code holds
			scope.NoPull, scope.NoPush = !slices.Contains(a.Roles, "packages:read"), !slices.Contains(a.Roles, "packages:write")
		}
		return who, err
	case who.Actor.Kind == identity.User && teams:
		account, err := s.accounts.Find(ctx, who.Actor.ID)
		who.Teams = account.Teams
		return who, err
	}
	return who, nil
}

func (s *System) jobScope(ctx context.Context, actorID string) (artifact.JobScope, error) {
	job, attempt, _ := strings.Cut(actorID, "#")
	n, err := strconv.Atoi(attempt)
	if err != nil {
		return artifact.JobScope{}, err
	}
	st, err := s.runs.Standing(ctx, pipeline.JobID(job), n)
	if err != nil {
		return artifact.JobScope{}, err
	}
	scope := artifact.JobScope{Landed: st.Trust == pipeline.Landed}
	file, err := s.catalog.At(ctx, st.RepositoryID, st.Revision)
	if fault.Is(err, fault.NotFound) || err == nil && file == nil {
		return scope, nil
	}
	if err != nil {
		return scope, err
	}
	for _, service := range file.Services {
		name, err := artifact.RegistryName(st.Repository, service.Name)
		if err == nil {
			scope.Own = append(scope.Own, name)
		}
	}
	return scope, nil
}

// jobLife is how long a job's token is good at most. It ends with the job anyway.
const jobLife = 7 * 24 * time.Hour

// jobRegistry is the registry as one attempt of a job may use it.
func (s *System) jobRegistry(run pipeline.RunID, job pipeline.JobID, attempt int) runner.Registry {
	return runner.Registry{URL: s.Config.URL, Token: s.jobTokens.Issue(identity.JobClaim{RunID: string(run), JobID: string(job), Attempt: attempt, Expires: time.Now().Add(jobLife)})}
}

const (
	hostToken = "registry-token" // a file in the host's folder
	hostLife  = 90 * 24 * time.Hour
)

// letHostPull keeps a token in the host's folder, with which it pulls images, and makes a new one long before that expires. The
// host reads it at each pull, so that it need not be started again.
func (s *System) letHostPull(ctx context.Context) error {
	path := filepath.Join(s.Config.Host.Dir, hostToken)
	if st, err := os.Stat(path); err == nil && time.Since(st.ModTime()) < hostLife/3 {
		if s.hostTold {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err == nil {
			_, err = s.accounts.Authenticate(ctx, strings.TrimSpace(string(raw)))
		}
		if err == nil {
			s.hostTold = true
			return nil
		}
	}
	if err := os.MkdirAll(s.Config.Host.Dir, 0o700); err != nil {
		return err
	}
	ctx = identity.With(ctx, identity.System("host"))
	if _, err := s.accounts.Create(ctx, identity.Account{Name: "weir-host", Kind: identity.Host}); err != nil && !fault.Is(err, fault.Conflict) {
		return err
	}
	token, err := s.accounts.Token(ctx, "weir-host", "pulls of "+s.data.holder(), hostLife)
	if err != nil {
		return err
	}
	if err := writeFile(path, []byte(token+"\n")); err != nil {
		return err
	}
	s.hostTold = true
	slog.DebugContext(ctx, "host may pull", "file", path)
	return nil
}

// pullToken is the token that a host pulls with: the one it was started with, else what its folder has at this moment.
func pullToken(dir, given string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		if given != "" {
			return given, nil
		}
		raw, err := os.ReadFile(filepath.Join(dir, hostToken))
		if err != nil && !os.IsNotExist(err) {
			return "", err
		}
		return strings.TrimSpace(string(raw)), nil
	}
}
