package web

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// graph is the jobs of a run, placed in columns by what they need.
type graph struct {
	Wide, High float64
	Nodes      []graphNode
	Edges      []graphEdge
}

type graphNode struct {
	Job       Job
	X, Y      float64
	Class     string
	Took      string
	Selected  bool
	Critical  bool
	NameShown string
}

type graphEdge struct {
	Path  string
	Class string
}

const (
	nodeWide = 158.0
	nodeHigh = 28.0
	rowHigh  = 37.0
)

// groupsOf maps what jobs are called in the file to their places.
func groupsOf(jobs []Job) map[string][]int {
	of := make(map[string][]int, len(jobs))
	for i, j := range jobs {
		of[j.group()] = append(of[j.group()], i)
	}
	return of
}

func (j Job) group() string {
	if j.Group == "" {
		return j.Key
	}
	return j.Group
}

// folded are the jobs as a graph of many shows them: one for all that share a name in the file. It stands for the worst of them.
func folded(jobs []Job) []Job {
	rank := map[string]int{"bad": 5, "run": 4, "warn": 3, "wait": 2, "off": 1}
	place := map[string]int{}
	count := map[string]int{}
	var out []Job
	for _, j := range jobs {
		g := j.group()
		count[g]++
		k, ok := place[g]
		if !ok {
			place[g] = len(out)
			j.Group, j.Key = g, g
			out = append(out, j)
			continue
		}
		f := &out[k]
		if !j.Started.IsZero() && (f.Started.IsZero() || j.Started.Before(f.Started)) {
			f.Started = j.Started
		}
		if f.Finished = later(f.Finished, j.Finished); !j.Done {
			f.Done = false
		}
		if rank[j.State.Kind] > rank[f.State.Kind] {
			f.State, f.ID = j.State, j.ID
		}
	}
	for i := range out {
		if !out[i].Done {
			out[i].Finished = time.Time{}
		}
		if n := count[out[i].Group]; n > 1 {
			out[i].Key = fmt.Sprintf("%s ×%d", out[i].Group, n)
		}
	}
	return out
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// drawn are the jobs that the graph has a node for; none if there are too many to look at.
func drawn(r Run) []Job {
	if len(r.Jobs) <= manyJobs {
		return r.Jobs
	}
	if all := folded(r.Jobs); len(all) <= mostNodes {
		return all
	}
	return nil
}

// drawGraph lays jobs out from left to right. A job stands one column after the
// last of those that it needs; lines that another path already implies are left out.
func drawGraph(jobs []Job, now time.Time, selected string) graph {
	groups := groupsOf(jobs)
	needs := make([][]int, len(jobs))
	for i, j := range jobs {
		for _, n := range j.Needs {
			for _, k := range groups[n] {
				if k != i {
					needs[i] = append(needs[i], k)
				}
			}
		}
	}
	column := make([]int, len(jobs))
	for range jobs { // As many passes as the longest path can have.
		for i := range jobs {
			for _, k := range needs[i] {
				column[i] = min(max(column[i], column[k]+1), len(jobs))
			}
		}
	}
	rows := map[int]int{}
	columns, most := 0, 0
	for i := range jobs {
		rows[column[i]]++
		columns, most = max(columns, column[i]+1), max(most, rows[column[i]])
	}
	g := graph{Wide: 1128, High: float64(most)*rowHigh - (rowHigh - nodeHigh) + 2}
	apart := 194.0
	if columns > 1 {
		if apart = (g.Wide - nodeWide) / float64(columns-1); apart < 194 {
			apart = 194
			g.Wide = float64(columns-1)*apart + nodeWide
		}
		apart = min(apart, 300)
	}
	critical := criticalPath(jobs, now)
	place := map[int]int{}
	for i, j := range jobs {
		c := column[i]
		top := (g.High - (float64(rows[c])*rowHigh - (rowHigh - nodeHigh))) / 2
		n := graphNode{Job: j, X: float64(c) * apart, Y: top + float64(place[c])*rowHigh, Class: nodeClass(j.State.Kind), Selected: j.ID == selected, Critical: critical[i], NameShown: ellipsis(j.Key, 15)}
		if !j.Started.IsZero() {
			n.Took = clock(ran(j, now))
		}
		place[c]++
		g.Nodes = append(g.Nodes, n)
	}
	for i := range jobs {
		for _, k := range needs[i] {
			if implied(needs, i, k) {
				continue
			}
			a, b := g.Nodes[k], g.Nodes[i]
			x1, y1, x2, y2 := a.X+nodeWide, a.Y+nodeHigh/2, b.X, b.Y+nodeHigh/2
			path := fmt.Sprintf("M%s %sH%s", num(x1), num(y1), num(x2))
			if y1 != y2 {
				mid := (x1 + x2) / 2
				path = fmt.Sprintf("M%s %sC%s %s %s %s %s %s", num(x1), num(y1), num(mid), num(y1), num(mid), num(y2), num(x2), num(y2))
			}
			class := "edge"
			switch {
			case jobs[k].State.Kind == "bad":
				class += " stop"
			case !jobs[i].Done && jobs[i].Started.IsZero():
				class += " off"
			case critical[i] && critical[k]:
				class += " crit"
			}
			g.Edges = append(g.Edges, graphEdge{path, class})
		}
	}
	return g
}

func nodeClass(kind string) string {
	switch kind {
	case "ok", "bad", "run":
		return kind
	case "skip", "off", "wait":
		return "skip"
	}
	return "ok"
}

// implied reports whether i needs k through another job as well.
func implied(needs [][]int, i, k int) bool {
	seen := map[int]bool{}
	var reach func(from int) bool
	reach = func(from int) bool {
		if seen[from] {
			return false
		}
		seen[from] = true
		return slices.Contains(needs[from], k) || slices.ContainsFunc(needs[from], reach)
	}
	for _, n := range needs[i] {
		if n != k && reach(n) {
			return true
		}
	}
	return false
}

// criticalPath marks the chain of jobs that decided when the run ended: from the
// job that ended last back through the need that ended last.
func criticalPath(jobs []Job, now time.Time) []bool {
	on := make([]bool, len(jobs))
	end := func(i int) time.Time {
		if jobs[i].Finished.IsZero() {
			return now
		}
		return jobs[i].Finished
	}
	// The last of each group, and of all.
	last, at := map[string]int{}, -1
	for i, j := range jobs {
		if j.Started.IsZero() {
			continue
		}
		if k, ok := last[j.group()]; !ok || end(i).After(end(k)) {
			last[j.group()] = i
		}
		if at < 0 || end(i).After(end(at)) {
			at = i
		}
	}
	for at >= 0 && !on[at] {
		on[at] = true
		next := -1
		for _, n := range jobs[at].Needs {
			if k, ok := last[n]; ok && (next < 0 || end(k).After(end(next))) {
				next = k
			}
		}
		at = next
	}
	return on
}

// ran is how long a job has run.
func ran(j Job, now time.Time) time.Duration {
	if j.Started.IsZero() {
		return 0
	}
	if j.Finished.IsZero() {
		return now.Sub(j.Started)
	}
	return j.Finished.Sub(j.Started)
}

func ellipsis(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// timeline is the jobs of a run on one axis of time.
type timeline struct {
	Lanes []lane
	Ticks []tick
	Now   string // in percent; "" if the run has ended
	Clock string
	More  int // jobs that have no lane
}

// covered reports whether the word at the present moment would stand over a tick's.
func (t timeline) covered(k tick) bool { return t.near(k, 8) }

// near reports whether a tick is closer to the present moment than a share of the axis.
func (t timeline) near(k tick, share float64) bool {
	return t.Now != "" && math.Abs(placeOf(t.Now)-placeOf(k.X)) < share
}

func (t timeline) nowAnchor() string {
	switch at := placeOf(t.Now); {
	case at < 6:
		return "start"
	case at > 94:
		return "end"
	}
	return "middle"
}

func placeOf(s string) float64 {
	f, _ := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	return f
}

type lane struct {
	Job               Job
	Wait, WaitWidth   string
	X, Width          string
	Class, Took, Text string
	Critical          bool
}

type tick struct{ X, Text, Anchor string }

// lanes are the jobs that the timeline shows: all, or of many those that decide, fail or run, and the longest.
func lanes(r Run, critical []bool) []int {
	all := make([]int, len(r.Jobs))
	for i := range all {
		all[i] = i
	}
	if len(all) <= manyJobs {
		return all
	}
	weight := func(i int) time.Duration {
		j := r.Jobs[i]
		w := ran(j, r.Now)
		switch {
		case critical[i]:
			w += 3e6 * time.Second
		case j.State.Kind == "bad":
			w += 2e6 * time.Second
		case j.State.Kind == "run":
			w += 1e6 * time.Second
		}
		return w
	}
	slices.SortStableFunc(all, func(a, b int) int { return cmp.Compare(weight(b), weight(a)) })
	all = all[:manyJobs]
	slices.SortFunc(all, func(a, b int) int {
		return cmp.Or(r.Jobs[a].Started.Compare(r.Jobs[b].Started), cmp.Compare(a, b))
	})
	return all
}

func drawTimeline(r Run) timeline {
	var t timeline
	from := r.Created
	to := r.Finished
	if to.IsZero() {
		to = r.Now
	}
	for _, j := range r.Jobs {
		if !j.Finished.IsZero() && j.Finished.After(to) {
			to = j.Finished
		}
	}
	span := max(to.Sub(from), time.Second)
	step := tickOf(span)
	end := step * time.Duration((span+step-1)/step)
	at := func(d time.Duration) float64 { return 100 * float64(d) / float64(end) }
	for d := time.Duration(0); d <= end; d += step {
		anchor := "middle"
		if d == 0 {
			anchor = "start"
		} else if d == end {
			anchor = "end"
		}
		t.Ticks = append(t.Ticks, tick{share(at(d)), tickText(d, step), anchor})
	}
	critical := criticalPath(r.Jobs, r.Now)
	shown := lanes(r, critical)
	t.More = len(r.Jobs) - len(shown)
	for _, i := range shown {
		j := r.Jobs[i]
		l := lane{Job: j, Critical: critical[i]}
		switch {
		case !j.Started.IsZero():
			x, w := at(j.Started.Sub(from)), at(ran(j, r.Now))
			q := min(at(j.Queued), x)
			l.X, l.Width, l.Wait, l.WaitWidth = share(x), share(max(w, 0.3)), share(x-q), share(q)
			l.Took = took(ran(j, r.Now))
			l.Text = fmt.Sprintf("%s: %s, from %s after the start", j.Key, l.Took, took(j.Started.Sub(from)))
			l.Class = "bar"
			if j.State.Kind == "bad" {
				l.Class += " bad"
			} else if l.Critical {
				l.Class += " crit"
			}
		case j.Done:
			l.Took = "did not run"
		default:
			l.Took = "not yet"
		}
		t.Lanes = append(t.Lanes, l)
	}
	if r.Live {
		t.Now, t.Clock = share(at(r.Now.Sub(from))), clock(r.Now.Sub(from))
	}
	return t
}

func tickOf(span time.Duration) time.Duration {
	for _, s := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour} {
		if span <= 6*s {
			return s
		}
	}
	return (span / 6).Truncate(time.Hour) + time.Hour
}

func tickText(d, step time.Duration) string {
	switch {
	case step >= time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	case step >= time.Minute:
		return fmt.Sprintf("%d m", int(d.Minutes()))
	case d >= time.Minute:
		return clock(d)
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}
