package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/artifactdb"
	"weir/internal/artifact/componentdb"
	artifactengine "weir/internal/artifact/engine"
	"weir/internal/artifact/registry"
	"weir/internal/artifact/vulndb"
	"weir/internal/base/blob"
	"weir/internal/base/confine"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
	"weir/internal/base/part"
	"weir/internal/catalog"
	"weir/internal/edge/gitd"
	"weir/internal/guard/approval"
	"weir/internal/guard/evidence"
	"weir/internal/guard/evidence/evidencedb"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
	"weir/internal/guard/policy"
	"weir/internal/guard/policy/rules"
	"weir/internal/guard/secret"
	"weir/internal/pipeline"
	pipelineengine "weir/internal/pipeline/engine"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/logs/logdb"
	"weir/internal/pipeline/pipelinedb"
	"weir/internal/pipeline/runner/local"
	"weir/internal/pipeline/runner/remote"
	"weir/internal/pipeline/spec"
	"weir/internal/pipeline/testresult"
	"weir/internal/pipeline/testresult/testdb"
	"weir/internal/source"
	sourceengine "weir/internal/source/engine"
	"weir/internal/source/git"
	"weir/internal/source/mirror"
)

// System is everything that one server is made of.
type System struct {
	Config   Config
	Instance Instance

	data     *dataFolder
	db       *db.DB
	journal  *journal.Journal
	ledger   *ledger.Log
	accounts *identity.Accounts
	evidence *evidence.Service
	policy   *policy.Policy
	approval *approval.Approvals
	catalog  *catalog.Catalog
	git      *git.Cache
	source   *source.Service
	engine   *pipelineengine.Engine
	pipeline *pipeline.Service
	secrets  *secret.Store
	mirrors  *mirror.Store
	artifact *artifact.Service
	registry *registry.Registry
	keeper   *registry.Keeper
	runs     *pipelinedb.Store
	hostTold bool // used by keepHost alone: the host's token is good

	jobTokens identity.JobTokens
	gitd      *gitd.Handler
	agents    *remote.Pool
	delivery

	parts []part.Service
}

// authorize is identity.Check, for layers that write actions with a colon.
func authorize(ctx context.Context, action, org string) error {
	return identity.Check(ctx, strings.ReplaceAll(action, ":", "."), org)
}

