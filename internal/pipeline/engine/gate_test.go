package engine_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/pipeline"
)

// doors let jobs into environments once somebody has agreed.
type doors struct {
	mu     sync.Mutex
	agreed map[string]bool
}

func (d *doors) Entry(_ context.Context, r *pipeline.Run, environment string) (*pipeline.Hold, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if environment == "free" || d.agreed[string(r.ID)+environment] {
		return nil, nil
	}
	return &pipeline.Hold{For: "1 of 1 approvals to enter " + environment, Who: "bob"}, nil
}

func (d *doors) Agree(_ context.Context, r *pipeline.Run, environment, verdict, _ string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.agreed[string(r.ID)+environment] = verdict == "approve"
	return nil
}

const guarded = `on: push
jobs:
  test: {runs-on: x, steps: [{run: ok}]}
  free: {runs-on: x, environment: free, steps: [{run: ok}]}
  deploy:
    needs: test
    runs-on: x
    strategy: {matrix: {where: [production]}}
    environment: {name: '${{ matrix.where }}'}
    steps: [{run: ok}]
`

func TestAJobWaitsAtTheDoorOfItsEnvironment(t *testing.T) {
	dbtest.Each(t, testDoor)
}

func testDoor(t *testing.T, d *db.DB) {
	w := newWorld(t, d)
	w.doors = &doors{agreed: map[string]bool{}}
	w.repo["r1"] = map[string]string{file: guarded}
	defer w.start(w.rows)()
	w.push("", "r1")
	waiting := func(runs []pipeline.Run) bool {
		return len(runs) > 0 && runs[0].Jobs[1].State == pipeline.Success && runs[0].Jobs[2].State == pipeline.Queued
	}
	runs := w.until("the door", waiting)
	s := w.service()
	s.Environments = w.doors
	_, waits, err := s.Why(t.Context(), runs[0].ID)
	if err != nil || len(waits) == 0 || waits[0].For != "1 of 1 approvals to enter production" || waits[0].Who != "bob" {
		t.Errorf("Why() = %+v, %v", waits, err)
	}
	if err := s.Approve(t.Context(), runs[0].ID, "staging", "approve", "", "bob"); !fault.Is(err, fault.Conflict) {
		t.Errorf("an environment that nobody waits for: %v", err)
	}
	if err := s.Approve(t.Context(), runs[0].ID, "production", "approve", "", "bob"); err != nil {
		t.Fatal(err)
	}
	if runs = w.until("the end", ended(1)); runs[0].State != pipeline.Success {
		t.Errorf("runs: %s", show(runs))
	}
	w.repo["r2"] = map[string]string{file: guarded}
	w.push("r1", "r2")
	runs = w.until("the second door", func(runs []pipeline.Run) bool { return len(runs) == 2 && waiting(runs) })
	if err := s.Approve(t.Context(), runs[0].ID, "production", "reject", "not on a Friday", "bob"); err != nil {
		t.Fatal(err)
	}
	runs = w.until("the end", ended(2))
	if got := runs[0].Jobs[2].Reason; runs[0].State != pipeline.Failure || got != "bob did not let it into production: not on a Friday" {
		t.Errorf("runs: %s, reason %q", show(runs), got)
	}
}

// One job of a group runs, the newest waits, the others give way.
func TestJobsOfAConcurrencyGroupGiveWay(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	grouped := func(cancel string) string {
		return "on: push\njobs:\n  a: {runs-on: x, concurrency: {group: 'deploy-${{ github.ref }}', cancel-in-progress: " + cancel + "}, steps: [{run: hang}]}\n  b: {needs: a, runs-on: x, steps: [{run: ok}]}\n"
	}
	for _, r := range []string{"r1", "r2", "r3"} {
		w.repo[r] = map[string]string{file: grouped("false")}
	}
	w.repo["r4"] = map[string]string{file: grouped("true")}
	defer w.start(w.rows)()
	state := func(want ...string) func([]pipeline.Run) bool { // of job a, newest first
		return func(runs []pipeline.Run) bool {
			if len(runs) != len(want) {
				return false
			}
			for i := range want {
				if string(runs[i].Jobs[0].State) != want[i] {
					return false
				}
			}
			return true
		}
	}
	w.push("", "r1")
	w.until("the first runs", state("running"))
	w.push("r1", "r2")
	w.until("the second waits", state("queued", "running"))
	w.push("r2", "r3")
	runs := w.until("the second gives way", state("queued", "cancelled", "running"))
	if got := runs[1].Jobs[0].Reason; !strings.Contains(got, "a newer job of the concurrency group deploy-refs/heads/main took its place") {
		t.Errorf("reason %q", got)
	}
	w.push("r3", "r4")
	w.until("all give way", state("running", "cancelled", "cancelled", "cancelled"))
	close(w.runner.hang)
	runs = w.until("the end", ended(4))
	if got := show(runs); runs[0].State != pipeline.Success || runs[3].State != pipeline.Cancelled || !strings.Contains(got, "r4 success (): a=success/1 b=success/1") {
		t.Errorf("runs: %s", got)
	}
}

func TestAMatrixInOneGroupRunsFirstAndLast(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.repo["r1"] = map[string]string{file: "on: push\njobs:\n  a: {runs-on: x, concurrency: one, strategy: {fail-fast: false, matrix: {n: [1, 2, 3]}}, steps: [{run: ok}]}\n"}
	defer w.start(w.rows)()
	w.push("", "r1")
	if runs := w.until("the end", ended(1)); !strings.Contains(show(runs), "a-1=success/1 a-2=cancelled/0 a-3=success/1") {
		t.Errorf("runs: %s", show(runs))
	}
}
