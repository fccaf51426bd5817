package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"weir/internal/base/blob/dir"
	"weir/internal/base/confine"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
	"weir/internal/base/oci"
	"weir/internal/base/part"
	"weir/internal/pipeline"
	pipelineengine "weir/internal/pipeline/engine"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/logs/logdb"
	"weir/internal/pipeline/pipelinedb"
	"weir/internal/pipeline/runner/local"
	"weir/internal/pipeline/spec"
	"weir/internal/source"
	"weir/internal/source/mirror"
)

// LocalRun asks for the workflows of a folder to run on this machine, without a server.
type LocalRun struct {
	Dir        string
	Workflow   string
	Job        string
	Event      string
	Inputs     map[string]string
	Matrix     map[string]string
	Secrets    map[string]string
	Vars       map[string]string
	Slots      int
	Unconfined bool
	Network    string
	Quiet      bool // no log lines, only the outcome
	// Mirrors are repositories on this machine that actions and workflows of others come from, each owner/name=PATH; MirrorDir has more.
	Mirrors   []string
	MirrorDir string
	// Images is a folder with images for containers; Server has them otherwise, for whoever has the token.
	Images, Server, Token string
}

// Outcome is what became of a local run.
type Outcome struct {
	Run      string       `json:"run"`
	Workflow string       `json:"workflow"`
	State    string       `json:"state"`
	Reason   string       `json:"reason,omitempty"`
	Took     string       `json:"took"`
	Jobs     []JobOutcome `json:"jobs"`
}

// JobOutcome is what became of one of its jobs.
type JobOutcome struct {
	Job     string            `json:"job"`
	State   string            `json:"state"`
	Reason  string            `json:"reason,omitempty"`
	Took    string            `json:"took,omitempty"`
	Outputs map[string]string `json:"outputs,omitempty"`
	Summary string            `json:"summary,omitempty"`
}

// settingsOf are secrets and variables that were given on the command line.
type settingsOf struct{ vars, secrets map[string]string }

func (s settingsOf) Vars(context.Context, string, string) (map[string]string, error) {
	return s.vars, nil
}
func (s settingsOf) Secrets(context.Context, string, string) (map[string]string, error) {
	return s.secrets, nil
}

// localRefs finds the one repository there is.
type localRefs struct{ revision string }

func (r localRefs) Trunk(context.Context, string) (string, string, error) {
	return "refs/heads/main", r.revision, nil
}
func (r localRefs) Tag(_ context.Context, _, name string) (string, error) {
	return "", fault.New(fault.NotFound, "There is no tag %s here.", name)
}
func (r localRefs) Repository(_ context.Context, name string) (string, string, error) {
	return "local", name, nil
}

