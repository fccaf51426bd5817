package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/base/blob/dir"
	"weir/internal/base/confine"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
	"weir/internal/pipeline"
	"weir/internal/pipeline/engine"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/pipelinedb"
	"weir/internal/pipeline/runner"
	"weir/internal/pipeline/runner/local"
	"weir/internal/pipeline/spec"
	"weir/internal/source"
)

// repository keeps files by revision, "rev" -> path -> text.
type repository map[string]map[string]string

func (r repository) ReadFile(_ context.Context, _, rev, p string) ([]byte, error) {
	if text, ok := r[rev][p]; ok {
		return []byte(text), nil
	}
	return nil, fault.New(fault.NotFound, "There is no file %s.", p)
}

func (r repository) List(_ context.Context, _, rev, dir string) (out []string, err error) {
	for p := range r[rev] {
		if path.Dir(p) == dir {
			out = append(out, p)
		}
	}
	return out, nil
}

func (r repository) Clone(ctx context.Context, id string, c source.Clone, to string) (string, error) {
	return c.Revision, r.Checkout(ctx, id, c.Revision, to)
}

func (r repository) Checkout(_ context.Context, _, rev, to string) error {
	for p, text := range r[rev] {
		if err := os.MkdirAll(filepath.Join(to, path.Dir(p)), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, p), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (r repository) ChangedFiles(_ context.Context, _, from, to string) (out []string, err error) {
	if r[from] == nil || r[to] == nil {
		return nil, fault.New(fault.NotFound, "There is no such revision.")
	}
	for p, text := range r[to] {
		if r[from][p] != text {
			out = append(out, p)
		}
	}
	return out, nil
}

// fake runs jobs in memory: a job fails if a step says so and hangs if it says so. It remembers every attempt it was given.
type fake struct {
	mu   sync.Mutex
	runs []string
	hang chan struct{} // closed to let hanging jobs go
}

func (f *fake) Run(ctx context.Context, j runner.Job, h runner.Host, log *logs.Writer) (pipeline.Result, error) {
	f.mu.Lock()
	f.runs = append(f.runs, fmt.Sprintf("%s/%s.%d", j.RunID, j.Plan.Key, j.Attempt))
	f.mu.Unlock()
	res := pipeline.Result{State: pipeline.Success, Confined: true, Network: "none", Outputs: map[string]string{"key": j.Plan.Key}}
	for _, s := range j.Plan.Steps {
		fmt.Fprintln(log, s.Run)
		switch s.Run {
		case "fail":
			res.State, res.Reason = pipeline.Failure, "it was told to"
		case "break":
			return res, errors.New("runner on fire")
		case "hang":
			select {
			case <-f.hang:
			case <-ctx.Done():
				return pipeline.Result{State: pipeline.Cancelled, Reason: "the job was stopped"}, nil
			case <-j.Cancel:
				return pipeline.Result{State: pipeline.Cancelled, Reason: "the job was stopped"}, nil
			}
		}
	}
	if j.Plan.Build != nil && res.State == pipeline.Success {
		if err := h.Output(ctx, pipeline.Output{Service: j.Plan.Build.Service, Revision: j.Revision}, strings.NewReader("bytes")); err != nil {
			res.State, res.Reason = pipeline.Failure, fault.Sentence(err)
		}
	}
	return res, nil
}

func (f *fake) attempts() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.runs)
}

type checks struct {
	mu   sync.Mutex
	last map[string]string
}

func (c *checks) Report(_ context.Context, k pipeline.Check) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last[k.Revision+" "+k.Name] = k.State
	return nil
}

type builds []pipeline.Build

func (b builds) Plan(context.Context, string, string) ([]pipeline.Build, error) { return b, nil }

type outputs struct {
	mu  sync.Mutex
	got []string
}

func (o puts) Put(_ context.Context, out pipeline.Output, _ io.Reader) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got = append(o.got, out.Service+"@"+out.Revision)
	return nil
}

