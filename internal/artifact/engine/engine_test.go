package engine_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/artifactdb"
	"weir/internal/artifact/engine"
	"weir/internal/artifact/registry"
	"weir/internal/base/blob/dir"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/guard/evidence"
	"weir/internal/guard/evidence/evidencetest"
	"weir/internal/pipeline"
)

var revision = strings.Repeat("ab12cd3", 6)[:40]

// world is everything around the engine, real except for the layers beside it.
type world struct {
	engine   *engine.Engine
	service  *artifact.Service
	images   *registry.Registry
	evidence *evidence.Service
	db       *db.DB
	tags     map[string]string // git: name to revision
	checks   []pipeline.Check
	blocks   []artifact.Block
	spec     artifact.Spec
	entries  []string
	findings artifact.Findings // what a scan finds
}

func (w *world) Specs(context.Context, string, string) ([]artifact.Spec, error) {
	return []artifact.Spec{w.spec}, nil
}
func (w *world) Tags(context.Context, string, string) ([]artifact.GitTag, error) { return nil, nil }
func (w *world) Log(context.Context, string, string, string) ([]artifact.Commit, error) {
	return nil, nil
}
func (w *world) Commit(_ context.Context, _, rev string) (artifact.Commit, error) {
	return artifact.Commit{Revision: rev, Author: "ann", Time: time.Unix(1700000000, 0)}, nil
}
func (w *world) Tag(_ context.Context, _, name, rev string) error {
	if at, ok := w.tags[name]; ok && at != rev {
		return fault.New(fault.Conflict, "the tag %s names %s", name, at)
	}
	w.tags[name] = rev
	return nil
}
func (w *world) Run(_ context.Context, id pipeline.RunID) (pipeline.Run, error) {
	return pipeline.Run{ID: id, Workflow: ".github/workflows/ci.yml", Ref: "refs/heads/main"}, nil
}
func (w *world) Results(context.Context, string, string) ([]pipeline.Check, error) {
	return w.checks, nil
}
func (w *world) Admit(context.Context, artifact.AdmitRequest) (string, bool, []artifact.Block, error) {
	return "decision_1", len(w.blocks) == 0, w.blocks, nil
}

func newWorld(t *testing.T, d *db.DB) *world {
	t.Helper()
	for _, migrate := range []func(context.Context, *db.DB) error{artifactdb.Migrate, journal.Migrate} {
		if err := migrate(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	blobs, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{db: d, tags: map[string]string{}, spec: artifact.Spec{ServiceID: "service_1", Service: "checkout", RepositoryName: "shop", Go: ".", ConfigDigest: "sha256:cfg"},
		checks: []pipeline.Check{{Name: "ci.yml/test", State: "success"}, {Name: "ci.yml/lint", State: "skipped"}}}
	w.evidence = evidencetest.With(t, d, evidencetest.Rotating(t), filepath.Join(t.TempDir(), "keys"), nil)
	w.images = registry.New(d, blobs, registry.Limits{})
	store := artifactdb.New(d, journal.New(d), func(_ context.Context, _ *db.Tx, e artifact.Entry) error {
		w.entries = append(w.entries, e.Action)
		return nil
	})
	allow := func(context.Context, string, string) error { return nil }
	w.service = artifact.NewService(store, blobs, w.images, w.evidence, allow)
	scan := func(context.Context, evidence.Evidence) (artifact.Findings, error) { return w.findings, nil }
	w.engine = &engine.Engine{Scan: scan, DB: d, Store: store, Bytes: blobs, Images: w.images, Signer: w.evidence, Catalog: w, Source: w, Runs: w, Checks: w, Gate: w, Dir: t.TempDir()}
	return w
}

func (w *world) put(t *testing.T, b []byte) {
	t.Helper()
	o := pipeline.Output{RunID: "run_1", JobID: "job_1", Attempt: 1, RepositoryID: "repo_1", Revision: revision, Service: "checkout", ServiceID: "service_1",
		Version: "1.4.0", Name: "checkout", Confined: true, Network: "egress", Started: time.Unix(1700000100, 0), Finished: time.Unix(1700000160, 0)}
	if err := w.service.Put(t.Context(), o, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
}

func (w *world) intake(t *testing.T) artifact.Intake {
	t.Helper()
	all, err := w.service.Intakes(t.Context(), artifact.Filter{})
	if err != nil || len(all) != 1 {
		t.Fatalf("intakes = %d, %v; want 1", len(all), err)
	}
	return all[0]
}

// later is a time at which every intake may be tried again.
func later() time.Time { return time.Now().Add(time.Hour) }

var program = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "weir-program-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for name, body := range map[string]string{"go.mod": "module example.test/app\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", "out", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, errors.New(string(out))
	}
	return os.ReadFile(filepath.Join(dir, "out"))
})

