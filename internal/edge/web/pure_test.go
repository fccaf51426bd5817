package web

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/internal/guard/identity"
)

var t0 = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

func TestHeadlineSaysOnlyWhatWasMeasured(t *testing.T) {
	drill := func(daysAgo int, took time.Duration) Measured {
		return Measured{At: t0.AddDate(0, 0, -daysAgo), Took: took}
	}
	good := Readiness{Service: "checkout", Objective: time.Minute, Drills: []Measured{drill(40, 50*time.Second), drill(2, 18*time.Second)}}
	old := Readiness{Service: "search", Objective: time.Minute, Drills: []Measured{drill(31, 18*time.Second)}}
	slow := Readiness{Service: "payments", Objective: 10 * time.Second, Drills: []Measured{drill(1, 18*time.Second)}}
	stuck := good
	stuck.Service, stuck.Blocks = "ledger", "The earlier image is gone."
	real := Readiness{Service: "web", Rollbacks: []Measured{drill(1, 640*time.Millisecond), drill(0, 412*time.Millisecond)}}
	for _, c := range []struct {
		name     string
		services []Readiness
		answer   string
		so       string
	}{
		{"nothing", nil, "Nothing measured yet.", "Push a repository"},
		{"no drill, no rollback", []Readiness{{Service: "web"}}, "Not measured yet.", "No drill yet: measured rollbacks appear here."},
		{"real rollbacks", []Readiness{real}, "No drill yet. The slowest of 2 real rollbacks took 640 ms.", "until every request went to the other release"},
		{"drills", []Readiness{good, old, slow, stuck}, "1 of 4 services in 50 s or less.", "search, payments and ledger cannot promise it right now."},
		{"none counts", []Readiness{old}, "No service can promise it right now.", "search cannot promise it"},
	} {
		h := headline(Overview{Now: t0, Services: c.services})
		if h.Answer != c.answer || !strings.Contains(h.So, c.so) {
			t.Errorf("%s: headline is %q, %q; want %q, %q", c.name, h.Answer, h.So, c.answer, c.so)
		}
	}
}

func TestConfidenceCountsFewDrills(t *testing.T) {
	r := Readiness{Objective: time.Minute}
	for i := range 6 {
		r.Drills = append(r.Drills, Measured{At: t0.AddDate(0, 0, i-7), Took: 20 * time.Second})
	}
	if got := confidence(r, t0); got != "High" {
		t.Errorf("six drills inside the objective are %q; want High", got)
	}
	r.Drills = r.Drills[:2]
	if got := confidence(r, t0); got != "2 drills" {
		t.Errorf("two drills are %q; want their count", got)
	}
	if got := confidence(r, t0.AddDate(0, 2, 0)); got != "Too old" {
		t.Errorf("old drills are %q; want Too old", got)
	}
}

func TestChartLeavesAGapWhereNothingWasMeasured(t *testing.T) {
	v := func(f float64) *float64 { return &f }
	m := Metric{Name: "Error rate", Unit: "%"}
	for i := range 10 {
		p := Point{At: t0.Add(time.Duration(i) * time.Second), Baseline: v(1)}
		if i != 4 && i != 5 {
			p.Canary = v(float64(i) / 10)
		}
		if i > 6 {
			p.Bad = v(2)
		}
		m.Points = append(m.Points, p)
	}
	c := drawChart(m, t0, false)
	if len(c.Canary) != 2 || len(c.Base) != 1 {
		t.Errorf("the canary has %d lines, the baseline %d; want 2 and 1", len(c.Canary), len(c.Base))
	}
	if c.BoundText != "rolls back above 2%" || !strings.Contains(c.Label, "rolls back above 2%") {
		t.Errorf("the boundary reads %q, %q", c.BoundText, c.Label)
	}
	if one := drawChart(Metric{Points: m.Points[:1]}, t0, true); !one.Empty {
		t.Error("one point was drawn")
	}
}

func TestCascadeStopsWhereARolloutWasTakenBack(t *testing.T) {
	r := Rollout{RolloutRow: RolloutRow{State: Status{"warn", "Rolled back"}, Ended: t0.Add(6 * time.Minute)}, Now: t0.Add(time.Hour), Steps: []Step{
		{Percent: 5, Entered: t0, Left: t0.Add(time.Minute), Bake: time.Minute},
		{Percent: 25, Entered: t0.Add(time.Minute), Bake: 10 * time.Minute},
		{Percent: 100},
	}}
	c := drawCascade(r)
	if !c.Fell || c.Now != "50%" {
		t.Errorf("fell %v at %q; want at 50%%, half of the second of three steps", c.Fell, c.Now)
	}
	if s := c.Steps[2]; s.Passed || !s.NotDone {
		t.Error("the third step shows traffic")
	}
}