// RunLocal runs workflows on the working tree with the planner, the engine and the runner of the server, in a folder of its own
// that is removed afterwards. Log lines go to out as they come. Cancelling ctx stops the run, jobs that clean up included.
func RunLocal(ctx context.Context, o LocalRun, out io.Writer) (_ []Outcome, err error) {
	if support := confine.Probe(); !support.OK && !o.Unconfined {
		return nil, fault.New(fault.Unavailable, "This machine cannot confine jobs: %s\nRun them without protection with --unconfined.", strings.Join(support.Missing, "; "))
	}
	mirrors, err := mirror.NewFolders(o.Mirrors, o.MirrorDir)
	if err != nil {
		return nil, err
	}
	tree, err := openWorktree(o.Dir)
	if err != nil {
		return nil, err
	}
	defer tree.root.Close()
	data, err := os.MkdirTemp("", "weir-run-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = removeAll(data) }()
	d, err := open(ctx, "database", "sqlite://"+filepath.Join(data, "weir.db"), databases)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	for _, migrate := range []func(context.Context, *db.DB) error{lease.Migrate, journal.Migrate, source.Migrate, pipelinedb.Migrate, logdb.Migrate} {
		if err := migrate(ctx, d); err != nil {
			return nil, err
		}
	}
	bytes, err := dir.Open(filepath.Join(data, "blobs"))
	if err != nil {
		return nil, err
	}
	cache, err := imageCache()
	if err != nil {
		cache = "" // no home: in the folder of this run
	}
	runner, err := local.New(local.Config{Data: data, Images: cache, Network: confine.Network(o.Network), Unconfined: o.Unconfined, Least: 64 << 20})
	if err != nil {
		return nil, err
	}
	l := &localWorld{out: out, quiet: o.Quiet, journal: journal.New(d), db: d, logs: logs.New(filepath.Join(data, "logs"))}
	l.rows = pipelinedb.New(d, l.journal, nil)
	branch, head := tree.head(ctx)
	if head == "" {
		head = strings.Repeat("0", 40)
	}
	l.engine = pipelineengine.New(pipelineengine.Config{Holder: "local", Slots: o.Slots, Select: func(j *pipeline.JobPlan) bool { return pipelineengine.Selected(j, o.Matrix) }},
		pipelineengine.Parts{DB: d, Journal: l.journal, Store: l.rows, Keeper: pipelineengine.Keeper{Blobs: bytes, Rows: l.rows}, Repository: tree,
			Images:  func(pipeline.JobID, int) oci.Source { return localImages(o) },
			Mirrors: mirrors,
			Refs:    localRefs{head}, Settings: settingsOf{o.Vars, o.Secrets}, Runner: runner, Logs: l.logs})
	l.service = &pipeline.Service{Store: l.rows, Logs: l.logs, Check: spec.Check, Slots: l.engine.Slots(), Authorize: func(context.Context, string, string) error { return nil }}
	who := first(os.Getenv("USER"), "local")
	runs, err := l.engine.StartLocal(ctx, pipelineengine.Local{Workflow: o.Workflow, Event: o.Event, Branch: first(branch, "main"), Job: o.Job, Matrix: o.Matrix, Inputs: o.Inputs,
		Run: pipeline.Run{Org: "default", RepositoryID: "local", Repository: filepath.Base(tree.dir), Ref: "refs/heads/" + first(branch, "main"), Revision: head, Trust: pipeline.Local, Actor: who}})
	if err != nil {
		return nil, err
	}
	return l.run(ctx, runs)
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// removeAll is RemoveAll that also gets rid of folders without write permission, as Go's module cache makes them.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// localWorld is everything that a local run needs of a server.
type localWorld struct {
	db      *db.DB
	journal *journal.Journal
	rows    *pipelinedb.Store
	logs    *logs.Dir
	engine  *pipelineengine.Engine
	service *pipeline.Service

	quiet bool
	mu    sync.Mutex // guards out
	out   io.Writer
}

// Write implements io.Writer, one line at a time.
func (l *localWorld) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// run drives the runs to their end.
func (l *localWorld) run(ctx context.Context, runs []pipeline.Run) ([]Outcome, error) {
	parts, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		ended <- part.Run(parts, l.engine, part.Func("journal", func(ctx context.Context) error { return l.journal.Sequence(ctx, "local") }))
	}()
	var watchers sync.WaitGroup
	out := make([]Outcome, len(runs))
	errs := make([]error, len(runs))
	for i, r := range runs {
		watchers.Go(func() { out[i], errs[i] = l.watch(parts, r.ID, len(runs) > 1) })
	}
	done := make(chan struct{})
	go func() { watchers.Wait(); close(done) }()
	var broken error
	select {
	case <-done:
	case broken = <-ended:
		ended <- nil
	case <-ctx.Done():
		for _, r := range runs {
			if err := l.service.Cancel(parts, r.ID, "you", "interrupted"); err != nil {
				slog.Debug("run not cancelled", "run", r.ID, "error", err)
			}
		}
		select {
		case <-done:
		case <-time.After(30 * time.Second): // what cleans up has had its time
		}
	}
	stop()
	<-done
	<-ended
	for _, err := range errs {
		if broken == nil && err != nil && ctx.Err() == nil {
			broken = err
		}
	}
	if broken == nil {
		broken = ctx.Err()
	}
	return out, broken
}

// watch follows one run: the log of each attempt as it is written, and the outcome.
func (l *localWorld) watch(ctx context.Context, id pipeline.RunID, many bool) (Outcome, error) {
	wake, cancel := l.db.Subscribe(pipeline.Topic(id))
	defer cancel()
	var tails sync.WaitGroup
	defer tails.Wait()
	seen := map[string]bool{}
	for {
		r, err := l.rows.Load(ctx, id)
		if err != nil {
			return Outcome{}, err
		}
		for i := range r.Jobs {
			j := &r.Jobs[i]
			a := j.Current()
			key := fmt.Sprintf("%s.%d", j.ID, len(j.Attempts))
			if a == nil || seen[key] || l.quiet {
				continue
			}
			seen[key] = true
			prefix := r.Plan.Jobs[i].Name
			if many {
				prefix = filepath.Base(r.Workflow) + ": " + prefix
			}
			tails.Go(func() { l.tail(ctx, id, string(j.ID), a.Number, "["+prefix+"] ") })
		}
		if r.State.Done() {
			tails.Wait()
			return outcome(r), nil
		}
		select {
		case <-wake:
		case <-time.After(time.Second): // a lost wake-up
		case <-ctx.Done():
			return outcome(r), ctx.Err()
		}
	}
}

func (l *localWorld) tail(ctx context.Context, id pipeline.RunID, job string, attempt int, prefix string) {
	in, err := l.service.Log(ctx, id, job, attempt, 0, true)
	if err != nil {
		fmt.Fprintf(l, "%sits log cannot be read: %v\n", prefix, err)
		return
	}
	defer in.Close()
	if err := PrintLog(l, in, prefix, nil); err != nil && ctx.Err() == nil {
		fmt.Fprintf(l, "%sits log cannot be read any further: %v\n", prefix, err)
	}
}

func outcome(r pipeline.Run) Outcome {
	o := Outcome{Run: string(r.ID), Workflow: r.Workflow, State: string(r.State), Reason: r.Reason, Took: took(r.Started, r.Finished)}
	for i := range r.Jobs {
		j := &r.Jobs[i]
		x := JobOutcome{Job: r.Plan.Jobs[i].Name, State: string(j.State), Reason: j.Reason, Outputs: j.Outputs}
		if a := j.Current(); a != nil {
			x.Took, x.Summary = took(a.Started, a.Finished), a.Summary
		}
		o.Jobs = append(o.Jobs, x)
	}
	return o
}

func took(from, to time.Time) string {
	if from.IsZero() || to.IsZero() {
		return ""
	}
	return to.Sub(from).Round(time.Millisecond).String()
}

// OutcomeError is an error if a run did not succeed.
func OutcomeError(all []Outcome) error {
	i := slices.IndexFunc(all, func(o Outcome) bool { return o.State != string(pipeline.Success) })
	if i < 0 {
		return nil
	}
	for _, j := range all[i].Jobs {
		if j.State == string(pipeline.Failure) {
			return fault.New(fault.Invalid, "%s ended in %s: job %s: %s", all[i].Workflow, all[i].State, j.Job, first(j.Reason, j.State))
		}
	}
	return fault.New(fault.Invalid, "%s ended in %s. %s", all[i].Workflow, all[i].State, all[i].Reason)
}
