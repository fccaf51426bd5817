package app

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"weir/internal/artifact"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/catalog"
	"weir/internal/edge/api"
	"weir/internal/guard/evidence"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
	"weir/internal/guard/secret"
	"weir/internal/pipeline"
	"weir/internal/source"
	"weir/internal/source/git"
	"weir/internal/source/mirror"
)

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}

// record writes a ledger entry of the actor of ctx.
func (s *System) record(ctx context.Context, tx *db.Tx, action, subject string, data any) error {
	_, err := s.ledger.Append(ctx, tx, ledger.Entry{Actor: identity.From(ctx), Action: action, Subject: subject, Data: data})
	return err
}

// append writes a ledger entry for a layer that names its actor.
func (s *System) append(ctx context.Context, tx *db.Tx, actor, action, subject string, data any) error {
	who := identity.From(ctx)
	if who.Kind == identity.Nobody {
		who = identity.System(strings.TrimPrefix(actor, "system:"))
	}
	_, err := s.ledger.Append(ctx, tx, ledger.Entry{Actor: who, Action: action, Subject: subject, Data: data})
	return err
}

// evidenceLog is the ledger as signing needs it.
type evidenceLog struct{ log *ledger.Log }

func (l evidenceLog) Origin() string               { return l.log.Origin() }
func (l evidenceLog) PublicKey() ed25519.PublicKey { return l.log.PublicKey() }
func (l evidenceLog) AppendRaw(ctx context.Context, tx *db.Tx, kind string, body []byte) (string, error) {
	return l.log.AppendRaw(ctx, tx, kind, body)
}
func (l evidenceLog) Prepare() (evidence.LogKey, error) { return l.log.Prepare() }
func (l evidenceLog) Next() ([]byte, error)             { return l.log.Next() }
func (l evidenceLog) Keys() []evidence.LogKey           { return l.log.Keys() }
func (l evidenceLog) Switch(ctx context.Context, reason string) (evidence.LogKey, error) {
	return l.log.Switch(ctx, reason)
}
func (l evidenceLog) Await(ctx context.Context, id string) (evidence.Proof, error) {
	p, err := l.log.Await(ctx, id)
	return evidence.Proof(p), err
}

// files reads repositories for the catalog, which stands below the source layer.
type files struct{ s *System }

func (f files) Head(ctx context.Context, repositoryID, branch string) (string, error) {
	return f.s.source.Head(ctx, repositoryID, branch)
}
func (f files) ReadFile(ctx context.Context, repositoryID, revision, path string) ([]byte, error) {
	return f.s.git.ReadFile(ctx, repositoryID, revision, path)
}

// people resolves the names in CODEOWNERS.
type people struct{ accounts *identity.Accounts }

func (p people) Resolve(ctx context.Context, owner string) ([]string, error) {
	name, at := strings.CutPrefix(owner, "@")
	if i := strings.LastIndexByte(name, '/'); at && i >= 0 {
		return p.accounts.Team(ctx, name[i+1:])
	}
	a, err := p.accounts.Find(ctx, name)
	if fault.Is(err, fault.NotFound) {
		if at {
			return p.accounts.Team(ctx, name) // Weir has one organisation, so @team is as good as @org/team.
		}
		return nil, nil
	}
	if err != nil || a.Disabled {
		return nil, err
	}
	return []string{a.Name}, nil
}

// specs is the catalog as the artifact layer needs it.
type specs struct{ catalog *catalog.Catalog }

func (c specs) Specs(ctx context.Context, repositoryID, revision string) ([]artifact.Spec, error) {
	file, err := c.catalog.At(ctx, repositoryID, revision)
	if err != nil || file == nil {
		return nil, err
	}
	repo, err := c.catalog.Repository(ctx, repositoryID)
	if err != nil {
		return nil, err
	}
	refs, err := c.catalog.EnsureServices(ctx, repositoryID, file)
	if err != nil {
		return nil, err
	}
	var out []artifact.Spec
	for i, s := range file.Services {
		out = append(out, specOf(refs[i].ID, repo.Name, s))
	}
	return out, nil
}

// specOf is a declared service as the artifact layer builds it.
func specOf(id, repository string, s catalog.Declared) artifact.Spec {
	var command []string
	for _, w := range s.Run {
		command = w.Command // Services have one http workload for now; the parser refuses the other kinds.
	}
	b := s.Artifact.Build
	return artifact.Spec{ServiceID: id, Service: s.Name, Network: s.Pipeline.Network, RepositoryName: repository, Path: s.Path, Go: b.Go, Static: b.Static, Node: b.Node, Layout: b.Layout, Make: b.Run, From: b.From,
		Dockerfile: b.Dockerfile, Context: b.Context, Target: b.Target, External: b.External, Copies: s.Artifact.Copies, Command: command, ConfigDigest: s.ConfigDigest()}
}

// commits is the source layer as the artifact layer needs it.
type commits struct {
	source *source.Service
	git    *git.Cache
}

// maxLog bounds how many commits a version is found from.
const maxLog = 5000

func (c commits) Tags(ctx context.Context, repositoryID, rev string) ([]artifact.GitTag, error) {
	tags, err := c.git.Tags(ctx, repositoryID, rev)
	if err != nil {
		return nil, err
	}
	out := make([]artifact.GitTag, 0, len(tags))
	for name, at := range tags {
		distance := 0
		if at != rev {
			between, err := c.git.Log(ctx, repositoryID, at, rev, maxLog)
			if err != nil {
				return nil, err
			}
			distance = len(between)
		}
		out = append(out, artifact.GitTag{Name: name, Revision: at, Distance: distance})
	}
	return out, nil
}

