package pipeline

import (
	"context"
	"errors"
	"io"
	"time"

	"weir/internal/base/db"
	"weir/internal/source"
)

// Repository is what runs need from the place that keeps revisions.
type Repository interface {
	// ReadFile returns the bytes of a file at a revision, or a NotFound fault.
	ReadFile(ctx context.Context, repositoryID, revision, path string) ([]byte, error)
	// List returns the paths of the files directly in dir; nothing if there is no such folder.
	List(ctx context.Context, repositoryID, revision, dir string) ([]string, error)
	// Checkout writes the tree of a revision into dir, which exists and is empty.
	Checkout(ctx context.Context, repositoryID, revision, dir string) error
	// Clone makes a repository of its own in dir, which exists and is empty, and returns the revision that is checked out.
	Clone(ctx context.Context, repositoryID string, c source.Clone, dir string) (string, error)
	// ChangedFiles returns the paths that differ between two revisions.
	ChangedFiles(ctx context.Context, repositoryID, from, to string) ([]string, error)
}

// Refs says where branches and tags of a repository point.
type Refs interface {
	// Trunk returns the trunk's ref and its newest revision, "" before the first push.
	Trunk(ctx context.Context, repositoryID string) (ref, revision string, err error)
	// Tag returns the commit that a tag points to, or a NotFound fault.
	Tag(ctx context.Context, repositoryID, name string) (revision string, err error)
	// Repository resolves a name to an id and the full name, or returns a NotFound fault.
	Repository(ctx context.Context, name string) (id, full string, err error)
}

// StartRequest asks for a run by hand.
type StartRequest struct {
	Repository string
	Workflow   string // path, or the name of the file
	Ref        string // a tag; "" and the trunk's name mean the trunk
	Inputs     map[string]string
	By         string
}

// Environments says who must agree before a job enters an environment.
type Environments interface {
	// Entry returns what is missing before a run's job may enter, or nil.
	Entry(ctx context.Context, r *Run, environment string) (*Hold, error)
	// Agree records the consent, or the refusal, of the actor of ctx.
	Agree(ctx context.Context, r *Run, environment, verdict, reason string) error
}

// Hold is what keeps a job from entering an environment.
type Hold struct{ For, Who string }

// Mirrors keeps copies of other repositories, for the actions and workflows that they offer.
type Mirrors interface {
	// Resolve returns the commit that a reference of the mirror of owner/name has, or a NotFound fault that says how to add it.
	Resolve(ctx context.Context, name, ref string) (revision string, err error)
	// ReadFile returns a file at a revision, or a NotFound fault.
	ReadFile(ctx context.Context, name, revision, path string) ([]byte, error)
	// Checkout writes the tree of a revision into dir, which exists and is empty.
	Checkout(ctx context.Context, name, revision, dir string) error
}

// Settings are the variables and secrets that runs are given, by name in upper case. Those of an environment ("" for none) win.
type Settings interface {
	Vars(ctx context.Context, repositoryID, environment string) (map[string]string, error)
	Secrets(ctx context.Context, repositoryID, environment string) (map[string]string, error)
}

// Check is the outcome of one job id of a workflow on a revision: what a merge looks at.
type Check struct {
	RepositoryID string
	Revision     string
	Name         string // "ci.yml/test"
	Base         string // whose workflows it ran under, for a change; "" for a landed revision
	RunID        RunID
	JobID        JobID
	State        string // pending, running, success, failure, skipped, cancelled
	Summary      string
	At           time.Time
}

// Checks takes reports. The same report may come more than once, and in the order of the facts.
type Checks interface {
	Report(ctx context.Context, c Check) error
}

// Networks says what jobs may reach, as the services of a repository declare it.
type Networks interface {
	// Network is the strictest word of the services whose workflow it is, at a revision; "" if none says anything.
	Network(ctx context.Context, repositoryID, revision, workflow string) (string, error)
}

