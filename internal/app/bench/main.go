// Command bench measures what Weir promises in figures, with defaults
// (confinement, evidence and fsync on), against a floor or a peer in the same
// run, and writes a table: name, value, unit, baseline, ratio.
//
//	go run ./internal/app/bench bin/weir bench/results.tsv
//	go run ./internal/app/bench page bench/results.tsv docs/benchmarks.md
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"

	"weir/internal/base/confine"
	"weir/internal/control/judge"
)

func main() {
	confine.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	only := os.Getenv("WEIR_BENCH_ONLY") // the beginning of what to measure
	if len(os.Args) == 4 && os.Args[1] == "page" {
		if err := page(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: bench WEIR-BINARY RESULTS.tsv, or bench page RESULTS.tsv PAGE.md")
		os.Exit(2)
	}
	t := &table{}
	for _, m := range []struct {
		what string
		run  func(context.Context, string, *table) error
	}{{"binary and start", start}, {"runs of 100 and 1,000 jobs, and of 100 steps", jobs}, {"agents", agents}, {"memory over 10,000 jobs", memory}, {"200 MB of log", ingest}, {"images", images}, {"an SBOM of 500 modules", list}, {"the judge, 2,000 simulations", verdicts}, {"push to production, and back", delivery}} {
		if !strings.HasPrefix(m.what, only) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s\n", m.what)
		if err := m.run(ctx, os.Args[1], t); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", m.what, err)
			os.Exit(1)
		}
	}
	if err := t.write(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// row is one figure. Baseline and Ratio are 0 where there is nothing to compare with.
type row struct {
	name     string
	value    float64
	unit     string
	baseline float64
}

type table struct{ rows []row }

func (t *table) add(name string, value float64, unit string, baseline float64) {
	t.rows = append(t.rows, row{name, value, unit, baseline})
}

func (t *table) write(path string) error {
	var b strings.Builder
	b.WriteString("name\tvalue\tunit\tbaseline\tratio\n")
	for _, r := range t.rows {
		base, ratio := "", ""
		if r.baseline != 0 {
			base, ratio = fmt.Sprintf("%.4g", r.baseline), fmt.Sprintf("%.2f", r.value/r.baseline)
		}
		fmt.Fprintf(&b, "%s\t%.4g\t%s\t%s\t%s\n", r.name, r.value, r.unit, base, ratio)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprint(w, b.String())
	if err := w.Flush(); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// verdicts simulates the judge: stops where nothing is wrong, and misses of the
// fault that it must not miss.
func verdicts(_ context.Context, _ string, t *table) error {
	c := judge.Default()
	const n = 2000
	worst := 0.0
	for _, s := range []judge.Scenario{{RPS: 20, Base: 0.005, Times: 1, Looks: 360}, {RPS: 200, Base: 0.001, Times: 1, Looks: 360}, {RPS: 20, Base: 0.005, Times: c.Margin, Looks: 360}} {
		worst = max(worst, judge.Simulate(c, s, n))
	}
	t.add("judge_false_stops", worst, "share of 2000", c.Alpha)
	bursts := judge.Simulate(c, judge.Scenario{RPS: 20, Base: 0.005, Times: 1, Shape: 2, Looks: 360}, n)
	t.add("judge_false_stops_in_bursts", bursts, "share of 2000", c.Alpha)
	// A canary that fails at the rate to detect, looked at until it has seen
	// as many requests as a step must have.
	base := 0.005
	looks := int(judge.Need(c, base)/(20*5)) + 1
	missed := 1 - judge.Simulate(c, judge.Scenario{RPS: 20, Base: base, Times: c.Detect / base, Looks: looks}, n)
	t.add("judge_missed_faults", missed, "share of 2000", 1-c.Power)
	return nil
}

// demo is what the demo says of itself.
type demo struct {
	Good, Bad, Rollback, Verify struct {
		MS map[string]int64 `json:"ms"`
	}
	Load struct {
		Requests int64 `json:"requests"`
		Failed   int64 `json:"failed_otherwise"`
	}
}

// delivery runs the demo and takes its figures.
func delivery(ctx context.Context, weir string, t *table) error {
	cmd := exec.CommandContext(ctx, weir, "demo", "--exit")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	last := lines[len(lines)-1]
	if err != nil {
		return fmt.Errorf("demo: %w: %s", err, last)
	}
	var d demo
	if err := json.Unmarshal([]byte(last), &d); err != nil {
		return err
	}
	good := d.Good.MS
	events := good["waited_for_events"]
	t.add("push_to_production_ms", float64(good["production_complete"]), "ms", 0)
	t.add("push_to_production_waiting_for_events_ms", float64(events), "ms", 0)
	t.add("push_to_production_without_bake_ms", float64(good["production_complete"]-good["baked"]), "ms", 0)
	t.add("bad_change_to_detected_ms", float64(d.Bad.MS["bad_change_detected"]-d.Bad.MS["first_canary_request"]), "ms", 0)
	t.add("rollback_ms", float64(d.Rollback.MS["decision_to_last_old_response"]), "ms", 1000)
	t.add("verify_chain_ms", float64(d.Verify.MS["verify"]), "ms from the registry alone", 0)
	t.add("failed_requests", float64(d.Load.Failed), fmt.Sprintf("of %d", d.Load.Requests), 0)
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
