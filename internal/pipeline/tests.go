package pipeline

import (
	"context"
	"strings"
	"time"

	"weir/internal/base/fault"
)

// TestOutcome is what became of one test.
type TestOutcome string

// The outcomes.
const (
	TestPassed  TestOutcome = "passed"
	TestFailed  TestOutcome = "failed" // failed, or broke before it could say
	TestSkipped TestOutcome = "skipped"
)

// Test is one test of one workflow job, the same from run to run: its key is made of repository, workflow, job with its matrix,
// suite, package and name.
type Test struct {
	Key     string `json:"key"`
	Suite   string `json:"suite,omitempty"`
	Package string `json:"package,omitempty" doc:"The package or class."`
	Name    string `json:"name"`
}

// TestResult is what became of a test in one attempt of a job.
type TestResult struct {
	Test
	Outcome  TestOutcome   `json:"outcome"`
	Flaky    bool          `json:"flaky,omitempty" doc:"It both failed and passed in this attempt."`
	Duration time.Duration `json:"duration_ns"`
	Message  string        `json:"message,omitempty"` // of one that did not pass
	Detail   string        `json:"detail,omitempty"`
	File     string        `json:"file,omitempty"`
	Line     int           `json:"line,omitempty"`
	LogLine  int64         `json:"log_line,omitempty" doc:"Number of the line of the job's log that says so."`
	RunID    RunID         `json:"run_id"`
	JobID    JobID         `json:"job_id"`
	Job      string        `json:"job"` // its key in the run
	Attempt  int           `json:"attempt"`
	Revision string        `json:"revision"`
	Trust    Trust         `json:"trust"`
	At       time.Time     `json:"at"`
}

// TestCount counts the tests of one attempt or of a whole run.
type TestCount struct {
	Total    int           `json:"total"`
	Passed   int           `json:"passed"`
	Failed   int           `json:"failed"`
	Skipped  int           `json:"skipped"`
	Flaky    int           `json:"flaky"`
	Dropped  int           `json:"dropped,omitempty" doc:"Counted, but not kept one by one: there were too many."`
	Duration time.Duration `json:"duration_ns"`
}

// Add sums counts.
func (c *TestCount) Add(o TestCount) {
	c.Total, c.Passed, c.Failed, c.Skipped = c.Total+o.Total, c.Passed+o.Passed, c.Failed+o.Failed, c.Skipped+o.Skipped
	c.Flaky, c.Dropped, c.Duration = c.Flaky+o.Flaky, c.Dropped+o.Dropped, c.Duration+o.Duration
}

// TestReport is what one attempt reported of its tests.
type TestReport struct {
	JobID    JobID     `json:"job_id"`
	Job      string    `json:"job"`
	Attempt  int       `json:"attempt"`
	Count    TestCount `json:"count"`
	Sources  []string  `json:"sources"` // what the results were read from
	Problems []string  `json:"problems,omitempty"`
}

// TestFilter selects results of a run.
type TestFilter struct {
	Outcome TestOutcome
	Text    string // in suite, package or name
	Job     string // key or id
	Limit   int
	Offset  int
}

// Tests keeps results. What a run shows of a job is its latest attempt that reported any.
type Tests interface {
	// Reports lists the reports of a run, one for each job that has one.
	Reports(ctx context.Context, run RunID) ([]TestReport, error)
	// Results lists results of a run: what failed first, then what was flaky, then the slowest.
	Results(ctx context.Context, run RunID, f TestFilter) ([]TestResult, error)
	// History lists the results of a test, the newest first.
	History(ctx context.Context, key string, limit int) (Test, []TestResult, error)
	// Histories is History of several tests, outcomes only.
	Histories(ctx context.Context, keys []string, limit int) (map[string][]TestResult, error)
}

// RunTests are the tests of a run.
type RunTests struct {
	Count   TestCount    `json:"count"`
	Reports []TestReport `json:"reports"`
	Results []TestResult `json:"results"`
}

// RunTests lists what the tests of a run say, failures first.
func (s *Service) RunTests(ctx context.Context, id RunID, f TestFilter) (RunTests, error) {
	r, err := s.get(ctx, id)
	if err != nil {
		return RunTests{}, err
	}
	return s.TestsOf(ctx, r, f)
}

// TestsOf is RunTests of a run that the caller has read already.
func (s *Service) TestsOf(ctx context.Context, r Run, f TestFilter) (RunTests, error) {
	t, id := RunTests{Reports: []TestReport{}, Results: []TestResult{}}, r.ID
	if err := s.may(ctx, "run:read"); err != nil || s.Tests == nil {
		return t, err
	}
	f.Text = strings.TrimSpace(f.Text)
	if len(f.Text) > 500 {
		return t, fault.New(fault.Invalid, "The text to look for has %d bytes; 500 are allowed.", len(f.Text))
	}
	if f.Limit <= 0 || f.Limit > 1000 {
		f.Limit = 100
	}
	reports, err := s.Tests.Reports(ctx, id)
	if err != nil {
		return t, err
	}
	for _, r := range reports {
		t.Reports = append(t.Reports, r)
		t.Count.Add(r.Count)
	}
	if len(reports) == 0 {
		return t, nil
	}
	results, err := s.Tests.Results(ctx, id, f)
	t.Results = append(t.Results, results...)
	return t, err
}

// TestHistory lists what became of one test in the runs that had it, the newest first.
func (s *Service) TestHistory(ctx context.Context, key string, limit int) (Test, []TestResult, error) {
	if err := s.may(ctx, "run:read"); err != nil {
		return Test{}, nil, err
	}
	if limit <= 0 || limit > 500 {
		limit = 50
	}
	if s.Tests == nil {
		return Test{}, nil, fault.New(fault.NotFound, "There is no test %s.", key)
	}
	return s.Tests.History(ctx, key, limit)
}

// TestHistories lists the last outcomes of several tests.
func (s *Service) TestHistories(ctx context.Context, keys []string, limit int) (map[string][]TestResult, error) {
	if err := s.may(ctx, "run:read"); err != nil || s.Tests == nil || len(keys) == 0 {
		return nil, err
	}
	return s.Tests.Histories(ctx, keys[:min(len(keys), 200)], min(max(limit, 1), 100))
}
