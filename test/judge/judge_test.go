// Package judge_test simulates what docs/guides/judge.md says of the judge. It
// takes minutes, so it runs only when it is asked for: WEIR_SIMULATE=1.
package judge_test

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"

	"weir/internal/control/judge"
)

const rollouts = 2000

// worse is the judge's word about errors: half of alpha is theirs.
func worse(c judge.Config, canary, baseline int64) bool {
	return judge.LogE(canary, baseline, c.Margin/(c.Margin+1)) >= math.Log(2/c.Alpha)
}

func poisson(r *rand.Rand, mean float64) int64 {
	if mean <= 0 {
		return 0
	}
	return int64(distuv.Poisson{Lambda: mean, Src: r}.Rand())
}

func binomial(r *rand.Rand, n int64, p float64) int64 {
	if p <= 0 {
		return 0
	}
	return int64(distuv.Binomial{N: float64(n), P: p, Src: r}.Rand())
}

// stopped runs many rollouts; look adds the failures of one look to both sides
// and returns the requests that the canary has seen.
func stopped(c judge.Config, looks int, look func(r *rand.Rand, i int, canary, baseline *int64) (requests int64)) (share float64, median int64) {
	r := rand.New(rand.NewPCG(1, 2))
	var at []int64
	for range rollouts {
		var canary, baseline, requests int64
		for i := range looks {
			requests += look(r, i, &canary, &baseline)
			if worse(c, canary, baseline) {
				at = append(at, requests)
				break
			}
		}
	}
	if len(at) > 0 {
		slices.Sort(at)
		median = at[len(at)/2]
	}
	return float64(len(at)) / rollouts, median
}

func asked(t *testing.T) {
	t.Helper()
	if os.Getenv("WEIR_SIMULATE") == "" {
		t.Skip("takes minutes; WEIR_SIMULATE=1 runs it")
	}
}

func TestFalseStopsAndSmallDifferences(t *testing.T) {
	asked(t)
	c := judge.Default()
	for _, s := range []struct{ rps, base, times, shape, atMost float64 }{
		{20, 0.005, 1, 0, c.Alpha}, {200, 0.001, 1, 0, c.Alpha}, {20, 0.05, 1, 0, c.Alpha}, {20, 0.005, 1.25, 0, c.Alpha},
		{20, 0.005, 1.5, 0, c.Alpha}, {200, 0.005, 1.5, 0, c.Alpha}, {20, 0.05, 1.5, 0, c.Alpha},
		{20, 0.005, 2, 0, 1}, {20, 0.005, 3, 0, 1}, {20, 0.005, 5, 0, 1}, {20, 0.005, 10, 0, 1}, {200, 0.005, 2, 0, 1},
		// Outside the assumptions.
		{20, 0.005, 1, 2, 1}, {20, 0.005, 1, 0.5, 1}, {20, 0.005, 1, 0.1, 1}, {20, 0.05, 1, 0.5, 1}, {20, 0.05, 1, 0.1, 1}, {200, 0.05, 1, 0.1, 1},
	} {
		share, median := stopped(c, 360, func(r *rand.Rand, _ int, canary, baseline *int64) int64 {
			a, b := 1.0, 1.0
			if s.shape > 0 {
				g := distuv.Gamma{Alpha: s.shape, Beta: s.shape, Src: r}
				a, b = g.Rand(), g.Rand()
			}
			*canary += poisson(r, s.rps*5*s.base*s.times*a)
			*baseline += poisson(r, s.rps*5*s.base*b)
			return poisson(r, s.rps*5)
		})
		t.Logf("%3.0f requests/s, baseline %.1f %%, canary %.4g times, bursts %.4g: %.2f %% stopped, half of them by %d requests", s.rps, 100*s.base, s.times, s.shape, 100*share, median)
		if share > s.atMost {
			t.Errorf("%.2f %% stopped; want at most %.2f %%", 100*share, 100*s.atMost)
		}
	}
}

func TestMissedFaults(t *testing.T) {
	asked(t)
	for _, detect := range []float64{0.05, 0.02, 0.01} {
		for _, base := range []float64{0, 0.001, 0.005, 0.01} {
			c := judge.Default()
			c.Detect = detect
			need := judge.Need(c, base)
			if need < 0 {
				t.Logf("detect %.0f %%, baseline %.1f %%: no number of requests would do", 100*detect, 100*base)
				continue
			}
			const step = 20
			share, median := stopped(c, int(need+step-1)/step, func(r *rand.Rand, i int, canary, baseline *int64) int64 {
				n := min(step, need-int64(i)*step)
				*canary += binomial(r, n, detect)
				*baseline += binomial(r, n, base)
				return n
			})
			t.Logf("detect %.0f %%, baseline %.1f %%: %d requests, %.1f %% missed, half stopped by %d", 100*detect, 100*base, need, 100*(1-share), median)
			if 1-share > 1-c.Power+0.02 {
				t.Errorf("%.1f %% missed; want at most %.0f %%", 100*(1-share), 100*(1-c.Power))
			}
		}
	}
}

func TestUnevenTrafficAndOneBurst(t *testing.T) {
	asked(t)
	c := judge.Default()
	for _, ratio := range []float64{1.1, 1.25, 1.5, 2, 3} {
		for _, base := range []float64{0.005, 0.05} {
			share, _ := stopped(c, 360, func(r *rand.Rand, _ int, canary, baseline *int64) int64 {
				*canary += poisson(r, 100*ratio*base)
				*baseline += poisson(r, 100*base)
				return int64(100 * ratio)
			})
			t.Logf("%.4g times the requests on the canary, both fail %.1f %%: %.2f %% stopped", ratio, 100*base, 100*share)
		}
	}
	for _, burst := range []int64{5, 10, 15, 20, 40} {
		hit := 0
		share, _ := stopped(c, 360, func(r *rand.Rand, i int, canary, baseline *int64) int64 {
			if i == 0 {
				hit = r.IntN(360)
			}
			*canary += poisson(r, 0.1)
			*baseline += poisson(r, 0.1)
			if i == hit {
				*canary += burst
			}
			return 100
		})
		t.Logf("%d failures at once on the canary, both fail 0.1 %%: %.1f %% stopped", burst, 100*share)
	}
}
