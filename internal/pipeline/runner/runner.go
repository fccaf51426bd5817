// Package runner is the port to where jobs execute. The suite in runnertest says what every runner must do.
package runner

import (
	"context"
	"io"

	"weir/internal/base/oci"
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
	Network      string // what it may reach at most; "" is whatever the runner allows
	ChangeID     string
	Workflow     string
	Plan         pipeline.JobPlan
	Actions      map[string]string // what actions of other repositories were resolved to in the plan
	Env          map[string]string // of the workflow
	GitHub       map[string]any
	Needs        map[string]pipeline.Need
	Inputs       string            // the inputs context, a JSON object; "" for none
	Vars         map[string]string // the vars context
	Secrets      map[string]string // the secrets context; never stored, never for a run of an untrusted change
	Registry     Registry          // Weir's own, as this job may use it
	// Token is the job's own, as its code holds it: github.token. "" if there is no server behind the job.
	Token string
	// Cancel is closed when the job shall stop and clean up after itself; nil if nobody can ask for that.
	Cancel <-chan struct{} `json:"-"`
}

// Registry is where a job finds images. The token is the password for any user name, is good for what this job may do, and dies with
// the attempt. Runners use it for the job; the job's code gets at it only through the job API.
type Registry struct {
	URL   string `json:"url,omitempty"` // of the server: "https://weir.example.com"
	Token string `json:"token,omitempty"`
}

// Checkout says what of the repository a job wants in its workspace.
type Checkout struct {
	Ref    string   `json:"ref,omitempty"`    // branch, tag or revision; the job's own revision if empty
	Depth  int      `json:"depth"`            // revisions of history; 0 is all
	Tags   bool     `json:"tags,omitempty"`   // also every tag
	Filter string   `json:"filter,omitempty"` // objects to leave out, as git's --filter names them
	Sparse []string `json:"sparse,omitempty"` // folders or patterns to write; everything if empty
	Cone   bool     `json:"cone,omitempty"`   // Sparse are folders
}

// Host is what a job may ask of Weir while it runs. Its methods may be called concurrently.
type Host interface {
	oci.Source // the images that the job may run in; names without a host are those of Weir's registry
	// Checkout makes a repository with a working tree of dir, which exists and is empty, and says which revision it is at.
	Checkout(ctx context.Context, c Checkout, dir string) (revision string, err error)
	// Action writes the files of another repository, which Weir has a mirror of, into dir, which exists and is empty.
	Action(ctx context.Context, repository, revision, dir string) error
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
	// means that the runner could not do its part, and that the job may run again elsewhere. When the job's Cancel closes,
	// the job may clean up for some minutes; when ctx ends it is killed. Either way the result is Cancelled. The caller closes the log.
	Run(ctx context.Context, j Job, h Host, log *logs.Writer) (pipeline.Result, error)
}