// Open builds a system from its configuration. The data folder is locked until Close.
func Open(ctx context.Context, c Config) (_ *System, err error) {
	if support := confine.Probe(); !support.OK && !c.Runner.Unconfined {
		return nil, fault.New(fault.Unavailable, "This machine cannot confine jobs and services: %s\nRun Weir where it can, or start with --unconfined: every provenance then records it.", strings.Join(support.Missing, "; "))
	}
	data, err := openData(c)
	if err != nil {
		return nil, err
	}
	s := &System{Config: c, Instance: data.instance, data: data}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for _, build := range []func(context.Context) error{s.openBase, s.openGuard, s.openSource, s.openPipeline, s.openArtifact, s.openDelivery} {
		if err := build(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close gives everything back. Parts must have ended.
func (s *System) Close() error {
	var errs []error
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(append(errs, s.data.close())...)
}

func (s *System) add(parts ...part.Service) { s.parts = append(s.parts, parts...) }

func (s *System) openBase(ctx context.Context) (err error) {
	if s.db, err = open(ctx, "database", s.Config.Database, databases); err != nil {
		return err
	}
	for _, migrate := range []func(context.Context, *db.DB) error{lease.Migrate, journal.Migrate, source.Migrate, pipelinedb.Migrate, logdb.Migrate, testdb.Migrate, artifactdb.Migrate, componentdb.Migrate, vulndb.Migrate, evidencedb.Migrate} {
		if err := migrate(ctx, s.db); err != nil {
			return err
		}
	}
	s.journal = journal.New(s.db)
	s.add(part.Func("journal", func(ctx context.Context) error { return s.journal.Sequence(ctx, s.data.holder()) }))
	return nil
}

// blobs opens one part's share of the blob store: the artifact layer sweeps
// its own, so no two layers may share one.
func (s *System) blobs(ctx context.Context, share string) (blob.Store, error) {
	u, err := url.Parse(s.Config.Blobs)
	if err != nil {
		return nil, fault.New(fault.Invalid, "The blobs URL is not a URL. Write dir:///path or s3://bucket/prefix.")
	}
	store, err := open(ctx, "blobs", u.JoinPath(share).String(), blobs)
	if err != nil {
		return nil, err
	}
	if t, ok := store.(interface{ TempIn(dir string) error }); ok { // one elsewhere, for which bytes wait here
		err = t.TempIn(s.data.join("tmp"))
	}
	return store, err
}

func (s *System) openGuard(ctx context.Context) (err error) {
	key, err := ledger.LoadKey(s.data.join("keys", "log.key"), s.Instance.Origin)
	if err != nil {
		return err
	}
	if s.ledger, err = ledger.Open(ctx, s.db, key, ledger.File{Path: s.data.join("keys", "checkpoint")}); err != nil {
		return err
	}
	if s.accounts, err = identity.Open(ctx, s.db, s.record, time.Now); err != nil {
		return err
	}
	keys, err := evidence.OpenKeys(s.data.join("keys", "evidence"), s.Instance.Issuer, evidence.Places{Issuing: s.Config.Identity.SigningKey, Timestamps: s.Config.Identity.TimestampKey}, time.Now())
	if err != nil {
		return err
	}
	if s.evidence, err = evidence.New(evidencedb.New(s.db), evidenceLog{s.ledger}, keys, nil); err != nil {
		return err
	}
	if s.evidence.ImageKey, err = evidence.OpenImageKey(s.data.join("keys"), s.Config.Identity.ImageKey); err != nil {
		return err
	}
	s.evidence.Note = func(ctx context.Context, action, subject string, data any) error {
		return s.db.Write(ctx, func(tx *db.Tx) error { return s.record(ctx, tx, action, subject, data) })
	}
	s.evidence.Published = func(root evidence.TrustedRoot) error { return writeFile(s.data.join("trusted_root.json"), root.JSON()) }
	if err := s.evidence.Published(s.evidence.TrustedRoot()); err != nil {
		return err
	}
	if s.policy, err = policy.New(ctx, s.db, s.ledger, rules.All(), time.Now); err != nil {
		return err
	}
	if s.approval, err = approval.New(ctx, s.db, s.ledger, s.evidence, time.Now); err != nil {
		return err
	}
	s.add(part.Func("ledger", func(ctx context.Context) error { return s.ledger.Sequence(ctx, s.data.holder()) }), s.evidence)
	return nil
}

func (s *System) openSource(ctx context.Context) error {
	packs, err := s.blobs(ctx, "git")
	if err != nil {
		return err
	}
	if _, err := exec.LookPath("git"); err != nil {
		slog.WarnContext(ctx, fault.Sentence(git.ErrNoGit))
	}
	if s.git, err = git.Open(s.data.join("git"), s.db, packs); err != nil {
		return err
	}
	if s.catalog, err = catalog.New(ctx, s.db, s.ledger, files{s}); err != nil {
		return err
	}
	s.source = source.New(source.Config{DB: s.db, Journal: s.journal, Ledger: s.ledger, Policy: s.policy, Signer: s.evidence, People: people{s.accounts}, Catalog: s.catalog, Git: s.git, Now: time.Now, Workflows: func(ctx context.Context, repositoryID, from, to string) error {
		return s.engine.Proposed(ctx, repositoryID, from, to)
	}})
	s.add(&sourceengine.Engine{DB: s.db, Journal: s.journal, Source: s.source, Signer: s.evidence, Holder: s.data.holder()})

	// The hook is a link to this binary; git starts it under the name of the hook.
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if err := gitd.InstallHook(s.data.join("hooks"), exe); err != nil {
		return err
	}
	s.gitd = gitd.New(gitd.Config{Source: s.source, Catalog: s.catalog, Repositories: s.git, Authenticate: s.actorOf,
		Room: s.data.room(int64(s.Config.Limits.FreeDisk)), MaxPush: int64(s.Config.Limits.Push), HooksDir: s.data.join("hooks"), Socket: socketPath(s.data.path, "hook.sock")})
	s.add(s.gitd)
	return nil
}

// socketPath is in the data folder, unless its path is too long for a socket
// (108 bytes); then it is in a private folder of the system's.
func socketPath(dir, name string) string {
	path := filepath.Join(dir, name)
	if len(path) < 100 {
		return path
	}
	sum := fmt.Sprintf("%x", []byte(filepath.Base(dir)))
	short := filepath.Join(os.TempDir(), fmt.Sprintf("weir-%d-%s", os.Getuid(), hash(dir+sum)))
	_ = os.MkdirAll(short, 0o700)
	return filepath.Join(short, name)
}

func (s *System) openPipeline(ctx context.Context) error {
	bytes, err := s.blobs(ctx, "pipeline")
	if err != nil {
		return err
	}
	rows := pipelinedb.New(s.db, s.journal, func(ctx context.Context, tx *db.Tx, e pipeline.Entry) error {
		return s.append(ctx, tx, e.Actor, e.Action, e.Subject, e.Data)
	})
	archive, err := s.blobs(ctx, "logs")
	if err != nil {
		return err
	}
	dir := logs.New(s.data.join("logs")).Archive(archive, logdb.New(s.db))
	runner, err := local.New(local.Config{Data: s.data.path, Network: confine.Network(s.Config.Runner.Network), Unconfined: s.Config.Runner.Unconfined, Seed: s.Config.Runner.CacheSeed,
		BuildKit: s.Config.Runner.BuildKit, Limits: s.Config.Runner.limits(), Least: uint64(s.Config.Limits.FreeDisk) / 2})
	if err != nil {
		return err
	}
	room := s.data.room(int64(s.Config.Limits.FreeDisk))
	artifacts, err := s.artifactBytes(ctx)
	if err != nil {
		return err
	}
	s.runs = rows
	if s.jobTokens, err = identity.OpenJobTokens(s.data.join("keys", "job.key")); err != nil {
		return err
	}
	s.registry = registry.New(s.db, artifacts, registry.Limits{Room: room, Key: s.jobTokens.Derive("uploads"), Quota: int64(s.Config.Registry.Quota), Foreign: s.Config.Registry.Foreign}).Record(s.artifactLedger)
	s.keeper = s.registryKeeper()
	s.add(s.keeper, registry.Scrubber{Keeper: s.keeper})
	s.artifact = artifact.NewService(s.artifactRows(), artifacts, s.registry, s.evidence, authorize)
	if s.secrets, err = secret.Open(ctx, s.db, s.ledger, s.data.join("keys", "secret.key"), time.Now); err != nil {
		return err
	}
	s.shareKeys()
	if s.agents, err = s.openAgents(ctx, rows, runner); err != nil {
		return err
	}
	copies, err := s.blobs(ctx, "mirror")
	if err != nil {
		return err
	}
	if s.mirrors, err = mirror.Open(ctx, s.db, copies, s.ledger, s.data.join("mirrors"), time.Now); err != nil {
		return err
	}
	s.engine = pipelineengine.New(pipelineengine.Config{Holder: s.data.holder(), Slots: s.Config.Runner.Slots, Room: room}, pipelineengine.Parts{
		DB: s.db, Journal: s.journal, Store: rows, Keeper: pipelineengine.Keeper{Blobs: bytes, Rows: rows, CacheMost: int64(s.Config.Keep.Caches), CacheFloor: int64(s.Config.Keep.CacheFloor)}, Repository: s.git,
		Refs: refs{s.source, s.git, s.catalog}, Schedules: &pipelinedb.Schedules{DB: s.db}, Settings: settings{s.secrets}, Mirrors: s.mirrors, Images: s.jobImages, Networks: networks{s.catalog}, Environments: environments{s},
		Checks: checks{s.source}, Builds: s.versions(),
		Outputs: s.artifact, Runner: runner, Fleet: s.agents, Logs: dir, Registry: s.jobRegistry, Token: s.jobToken, URL: s.Config.URL,
	})
	tests := testdb.New(s.db)
	garbage := s.retention(rows, bytes, archive, artifacts)
	s.pipeline = &pipeline.Service{Environments: environments{s}, Agents: s.agents, Store: rows, Logs: dir, Tests: tests, Blobs: bytes, Garbage: garbage, Authorize: authorize, Check: spec.Check, Dispatch: s.engine.Dispatch, Slots: s.engine.Slots(), Room: room, Now: time.Now}
	s.add(s.engine, dir, garbage, &testresult.Reader{Journal: s.journal, Runs: rows, Logs: dir, Blobs: bytes, Store: tests})
	return nil
}

func (s *System) artifactRows() *artifactdb.Store {
	return artifactdb.New(s.db, s.journal, s.artifactEntry)
}

func (s *System) artifactEntry(ctx context.Context, tx *db.Tx, e artifact.Entry) error {
	return s.append(ctx, tx, e.Actor, e.Action, e.Subject, e.Data)
}

func (s *System) openArtifact(ctx context.Context) error {
	bytes, err := s.artifactBytes(ctx)
	if err != nil {
		return err
	}
	s.add(&artifactengine.Engine{DB: s.db, Store: s.artifactRows(), Bytes: bytes, Images: s.registry, Signer: s.evidence, Catalog: specs{s.catalog},
		Source: commits{s.source, s.git}, Runs: runs{s.pipeline}, Checks: checks{s.source}, Gate: admission{s}, Copies: copies{s}, Scan: s.artifact.Scan, Dir: "", ModuleCaches: s.moduleCaches, Sweep: s.registry.Sweep, Holder: s.data.holder()})
	s.artifact.Lies(s.copyRows())
	s.add(&artifactengine.CopyKeeper{DB: s.db, Rows: s.copyRows(), Copies: copies{s}, Holder: s.data.holder()})
	index := &componentdb.Index{DB: s.db, Journal: s.journal, Components: s.artifact.Components, Holder: s.data.holder()}
	s.artifact.Search(index)
	s.artifact.Watch(&vulndb.Store{DB: s.db, Now: time.Now, Ledger: func(ctx context.Context, tx *db.Tx, e artifact.Entry) error {
		return s.append(ctx, tx, e.Actor, e.Action, e.Subject, e.Data)
	}, Announce: s.journal.Append})
	s.add(index, &artifactengine.Rescan{DB: s.db, Journal: s.journal, Scan: s.artifact.Scan, Signer: s.evidence, Attach: s.artifact.Attach, Running: s.runningImages, Holder: s.data.holder()})
	return nil
}
