package pipeline

// Plan is what a run will do: the workflow with its matrix unfolded, for one event. It is stored with the run, so that an
// upgrade or a later change of the file does not alter a run that has begun.
type Plan struct {
	Env         map[string]string `json:"env,omitempty"`
	Jobs        []JobPlan         `json:"jobs"`
	Concurrency *Concurrency      `json:"concurrency,omitempty"`
	Inputs      string            `json:"inputs,omitempty"` // what the run was started with: a JSON object
	// What jobs that are made during the run are made from: sources of workflows by name, actions as they were resolved.
	Files   map[string]string `json:"files,omitempty"`
	Actions map[string]string `json:"actions,omitempty"`
	Scopes  map[string]*Scope `json:"scopes,omitempty"`  // of called workflows, by the key of the job that called
	Rev     int               `json:"rev,omitempty"`     // grows when jobs are added
	Network string            `json:"network,omitempty"` // what jobs may reach at most; "" is whatever the runner allows
}

// Scope is what the jobs of a called workflow see instead of the caller's.
type Scope struct {
	File    string            `json:"file"`
	Inputs  string            `json:"inputs"` // a JSON object
	Env     map[string]string `json:"env,omitempty"`
	Secrets map[string]string `json:"secrets,omitempty"` // texts, filled in from the secrets of the scope above
	Inherit bool              `json:"inherit,omitempty"`
	Parent  string            `json:"parent,omitempty"` // the scope above; "" is the run
}

// Concurrency lets one run, or one job, of a group go at a time.
type Concurrency struct {
	Group            string `json:"group"`
	CancelInProgress bool   `json:"cancel_in_progress,omitempty"`
	Cancel           string `json:"cancel,omitempty"`   // of a job: the text that CancelInProgress comes from
	Resolved         bool   `json:"resolved,omitempty"` // of a job: Group and CancelInProgress are values, no texts
}

// Group is a job that stands for others, which are made when it may start: the combinations of a matrix that depends on what
// ran before, or the jobs of another workflow. It never goes to a runner; it ends when they have.
type Group struct {
	Kind    GroupKind         `json:"kind"`
	File    string            `json:"file"`           // name in Plan.Files: of the matrix's own workflow, or of the one that is called
	With    map[string]string `json:"with,omitempty"` // texts
	Secrets map[string]string `json:"secrets,omitempty"`
	Inherit bool              `json:"inherit,omitempty"`
	Made    bool              `json:"made,omitempty"` // its jobs are in the plan
}

// GroupKind says what a group stands for.
type GroupKind string

// The kinds of groups.
const (
	MatrixGroup GroupKind = "matrix"
	CallGroup   GroupKind = "call"
)

// Container is the image that a job or one of its services runs in. All are texts.
type Container struct {
	Image    string            `json:"image"`
	Env      map[string]string `json:"env,omitempty"`
	Ports    []string          `json:"ports,omitempty"`
	Volumes  []string          `json:"volumes,omitempty"`
	Options  string            `json:"options,omitempty"`
	Username string            `json:"username,omitempty"`
	Password string            `json:"password,omitempty"`
}