func (c commits) Log(ctx context.Context, repositoryID, fromExclusive, to string) ([]artifact.Commit, error) {
	log, err := c.git.Log(ctx, repositoryID, fromExclusive, to, maxLog)
	out := make([]artifact.Commit, len(log))
	for i, k := range log {
		out[i] = artifact.Commit(k)
	}
	return out, err
}

// Commit names as author the person who wrote the change, as Weir knows them;
// what a commit says of itself is only its text.
func (c commits) Commit(ctx context.Context, repositoryID, rev string) (artifact.Commit, error) {
	log, err := c.git.Log(ctx, repositoryID, "", rev, 1)
	if err != nil {
		return artifact.Commit{}, err
	}
	if len(log) == 0 {
		return artifact.Commit{}, fault.New(fault.NotFound, "There is no revision %.12s.", rev)
	}
	k := artifact.Commit(log[0])
	landing, err := c.source.LandingOf(ctx, repositoryID, rev)
	if err == nil {
		k.Author = landing.People[0]
	} else if !fault.Is(err, fault.NotFound) {
		return k, err
	}
	return k, nil
}

func (c commits) Tag(ctx context.Context, repositoryID, name, rev string) error {
	return c.source.Tag(identity.With(ctx, identity.System("artifact")), repositoryID, name, rev)
}

// refs says where branches and tags point, for the pipeline layer.
type refs struct {
	source  *source.Service
	git     *git.Cache
	catalog *catalog.Catalog
}

func (r refs) Trunk(ctx context.Context, repositoryID string) (string, string, error) {
	head, err := r.source.Head(ctx, repositoryID, catalog.TrunkName)
	return "refs/heads/" + catalog.TrunkName, head, err
}

func (r refs) Tag(ctx context.Context, repositoryID, name string) (string, error) {
	head, err := r.source.Head(ctx, repositoryID, catalog.TrunkName)
	if err != nil {
		return "", err
	}
	if head != "" {
		tags, err := r.git.Tags(ctx, repositoryID, head)
		if at, ok := tags[name]; ok || err != nil {
			return at, err
		}
	}
	return "", fault.New(fault.NotFound, "There is no tag %s.", name)
}

func (r refs) Repository(ctx context.Context, name string) (string, string, error) {
	repo, err := r.catalog.Repository(ctx, name)
	return repo.ID, repo.Name, err
}

// mirrors are copies of repositories as the API shows them.
type mirrors struct{ store *mirror.Store }

func (m mirrors) AddMirror(ctx context.Context, name, from string) (api.Mirror, error) {
	x, err := m.store.Add(ctx, name, from)
	return mirrorOf(x), err
}

func (m mirrors) ListMirrors(ctx context.Context) ([]api.Mirror, error) {
	all, err := m.store.List(ctx)
	out := make([]api.Mirror, len(all))
	for i, x := range all {
		out[i] = mirrorOf(x)
	}
	return out, err
}

func (m mirrors) RemoveMirror(ctx context.Context, name string) error {
	return m.store.Remove(ctx, name)
}

func mirrorOf(x mirror.Mirror) api.Mirror {
	return api.Mirror{Name: x.Name, URL: x.URL, Size: x.Size, Refs: x.Refs, Fetched: x.Fetched, By: x.By}
}

// settings are secrets and variables as the pipeline layer takes them.
type settings struct{ store *secret.Store }

func (s settings) Vars(ctx context.Context, repositoryID, environment string) (map[string]string, error) {
	return s.store.Values(ctx, secret.Variable, repositoryID, environment)
}

func (s settings) Secrets(ctx context.Context, repositoryID, environment string) (map[string]string, error) {
	return s.store.Values(ctx, secret.Secret, repositoryID, environment)
}

// checks is the source layer as the pipeline reports to it and the artifact
// layer asks it.
type checks struct{ source *source.Service }

func (c checks) Report(ctx context.Context, k pipeline.Check) error {
	return c.source.Report(ctx, source.Check{RepositoryID: k.RepositoryID, Revision: k.Revision, Name: k.Name, Base: k.Base, State: k.State, RunID: string(k.RunID), JobID: string(k.JobID), Summary: k.Summary, Time: k.At})
}

func (c checks) Results(ctx context.Context, repositoryID, revision string) ([]pipeline.Check, error) {
	results, err := c.source.Checks(ctx, repositoryID, revision)
	out := make([]pipeline.Check, len(results))
	for i, k := range results {
		out[i] = pipeline.Check{RepositoryID: k.RepositoryID, Revision: k.Revision, Name: k.Name, Base: k.Base, RunID: pipeline.RunID(k.RunID), JobID: pipeline.JobID(k.JobID), State: k.State, Summary: k.Summary, At: k.Time}
	}
	return out, err
}

// runs is the pipeline as the artifact layer asks it.
type runs struct{ pipeline *pipeline.Service }

func (r runs) Run(ctx context.Context, id pipeline.RunID) (pipeline.Run, error) {
	return r.pipeline.Get(identity.With(ctx, identity.System("artifact")), id)
}

// sortedKeys returns the keys of a set in order.
func sortedKeys(set map[string]bool) []string {
	keys := make([]string, 0, len(set))
	for k := range set {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// moduleCaches is where the release jobs of a repository keep Go modules on this machine.
func (s *System) moduleCaches(repositoryID string) []string {
	return []string{s.data.join("cache", repositoryID, string(pipeline.Landed), "mod")}
}
