package web

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"weir/internal/pipeline"
)

// Bounds of what one page draws.
const (
	manyJobs  = 60  // more are drawn by what they are called in the file, and listed in pages
	mostNodes = 120 // more are not drawn
	jobsPage  = 100
	mostWhy   = 8 // panels that say what failed
)

// runView is a run with one tab about the job that the reader looks at.
type runView struct {
	Run        Run
	Job        Job
	Attempt    int
	Tab        string // log, tests, time, artifacts, summary
	Query      string // what is searched for in the tab
	Log        logView
	LogMissing string
	Follow     string // address of the log's stream, "" if it has ended
	Found      pipeline.LogMatches
	Tests      Tests
	Artifacts  []RunArtifact
	Summary    string
	JobState   string // kind of state that the list of jobs is filtered by
	JobText    string
	Page       int
}

func tabOf(asked string) string {
	if slices.Contains([]string{"tests", "time", "artifacts", "summary"}, asked) {
		return asked
	}
	return "log"
}

// tab is a link to one tab of the same job.
func (v runView) tab(name string) templ.SafeURL {
	u := fmt.Sprintf("/runs/%s?job=%s&attempt=%d", url.PathEscape(v.Run.ID), url.QueryEscape(v.Job.ID), v.Attempt)
	if name != "log" {
		u += "&tab=" + name
	}
	return templ.SafeURL(u + "#detail")
}

func (v runView) selected(name string) templ.Attributes {
	if v.Tab == name {
		return templ.Attributes{"aria-selected": "true", "aria-current": "true"}
	}
	return nil
}

// jobRows are the jobs of a run with many, filtered and cut into pages.
func (v runView) jobRows() (rows []Job, total int) {
	for _, j := range v.Run.Jobs {
		if v.JobState != "" && j.State.Kind != v.JobState || v.JobText != "" && !strings.Contains(strings.ToLower(j.Key), strings.ToLower(v.JobText)) {
			continue
		}
		rows = append(rows, j)
	}
	total = len(rows)
	from := min(max(v.Page, 0)*jobsPage, total)
	return rows[from:min(total, from+jobsPage)], total
}

func (v runView) jobsURL(state string, page int) templ.SafeURL {
	q := url.Values{"job": {v.Job.ID}}
	if state != "" {
		q.Set("jobs", state)
	}
	if v.JobText != "" {
		q.Set("find", v.JobText)
	}
	if page > 0 {
		q.Set("page", strconv.Itoa(page))
	}
	return templ.SafeURL("/runs/" + url.PathEscape(v.Run.ID) + "?" + q.Encode() + "#run-jobs")
}

// pick is the job whose log is shown: the one asked for, else the first that
// failed, else one that runs, else the last that ran.
func pick(r Run, asked string) Job {
	for _, j := range r.Jobs {
		if asked != "" && (j.ID == asked || j.Key == asked) {
			return j
		}
	}
	for _, kind := range []string{"bad", "run"} {
		for _, j := range r.Jobs {
			if j.State.Kind == kind {
				return j
			}
		}
	}
	var last Job
	for _, j := range r.Jobs {
		if !j.Started.IsZero() && (last.ID == "" || j.Started.After(last.Started)) {
			last = j
		}
	}
	if last.ID == "" && len(r.Jobs) > 0 {
		return r.Jobs[0]
	}
	return last
}

func jobURL(run, job string) templ.SafeURL {
	return templ.SafeURL("/runs/" + url.PathEscape(run) + "?job=" + url.QueryEscape(job) + "#detail")
}

// logLineURL is a line of a job's log.
func logLineURL(run, job string, attempt int, line int64) templ.SafeURL {
	return templ.SafeURL(fmt.Sprintf("/runs/%s?job=%s&attempt=%d&line=%d#L%d", url.PathEscape(run), url.QueryEscape(job), attempt, line, line))
}

func elapsedName(r Run) string {
	if r.Live {
		return "Elapsed"
	}
	return "Took"
}

func elapsed(r Run) string {
	switch {
	case r.Live:
		return took(r.Now.Sub(r.Created))
	case r.Finished.IsZero():
		return "did not run"
	}
	return took(r.Finished.Sub(r.Created))
}

func elapsedNote(r Run) string {
	usual := ""
	if r.TypicalOf > 0 {
		usual = fmt.Sprintf("usually %s, of %d", took(r.Typical), r.TypicalOf)
	}
	switch {
	case usual != "":
		return usual
	case r.Live:
		return "since " + r.Created.UTC().Format("15:04:05")
	case r.Finished.IsZero():
		return ""
	}
	return "ended " + r.Finished.UTC().Format("15:04:05")
}

func testsSaid(r Run) string {
	switch n := r.Tests; {
	case n.Total == 0:
		return "–"
	case n.Failed > 0:
		return number(n.Failed) + " failed of " + number(n.Total)
	default:
		return number(n.Passed) + " passed"
	}
}