// world is a database with everything around an engine.
type world struct {
	t       *testing.T
	db      *db.DB
	journal *journal.Journal
	rows    *pipelinedb.Store
	repo    repository
	runner  *fake
	real    runner.Runner // instead of the fake
	checks  *checks
	deaf    bool // nobody reports checks
	outputs *outputs
	builds  builds
	ledger  []string
	mu      sync.Mutex
	logs    *logs.Dir
	keeper  engine.Keeper
	room    func() error

	refs      pipeline.Refs
	schedules *pipelinedb.Schedules
	settings  pipeline.Settings
	doors     *doors
	engine    *engine.Engine // the one that runs
}

func newWorld(t *testing.T, d *db.DB) *world {
	t.Helper()
	for _, migrate := range []func(context.Context, *db.DB) error{lease.Migrate, journal.Migrate, pipelinedb.Migrate} {
		if err := migrate(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, db: d, journal: journal.New(d), repo: repository{}, runner: &fake{hang: make(chan struct{})}, checks: &checks{last: map[string]string{}}, outputs: &outputs{}, logs: logs.New(t.TempDir())}
	w.rows = pipelinedb.New(d, w.journal, func(_ context.Context, _ *db.Tx, e pipeline.Entry) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ledger = append(w.ledger, e.Action)
		return nil
	})
	blobs, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w.keeper = engine.Keeper{Blobs: blobs, Rows: w.rows}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.journal.Sequence(ctx, "test") }()
	t.Cleanup(func() { stop(); <-done })
	return w
}

// start runs an engine until stop is called.
func (w *world) start(store pipeline.Store) (stop func()) {
	p := engine.Parts{DB: w.db, Journal: w.journal, Store: store, Keeper: w.keeper, Repository: w.repo, Checks: w.checks, Runner: w.runner, Outputs: puts{w.outputs}, Logs: w.logs}
	if w.builds != nil {
		p.Builds = w.builds
	}
	if w.real != nil {
		p.Runner = w.real
	}
	if w.deaf {
		p.Checks = nil
	}
	if w.doors != nil {
		p.Environments = w.doors
	}
	p.Refs, p.Schedules, p.Settings = w.refs, w.schedules, w.settings
	e := engine.New(engine.Config{Slots: 3, Holder: "test", Room: w.room}, p)
	w.engine = e
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = e.Run(ctx) }()
	return func() { cancel(); <-done }
}

