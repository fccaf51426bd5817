// Package runner is the port to where jobs execute. The suite in runnertest says what every runner must do.
package runner

import (
	"context"
	"io"

	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
)

// Job is one attempt of one job, with everything that its expressions may look at.
type Job struct {
	Org          string
	RunID        pipeline.RunID
	JobID        pipeline.JobID
	Attempt      int
	RepositoryID string
	Repository   string
	Revision     string
	Trust        pipeline.Trust
	ChangeID     string
	Workflow     string
	Plan         pipeline.JobPlan
	Env          map[string]string // of the workflow
	GitHub       map[string]any
	Needs        map[string]pipeline.Need
	Inputs       string            // the inputs context, a JSON object; "" for none
	Vars         map[string]string // the vars context
	Secrets      map[string]string // the secrets context; never stored, never for a run of an untrusted change
}

// Host is what a job may ask of Weir while it runs. Its methods may be called concurrently.
type Host interface {
	// Checkout writes the job's revision into dir, which exists and is empty.
	Checkout(ctx context.Context, dir string) error
	// Action writes the tree of a mirrored repository ("owner/name") at a revision into dir, which exists and is empty.
	Action(ctx context.Context, name, revision, dir string) error
	// Upload keeps a tar under a name in the run.
	Upload(ctx context.Context, name string, overwrite bool, tar io.Reader) error
	// Artifacts names what the run has kept so far.
	Artifacts(ctx context.Context) ([]string, error)
	// Download opens an artifact of the run, or returns a NotFound fault.
	Download(ctx context.Context, name string) (io.ReadCloser, error)
	// SaveCache keeps a tar under a key, unless the key is taken.
	SaveCache(ctx context.Context, key string, tar io.Reader) error
	// FindCache opens the entry with key, else the newest that begins with one of the prefixes. Found is "" if there is none.
	FindCache(ctx context.Context, key string, prefixes []string) (found string, tar io.ReadCloser, err error)
	// Output takes the file of a release job. A fault fails the job.
	Output(ctx context.Context, o pipeline.Output, r io.Reader) error
}

// Runner executes jobs.
type Runner interface {
	// Run executes one attempt in a fresh workspace and returns when nothing of it is left. A job that fails is a result; an error
	// means that the runner could not do its part, and that the job may run again elsewhere. When ctx ends the job is killed and
	// the result is Cancelled. The caller closes the log.
	Run(ctx context.Context, j Job, h Host, log *logs.Writer) (pipeline.Result, error)
}
