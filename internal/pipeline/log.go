package pipeline

import (
	"context"
	"time"
)

// LogRef names the log of one attempt.
type LogRef struct {
	Run     RunID
	Job     JobID
	Attempt int
}

// LogLine is one line of a log. Lines are counted from 1, markers included, so that a number names a line for good.
type LogLine struct {
	Number int64     `json:"number"`
	At     time.Time `json:"at"`
	Kind   string    `json:"kind" doc:"output, system, group, endgroup, annotation, begin, end or done."`
	Text   string    `json:"text"`
}

// The kinds of lines.
const (
	LogOutput     = "output"
	LogSystem     = "system" // a word from Weir itself
	LogGroupKind  = "group"
	LogEndGroup   = "endgroup"
	LogAnnotation = "annotation" // JSON, as Annotation
	LogBegin      = "begin"      // JSON, as Step
	LogEnd        = "end"        // JSON, as Step
	LogDone       = "done"       // the state of the attempt
)

// LogOutline says what is where in a log.
type LogOutline struct {
	Bytes  int64      `json:"bytes"`
	Lines  int64      `json:"lines"`
	Ended  bool       `json:"ended"`
	Steps  []LogStep  `json:"steps"`
	Groups []LogGroup `json:"groups,omitempty"` // the first MaxLogGroups
	Errors []int64    `json:"errors,omitempty"` // the numbers of the first MaxLogErrors lines that say that something failed
}

// Bounds of an outline.
const (
	MaxLogGroups = 2000
	MaxLogErrors = 200
)

// LogStep is one step with its lines: From is the line that begins it, To the last so far.
type LogStep struct {
	Step
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// LogGroup is a group of lines that a step made. To is 0 while it is open.
type LogGroup struct {
	Title string `json:"title"`
	From  int64  `json:"from"`
	To    int64  `json:"to"`
}

// LogQuery is a search. Text is looked for as it is, without regard to case; or, with Regexp, as a regular expression (RE2).
type LogQuery struct {
	Text   string
	Regexp bool
	From   int64 // the first line to look at
	Limit  int   // of matches; at most 1000
}

// LogMatches are the lines found. Next is where to go on: 0 if everything was looked at.
type LogMatches struct {
	Matches []LogLine `json:"matches"`
	Next    int64     `json:"next,omitempty" doc:"Line to go on from; absent if the log was searched to its end."`
}

// LogReader reads logs by line. Logs of the engine implement it beside Logs.
type LogReader interface {
	// Lines returns up to limit lines from a number on; fewer only at the end of what there is.
	Lines(ctx context.Context, ref LogRef, from int64, limit int) ([]LogLine, error)
	// Outline says what is where so far.
	Outline(ctx context.Context, ref LogRef) (LogOutline, error)
	// Search looks for lines.
	Search(ctx context.Context, ref LogRef, q LogQuery) (LogMatches, error)
}
