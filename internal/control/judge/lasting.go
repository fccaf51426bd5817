package judge

import "fmt"

// Persist is in how many separate seconds a canary must have been slower before
// that stops it. Slow requests come in bursts: a processor that is taken away
// from one process for a moment makes everything slow that it had in hand. The
// test takes requests for independent and would see a fault; a fault lasts.
// Asking for more than the test alone does can only lower the chance of a false
// stop.
const Persist = 5

// Slower says at which boundaries the canary was slower in one second: more of
// its requests, by the margin, than of the baseline's. Both count what was
// slower than each boundary within that second.
func (c Config) Slower(canary, baseline []int64) []bool {
	out := make([]bool, min(len(canary), len(baseline)))
	for i := range out {
		out[i] = canary[i] > 0 && float64(canary[i]) > c.Margin*float64(baseline[i])
	}
	return out
}

// Lasting holds back a stop for latency until the canary was slower in Persist
// seconds. seconds counts them for each of bounds.
func (r Reading) Lasting(bounds []int64, seconds []int) Reading {
	if r.Outcome != Worse || len(r.Metrics) != 2 || r.Metrics[0].LogE >= r.Metrics[0].Limit {
		return r
	}
	m := r.Metrics[1]
	for i, b := range bounds {
		if b != m.Bound || i >= len(seconds) || seconds[i] >= Persist {
			continue
		}
		r.Outcome = TooFew
		r.Words = fmt.Sprintf("Slower than the baseline, but so far only in %d of %d seconds that it takes: %.2f %% of requests took over %d ms, against %.2f %%.", seconds[i], Persist, 100*m.Canary, m.Bound, 100*m.Baseline)
	}
	return r
}
