package judge

import (
	"math"
	"sync"

	"gonum.org/v1/gonum/mathext"
)

// maxNeed is beyond what any bake sees.
const maxNeed = 1 << 24

var needs sync.Map // needKey -> int64; the same few questions come at every look

type needKey struct {
	c    Config
	base float64
}

// Need is how many requests each arm must have seen so that a canary that fails
// with rate Detect, beside a baseline that fails with rate base, would have been
// stopped with chance Power. It is -1 if no number would do, because the fault
// lies within the margin of the baseline. It counts only a stop at the last
// look, so the true chance is a little higher.
func Need(c Config, base float64) int64 {
	// Rounded up to two digits: a little more base never asks for fewer requests.
	if base > 0 {
		scale := math.Pow(10, math.Floor(math.Log10(base))-1)
		base = math.Ceil(base/scale) * scale
	}
	key := needKey{c, base}
	if n, ok := needs.Load(key); ok {
		return n.(int64)
	}
	n := need(c, base)
	needs.Store(key, n)
	return n
}

func need(c Config, base float64) int64 {
	if base*c.Margin >= c.Detect || c.Detect <= 0 {
		return -1
	}
	lo, hi := int64(0), int64(64)
	for power(c, base, hi) < c.Power {
		lo, hi = hi, hi*2
		if hi > maxNeed {
			return -1
		}
	}
	for hi-lo > max(1, lo/200) {
		mid := (lo + hi) / 2
		if power(c, base, mid) < c.Power {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

// power is the chance that n requests an arm show the fault: bad events are
// Poisson on both sides, and the test stops if the canary's reach the critical
// number for the baseline's.
func power(c Config, base float64, n int64) float64 {
	mean, fault := base*float64(n), c.Detect*float64(n)
	th0, limit := c.null(), c.limit(2)
	last := int64(mean + 8*math.Sqrt(mean) + 8)
	total := 0.0
	p := math.Exp(-mean) // Poisson(0)
	if mean > 700 {
		// Beyond what the exponential holds, the mean stands for the whole.
		return atLeast(Critical(int64(mean), th0, limit), fault)
	}
	for y := int64(0); y <= last; y++ {
		if y > 0 {
			p *= mean / float64(y)
		}
		if p > 1e-9 {
			total += p * atLeast(Critical(y, th0, limit), fault)
		}
	}
	return total
}

// atLeast is the chance that a Poisson count with this mean reaches k.
func atLeast(k int64, mean float64) float64 {
	if k <= 0 {
		return 1
	}
	return mathext.GammaIncReg(float64(k), mean)
}
