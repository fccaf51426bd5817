package web

import (
	"fmt"
	"slices"

	"github.com/a-h/templ"
)

func stepCount(r Rollout) string {
	at := 0
	for i, s := range r.Steps {
		if !s.Entered.IsZero() {
			at = i + 1
		}
	}
	switch {
	case len(r.Steps) < 2:
		return r.Strategy
	case r.Live && at > 0:
		return fmt.Sprintf("Step %d of %d", at, len(r.Steps))
	case at > 0 && at < len(r.Steps):
		return fmt.Sprintf("Ended at step %d of %d", at, len(r.Steps))
	}
	return plural(len(r.Steps), "step", "steps")
}

func step(s Step, live bool) templ.Attributes {
	if live && !s.Entered.IsZero() && s.Left.IsZero() {
		return templ.Attributes{"aria-current": "step"}
	}
	return nil
}

func nowText(r Rollout, fell bool) string {
	if fell {
		if r.Ended.IsZero() {
			return "ended"
		}
		return "ended " + r.Ended.UTC().Format("15:04:05")
	}
	return "now " + r.Now.UTC().Format("15:04:05")
}

// newest are the last n points, the newest first.
func newest(points []Point, n int) []Point {
	out := slices.Clone(points[max(0, len(points)-n):])
	slices.Reverse(out)
	return out
}

func rollbackQuestion(r Rollout) string {
	q := "Take " + r.Service + " in " + r.Environment + " back"
	if r.BackTo != "" {
		q += " to " + r.BackTo
	}
	return q + "?"
}

func orEarlier(version string) string {
	if version == "" {
		return "what ran before"
	}
	return version
}