func binary(t *testing.T) []byte {
	t.Helper()
	b, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOutputBecomesAnAdmittedArtifact(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.put(t, binary(t))
		w.put(t, []byte("the same revision again, with other bytes"))
		if n, err := w.engine.Work(t.Context(), nil, later()); err != nil || n != 5 {
			t.Fatalf("Work() = %d, %v; want 5 steps (%+v)", n, err, w.intake(t))
		}
		list, err := w.service.List(t.Context(), artifact.Filter{ServiceID: "service_1"})
		if err != nil || len(list) != 1 {
			t.Fatalf("List() = %v, %v; want one artifact", list, err)
		}
		a := list[0]
		if a.Tag != "1.4.0-ab12cd3" || a.Repository != "shop/checkout" || a.Author != "ann" || a.ConfigDigest != "sha256:cfg" || a.DecisionID != "decision_1" {
			t.Errorf("artifact = %+v", a)
		}
		if m, err := w.images.Manifest(t.Context(), "shop/checkout", a.Tag); err != nil || m.Digest != a.Digest {
			t.Errorf("tag names %s, %v; want %s", m.Digest, err, a.Digest)
		}
		if w.tags["v1.4.0"] != revision {
			t.Errorf("git tags = %v; want v1.4.0", w.tags)
		}
		details, err := w.service.Details(t.Context(), a.ID)
		if err != nil || len(details.Evidence) != 6 || len(details.Referrers) != 6 {
			t.Errorf("details = %d evidence, %d referrers, %v; want 6 and 6", len(details.Evidence), len(details.Referrers), err)
		}
		if got := strings.Join(w.entries, " "); got != "artifact.received artifact.admitted" {
			t.Errorf("ledger = %s", got)
		}
		var facts int
		if err := d.QueryRow(t.Context(), "select count(*) from fact where type = 'artifact.admitted' and subject = ?", string(a.ID)).Scan(&facts); err != nil || facts != 1 {
			t.Errorf("facts = %d, %v; want 1", facts, err)
		}
	})
}

// dying is a store that stops the process at the n-th write: before it is
// committed, or right after.
type dying struct {
	artifact.Store
	left  int
	after bool
}

var errDied = errors.New("killed")

func (s *dying) Save(ctx context.Context, fence artifact.Fence, from artifact.State, i artifact.Intake, a *artifact.Artifact, f *journal.Fact, e *artifact.Entry) error {
	if s.left--; s.left < 0 {
		return errDied
	}
	if s.left > 0 || s.after {
		if err := s.Store.Save(ctx, fence, from, i, a, f, e); err != nil {
			return err
		}
	}
	if s.left == 0 {
		return errDied
	}
	return nil
}

func TestDeathAtAnyWriteChangesNothingInTheEnd(t *testing.T) {
	var first string
	for n := range 6 {
		for _, after := range []bool{false, true} {
			w := newWorld(t, dbtest.SQLite(t))
			w.put(t, binary(t))
			healthy := w.engine.Store
			w.engine.Store = &dying{healthy, n, after}
			_, err := w.engine.Work(t.Context(), nil, later())
			if !errors.Is(err, errDied) {
				t.Fatalf("n=%d: Work() = %v; want it killed", n, err)
			}
			w.engine.Store = healthy
			if _, err := w.engine.Work(t.Context(), nil, later()); err != nil {
				t.Fatal(err)
			}
			list, err := w.service.List(t.Context(), artifact.Filter{})
			if err != nil || len(list) != 1 {
				t.Fatalf("n=%d after=%v: %d artifacts, %v (%+v)", n, after, len(list), err, w.intake(t))
			}
			if first == "" {
				first = list[0].Digest
			}
			details, err := w.service.Details(t.Context(), list[0].ID)
			if err != nil || list[0].Digest != first || len(details.Evidence) != 6 || len(details.Referrers) != 6 || len(w.tags) != 1 {
				t.Errorf("n=%d after=%v: digest %s, %d evidence, %d referrers, tags %v, %v; want everything once", n, after, list[0].Digest, len(details.Evidence), len(details.Referrers), w.tags, err)
			}
		}
	}
}