// JobPlan is one job to run. Texts may hold expressions that the runner fills in; what the engine needs is already resolved.
type JobPlan struct {
	Key             string            `json:"key"`
	JobID           string            `json:"job_id"` // as written in the file; shared by the jobs of a matrix
	Name            string            `json:"name"`
	Needs           []string          `json:"needs,omitempty"`
	Labels          []string          `json:"labels,omitempty"`
	If              string            `json:"if,omitempty"`
	Env             map[string]string `json:"env,omitempty"`
	Outputs         map[string]string `json:"outputs,omitempty"`
	Steps           []StepPlan        `json:"steps"`
	Matrix          string            `json:"matrix,omitempty"` // JSON, because its order matters
	MatrixIndex     int               `json:"matrix_index,omitempty"`
	MatrixTotal     int               `json:"matrix_total,omitempty"`
	FailFast        bool              `json:"fail_fast,omitempty"`
	MaxParallel     int               `json:"max_parallel,omitempty"`
	ContinueOnError bool              `json:"continue_on_error,omitempty"`
	TimeoutMinutes  float64           `json:"timeout_minutes,omitempty"`
	// CancelTimeoutMinutes is how long it may clean up after it was cancelled; 0 is the runner's own choice.
	CancelTimeoutMinutes float64 `json:"cancel_timeout_minutes,omitempty"`

	Line  int    `json:"line,omitempty"`
	Build *Build `json:"build,omitempty"` // set on a release job

	Always         bool         `json:"always,omitempty"` // its if: asks always() or cancelled(): cancelling does not stop it
	Group          *Group       `json:"group,omitempty"`
	Parent         string       `json:"parent,omitempty"` // key of the group that it belongs to
	Scope          string       `json:"scope,omitempty"`  // key in Plan.Scopes; "" is the run's own
	Concurrency    *Concurrency `json:"concurrency,omitempty"`
	Environment    string       `json:"environment,omitempty"` // a text
	EnvironmentURL string       `json:"environment_url,omitempty"`
	// Permissions are what the job's token opens: scope to read or write. Nil is what a workflow has that says nothing.
	Permissions map[string]string    `json:"permissions,omitempty"`
	Container   *Container           `json:"container,omitempty"`
	Services    map[string]Container `json:"services,omitempty"`
}

// StepPlan is one step. Either Run or Uses is set.
type StepPlan struct {
	ID               string `json:"id,omitempty"`
	Name             string `json:"name,omitempty"`
	If               string `json:"if,omitempty"`
	Run              string `json:"run,omitempty"`
	Shell            string `json:"shell,omitempty"`
	WorkingDirectory string `json:"working_directory,omitempty"`
	// Uses is a built-in ("checkout", "setup-go", ...), a folder of the repository ("./x"), an image ("docker://x"), or an action
	// of a mirror with the revision that it was resolved to ("owner/name/path@<sha>").
	Uses            string            `json:"uses,omitempty"`
	With            map[string]string `json:"with,omitempty"`
	Env             map[string]string `json:"env,omitempty"`
	ContinueOnError string            `json:"continue_on_error,omitempty"`
	TimeoutMinutes  string            `json:"timeout_minutes,omitempty"`
	Line            int               `json:"line,omitempty"`
}

// Build is what a landed revision must produce for one service. It becomes one more job, after all others.
type Build struct {
	Job       string            `json:"job"` // "release-<service>"
	Service   string            `json:"service"`
	ServiceID string            `json:"service_id"`
	Version   string            `json:"version"`
	Before    []StepPlan        `json:"before,omitempty"` // between the checkout and the script
	Script    string            `json:"script,omitempty"`
	Env       map[string]string `json:"env,omitempty"`
	Output    string            `json:"output"`            // file, relative to the workspace
	Network   string            `json:"network,omitempty"` // what its job may reach at most; "" is whatever the runner allows
}

// ReleaseJob is the plan of a build: checkout, then the script, in the same confinement as every job. It waits for all the others
// and runs if none failed; one that its own condition skipped does not stand in the way.
func ReleaseJob(b Build, needs []string) JobPlan {
	steps := append([]StepPlan{{Name: "Check out the revision", Uses: "checkout"}}, b.Before...)
	if b.Script != "" {
		steps = append(steps, StepPlan{Name: "Build " + b.Service, Run: b.Script, Shell: "bash", Env: b.Env})
	}
	return JobPlan{
		Key: b.Job, JobID: b.Job, Name: "Release " + b.Service + " " + b.Version, Needs: needs, If: "!failure() && !cancelled()", TimeoutMinutes: 60,
		Steps: steps,
		Build: &b,
	}
}

// Stricter is the one of two networks that lets a job reach less: none, egress, host. "" says nothing.
func Stricter(a, b string) string {
	for _, n := range []string{"none", "egress", "host"} {
		if a == n || b == n {
			return n
		}
	}
	return a
}
