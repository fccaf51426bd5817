package engine_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"weir/internal/base/db/dbtest"
	"weir/internal/pipeline"
)

// A run of ten thousand jobs ends; a thousand where time is short.
func TestThousandsOfJobsInOneRun(t *testing.T) {
	combinations, jobs := 250, 4
	if os.Getenv("WEIR_TEST_LONG") != "" {
		jobs = 40
	}
	w := newWorld(t, dbtest.SQLite(t))
	var b strings.Builder
	b.WriteString("on: push\njobs:\n")
	for i := range jobs {
		fmt.Fprintf(&b, "  j%d: {runs-on: x, strategy: {matrix: {n: [0", i)
		for n := 1; n < combinations; n++ {
			fmt.Fprintf(&b, ",%d", n)
		}
		b.WriteString("]}}, steps: [{run: ok}]}\n")
	}
	w.repo["r1"] = map[string]string{file: b.String()}
	defer w.start(w.rows)()
	w.push("", "r1")
	wake, cancel := w.db.Subscribe(pipeline.RunsTopic)
	defer cancel()
	var runs []pipeline.Run
	for len(runs) == 0 || !runs[0].State.Done() { // loading all of it again and again would be what is measured
		<-wake
		var err error
		if runs, err = w.rows.List(t.Context(), pipeline.Filter{Org: "default"}); err != nil {
			t.Fatal(err)
		}
	}
	full, err := w.rows.Load(t.Context(), runs[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	runs[0] = full
	if runs[0].State != pipeline.Success || len(runs[0].Jobs) != combinations*jobs {
		t.Errorf("%d jobs ended in %s (%s)", len(runs[0].Jobs), runs[0].State, runs[0].Reason)
	}
}