func TestSigningWaitsForChecksToEnd(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.checks[0].State = "running"
	w.put(t, binary(t))
	if _, err := w.engine.Work(t.Context(), nil, later()); err != nil {
		t.Fatal(err)
	}
	if i := w.intake(t); i.State != artifact.Pushed || i.Failure != "waits for the checks ci.yml/test" {
		t.Fatalf("intake is %s: %s; want it to wait", i.State, i.Failure)
	}
	w.checks[0].State = "success"
	if _, err := w.engine.Work(t.Context(), nil, later()); err != nil {
		t.Fatal(err)
	}
	if i := w.intake(t); i.State != artifact.Admitted {
		t.Errorf("intake is %s: %s; want it admitted", i.State, i.Failure)
	}
}

func TestPolicyKeepsAnImageUntaggedUntilItAllows(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.blocks = []artifact.Block{{Rule: "reviewed", Message: "the revision has no review", Who: []string{"team-payments"}}}
	w.put(t, binary(t))
	if _, err := w.engine.Work(t.Context(), nil, later()); err != nil {
		t.Fatal(err)
	}
	i := w.intake(t)
	if i.State != artifact.Signed || i.Failure != "the revision has no review" || len(i.Progress.Blocks) != 1 {
		t.Fatalf("intake is %s: %s; want policy's reason", i.State, i.Failure)
	}
	if _, err := w.images.Manifest(t.Context(), "shop/checkout", i.Tag()); !fault.Is(err, fault.NotFound) {
		t.Errorf("tag of a blocked image = %v; want none", err)
	}
	w.blocks = nil
	if _, err := w.engine.Work(t.Context(), nil, later()); err != nil {
		t.Fatal(err)
	}
	if i := w.intake(t); i.State != artifact.Admitted || len(i.Progress.Blocks) != 0 {
		t.Errorf("intake is %s; want it admitted", i.State)
	}
}

func TestBytesThatAreNoProgramAreRefusedWithASentence(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.put(t, []byte("#!/bin/sh\n"))
	if _, err := w.engine.Work(t.Context(), nil, later()); err != nil {
		t.Fatal(err)
	}
	if i := w.intake(t); i.State != artifact.Refused || !strings.Contains(i.Failure, "is not a Linux program") {
		t.Errorf("intake is %s: %s; want it refused", i.State, i.Failure)
	}
}

func TestForeignGitTagDoesNotHoldARelease(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.tags["v1.4.0"] = strings.Repeat("f", 40)
	w.put(t, binary(t))
	if _, err := w.engine.Work(t.Context(), nil, later()); err != nil {
		t.Fatal(err)
	}
	if w.tags["v1.4.0-ab12cd3"] != revision {
		t.Errorf("tags = %v; want v1.4.0-ab12cd3 beside the other", w.tags)
	}
}

func TestPutRefuses(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	good := pipeline.Output{RunID: "run_1", Revision: revision, Service: "checkout", ServiceID: "service_1", Version: "1.4.0", Name: "checkout"}
	for say, c := range map[string]struct {
		change func(*pipeline.Output)
		body   string
	}{
		"is not a full commit id": {func(o *pipeline.Output) { o.Revision = "ab12cd3" }, "x"},
		"a version is three":      {func(o *pipeline.Output) { o.Version = "1.4" }, "x"},
		"names no service":        {func(o *pipeline.Output) { o.ServiceID = "" }, "x"},
		"is empty":                {func(*pipeline.Output) {}, ""},
	} {
		o := good
		c.change(&o)
		if err := w.service.Put(t.Context(), o, strings.NewReader(c.body)); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), say) {
			t.Errorf("Put() = %v; want %q", err, say)
		}
	}
}