func testsNote(r Run) string {
	n := r.Tests
	if n.Total == 0 {
		return "none reported"
	}
	var parts []string
	if n.Flaky > 0 {
		parts = append(parts, number(n.Flaky)+" flaky")
	}
	if n.Skipped > 0 {
		parts = append(parts, number(n.Skipped)+" skipped")
	}
	if len(parts) == 0 {
		return took(n.Duration) + " of tests"
	}
	return strings.Join(parts, ", ")
}

// used is the time that a run has had of runners.
func used(r Run) (d time.Duration) {
	for _, j := range r.Jobs {
		d += j.Used
	}
	return d
}

func tally(r Run) map[string]int {
	n := map[string]int{}
	for _, j := range r.Jobs {
		n[j.State.Kind]++
	}
	return n
}

func jobsDone(r Run) string {
	done := 0
	for _, j := range r.Jobs {
		if j.Done {
			done++
		}
	}
	return fmt.Sprintf("%d of %d", done, len(r.Jobs))
}

func jobsNote(r Run) string {
	n := tally(r)
	var parts []string
	for _, k := range []struct{ kind, word string }{{"ok", "passed"}, {"bad", "failed"}, {"run", "running"}, {"wait", "queued"}, {"off", "waiting"}, {"skip", "did not run"}, {"warn", "lost"}} {
		if n[k.kind] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[k.kind], k.word))
		}
	}
	return strings.Join(parts, ", ")
}

func longestQueue(r Run) string {
	var q time.Duration
	ran := false
	for _, j := range r.Jobs {
		if !j.Started.IsZero() {
			ran = true
			q = max(q, j.Queued)
		}
	}
	if !ran {
		return "–"
	}
	return took(q)
}

func confinement(r Run) string {
	in, out := 0, 0
	for _, j := range r.Jobs {
		switch {
		case j.Finished.IsZero() || j.Attempts == 0:
		case j.Confined:
			in++
		default:
			out++
		}
	}
	switch {
	case in+out == 0:
		return "–"
	case out == 0:
		return "Confined"
	case in == 0:
		return "Not confined"
	}
	return fmt.Sprintf("%d of %d confined", in, in+out)
}

func network(r Run) string {
	var kinds []string
	for _, j := range r.Jobs {
		if j.Network != "" && !slices.Contains(kinds, j.Network) {
			kinds = append(kinds, j.Network)
		}
	}
	if len(kinds) == 0 {
		return "known when a job has ended"
	}
	slices.Sort(kinds)
	return "network: " + strings.Join(kinds, ", ")
}

