package web

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Charts are SVG whose geometry stands in attributes, so that no style is
// inline. The plot area is 600 by 160 units and stretches; words are outside.
const (
	chartWide = 600.0
	chartHigh = 160.0
)

// chart is a metric ready to be drawn.
type chart struct {
	Label          string
	Y              []string // labels, top first
	Canary, Base   []string // polylines: a gap begins a new one
	Bound          []string
	Zones          []string // what lies beyond the boundary
	CanaryEnd      string   // path of the last point
	BaseEnd        string
	Marks          []chartMark
	BoundText      string
	BoundY         string // in percent of the height
	From, To       string
	Empty          bool
	LatestBoundary *float64
}

type chartMark struct {
	X     string // in units
	Share string // in percent
	Text  string
	Now   bool
}

// drawChart scales the points of a metric. Between from and to lies the width.
func drawChart(m Metric, now time.Time, live bool) chart {
	var c chart
	if len(m.Points) < 2 {
		c.Empty = true
		return c
	}
	from, to := m.Points[0].At, m.Points[len(m.Points)-1].At
	span := to.Sub(from)
	if live {
		span = span * 5 / 4 // Room for what is to come.
	}
	if span <= 0 {
		c.Empty = true
		return c
	}
	high, low := 0.0, math.Inf(1)
	for _, p := range m.Points {
		for _, v := range []*float64{p.Canary, p.Baseline} {
			if v != nil {
				high, low = max(high, *v), min(low, *v)
			}
		}
	}
	last := m.Points[len(m.Points)-1]
	if last.Bad != nil {
		high = max(high, *last.Bad*1.15)
	}
	top, step := niceScale(high)
	x := func(t time.Time) float64 { return round2(chartWide * float64(t.Sub(from)) / float64(span)) }
	y := func(v float64) float64 { return round2(chartHigh - chartHigh*v/top) }
	for i := 4; i >= 0; i-- {
		label := trimZeros(step * float64(i))
		if i == 4 {
			label = figureAxis(step*4, m.Unit)
		}
		c.Y = append(c.Y, label)
	}
	c.Canary = lines(m.Points, func(p Point) *float64 { return p.Canary }, x, y)
	c.Base = lines(m.Points, func(p Point) *float64 { return p.Baseline }, x, y)
	c.Bound = lines(m.Points, func(p Point) *float64 { return p.Bad }, x, y)
	for _, line := range c.Bound {
		points := strings.Fields(line)
		first, _, _ := strings.Cut(points[0], ",")
		end, _, _ := strings.Cut(points[len(points)-1], ",")
		c.Zones = append(c.Zones, line+" "+end+",0 "+first+",0")
	}
	c.CanaryEnd, c.BaseEnd = end(c.Canary), end(c.Base)
	if last.Bad != nil {
		c.LatestBoundary = last.Bad
		c.BoundText = "rolls back above " + figure(*last.Bad, m.Unit)
		c.BoundY = fmt.Sprintf("%.2f%%", math.Max(0, y(*last.Bad))/chartHigh*100)
	}
	for _, mark := range m.Marks {
		if mark.At.After(from) && mark.At.Before(to) {
			c.Marks = append(c.Marks, markAt(x(mark.At), mark.Text, false))
		}
	}
	if live {
		c.Marks = append(c.Marks, markAt(x(to), "now", true))
		c.To = ""
	} else {
		c.To = to.UTC().Format("15:04:05")
	}
	roomy(c.Marks, live)
	c.From = from.UTC().Format("15:04:05")
	c.Label = chartLabel(m)
	return c
}

// roomy takes the words off marks that would touch others: the start of the axis,
// its end, "now", or the mark before.
func roomy(marks []chartMark, live bool) {
	end := 84.0
	if live {
		end = 68
	}
	before := 14.0
	for i := range marks {
		at, _ := strconv.ParseFloat(strings.TrimSuffix(marks[i].Share, "%"), 64)
		if marks[i].Now {
			continue
		}
		if at < before+7 || at > end {
			marks[i].Text = ""
			continue
		}
		before = at
	}
}

func chartLabel(m Metric) string {
	var parts []string
	if m.Canary != nil {
		parts = append(parts, "canary "+figure(*m.Canary, m.Unit))
	}
	if m.Baseline != nil {
		parts = append(parts, "baseline "+figure(*m.Baseline, m.Unit))
	}
	if n := len(m.Points); n > 0 && m.Points[n-1].Bad != nil {
		parts = append(parts, "rolls back above "+figure(*m.Points[n-1].Bad, m.Unit))
	}
	return m.Name + ": " + strings.Join(parts, ", ")
}

func markAt(x float64, text string, now bool) chartMark {
	return chartMark{X: num(x), Share: fmt.Sprintf("%.2f%%", x/chartWide*100), Text: text, Now: now}
}

// lines joins the points that were measured. What was not leaves a gap.
func lines(points []Point, value func(Point) *float64, x func(time.Time) float64, y func(float64) float64) []string {
	var out []string
	var now []string
	flush := func() {
		if len(now) > 1 {
			out = append(out, strings.Join(now, " "))
		}
		now = nil
	}
	for _, p := range points {
		v := value(p)
		if v == nil || math.IsNaN(*v) || math.IsInf(*v, 0) {
			flush()
			continue
		}
		now = append(now, num(x(p.At))+","+num(max(y(*v), -400)))
	}
	flush()
	return out
}

