package web

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"
)

// runView is a run with the log of the job that the reader looks at.
type runView struct {
	Run        Run
	Job        Job
	Attempt    int
	Log        logView
	LogMissing string
	Follow     string // address of the log's stream, "" if it has ended
	Raw        string
	Summary    string
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
	return templ.SafeURL("/runs/" + url.PathEscape(run) + "?job=" + url.QueryEscape(job) + "#log")
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
	if r.Live {
		return "since " + r.Created.UTC().Format("15:04:05")
	}
	if r.Finished.IsZero() {
		return ""
	}
	return "ended " + r.Finished.UTC().Format("15:04:05")
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
	needs := make([][]int, len(r.Jobs))
	index := map[string]int{}
	for i, j := range r.Jobs {
		index[j.Key] = i
	}
	for i, j := range r.Jobs {
		for _, n := range j.Needs {
			if k, ok := index[n]; ok {
				needs[i] = append(needs[i], k)
			}
		}
	}
	var path []string
	for i, on := range criticalPath(r.Jobs, needs, r.Now) {
		if on {
			path = append(path, r.Jobs[i].Key)
		}
	}
	if len(path) == 0 {
		return ""
	}
	return "Critical path: " + strings.Join(path, ", ")
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

func followAttr(url string) templ.Attributes {
	a := templ.Attributes{"data-log": url}
	return a
}
