// Package judge turns counts into a verdict. It is pure.
//
// The question is one-sided: do requests go wrong more often on the canary than
// on a baseline of the same size, by more than a margin? The answer is a
// sequential test that may be looked at all the time: an e-process. For bad
// events that fall on either side at random, the share that falls on the canary
// is at most
//
//	th0 = w*m / (w*m + 1 - w)
//
// if the canary is no worse than m times the baseline, with w the canary's
// share of the requests of both. Against that stands a Beta(1,1) mixture
// truncated to (th0, 1). The resulting evidence E grows without bound if the
// canary is worse, and if it is not, the chance that E ever reaches 1/alpha is
// at most alpha (Ville's inequality), at any stopping time, however often it is
// looked at. That holds given how many bad events there are; it does not hold
// if events arrive in bursts that hit one side only, which is what the margin
// is for. Doc: docs/guides/judge.md shows both by simulation.
//
// Latency is judged by the same test on each boundary of the histogram, "slower
// than b" being the bad event; the e-values of the boundaries are averaged,
// which is again an e-value. alpha is split evenly between errors and latency.
//
// Sources: Lindon and Malek, "Anytime-valid inference for multinomial count
// data" (NeurIPS 2022); Howard et al., "Time-uniform confidence sequences"
// (Ann. Stat. 2021); Ville (1939).
package judge

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mathext"
)

// Config says how sure to be of what.
type Config struct {
	Alpha  float64 // chance of ever stopping a rollout that is no worse, over its whole life; 0.01
	Margin float64 // how many times the baseline's rate still counts as no worse; 1.5
	Detect float64 // the canary's error rate that must not be missed, 0..1; 0.05
	Power  float64 // with which chance a step must have been able to notice it; 0.9
}

// Default is what Weir uses if a service says nothing.
func Default() Config { return Config{Alpha: 0.01, Margin: 1.5, Detect: 0.05, Power: 0.9} }

// share is the canary's part of the requests of canary and baseline together:
// they are of the same size.
const share = 0.5

func (c Config) null() float64 { return share * c.Margin / (share*c.Margin + 1 - share) }

// limit is the logarithm of the evidence at which one of n metrics is worse.
func (c Config) limit(n int) float64 { return math.Log(float64(n) / c.Alpha) }

// Arm is what one side of the comparison has seen since the rollout began.
type Arm struct {
	Requests int64
	Errors   int64
	Slow     []int64 // requests slower than each boundary, in the order of Bounds
}

// Outcome of a look.
type Outcome string

// The outcomes. TooFew is not a verdict: nothing can be told yet.
const (
	Worse   Outcome = "worse"
	NoWorse Outcome = "no worse"
	TooFew  Outcome = "too few"
	NoData  Outcome = "no data"
)

// Metric is what one metric says.
type Metric struct {
	Name     string  `json:"name"`     // "errors" or "latency"
	Evidence float64 `json:"evidence"` // of what is needed to stop: 1 stops
	LogE     float64 `json:"log_e"`
	Limit    float64 `json:"limit"` // of LogE
	Canary   float64 `json:"canary"`
	Baseline float64 `json:"baseline"`
	// Boundary is the canary's rate at which the test would stop now, 0..1.
	Boundary float64 `json:"boundary"`
	// Bound is the latency boundary, in milliseconds, that speaks loudest.
	Bound int64 `json:"bound,omitempty"`
}

// Reading is the state of a comparison at one look.
type Reading struct {
	Outcome Outcome  `json:"outcome"`
	Metrics []Metric `json:"metrics"`
	Have    int64    `json:"have"` // canary requests so far
	Need    int64    `json:"need"` // canary requests at which a fault of Detect is noticed with Power; -1 if never
	Words   string   `json:"words"`
}

// Look judges what two arms of the same size have seen. bounds are the upper
// latency bounds in milliseconds that Slow counts beyond.
func Look(c Config, canary, baseline Arm, bounds []int64) Reading {
	r := Reading{Have: canary.Requests}
	if canary.Requests == 0 || baseline.Requests == 0 {
		r.Outcome, r.Need = NoData, Need(c, 0)
		r.Words = "No requests have reached both the canary and its baseline yet."
		return r
	}
	r.Metrics = []Metric{errorsOf(c, canary, baseline), latencyOf(c, canary, baseline, bounds)}
	r.Need = Need(c, rate(baseline.Errors, baseline.Requests))
	for _, m := range r.Metrics {
		if m.LogE >= m.Limit {
			r.Outcome, r.Words = Worse, m.sentence(canary, baseline)
			return r
		}
	}
	switch {
	case r.Need < 0:
		r.Outcome = TooFew
		r.Words = fmt.Sprintf("The baseline itself fails %.2f %% of its requests: a fault of %.2f %% could not be told from that.", 100*r.Metrics[0].Baseline, 100*c.Detect)
	case r.Have < r.Need || baseline.Requests < r.Need*9/10:
		r.Outcome = TooFew
		r.Words = fmt.Sprintf("Too few requests to tell a fault from chance: %d of %d.", min(r.Have, baseline.Requests), r.Need)
	default:
		r.Outcome = NoWorse
		r.Words = fmt.Sprintf("No worse than the baseline: %d of %d requests failed, against %d of %d. A fault of %.3g %% would have been noticed with %.0f %% chance.",
			canary.Errors, canary.Requests, baseline.Errors, baseline.Requests, 100*c.Detect, 100*c.Power)
	}
	return r
}

