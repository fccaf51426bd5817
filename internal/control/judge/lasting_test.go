package judge

import (
	"strings"
	"testing"
)

func TestABurstOfSlowRequestsHoldsAndOnlyWhatLastsStops(t *testing.T) {
	c, bounds := Default(), []int64{100, 250}
	canary, baseline := Arm{Requests: 1000, Slow: []int64{60, 46}}, Arm{Requests: 1000, Slow: []int64{10, 1}}
	r := Look(c, canary, baseline, bounds)
	if r.Outcome != Worse || r.Metrics[1].Bound != 250 {
		t.Fatalf("Look() = %+v; want worse at 250 ms", r)
	}
	for n, want := range map[int]Outcome{0: TooFew, 1: TooFew, Persist - 1: TooFew, Persist: Worse, 60: Worse} {
		got := r.Lasting(bounds, []int{60, n})
		if got.Outcome != want {
			t.Errorf("slower in %d seconds: %s; want %s", n, got.Outcome, want)
		}
		if want == TooFew && !strings.Contains(got.Words, "of 5 seconds that it takes: 4.60 % of requests took over 250 ms, against 0.10 %") {
			t.Errorf("words %q", got.Words)
		}
	}
	// Errors stop at once, whatever latency says.
	canary.Errors = 60
	if got := Look(c, canary, baseline, bounds).Lasting(bounds, []int{0, 0}); got.Outcome != Worse {
		t.Errorf("errors: %s; want worse", got.Outcome)
	}
}

func TestASecondIsSlowerOnlyBeyondTheMargin(t *testing.T) {
	got := Default().Slower([]int64{0, 1, 3, 4}, []int64{0, 0, 2, 2})
	if want := []bool{false, true, false, true}; len(got) != 4 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || got[3] != want[3] {
		t.Errorf("Slower() = %v; want %v", got, want)
	}
}