func (w *world) fact(kind string, body map[string]any) {
	w.t.Helper()
	b, _ := json.Marshal(body)
	if err := w.db.Write(w.t.Context(), func(tx *db.Tx) error {
		return w.journal.Append(w.t.Context(), tx, journal.Fact{Type: kind, Subject: "repo_1", Body: b})
	}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) push(old, rev string) {
	w.fact("source.pushed", map[string]any{"repository_id": "repo_1", "repository": "shop", "ref": "refs/heads/main", "old": old, "new": rev, "actor": "ann", "landed": true})
}

func (w *world) change(base, rev string, patchset int) {
	w.fact("source.change_updated", map[string]any{"repository_id": "repo_1", "repository": "shop", "change_id": "chg_1", "number": 1, "target": "main", "base": base,
		"revision": rev, "patchset": patchset, "author": "bob"})
}

// until waits for a condition on all runs, woken by the database.
func (w *world) until(what string, ok func([]pipeline.Run) bool) []pipeline.Run {
	w.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		list, err := w.rows.List(w.t.Context(), pipeline.Filter{Org: "default"})
		if err != nil {
			w.t.Fatal(err)
		}
		var runs []pipeline.Run
		for _, r := range list {
			full, err := w.rows.Load(w.t.Context(), r.ID)
			if err != nil {
				w.t.Fatal(err)
			}
			runs = append(runs, full)
		}
		if ok(runs) {
			return runs
		}
		select {
		case <-deadline:
			w.t.Fatalf("%s did not come; runs: %s", what, show(runs))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func show(runs []pipeline.Run) string {
	var b strings.Builder
	for _, r := range runs {
		fmt.Fprintf(&b, "%s@%s %s (%s):", r.Workflow, r.Revision, r.State, r.Reason)
		for _, j := range r.Jobs {
			fmt.Fprintf(&b, " %s=%s/%d", j.Key, j.State, len(j.Attempts))
		}
		b.WriteString("; ")
	}
	return b.String()
}

func ended(n int) func([]pipeline.Run) bool {
	return func(runs []pipeline.Run) bool {
		return len(runs) >= n && !slices.ContainsFunc(runs, func(r pipeline.Run) bool { return !r.State.Done() })
	}
}

func (w *world) checked(name, state string) {
	w.t.Helper()
	w.until("check "+name+" "+state, func([]pipeline.Run) bool {
		w.checks.mu.Lock()
		defer w.checks.mu.Unlock()
		return w.checks.last[name] == state
	})
}

type puts struct{ *outputs }

const file = ".github/workflows/ci.yml"

func workflow(on string, jobs ...string) string {
	s := "on: " + on + "\njobs:\n"
	for _, j := range jobs {
		id, rest, _ := strings.Cut(j, " ")
		needs, run, ok := strings.Cut(rest, "|")
		if !ok {
			needs, run = "", rest
		}
		if needs != "" {
			needs = "    needs: [" + needs + "]\n"
		}
		s += fmt.Sprintf("  %s:\n    runs-on: x\n%s    steps: [{run: %s}]\n", id, needs, run)
	}
	return s
}

func TestALandedPushRunsToItsRelease(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.builds = builds{{Job: "release-checkout", Service: "checkout", Version: "1.0.0", Script: "build", Output: "out"}}
		w.repo["r1"] = map[string]string{file: workflow("push", "lint ok", "test ok", "build lint,test|ok")}
		defer w.start(w.rows)()
		w.push("", "r1")
		w.push("", "r1") // delivered twice: one run
		runs := w.until("the run", ended(1))
		if len(runs) != 1 || runs[0].State != pipeline.Success || len(runs[0].Jobs) != 4 {
			t.Fatalf("runs: %s", show(runs))
		}
		if got := w.outputs.got; !slices.Equal(got, []string{"checkout@r1"}) {
			t.Errorf("outputs %v; want the one of the landed revision", got)
		}
		for _, name := range []string{"lint", "test", "build", "release-checkout"} {
			w.checked("r1 ci.yml/"+name, "success")
		}
		if a := runs[0].Jobs[0].Attempts[0]; !a.Confined || a.Network != "none" || runs[0].Jobs[0].Outputs["key"] != "lint" {
			t.Errorf("attempt %+v", a)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if !slices.Equal(w.ledger, []string{"pipeline.run_created", "pipeline.run_finished"}) {
			t.Errorf("ledger %v", w.ledger)
		}
	})
}

// The whole way with real processes: outputs and artifacts go from job to job, a matrix is one check, a condition sees what
// happened, and the release job's file is handed over.
func TestRealJobsWorkTogether(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	r, err := local.New(local.Config{Data: t.TempDir(), Network: confine.None})
	if err != nil {
		t.Fatal(err)
	}
	w.real = r
	w.builds = builds{{Job: "release-shop", Service: "shop", ServiceID: "svc_1", Version: "1.0.0", Script: "cp src/main.txt out.bin", Output: "out.bin"}}
	w.repo["r1"] = map[string]string{"src/main.txt": "the source", file: `
name: CI
on: {push: {branches: [main]}}
env: {GREETING: hello}
jobs:
  make:
    runs-on: ubuntu-latest
    outputs: {word: "${{ steps.w.outputs.word }}"}
    steps:
      - uses: actions/checkout@v4
      - id: w
        run: |
          echo "word=$GREETING-$(cat src/main.txt | wc -w)" >> "$GITHUB_OUTPUT"
          mkdir dist && echo bytes > dist/x
      - uses: actions/upload-artifact@v4
        with: {name: dist, path: dist}
      - uses: actions/cache@v4
        with: {path: ~/c, key: "k-${{ hashFiles('src/**') }}"}
      - run: mkdir ~/c && echo warm > ~/c/f
  use:
    needs: make
    runs-on: ubuntu-latest
    strategy: {matrix: {n: [1, 2]}}
    steps:
      - uses: actions/download-artifact@v4
        with: {name: dist, path: in}
      - uses: actions/checkout@v4
        with: {path: code}
      - uses: actions/cache@v4
        id: c
        with: {path: ~/c, key: "k-${{ hashFiles('code/src/**') }}"}
      - run: |
          test "${{ needs.make.outputs.word }}" = hello-2
          test "$(cat in/x)" = bytes
          test "${{ steps.c.outputs.cache-hit }}" = true
          test "$(cat ~/c/f)" = warm
          echo "::notice::job ${{ matrix.n }} of ${{ github.repository }}"
  broken:
    if: ${{ failure() }}
    needs: [use]
    runs-on: ubuntu-latest
    steps: [{run: exit 1}]
`}
	defer w.start(w.rows)()
	w.push("", "r1")
	runs := w.until("the end", ended(1))
	if got := show(runs); runs[0].State != pipeline.Success || !strings.Contains(got, "make=success/1 use-1=success/1 use-2=success/1 broken=skipped/0 release-shop=success/1") {
		t.Fatalf("runs: %s", got)
	}
	if !slices.Equal(w.outputs.got, []string{"shop@r1"}) {
		t.Errorf("outputs %v", w.outputs.got)
	}
}

func TestNothingIsReleasedWhenAJobFails(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.builds = builds{{Job: "release-shop", Service: "shop", Script: "x", Output: "out"}}
	w.repo["r1"] = map[string]string{file: workflow("push", "a fail", "b ok")}
	defer w.start(w.rows)()
	w.push("", "r1")
	runs := w.until("the end", ended(1))
	if got := show(runs); !strings.Contains(got, "a=failure/1 b=success/1 release-shop=skipped/0") || len(w.outputs.got) != 0 {
		t.Errorf("runs: %s, outputs %v", got, w.outputs.got)
	}
}

// A change that edits its own workflow is judged by the one of the target branch, and can never hand over a release.
func TestAChangeIsGuardedByTheTargetBranch(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.builds = builds{{Job: "release-checkout", Service: "checkout", Script: "build", Output: "out"}}
	w.repo["main"] = map[string]string{file: workflow("[push, pull_request]", "test fail")}
	w.repo["evil"] = map[string]string{file: workflow("pull_request", "test ok"), ".github/workflows/more.yml": workflow("pull_request", "extra ok")}
	defer w.start(w.rows)()
	w.change("main", "evil", 1)
	runs := w.until("the run", ended(1))
	if len(runs) != 1 || runs[0].State != pipeline.Failure || runs[0].Trust != pipeline.Change || runs[0].Revision != "evil" || len(runs[0].Jobs) != 1 {
		t.Errorf("runs: %s", show(runs))
	}
	w.checked("evil ci.yml/test", "failure")
	if len(w.outputs.got) != 0 {
		t.Errorf("a change handed over %v", w.outputs.got)
	}
}

// The follower of facts reads the run when it hears of it, and may be late: the run is over by then, and the facts of its jobs
// come afterwards.
func TestALateReportEndsAsTheRunDid(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.repo["r1"] = map[string]string{file: workflow("push", "bad fail", "good ok", "after bad|ok")}
	w.deaf = true
	stop := w.start(w.rows)
	w.push("", "r1")
	w.until("the run", ended(1))
	stop()
	w.deaf = false
	defer w.start(w.rows)()
	w.until("all facts to be followed", func([]pipeline.Run) bool {
		var open int64
		err := w.db.QueryRow(t.Context(), `select (select count(*) from fact where position is null) + (select max(position) from fact) -
			coalesce((select position from journal_cursor where name = 'pipeline/checks'), 0)`).Scan(&open)
		return err == nil && open == 0
	})
	for name, want := range map[string]string{"bad": "failure", "good": "success", "after": "skipped"} {
		w.checks.mu.Lock()
		if got := w.checks.last["r1 ci.yml/"+name]; got != want {
			t.Errorf("check %s is %s in the end; want %s", name, got, want)
		}
		w.checks.mu.Unlock()
	}
}

func TestARefusedWorkflowIsAVisibleRunAndAFailingCheck(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.repo["r1"] = map[string]string{file: "on: push\njobs:\n  a:\n    runs-on: x\n    snapshot: golang\n    steps: [{run: ok}]\n"}
	defer w.start(w.rows)()
	w.push("", "r1")
	runs := w.until("the run", ended(1))
	if runs[0].State != pipeline.Refused || !strings.Contains(runs[0].Reason, file+":3:3: jobs.a.snapshot is not supported by Weir") {
		t.Errorf("runs: %s", show(runs))
	}
	w.checked("r1 ci.yml", "failure")
	w.checked("r1 ci.yml/a", "failure")
}

func TestANewPatchsetStopsTheOlderOne(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.repo["main"] = map[string]string{file: workflow("pull_request", "test hang")}
	w.repo["p1"], w.repo["p2"] = map[string]string{"a": "1"}, map[string]string{"a": "2"}
	defer w.start(w.rows)()
	w.change("main", "p1", 1)
	w.until("the first to run", func(runs []pipeline.Run) bool { return len(runs) == 1 && runs[0].Jobs[0].State == pipeline.Running })
	w.change("main", "p2", 2)
	runs := w.until("the first to stop", func(runs []pipeline.Run) bool {
		return len(runs) == 2 && runs[1].State == pipeline.Cancelled && runs[0].Jobs[0].State == pipeline.Running
	})
	if !strings.Contains(runs[1].Reason, "superseded by patchset 2") {
		t.Errorf("reason %q", runs[1].Reason)
	}
	close(w.runner.hang)
	w.until("the second", ended(2))
}

func TestAnAbandonedChangeStopsItsRuns(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.repo["main"] = map[string]string{file: workflow("pull_request", "test hang")}
	w.repo["p1"] = map[string]string{"a": "1"}
	defer w.start(w.rows)()
	w.change("main", "p1", 1)
	w.until("the run", func(runs []pipeline.Run) bool { return len(runs) == 1 && runs[0].Jobs[0].State == pipeline.Running })
	w.fact("source.change_ended", map[string]any{"change_id": "chg_1", "state": "abandoned"})
	runs := w.until("the end", ended(1))
	if runs[0].State != pipeline.Cancelled || runs[0].Reason != "the change was abandoned" {
		t.Errorf("runs: %s", show(runs))
	}
}

func allowed(context.Context, string, string) error { return nil }

func TestPeopleCancelAndRerun(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.repo["r1"] = map[string]string{file: workflow("push", "a ok", "b hang", "c a,b|ok")}
	defer w.start(w.rows)()
	s := &pipeline.Service{Store: w.rows, Logs: w.logs, Authorize: allowed, Check: spec.Check, Slots: 3}
	w.push("", "r1")
	runs := w.until("b to run", func(runs []pipeline.Run) bool {
		return len(runs) == 1 && runs[0].Jobs[0].State == pipeline.Success && runs[0].Jobs[1].State == pipeline.Running
	})
	id := runs[0].ID
	if err := s.Rerun(t.Context(), id, "ann"); !fault.Is(err, fault.Conflict) {
		t.Errorf("Rerun() of a running run = %v", err)
	}
	if err := s.Cancel(t.Context(), id, "ann", ""); err != nil {
		t.Fatal(err)
	}
	runs = w.until("the cancel", ended(1))
	if runs[0].State != pipeline.Cancelled || runs[0].Reason != "cancelled by ann" {
		t.Errorf("runs: %s", show(runs))
	}
	if err := s.Cancel(t.Context(), id, "ann", ""); !fault.Is(err, fault.Conflict) {
		t.Errorf("Cancel() of an ended run = %v", err)
	}
	close(w.runner.hang)
	if err := s.Rerun(t.Context(), id, "ann"); err != nil {
		t.Fatal(err)
	}
	runs = w.until("the rerun", func(runs []pipeline.Run) bool { return runs[0].State == pipeline.Success })
	if got := show(runs); !strings.Contains(got, "a=success/1 b=success/2 c=success/1") {
		t.Errorf("runs: %s", got)
	}
	if r, waits, err := s.Why(t.Context(), id); err != nil || len(waits) != 0 || r.Attempt != 2 {
		t.Errorf("Why() = attempt %d, %v, %v", r.Attempt, waits, err)
	}
	log, err := s.Log(t.Context(), id, "b", 2, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := s.Log(t.Context(), id, "nope", 0, 0, false); err == nil || !strings.Contains(fault.Sentence(err), "it has a, b, c") {
		t.Errorf("Log() of an unknown job = %v", err)
	}
	s.Authorize = func(_ context.Context, action, _ string) error { return fault.New(fault.Denied, "no %s", action) }
	_, lerr := s.List(t.Context(), pipeline.Filter{})
	_, gerr := s.Get(t.Context(), id)
	_, oerr := s.Log(t.Context(), id, "b", 0, 0, false)
	_, _, werr := s.Why(t.Context(), id)
	_, nerr := s.Lint(t.Context(), nil)
	for i, err := range []error{lerr, gerr, oerr, werr, nerr, s.Cancel(t.Context(), id, "eve", ""), s.Rerun(t.Context(), id, "eve")} {
		if !fault.Is(err, fault.Denied) {
			t.Errorf("method %d without permission = %v", i, err)
		}
	}
}

func TestARunnerThatBreaksLosesTheAttemptNotTheJob(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.repo["r1"] = map[string]string{file: workflow("push", "a break", "b ok")}
	defer w.start(w.rows)()
	w.push("", "r1")
	runs := w.until("the end", ended(1))
	if got := show(runs); !strings.Contains(got, fmt.Sprintf("a=failure/%d b=success/1", pipeline.MaxAttempts)) {
		t.Errorf("runs: %s", got)
	}
}

func TestStopMarksWhatRanAsLostAndItRunsAgain(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.repo["r1"] = map[string]string{file: workflow("push", "a ok", "b hang")}
	stop := w.start(w.rows)
	w.push("", "r1")
	w.until("b to run", func(runs []pipeline.Run) bool {
		return len(runs) == 1 && runs[0].Jobs[0].State == pipeline.Success && runs[0].Jobs[1].State == pipeline.Running
	})
	stop()
	runs := w.until("the stop", func([]pipeline.Run) bool { return true })
	if a := runs[0].Jobs[1].Attempts; len(a) != 1 || a[0].State != pipeline.Lost || runs[0].Jobs[1].State != pipeline.Queued {
		t.Fatalf("after the stop: %s", show(runs))
	}
	close(w.runner.hang)
	defer w.start(w.rows)()
	runs = w.until("the end", ended(1))
	if a := runs[0].Jobs[1].Attempts; runs[0].State != pipeline.Success || len(a) != 2 || a[0].State != pipeline.Lost || a[1].State != pipeline.Success {
		t.Errorf("after the restart: %s", show(runs))
	}
}

// A replica that was cut off loses its lease while a job runs. Its result comes too late and changes nothing; the job is seen as
// lost and runs again.
func TestAResultUnderALostLeaseIsRefused(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.repo["r1"] = map[string]string{file: workflow("push", "a hang")}
		defer w.start(w.rows)()
		w.push("", "r1")
		w.until("a to run", func(runs []pipeline.Run) bool { return len(runs) == 1 && runs[0].Jobs[0].State == pipeline.Running })
		err := d.Write(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(t.Context(), "update lease set holder = 'other', epoch = epoch + 1, expires = 0 where name = 'pipeline/engine'")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		close(w.runner.hang)
		runs := w.until("the end", ended(1))
		a := runs[0].Jobs[0].Attempts
		if runs[0].State != pipeline.Success || len(a) != 2 || a[0].State != pipeline.Lost || a[1].State != pipeline.Success || a[1].Epoch <= a[0].Epoch {
			t.Errorf("runs: %s, attempts %+v", show(runs), a)
		}
	})
}

func TestConcurrencyGroups(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	group := "concurrency: {group: one, cancel-in-progress: true}\n"
	w.repo["r1"] = map[string]string{file: group + workflow("push", "a hang")}
	w.repo["r2"] = map[string]string{file: group + workflow("push", "a hang"), "x": "2"}
	defer w.start(w.rows)()
	w.push("", "r1")
	w.until("the first", func(runs []pipeline.Run) bool { return len(runs) == 1 && runs[0].State == pipeline.Running })
	w.push("", "r2")
	w.until("the second to take its place", func(runs []pipeline.Run) bool {
		return len(runs) == 2 && runs[1].State == pipeline.Cancelled && runs[0].State == pipeline.Running
	})
	close(w.runner.hang)
	w.until("the end", ended(2))
}

func TestAFullDiskRefusesNewRunsAndKeepsThemForLater(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	var mu sync.Mutex
	full := true
	w.room = func() error {
		mu.Lock()
		defer mu.Unlock()
		if full {
			return engine.Disk(t.TempDir(), 1<<62)()
		}
		return engine.Disk(t.TempDir(), 1)()
	}
	w.repo["r1"] = map[string]string{file: workflow("push", "a ok")}
	defer w.start(w.rows)()
	w.push("", "r1")
	runs := w.until("the refusal", ended(1))
	if runs[0].State != pipeline.Cancelled || !strings.Contains(runs[0].Reason, "MiB left and new runs need") {
		t.Fatalf("runs: %s", show(runs))
	}
	mu.Lock()
	full = false
	mu.Unlock()
	s := &pipeline.Service{Store: w.rows, Authorize: allowed}
	if err := s.Rerun(t.Context(), runs[0].ID, "ann"); err != nil {
		t.Fatal(err)
	}
	w.until("the rerun", func(runs []pipeline.Run) bool { return runs[0].State == pipeline.Success })
}

// crash is a store that dies at its n-th write, before or after it commits. A dead store answers nothing, as a dead process.
type crash struct {
	pipeline.Store
	mu    sync.Mutex
	left  int
	after bool
	died  chan struct{}
}

var errDead = errors.New("the process is dead")

func (c *crash) write(do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left < 0 {
		return errDead
	}
	if c.left--; c.left >= 0 {
		return do()
	}
	if c.after {
		_ = do()
	}
	close(c.died)
	return errDead
}

func (c *crash) Create(ctx context.Context, r pipeline.Run) (created bool, err error) {
	err = c.write(func() error { created, err = c.Store.Create(ctx, r); return err })
	return created, err
}

func (c *crash) Save(ctx context.Context, f pipeline.Fence, prev, next pipeline.Run) error {
	return c.write(func() error { return c.Store.Save(ctx, f, prev, next) })
}

// TestKilledAtEveryWrite walks through the writes of a run: whatever the moment, the next start finishes it, no attempt is
// executed twice, and every attempt that was is there to see.
func TestKilledAtEveryWrite(t *testing.T) {
	for n := 0; ; n++ {
		finished := true
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d after=%v", n, after), func(t *testing.T) {
				w := newWorld(t, dbtest.SQLite(t))
				w.repo["r1"] = map[string]string{file: workflow("push", "a ok", "b ok", "c a,b|ok", "d c|ok")}
				c := &crash{Store: w.rows, left: n, after: after, died: make(chan struct{})}
				stop := w.start(c)
				w.push("", "r1")
				done := make(chan struct{})
				go func() {
					defer close(done)
					for t.Context().Err() == nil {
						runs, _ := w.rows.List(context.Background(), pipeline.Filter{Org: "default"})
						if len(runs) == 1 && runs[0].State.Done() {
							return
						}
						time.Sleep(2 * time.Millisecond)
					}
				}()
				select {
				case <-c.died:
					finished = false
				case <-done:
				}
				stop()
				defer w.start(w.rows)()
				runs := w.until("the end", ended(1))
				<-done
				if len(runs) != 1 || runs[0].State != pipeline.Success {
					t.Fatalf("runs: %s", show(runs))
				}
				seen := map[string]int{}
				for _, a := range w.runner.attempts() {
					if seen[a]++; seen[a] > 1 {
						t.Errorf("%s was executed twice", a)
					}
				}
				for _, j := range runs[0].Jobs {
					last := j.Attempts[len(j.Attempts)-1]
					if last.State != pipeline.Success || last.Number != len(j.Attempts) {
						t.Errorf("job %s: attempts %+v", j.Key, j.Attempts)
					}
					for _, a := range j.Attempts {
						delete(seen, fmt.Sprintf("%s/%s.%d", runs[0].ID, j.Key, a.Number))
					}
				}
				if len(seen) > 0 {
					t.Errorf("executed but not visible: %v", slices.Collect(maps.Keys(seen)))
				}
			})
		}
		if finished {
			if n < 4 {
				t.Errorf("a run made only %d writes; the walk saw too little", n)
			}
			return
		}
	}
}