func (m Metric) sentence(canary, baseline Arm) string {
	if m.Name == "latency" {
		return fmt.Sprintf("Slower than the baseline: %.2f %% of requests took over %d ms, against %.2f %%; the limit was %.2f %%.", 100*m.Canary, m.Bound, 100*m.Baseline, 100*m.Boundary)
	}
	return fmt.Sprintf("Worse than the baseline: %d of %d requests failed (%.2f %%), against %d of %d (%.2f %%); the limit was %.2f %%.",
		canary.Errors, canary.Requests, 100*m.Canary, baseline.Errors, baseline.Requests, 100*m.Baseline, 100*m.Boundary)
}

func rate(n, of int64) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

func errorsOf(c Config, canary, baseline Arm) Metric {
	m := Metric{Name: "errors", Limit: c.limit(2), Canary: rate(canary.Errors, canary.Requests), Baseline: rate(baseline.Errors, baseline.Requests)}
	m.LogE = LogE(canary.Errors, baseline.Errors, c.null())
	m.Evidence = evidence(m.LogE, m.Limit)
	m.Boundary = float64(Critical(baseline.Errors, c.null(), m.Limit)) / float64(canary.Requests)
	return m
}

func latencyOf(c Config, canary, baseline Arm, bounds []int64) Metric {
	m := Metric{Name: "latency", Limit: c.limit(2), LogE: math.Inf(-1)}
	n := min(len(canary.Slow), len(baseline.Slow), len(bounds))
	if n == 0 {
		m.LogE = 0
		return m
	}
	sum, loudest := math.Inf(-1), math.Inf(-1)
	for i := range n {
		e := LogE(canary.Slow[i], baseline.Slow[i], c.null())
		sum = logAdd(sum, e)
		if e > loudest {
			loudest = e
			m.Bound, m.Canary, m.Baseline = bounds[i], rate(canary.Slow[i], canary.Requests), rate(baseline.Slow[i], baseline.Requests)
			// Alone, this boundary would have to carry the average.
			m.Boundary = float64(Critical(baseline.Slow[i], c.null(), m.Limit+math.Log(float64(n)))) / float64(canary.Requests)
		}
	}
	m.LogE = sum - math.Log(float64(n))
	m.Evidence = evidence(m.LogE, m.Limit)
	return m
}

// evidence is how far log E has come, from 0 to 1 and above.
func evidence(logE, limit float64) float64 { return max(0, logE/limit) }

func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}

// LogE is the logarithm of the evidence that more than a share th0 of the bad
// events fall on the canary: x fell on the canary, y on the baseline.
func LogE(x, y int64, th0 float64) float64 {
	a, b := float64(x), float64(y)
	// 1 - I(th0; 1+a, 1+b), without losing its digits where it is small.
	up := mathext.RegIncBeta(1+b, 1+a, 1-th0)
	if up <= 1e-300 {
		return -50 // All the mixture's weight is on the null's side: no evidence.
	}
	// The prior is Beta(1,1) truncated to (th0, 1), whose weight is 1 - th0.
	return logBeta(1+a, 1+b) + math.Log(up) - math.Log(1-th0) - a*math.Log(th0) - b*math.Log(1-th0)
}

func logBeta(a, b float64) float64 {
	x, _ := math.Lgamma(a)
	y, _ := math.Lgamma(b)
	z, _ := math.Lgamma(a + b)
	return x + y - z
}

// Critical is the fewest bad events on the canary at which the evidence reaches
// limit, given y on the baseline.
func Critical(y int64, th0, limit float64) int64 {
	lo, hi := int64(0), int64(16)
	for LogE(hi, y, th0) < limit {
		lo, hi = hi, hi*2
	}
	for hi-lo > 1 {
		mid := (lo + hi) / 2
		if LogE(mid, y, th0) < limit {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}