// worst are the errors of a job, or the warnings if there are none; at most ten.
func worst(all []Annotation) []Annotation {
	for _, level := range []string{"error", "warning"} {
		var out []Annotation
		for _, a := range all {
			if a.Level == level && len(out) < 10 {
				out = append(out, a)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

func annotationTitle(j Job) string {
	n := worst(j.Annotations)
	what := map[string][2]string{"error": {"error", "errors"}, "warning": {"warning", "warnings"}}[n[0].Level]
	return plural(len(n), what[0], what[1]) + " in " + j.Key
}

func annotationStatus(level string) Status {
	switch level {
	case "error":
		return Status{"bad", "Error"}
	case "warning":
		return Status{"warn", "Warning"}
	}
	return Status{"off", "Notice"}
}

func lineSuffix(n int) string {
	if n == 0 {
		return ""
	}
	return ":" + strconv.Itoa(n)
}

func nodeLabel(n graphNode) string {
	label := n.Job.Key + ", " + strings.ToLower(n.Job.State.Word)
	if n.Took != "" {
		label += ", " + n.Took
	}
	return label
}

func criticalNote(r Run) string {
	var path []string
	for i, on := range criticalPath(r.Jobs, r.Now) {
		if on {
			path = append(path, r.Jobs[i].Key)
		}
	}
	if len(path) == 0 {
		return ""
	}
	if len(path) > 8 {
		path = append(path[:8], fmt.Sprintf("%d more", len(path)-8))
	}
	return "Critical path: " + strings.Join(path, ", ") + ". Cutting anything else saves no time."
}

func laneLabel(l lane) templ.Attributes {
	if l.Text == "" {
		return templ.Attributes{"aria-hidden": "true"}
	}
	return templ.Attributes{"role": "img", "aria-label": l.Text}
}

func jobNote(j Job, r Run) string {
	switch {
	case !j.Started.IsZero() && !j.Finished.IsZero():
		return strings.ToLower(j.State.Word) + " after " + took(j.Finished.Sub(j.Started))
	case !j.Started.IsZero():
		return "running since " + hour(j.Started, r.Now)
	case j.Reason != "":
		return j.Reason
	}
	return strings.ToLower(j.State.Word)
}

func logAttrs(v runView) templ.Attributes {
	return templ.Attributes{"data-log": v.Follow, "data-base": v.Log.Base, "data-page": v.Log.Page}
}

// why are the jobs that deserve a panel of their own: those that failed first.
func why(r Run) (out []Job, more int) {
	for _, kind := range []bool{true, false} {
		for _, j := range r.Jobs {
			failed := j.State.Kind == "bad"
			if failed != kind || !(failed && (j.Reason != "" || len(worst(j.Annotations)) > 0) || !failed && len(worst(j.Annotations)) > 0) {
				continue
			}
			if len(out) == mostWhy {
				more++
				continue
			}
			out = append(out, j)
		}
	}
	return out, more
}

// before says how a test that failed did before.
func before(f Failure) string {
	passed := 0
	for _, r := range f.History {
		if r.Outcome != pipeline.TestPassed {
			break
		}
		passed++
	}
	switch {
	case len(f.History) == 0:
		return "Its first run"
	case passed == 0:
		failed := 0
		for _, r := range f.History {
			if r.Outcome == pipeline.TestFailed {
				failed++
			}
		}
		return fmt.Sprintf("Failed in %d of the last %d runs", failed, len(f.History))
	case passed == 1:
		return "Passed in the run before"
	}
	return fmt.Sprintf("Passed in the last %d runs", passed)
}

func excerpt(r pipeline.TestResult) string {
	text := strings.TrimSpace(r.Detail)
	if text == "" {
		text = r.Message
	}
	lines := strings.Split(text, "\n")
	if len(lines) > 12 {
		lines = append(lines[:12], "…")
	}
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
}

// sparkline is the last outcomes of a test, the oldest first.
type sparkline struct {
	Width string
	Label string
	Marks []sparkMark
}

type sparkMark struct{ Class, Path string }

func spark(history []pipeline.TestResult) sparkline {
	var s sparkline
	n := map[string]int{}
	for i := len(history) - 1; i >= 0; i-- {
		x := 3 + 6*(len(history)-1-i)
		switch r := history[i]; {
		case r.Outcome == pipeline.TestFailed:
			n["failed"]++
			s.Marks = append(s.Marks, sparkMark{"bad", fmt.Sprintf("M%d 5l5 6M%d 5l-5 6", x-2, x+3)})
		case r.Flaky:
			n["flaky"]++
			s.Marks = append(s.Marks, sparkMark{"f", fmt.Sprintf("M%d 1v14", x)})
		case r.Outcome == pipeline.TestSkipped:
			n["skipped"]++
			s.Marks = append(s.Marks, sparkMark{"s", fmt.Sprintf("M%d 8v1", x)})
		default:
			n["passed"]++
			s.Marks = append(s.Marks, sparkMark{"o", fmt.Sprintf("M%d 4v8", x)})
		}
	}
	s.Width = strconv.Itoa(max(6*len(history)+3, 9))
	s.Label = fmt.Sprintf("%d passed, %d flaky, %d failed, %d skipped", n["passed"], n["flaky"], n["failed"], n["skipped"])
	return s
}

func testStatus(r pipeline.TestResult) Status {
	switch {
	case r.Outcome == pipeline.TestFailed:
		return Status{"bad", "Failed"}
	case r.Flaky:
		return Status{"flaky", "Flaky"}
	case r.Outcome == pipeline.TestSkipped:
		return Status{"off", "Skipped"}
	}
	return Status{"ok", "Passed"}
}

func testWhere(r pipeline.TestResult) string {
	where := r.Package
	if r.Suite != "" && r.Suite != r.Package {
		where = strings.TrimPrefix(r.Suite+", "+r.Package, ", ")
	}
	return strings.TrimSuffix(where, ", ")
}

func testSaid(r pipeline.TestResult) string {
	if r.Message == "" {
		return map[bool]string{true: "It both failed and passed", false: strings.ToLower(testStatus(r).Word)}[r.Flaky]
	}
	line, _, _ := strings.Cut(r.Message, "\n")
	return printable(ellipsis(line, 200))
}

// longestJobs are the jobs by the time that they used, at most two hundred.
func longestJobs(r Run) []Job {
	all := slices.Clone(r.Jobs)
	slices.SortStableFunc(all, func(a, b Job) int { return cmp.Compare(b.Used, a.Used) })
	return all[:min(len(all), 200)]
}

// runList is a page of runs with what they are filtered by.
type runList struct {
	Runs
	Filter RunFilter
	More   templ.SafeURL
}

// url is a page of runs with these filters.
func (f RunFilter) url(path string) templ.SafeURL {
	q := url.Values{}
	for k, v := range map[string]string{"repository": f.Repository, "workflow": f.Workflow, "branch": f.Branch, "state": f.State, "actor": f.Actor, "before": f.Before} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if len(q) == 0 {
		return templ.SafeURL(path)
	}
	return templ.SafeURL(path + "?" + q.Encode())
}

// dropped names the filters, for a list that has no match.
func (f RunFilter) dropped() string {
	var parts []string
	for _, c := range []struct{ name, v string }{{"repository", f.Repository}, {"workflow", f.Workflow}, {"branch", f.Branch}, {"state", f.State}, {"who", f.Actor}} {
		if c.v != "" {
			parts = append(parts, c.name+" "+c.v)
		}
	}
	return strings.Join(parts, ", ")
}

var runStates = []string{"pending", "running", "success", "failure", "cancelled", "refused"}
