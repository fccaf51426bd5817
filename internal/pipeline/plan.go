package pipeline

// Plan is what a run will do: the workflow with its matrix unfolded, for one event. It is stored with the run, so that an
// upgrade or a later change of the file does not alter a run that has begun.
type Plan struct {
	Env         map[string]string `json:"env,omitempty"`
	Jobs        []JobPlan         `json:"jobs"`
	Concurrency *Concurrency      `json:"concurrency,omitempty"`
}

// Concurrency lets one run of a group go at a time.
type Concurrency struct {
	Group            string `json:"group"`
	CancelInProgress bool   `json:"cancel_in_progress,omitempty"`
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
	Line            int               `json:"line,omitempty"`
	Build           *Build            `json:"build,omitempty"` // set on a release job
}

// StepPlan is one step. Either Run or Uses is set.
type StepPlan struct {
	ID               string            `json:"id,omitempty"`
	Name             string            `json:"name,omitempty"`
	If               string            `json:"if,omitempty"`
	Run              string            `json:"run,omitempty"`
	Shell            string            `json:"shell,omitempty"`
	WorkingDirectory string            `json:"working_directory,omitempty"`
	Uses             string            `json:"uses,omitempty"` // a built-in: "checkout", "setup-go", ...
	With             map[string]string `json:"with,omitempty"`
	Env              map[string]string `json:"env,omitempty"`
	ContinueOnError  string            `json:"continue_on_error,omitempty"`
	TimeoutMinutes   string            `json:"timeout_minutes,omitempty"`
	Line             int               `json:"line,omitempty"`
}

// Build is what a landed revision must produce for one service. It becomes one more job, after all others.
type Build struct {
	Job       string            `json:"job"` // "release-<service>"
	Service   string            `json:"service"`
	ServiceID string            `json:"service_id"`
	Version   string            `json:"version"`
	Script    string            `json:"script"`
	Env       map[string]string `json:"env,omitempty"`
	Output    string            `json:"output"` // file, relative to the workspace
}

// ReleaseJob is the plan of a build: checkout, then the script, in the same confinement as every job. It waits for all the others
// and runs if none failed; one that its own condition skipped does not stand in the way.
func ReleaseJob(b Build, needs []string) JobPlan {
	return JobPlan{
		Key: b.Job, JobID: b.Job, Name: "Release " + b.Service + " " + b.Version, Needs: needs, If: "!failure() && !cancelled()", TimeoutMinutes: 60,
		Steps: []StepPlan{
			{Name: "Check out the revision", Uses: "checkout"},
			{Name: "Build " + b.Service, Run: b.Script, Shell: "bash", Env: b.Env},
		},
		Build: &b,
	}
}