// Builds says what a landed revision must produce.
type Builds interface {
	Plan(ctx context.Context, repositoryID, revision string) ([]Build, error)
}

// Output is a file that a release job made, with everything a provenance needs to know about its making.
type Output struct {
	RunID             RunID
	JobID             JobID
	Attempt           int
	RepositoryID      string
	Revision          string
	Service           string
	ServiceID         string
	Version           string
	Name              string
	Confined          bool
	Network           string
	Unenforced        []string   // limits that the machine could not hold the job to
	Materials         []Material // what went in besides the revision, as far as the runner saw it
	Started, Finished time.Time
}

// Material is something that went into a build, such as a base image.
type Material struct {
	URI    string `json:"uri"`
	Digest string `json:"digest"`
}

// Outputs takes what release jobs made. Put may be called again with the same output. A fault fails the job with its sentence.
type Outputs interface {
	Put(ctx context.Context, o Output, r io.Reader) error
}

// Authorize asks whether the actor in ctx may do action in org. It returns a Denied fault if not.
type Authorize func(ctx context.Context, action, org string) error

// Entry is what the ledger keeps of a run.
type Entry struct {
	Actor   string
	Action  string // pipeline.run_created, pipeline.run_finished, ...
	Subject string
	Data    any
}

// Ledger appends an entry in the transaction of the action.
type Ledger func(ctx context.Context, tx *db.Tx, e Entry) error

// Fence refuses, inside a transaction, once this engine is no longer the one.
type Fence func(ctx context.Context, tx *db.Tx) error

// Filter selects runs, the newest first.
type Filter struct {
	Org          string
	RepositoryID string
	Revision     string
	ChangeID     string
	Workflow     string // path of the file, or its last element
	Branch       string // a branch or tag, short or in full
	State        State
	Actor        string
	Before       RunID
	Limit        int
}

// Store keeps runs. Every write carries its facts and ledger entries, all or nothing, and wakes whoever watches the run.
type Store interface {
	// Create stores a run with its jobs unless the same revision, workflow, trust and change already have one. It asks older
	// patchsets of the same change to stop.
	Create(ctx context.Context, r Run) (created bool, err error)
	// Save stores what changed between two states of a run. ErrChanged means that prev is not what is stored.
	Save(ctx context.Context, fence Fence, prev, next Run) error
	// Update loads a run, lets decide change it, and stores it.
	Update(ctx context.Context, id RunID, entry Entry, decide func(Run) (Run, error)) error
	// Load returns a run with jobs and attempts, or a NotFound fault.
	Load(ctx context.Context, id RunID) (Run, error)
	// Active returns the id and version of every run that has not ended, the oldest first.
	Active(ctx context.Context) ([]Ref, error)
	// List returns runs without plan and jobs.
	List(ctx context.Context, f Filter) ([]Run, error)
	// Artifacts lists what the jobs of a run have kept, by name.
	Artifacts(ctx context.Context, id RunID) ([]Artifact, error)
}

// Ref is a run and the version of its row.
type Ref struct {
	ID      RunID
	Version int64
}

// Logs opens what a job wrote.
type Logs interface {
	// Tail returns the log from a byte offset: what is there now, or, if ended is set, everything until ended says so.
	Tail(ctx context.Context, run RunID, job JobID, attempt int, offset int64, ended func() bool) (io.ReadCloser, error)
	// Steps returns the steps that a log shows so far.
	Steps(run RunID, job JobID, attempt int) ([]Step, error)
}

// Topic is woken whenever a run changes.
func Topic(id RunID) string { return "pipeline:" + string(id) }

// RunsTopic is woken whenever a run is made, starts or ends.
const RunsTopic = "pipeline/runs"

// ErrChanged says that a run is no longer as it was read; read it again.
var ErrChanged = errors.New("the run has changed since it was read")

// Schedule is a workflow of a trunk that starts by itself.
type Schedule struct {
	Org          string
	RepositoryID string
	Repository   string
	Workflow     string
	Cron         string
	Zone         string // "" is UTC
}
