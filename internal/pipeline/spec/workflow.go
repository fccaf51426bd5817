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
	Name        string
	RunName     Text
	Push        *Trigger
	PullRequest *Trigger
	Env         map[string]Text
	Defaults    Defaults
	Concurrency *Concurrency
	Jobs        []Job // in the order of the file
}

// Trigger filters an event. Empty lists filter nothing.
type Trigger struct {
	Branches, BranchesIgnore []string
	Paths, PathsIgnore       []string
}

// Defaults of run steps.
type Defaults struct{ Shell, WorkingDirectory Text }

// Concurrency of a workflow.
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
	Uses             string // a name of Builtins
	With             map[string]Text
	Pos              Pos
}
