package judge

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"
)

const replications = 2000

func TestFalseStopsStayBelowAlpha(t *testing.T) {
	c := Default()
	for _, s := range []Scenario{
		{20, 0.005, 1, 0, 360}, {200, 0.001, 1, 0, 360}, {20, 0.05, 1, 0, 360},
		{20, 0.005, 1, 2, 360},        // bursts, which the model does not know
		{20, 0.005, c.Margin, 0, 360}, // exactly at the margin: the worst that is still no worse
	} {
		if got := Simulate(c, s, replications); got > c.Alpha {
			t.Errorf("%+v: %.2f %% stopped; want at most %.2f %%", s, 100*got, 100*c.Alpha)
		}
	}
}

func TestFaultsAreNoticedWithThePromisedPower(t *testing.T) {
	c := Default()
	for _, base := range []float64{0, 0.001, 0.005, 0.01} {
		n := Need(c, base)
		if n <= 0 {
			t.Fatalf("Need(%v) = %d", base, n)
		}
		r := rand.New(rand.NewPCG(3, 4))
		noticed := 0
		for range replications {
			var canary, baseline Arm
			canary.Requests, baseline.Requests = n, n
			canary.Errors = int64(distuv.Binomial{N: float64(n), P: c.Detect, Src: r}.Rand())
			if base > 0 {
				baseline.Errors = int64(distuv.Binomial{N: float64(n), P: base, Src: r}.Rand())
			}
			if m := errorsOf(c, canary, baseline); m.LogE >= m.Limit {
				noticed++
			}
		}
		got := float64(noticed) / replications
		// Four standard errors of 2,000 replications below, and not wastefully above.
		if got < c.Power-0.027 || got > 0.97 {
			t.Errorf("base %.1f %%: %d requests notice %.1f %%; want about %.0f %%", 100*base, n, 100*got, 100*c.Power)
		}
	}
}

func TestNoVerdictWithoutEnoughRequests(t *testing.T) {
	c := Default()
	need := Need(c, 0)
	for _, k := range []struct {
		have int64
		want Outcome
	}{{0, NoData}, {1, TooFew}, {need - 1, TooFew}, {need, NoWorse}} {
		arm := Arm{Requests: k.have, Slow: make([]int64, 3)}
		if got := Look(c, arm, arm, []int64{10, 100, 1000}); got.Outcome != k.want {
			t.Errorf("%d requests: %s (%s); want %s", k.have, got.Outcome, got.Words, k.want)
		}
	}
	// A baseline that fails as often as the fault to be seen leaves nothing to tell.
	bad := Arm{Requests: 100000, Errors: 5000}
	if got := Look(c, bad, bad, nil); got.Outcome != TooFew || got.Need != -1 {
		t.Errorf("got %+v; want too few, whatever the number", got)
	}
}

func TestAFaultOfFivePercentStopsWithinFewRequests(t *testing.T) {
	c := Default()
	for n := int64(20); ; n += 20 {
		canary, baseline := Arm{Requests: n, Errors: n / 20}, Arm{Requests: n}
		if got := Look(c, canary, baseline, nil); got.Outcome == Worse {
			if n > 400 {
				t.Errorf("stopped after %d requests; want at most 400", n)
			}
			return
		}
		if n > 5000 {
			t.Fatal("never stopped")
		}
	}
}

func TestSlownessIsSeenAtTheBoundaryWhereItIs(t *testing.T) {
	c := Default()
	bounds := []int64{10, 50, 100, 500}
	canary := Arm{Requests: 1000, Slow: []int64{900, 120, 100, 0}}
	baseline := Arm{Requests: 1000, Slow: []int64{880, 20, 0, 0}}
	got := Look(c, canary, baseline, bounds)
	if got.Outcome != Worse || got.Metrics[1].Bound != 100 {
		t.Errorf("got %s at %d ms: %s", got.Outcome, got.Metrics[1].Bound, got.Words)
	}
}

func TestCriticalIsWhereEvidenceReachesTheLimit(t *testing.T) {
	c := Default()
	for y := int64(0); y < 200; y += 7 {
		x := Critical(y, c.null(), c.limit(2))
		if LogE(x, y, c.null()) < c.limit(2) || LogE(x-1, y, c.null()) >= c.limit(2) {
			t.Errorf("Critical(%d) = %d is not the first", y, x)
		}
	}
	if math.IsNaN(LogE(0, 1e6, c.null())) || math.IsNaN(LogE(1e6, 0, c.null())) {
		t.Error("LogE is not a number for large counts")
	}
}
