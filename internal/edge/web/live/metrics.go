package live

import (
	"fmt"
	"slices"
	"time"

	"weir/internal/control"
	"weir/internal/deploy"
	"weir/internal/edge/web"
)

// maxPoints is how many moments a chart has.
const maxPoints = 240

// metrics are the comparisons that the judge made, look by look. Rates are since
// the rollout began, as the judge counts, so that the boundary means the same.
func metrics(r deploy.Rollout, log []deploy.Decision, samples []control.Sample) []web.Metric {
	if len(samples) == 0 {
		return nil
	}
	last := samples[len(samples)-1]
	shown := thin(samples)
	var marks []web.Mark
	n := 0
	for _, d := range log {
		if d.Kind == "step" {
			if n < len(r.Plan.Steps) && n > 0 {
				marks = append(marks, web.Mark{At: d.At, Text: percent(r.Plan.Steps[n])})
			}
			n++
		}
	}
	var out []web.Metric
	for _, m := range last.Metrics {
		v := web.Metric{Unit: "%", Marks: marks, Evidence: m.Evidence, HasEvidence: true, State: verdict(m, last.Outcome)}
		var bad func(control.Arm) int64
		switch m.Name {
		case "errors":
			v.Name = "Error rate"
			bad = func(a control.Arm) int64 { return a.Errors }
			if last.Need > 0 {
				// The side with fewer requests decides how much was seen.
				v.Seen, v.Needed = min(last.Have, last.Baseline.Requests), last.Need
			}
		case "latency":
			i := slices.Index(deploy.LatencyBounds, m.Bound)
			if i < 0 {
				continue
			}
			v.Name = fmt.Sprintf("Slower than %d ms", m.Bound)
			bad = func(a control.Arm) int64 {
				if i < len(a.Slow) {
					return a.Slow[i]
				}
				return 0
			}
		default:
			continue
		}
		v.Canary, v.CanaryOf = rate(last.Canary, bad)
		v.Baseline, v.BaselineOf = rate(last.Baseline, bad)
		for _, s := range shown {
			p := web.Point{At: s.Time}
			p.Canary, _ = rate(s.Canary, bad)
			p.Baseline, _ = rate(s.Baseline, bad)
			for _, k := range s.Metrics {
				// A boundary at everything is none, and one for another bound is another one.
				if k.Name == m.Name && k.Bound == m.Bound && k.Boundary > 0 && k.Boundary < 1 {
					p.Bad = pointer(100 * k.Boundary)
				}
			}
			v.Points = append(v.Points, p)
		}
		out = append(out, v)
	}
	return out
}

func verdict(m control.Metric, outcome string) web.Status {
	switch {
	case m.Evidence >= 1:
		return web.Status{Kind: "bad", Word: "Worse"}
	case outcome == "no data":
		return web.Status{Kind: "warn", Word: "No data"}
	case outcome == "no worse":
		return web.Status{Kind: "ok", Word: "No worse"}
	}
	return web.Status{Kind: "run", Word: "Not sure yet"}
}

// rate is a share of requests in percent, with the count behind it; nil without requests.
func rate(a control.Arm, bad func(control.Arm) int64) (*float64, string) {
	if a.Requests == 0 {
		return nil, "no request"
	}
	return pointer(100 * float64(bad(a)) / float64(a.Requests)), number(bad(a)) + " of " + number(a.Requests)
}

func pointer(v float64) *float64 { return &v }

// thin takes evenly spaced samples and the last one.
func thin(samples []control.Sample) []control.Sample {
	if len(samples) <= maxPoints {
		return samples
	}
	span := samples[len(samples)-1].Time.Sub(samples[0].Time) / (maxPoints - 1)
	var out []control.Sample
	var next time.Time
	for _, s := range samples[:len(samples)-1] {
		if !s.Time.Before(next) {
			out = append(out, s)
			next = s.Time.Add(span)
		}
	}
	return append(out, samples[len(samples)-1])
}