func TestGraphOmitsImpliedEdgesAndSurvivesCycles(t *testing.T) {
	job := func(key string, needs ...string) Job {
		return Job{Key: key, ID: key, Needs: needs, State: Status{"ok", "Passed"}}
	}
	g := drawGraph([]Job{job("a"), job("b", "a"), job("c", "a", "b")}, t0, "")
	if len(g.Edges) != 2 {
		t.Errorf("%d edges; want 2: a to c follows from the others", len(g.Edges))
	}
	if g.Nodes[2].X <= g.Nodes[1].X || g.Nodes[1].X <= g.Nodes[0].X {
		t.Error("jobs do not stand right of what they need")
	}
	drawGraph([]Job{job("a", "b"), job("b", "a"), job("c", "c", "none")}, t0, "") // ends
}

func TestANSIKeepsColoursAndNothingElse(t *testing.T) {
	for in, want := range map[string]string{
		"plain <b>":                             "plain &lt;b&gt;",
		"\x1b[31mred\x1b[0m done":               `<i class="red">red</i> done`,
		"\x1b[1;92mok\x1b[m":                    `<i class="green bold">ok</i>`,
		"\x1b]8;;https://x\x07link\x1b]8;;\x07": "link",
		"10%\r50%\r100%":                        "100%",
		"a\x1b[2Jb\x1b[3;4Hc":                   "abc",
		"\x1b[38;5;196mmany\x1b[0m":             "many",
		"bidi \u202e evil":                      "bidi  evil",
		"unfinished \x1b[":                      "unfinished ",
		"nul \x00 bell \x07":                    "nul  bell ",
	} {
		if got := ansi(in); got != want {
			t.Errorf("ansi(%q) = %q; want %q", in, got, want)
		}
	}
	if got := ansi(strings.Repeat("x", 10000)); !strings.Contains(got, "5.9 kB more in the raw log") {
		t.Errorf("a long line ends %q", got[len(got)-60:])
	}
}

func TestLogKeepsTheEndOfALongLog(t *testing.T) {
	var b strings.Builder
	fmt.Fprintln(&b, `1 + {"number":1,"name":"Build"}`)
	for i := range maxShown + 100 {
		fmt.Fprintf(&b, "2 | line %d\n", i)
	}
	b.WriteString("3 | cut o") // being written
	var v logView
	if err := v.read(strings.NewReader(b.String())); err != nil {
		t.Fatal(err)
	}
	out := v.HTML()
	if strings.Contains(out, " line 0<") || !strings.Contains(out, fmt.Sprintf(" line %d<", maxShown+99)) || !strings.Contains(out, "earlier lines are in the raw log") {
		t.Error("the page does not show the end and say what it leaves out")
	}
	if int(v.Offset) != b.Len()-len("3 | cut o") {
		t.Errorf("offset = %d; want the start of the line that is being written", v.Offset)
	}
}

func TestTimesReadAsPeopleSayThem(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 ms", 412 * time.Millisecond: "412 ms", 4100 * time.Millisecond: "4.1 s", 3 * time.Second: "3 s", 39 * time.Second: "39 s", 4*time.Minute + 27*time.Second: "4 m 27 s",
		3*time.Hour + 42*time.Minute: "3 h 42 m", 52 * time.Hour: "2 d 4 h", -time.Second: "0 ms",
	} {
		if got := took(d); got != want {
			t.Errorf("took(%s) = %q; want %q", d, got, want)
		}
	}
	if got := number(int64(1234567)); got != "1,234,567" {
		t.Errorf("number = %q", got)
	}
}

func TestPagesWithoutAssetsSaySo(t *testing.T) {
	var b bytes.Buffer
	f := frame{page: page{title: "x", body: problemPage("x", "y")}, who: identity.Anonymous, now: t0}
	if err := layout(f).Render(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "The assets were not built: run <code>make build</code>.") || strings.Contains(b.String(), "<link") || strings.Contains(b.String(), "<script") {
		t.Error("a page without assets does not say what is missing, or links to what is not there")
	}
}

func TestDiffShowsNumbersOfBothSides(t *testing.T) {
	files := splitDiff("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -3,2 +7,2 @@ f\n same\n-old\n+new\n")
	if len(files) != 1 || files[0].Name != "x" {
		t.Fatalf("files = %v", files)
	}
	got := fmt.Sprint(files[0].Lines[1:])
	if want := "[{7  same} {4 del old} {8 add new}]"; got != want {
		t.Errorf("lines = %s; want %s", got, want)
	}
}
