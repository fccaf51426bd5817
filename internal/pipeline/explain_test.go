package pipeline

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// big is a run of n jobs in groups of a hundred, each of which needs the one before.
func big(n int) Run {
	r := Run{ID: "run_1", State: Running, Created: time.Unix(1, 0)}
	for i := range n {
		p := JobPlan{Key: fmt.Sprintf("g%d (%d)", i/100, i%100), JobID: fmt.Sprintf("g%d", i/100)}
		if i >= 100 {
			p.Needs = []string{fmt.Sprintf("g%d", i/100-1)}
		}
		r.Plan.Jobs = append(r.Plan.Jobs, p)
		r.Jobs = append(r.Jobs, Job{ID: JobID(fmt.Sprintf("job_%d", i)), Key: p.Key, State: Waiting})
	}
	return r
}

func TestNobodyIsGivenThousandsOfReasons(t *testing.T) {
	r := big(10_000)
	for i := range 100 {
		r.Jobs[i].State = Queued
	}
	r.Jobs[7].State, r.Jobs[7].Attempts = Running, []Attempt{{Number: 1}}
	waits := Explain(r, nil, 2, nil)
	if len(waits) != maxWaits+1 || waits[0].Job != "g0 (7)" || waits[1].Job != "g0 (0)" || !strings.Contains(waits[maxWaits].For, "9900 more jobs wait") {
		t.Errorf("%d reasons: first %+v, last %+v", len(waits), waits[0], waits[len(waits)-1])
	}
	r = big(200)
	waits = Explain(r, nil, 2, nil)
	if got := waits[0].For; got != "the jobs that it needs: g0 (0) (waiting), g0 (1) (waiting), g0 (2) (waiting), g0 (3) (waiting), g0 (4) (waiting), and 95 more" {
		t.Errorf("a job of many needs waits for %q", got)
	}
}

func TestALargeRunMovesByWhatEnded(t *testing.T) {
	r := big(10_000)
	lang := Language{If: func(Question) (bool, error) { return true, nil }}
	r, _ = r.Next(time.Unix(2, 0), lang)
	for i := range r.Jobs {
		want := Waiting
		if i < 100 {
			want = Queued
		}
		if r.Jobs[i].State != want {
			t.Fatalf("job %d is %s; want %s", i, r.Jobs[i].State, want)
		}
		if i < 100 {
			r.Jobs[i].State = Success
		}
	}
	r, _ = r.Next(time.Unix(3, 0), lang)
	if r.Jobs[150].State != Queued || r.Jobs[250].State != Waiting {
		t.Errorf("after the first hundred the second is %s and the third %s", r.Jobs[150].State, r.Jobs[250].State)
	}
}
