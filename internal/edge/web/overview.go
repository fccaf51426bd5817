package web

import (
	"fmt"
	"strings"
	"time"
)

// drillLife is how long a drill proves something.
const drillLife = 30 * 24 * time.Hour

// sentence pair at the top of the overview.
type headlineText struct{ Answer, So string }

// headline answers the page's question with what was measured, and with nothing
// else. A service counts if its last drill is inside the objective and young
// enough, and nothing blocks a rollback now; the time is the slowest of the last
// six drills of those that count.
func headline(v Overview) headlineText {
	var counted, drilled int
	var slowest time.Duration
	most := 0
	var cannot []string
	var rollbacks []Measured
	for _, s := range v.Services {
		rollbacks = append(rollbacks, s.Rollbacks...)
		if len(s.Drills) > 0 {
			drilled++
		}
		if !counts(s, v.Now) {
			cannot = append(cannot, s.Service)
			continue
		}
		counted++
		for _, d := range lastOf(s.Drills, 6) {
			slowest = max(slowest, d.Took)
		}
		most = max(most, min(6, len(s.Drills)))
	}
	switch {
	case len(v.Services) == 0:
		return headlineText{"Nothing measured yet.", "Push a repository with a weir.yaml; its services appear here, with what a rollback of each takes."}
	case drilled == 0 && len(rollbacks) > 0:
		var worst time.Duration
		for _, r := range rollbacks {
			worst = max(worst, r.Took)
		}
		what := "The slowest of " + plural(len(rollbacks), "real rollback", "real rollbacks")
		if len(rollbacks) == 1 {
			what = "One real rollback"
		}
		return headlineText{fmt.Sprintf("No drill yet. %s took %s.", what, took(worst)),
			"Measured from the decision until every request went to the other release. A drill measures the same on purpose, before it is needed."}
	case drilled == 0:
		return headlineText{"Not measured yet.", "No drill yet: measured rollbacks appear here. A real rollback is measured too: weir rollback SERVICE ENVIRONMENT."}
	}
	h := headlineText{Answer: fmt.Sprintf("%d of %s in %s or less.", counted, plural(len(v.Services), "service", "services"), took(slowest)),
		So: fmt.Sprintf("Measured by rollback drills in production, the slowest of the last %s each.", plural(most, "drill", "drills"))}
	if counted == 0 {
		h = headlineText{Answer: "No service can promise it right now.", So: ""}
	}
	if len(cannot) > 0 {
		h.So = strings.TrimSpace(h.So + " " + names(cannot) + " cannot promise it right now.")
	}
	return h
}

func counts(s Readiness, now time.Time) bool {
	if len(s.Drills) == 0 || s.Blocks != "" || s.Unknown || s.Oldest {
		return false
	}
	last := s.Drills[len(s.Drills)-1]
	return now.Sub(last.At) < drillLife && (s.Objective == 0 || last.Took <= s.Objective)
}

// names joins words: "a, b and c".
func names(of []string) string {
	if len(of) < 2 {
		return strings.Join(of, "")
	}
	return strings.Join(of[:len(of)-1], ", ") + " and " + of[len(of)-1]
}

// measured are the times to show: drills if there are any, else real rollbacks.
func measured(s Readiness) (times []Measured, drills bool) {
	if len(s.Drills) > 0 {
		return lastOf(s.Drills, 6), true
	}
	return lastOf(s.Rollbacks, 6), false
}

func gaugeClass(s Readiness, drills bool) string {
	switch {
	case s.Blocks != "":
		return "void"
	case !drills:
		return "stale"
	}
	return ""
}

// drillKinds are the last six drills, the missing ones at the end.
func drillKinds(s Readiness) []string {
	out := make([]string, 6)
	for i, d := range lastOf(s.Drills, 6) {
		out[i] = "in"
		if s.Objective > 0 && d.Took > s.Objective {
			out[i] = "out"
		}
	}
	return out
}

// confidence says how much the drills mean. Fewer than six are counted, not praised.
func confidence(s Readiness, now time.Time) string {
	d := lastOf(s.Drills, 6)
	inside := 0
	for _, m := range d {
		if s.Objective == 0 || m.Took <= s.Objective {
			inside++
		}
	}
	switch {
	case now.Sub(d[len(d)-1].At) >= drillLife:
		return "Too old"
	case len(d) < 6:
		return plural(len(d), "drill", "drills")
	case inside == 6:
		return "High"
	case inside >= 4:
		return "Medium"
	}
	return "Low"
}

func nextDrill(v Overview) string {
	for _, s := range v.Services {
		if len(s.Drills) > 0 {
			return ""
		}
	}
	return "No drill yet: measured rollbacks appear here"
}