func end(polylines []string) string {
	if len(polylines) == 0 {
		return ""
	}
	points := strings.Fields(polylines[len(polylines)-1])
	return "M" + strings.ReplaceAll(points[len(points)-1], ",", " ") + "h.01"
}

// niceScale is the top of an axis with four even steps, and a step.
func niceScale(high float64) (top, step float64) {
	if high <= 0 {
		return 1, 0.25
	}
	raw := high * 1.1 / 4
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, f := range []float64{1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10} {
		if step = f * unit; step >= raw-1e-12 {
			break
		}
	}
	return step * 4, step
}

func figureAxis(v float64, unit string) string {
	if unit == "%" {
		return trimZeros(v) + "%"
	}
	return trimZeros(v) + " " + unit
}

func trimZeros(v float64) string { return strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64) }

func round2(v float64) float64 { return math.Round(v*100) / 100 }

func num(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func share(v float64) string { return strconv.FormatFloat(round2(v), 'f', -1, 64) + "%" }

// cascade is the plan of a rollout as steps of water: what flowed, where it is
// now, what is ahead. Every step is as wide as the others.
type cascade struct {
	Steps []cascadeStep
	Now   string // in percent, "" if nothing moves
	Flip  bool   // the words stand left of the now line
	Fell  bool   // it was rolled back
	Label string
}

type cascadeStep struct {
	X, Width, DoneWidth string // in percent
	Y, Height           string
	End, DoneEnd        string
	Before              string // level before, for the riser
	HasRise, Passed     bool
	Ahead               bool // part of it is still ahead
	NotDone             bool
}

const cascadeHigh = 108.0

func drawCascade(r Rollout) cascade {
	var c cascade
	n := len(r.Steps)
	if n == 0 {
		return c
	}
	wide := 100 / float64(n)
	now := r.Now
	if !r.Live && !r.Ended.IsZero() {
		now = r.Ended
	}
	before := cascadeHigh
	var words []string
	for i, s := range r.Steps {
		x := wide * float64(i)
		level := cascadeHigh - s.Percent // one unit a percent
		done := 0.0
		switch {
		case !s.Left.IsZero():
			done = 1
		case !s.Entered.IsZero():
			done = 0.98
			if s.Bake > 0 {
				done = math.Min(0.98, float64(now.Sub(s.Entered))/float64(s.Bake))
			}
			if !r.Live && r.State.Kind == "ok" {
				done = 1
			}
			done = math.Max(done, 0.02)
			if r.Live {
				c.Now = share(x + wide*done)
				c.Flip = i == n-1 && done > 0.5
			} else if done < 1 {
				c.Fell = true
				c.Now = share(x + wide*done)
				c.Flip = i == n-1
			}
		}
		c.Steps = append(c.Steps, cascadeStep{
			X: share(x), Width: share(wide), DoneWidth: share(wide * done), Y: num(round2(level)), Height: num(round2(cascadeHigh - level)),
			End: share(x + wide), DoneEnd: share(x + wide*done), Before: num(round2(before)), HasRise: i > 0, Passed: done > 0, Ahead: done < 1, NotDone: done == 0,
		})
		before = level
		words = append(words, percent(s.Percent)+" "+strings.ToLower(s.State.Word))
	}
	c.Label = "Traffic on the new release by step: " + strings.Join(words, ", ")
	return c
}

// gauge places measured times on an axis that ends at top.
type gauge struct {
	Last, Low, High, Objective string // in percent
	Label                      string
	Class                      string
}

func drawGauge(times []Measured, objective, top time.Duration, class string) gauge {
	at := func(d time.Duration) string { return share(100 * math.Min(1, float64(d)/float64(top))) }
	last := times[len(times)-1].Took
	low, high := last, last
	for _, m := range times {
		low, high = min(low, m.Took), max(high, m.Took)
	}
	g := gauge{Last: at(last), Low: at(low), High: at(high), Class: class, Label: fmt.Sprintf("Last took %s, range %s to %s", took(last), took(low), took(high))}
	if objective > 0 {
		g.Objective = at(objective)
		g.Label += ", objective " + took(objective)
	}
	return g
}

// axisTop is the end of the axis that all services share, in five even steps.
func axisTop(services []Readiness) time.Duration {
	var high time.Duration
	for _, s := range services {
		high = max(high, s.Objective)
		for _, m := range append(lastOf(s.Drills, 6), lastOf(s.Rollbacks, 6)...) {
			high = max(high, m.Took)
		}
	}
	for _, step := range []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second, 5 * time.Second, 10 * time.Second,
		15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 6 * time.Hour} {
		if high <= step*4 {
			return step * 5
		}
	}
	return 24 * time.Hour * 5
}

// axisLabels are the marks at 0 to 4 fifths; the last one carries the unit.
func axisLabels(top time.Duration) []string {
	unit, name := time.Second, "s"
	switch {
	case top < 2*time.Second:
		unit, name = time.Millisecond, "ms"
	case top > 10*time.Minute:
		unit, name = time.Minute, "m"
	}
	var out []string
	for i := range 5 {
		s := trimZeros(float64(top) / 5 * float64(i) / float64(unit))
		if i == 4 {
			s += " " + name
		}
		out = append(out, s)
	}
	return out
}

func lastOf(m []Measured, n int) []Measured {
	out := m[max(0, len(m)-n):]
	return append([]Measured(nil), out...)
}
