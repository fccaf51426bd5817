package testresult

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"weir/internal/pipeline"
)

// Bounds of what one attempt may report.
const (
	MaxKept     = 50_000 // tests that are kept one by one; failures come first
	MaxFailures = 5_000
	maxTests    = 2_000_000 // tests that are counted
	maxMessage  = 2 << 10
	maxDetail   = 16 << 10
	maxName     = 512
	maxProblems = 20
)

// Scope is where tests live; with their names it makes their keys.
type Scope struct {
	RepositoryID, Workflow, Job, Matrix string
}

// Key is the stable name of a test.
func (s Scope) Key(suite, pkg, name string) string {
	h := sha256.New()
	for _, part := range []string{s.RepositoryID, s.Workflow, s.Job, s.Matrix, suite, pkg, name} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Collector gathers the results of one attempt.
type Collector struct {
	scope    Scope
	results  []pipeline.TestResult
	index    map[string]int // by key, into results
	failures int
	count    pipeline.TestCount
	sources  []string
	problems []string
}

// NewCollector returns an empty one.
func NewCollector(s Scope) *Collector { return &Collector{scope: s, index: map[string]int{}} }

// Add takes one result. The same test twice is one result: it failed if it ever did, and is flaky if it also passed.
func (c *Collector) Add(r pipeline.TestResult) {
	if c.count.Total >= maxTests {
		c.Problem("more than %d tests are reported; the rest is left out", maxTests)
		return
	}
	r.Suite, r.Package, r.Name = text(r.Suite, maxName), text(r.Package, maxName), text(r.Name, maxName)
	if r.Name == "" {
		r.Name = "(no name)"
	}
	r.Message, r.Detail, r.File = text(r.Message, maxMessage), text(r.Detail, maxDetail), text(r.File, maxName)
	if r.Outcome == pipeline.TestPassed && !r.Flaky {
		r.Message, r.Detail = "", ""
	}
	r.Duration = min(max(r.Duration, 0), 1000*time.Hour)
	r.Key = c.scope.Key(r.Suite, r.Package, r.Name)
	if i, ok := c.index[r.Key]; ok {
		c.merge(&c.results[i], r)
		return
	}
	c.tally(r, 1)
	if r.Outcome == pipeline.TestFailed {
		if c.failures++; c.failures > MaxFailures {
			c.count.Dropped++
			return
		}
	} else if len(c.results)-min(c.failures, MaxFailures) >= MaxKept-MaxFailures {
		c.count.Dropped++
		return
	}
	c.index[r.Key] = len(c.results)
	c.results = append(c.results, r)
}

func (c *Collector) tally(r pipeline.TestResult, by int) {
	c.count.Total += by
	switch r.Outcome {
	case pipeline.TestPassed:
		c.count.Passed += by
	case pipeline.TestFailed:
		c.count.Failed += by
	case pipeline.TestSkipped:
		c.count.Skipped += by
	}
	if r.Flaky {
		c.count.Flaky += by
	}
	c.count.Duration += time.Duration(by) * r.Duration
}

func (c *Collector) merge(was *pipeline.TestResult, r pipeline.TestResult) {
	c.tally(*was, -1)
	flaky := was.Flaky || r.Flaky || was.Outcome != r.Outcome && was.Outcome != pipeline.TestSkipped && r.Outcome != pipeline.TestSkipped
	took := was.Duration + r.Duration
	if was.Outcome == pipeline.TestSkipped || r.Outcome == pipeline.TestFailed && was.Outcome != pipeline.TestFailed {
		if r.Outcome == pipeline.TestFailed {
			c.failures++
		}
		line := was.LogLine
		*was = r
		if was.LogLine == 0 {
			was.LogLine = line
		}
	}
	was.Flaky, was.Duration = flaky, took
	c.tally(*was, 1)
}

// Source names something that results were read from.
func (c *Collector) Source(name string) {
	if len(c.sources) < maxProblems {
		c.sources = append(c.sources, text(name, maxName))
	}
}

// Problem names something that could not be read.
func (c *Collector) Problem(format string, args ...any) {
	p := text(fmt.Sprintf(format, args...), maxMessage)
	for _, known := range c.problems {
		if known == p {
			return
		}
	}
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, p)
	}
}

// Report is everything that was collected.
func (c *Collector) Report() (pipeline.TestReport, []pipeline.TestResult) {
	return pipeline.TestReport{Count: c.count, Sources: c.sources, Problems: c.problems}, c.results
}

// Empty reports whether there is nothing to keep.
func (c *Collector) Empty() bool { return c.count.Total == 0 && len(c.problems) == 0 }

// text makes a string that every database keeps: valid, without zero bytes, and not too long.
func text(s string, most int) string {
	cut := len(s) > most
	if cut {
		s = s[:most]
	}
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\ufffd")
	if cut {
		s = strings.TrimSuffix(s, "\ufffd") + "…"
	}
	return s
}
