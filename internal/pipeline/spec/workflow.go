package spec

// Pos is a place in the file, from 1.
type Pos struct{ Line, Col int }

// Text is a string of the file; it may hold ${{ }} expressions.
type Text struct {
	Value string
	Pos   Pos
}

// Workflow is what Weir understands of a file.
type Workflow struct {
	Path        string
	Source      string // the file as it was read
	Name        string
	RunName     Text
	Push        *Trigger
	PullRequest *Trigger
	Dispatch    *Dispatch
	Call        *Called
	Schedules   []Schedule
	Env         map[string]Text
	Defaults    Defaults
	Concurrency *Concurrency
	Permissions Permissions
	Jobs        []Job // in the order of the file
}

// Trigger filters an event. Empty lists filter nothing.
type Trigger struct {
	Branches, BranchesIgnore []string
	Tags, TagsIgnore         []string
	Paths, PathsIgnore       []string
}

// Dispatch starts a run by hand.
type Dispatch struct{ Inputs []Input }

// Called lets other workflows use this one as a job.
type Called struct {
	Inputs  []Input
	Outputs map[string]Text
	Secrets map[string]bool // name to whether it is required
}

// Input is one value that a run is started with.
type Input struct {
	Name        string
	Description string
	Type        string // string, boolean, number, choice, environment
	Required    bool
	Default     any // as expr has it; nil if there is none
	Options     []string
	Pos         Pos
}

// Schedule starts runs at times, in UTC unless Zone says otherwise.
type Schedule struct {
	Cron string
	Zone string
	Pos  Pos
}

// Use is a job that is another workflow.
type Use struct {
	Path    string // ./.github/workflows/x.yml, or owner/name/path@revision
	With    map[string]Text
	Secrets map[string]Text
	Inherit bool // all secrets of the caller
	Pos     Pos
}

// Container is an image that a job or a service of it runs in.
type Container struct {
	Image    Text
	Env      map[string]Text
	Ports    []Text
	Volumes  []Text
	Options  Text
	Username Text
	Password Text
	Pos      Pos
}

// Environment is where a job deploys to; its gate must let the job in.
type Environment struct{ Name, URL Text }

// Defaults of run steps.
type Defaults struct{ Shell, WorkingDirectory Text }

// Concurrency of a workflow or a job.
type Concurrency struct {
	Group  Text
	Cancel Flag
}

// Flag is a boolean or an expression that gives one.
type Flag struct {
	Set   bool
	Value bool
	Expr  Text
}

// Amount is a number or an expression that gives one.
type Amount struct {
	Set   bool
	Value float64
	Expr  Text
}

// Job is a job before its matrix is unfolded.
type Job struct {
	ID              string
	Name            Text
	Needs           []string
	RunsOn          []Text
	If              Text
	Env             map[string]Text
	Defaults        Defaults
	Outputs         map[string]Text
	Steps           []Step
	Matrix          *Matrix
	FailFast        Flag
	MaxParallel     Amount
	ContinueOnError Flag
	Timeout         Amount
	CancelTimeout   Amount // cancel-timeout-minutes
	Concurrency     *Concurrency
	Environment     *Environment
	Container       *Container
	Services        map[string]Container
	Permissions     Permissions
	Use             *Use // instead of steps
	Pos             Pos
}

// Matrix of a strategy. Values are as expr has them; texts in them may hold expressions.
type Matrix struct {
	Rows    []Row
	Include []Combination
	Exclude []Combination
	Expr    Text // the whole matrix as one expression
	Pos     Pos
}

// Row is one axis.
type Row struct {
	Name   string
	Values []any
	Expr   Text
	Pos    Pos
}

// Combination is an entry of include or exclude, or an expression that gives a list of them.
type Combination struct {
	Keys   []string
	Values []any
	Expr   Text
}

// Step is one step.
type Step struct {
	ID               string
	Name             Text
	If               Text
	Env              map[string]Text
	ContinueOnError  Flag
	Timeout          Amount
	Run              Text
	Shell            Text
	WorkingDirectory Text
	Uses             string // a name of Builtins, ./folder, docker://image, or owner/name[/path]@ref
	With             map[string]Text
	Pos              Pos
}
