package judge

import (
	"math/rand/v2"

	"gonum.org/v1/gonum/stat/distuv"
)

// Scenario is a comparison to be drawn look by look, as a rollout sees it, for
// simulations of what the judge promises.
type Scenario struct {
	RPS   float64 // requests a second and arm
	Base  float64 // the baseline's error rate
	Times float64 // the canary's, in multiples of it
	Shape float64 // of a gamma that multiplies each interval's rate, which the model does not know; 0 is none
	Looks int     // one every five seconds
}

// stops says after how many canary requests the judge stopped, or -1.
func (s Scenario) stops(c Config, r *rand.Rand) int64 {
	var canary, baseline Arm
	draw := func(mean float64) int64 {
		if mean <= 0 {
			return 0
		}
		return int64(distuv.Poisson{Lambda: mean, Src: r}.Rand())
	}
	for range s.Looks {
		gc, gb := 1.0, 1.0
		if s.Shape > 0 {
			g := distuv.Gamma{Alpha: s.Shape, Beta: s.Shape, Src: r}
			gc, gb = g.Rand(), g.Rand()
		}
		canary.Requests += draw(s.RPS * 5)
		baseline.Requests += draw(s.RPS * 5)
		canary.Errors += draw(s.RPS * 5 * s.Base * s.Times * gc)
		baseline.Errors += draw(s.RPS * 5 * s.Base * gb)
		if m := errorsOf(c, canary, baseline); m.LogE >= m.Limit {
			return canary.Requests
		}
	}
	return -1
}

// Simulate returns the share of n replications that were stopped.
func Simulate(c Config, s Scenario, n int) float64 {
	r := rand.New(rand.NewPCG(1, 2))
	stopped := 0
	for range n {
		if s.stops(c, r) >= 0 {
			stopped++
		}
	}
	return float64(stopped) / float64(n)
}
