package web

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/internal/guard/identity"
	"weir/internal/pipeline"
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

func TestOfALongLogThePageHasWhatMattersAndGapsForTheRest(t *testing.T) {
	const n = 1_000_000
	o := pipeline.LogOutline{Lines: n + 3, Errors: []int64{700_000}, Steps: []pipeline.LogStep{
		{Step: pipeline.Step{Number: 1, Name: "Build", State: pipeline.Success}, From: 2, To: 1000}, {Step: pipeline.Step{Number: 2, Name: "Test", State: pipeline.Failure}, From: 1001, To: n + 3}}}
	page := func(target int64) (in [][2]int64, gaps [][2]int64, lines int64) {
		v := logView{Outline: o, Target: target}
		v.plan()
		for _, s := range v.Steps {
			at := s.From
			for _, p := range s.Parts {
				if p.From != at {
					t.Errorf("target %d: lines %d to %d are nowhere", target, at, p.From-1)
				}
				at = p.To + 1
				if p.Lines == nil {
					gaps = append(gaps, [2]int64{p.From, p.To})
				} else {
					in, lines = append(in, [2]int64{p.From, p.To}), lines+p.To-p.From+1
				}
			}
			if at != s.To+1 {
				t.Errorf("target %d: step %d ends at %d; want %d", target, s.Number, at-1, s.To)
			}
		}
		return in, gaps, lines
	}
	for target, holds := range map[int64]int64{0: 700_000, 500: 500, 1001: 1001, n: n} {
		in, gaps, lines := page(target)
		ok := false
		for _, r := range in {
			ok = ok || holds >= r[0] && holds <= r[1]
		}
		if !ok || lines > 2*window || len(gaps) == 0 {
			t.Errorf("target %d: the page has %v and %d gaps; want line %d in it, and few lines", target, in, len(gaps), holds)
		}
	}
}

func TestLiveLinesAreCountedWhenThereAreTooMany(t *testing.T) {
	tl := teller{line: 10, step: 1}
	for i := range floodLines + 50 {
		tl.take(fmt.Appendf(nil, "1000000 | line %d\n", i))
	}
	tl.take([]byte(`2000000 - {"number":1,"name":"x","state":"success"}` + "\n"))
	got := tl.close()
	if len(got) != 2 || !got[0].Many || got[0].HTML != "" || got[0].From != 11 || got[0].To != 10+floodLines+51 || got[1].Op != "sum" {
		t.Errorf("pieces %+v", got)
	}
	tl.take([]byte("3000000 | <b>\n"))
	if got := tl.close(); len(got) != 1 || got[0].Many || !strings.Contains(got[0].HTML, "&lt;b&gt;") || !strings.Contains(got[0].HTML, fmt.Sprintf(`data-from="%d"`, 12+floodLines+50)) {
		t.Errorf("a piece after a flood is %+v", got)
	}
}

func TestEventsOfGoTestReadAsGoTestPrintsThem(t *testing.T) {
	for in, want := range map[string]string{
		`{"Time":"2026-11-23T11:47:39Z","Action":"output","Package":"a","Test":"T","Output":"--- FAIL: T <b>\n"}`: "err --- FAIL: T &lt;b&gt;",
		`{"Action":"run","Package":"a","Test":"T"}`:                                                               ` <i class="dim">run a T</i>`,
		`{"Action":"x"} and more`: ` {&#34;Action&#34;:&#34;x&#34;} and more`,
	} {
		class, body, ok := lineOf(pipeline.LogLine{Kind: pipeline.LogOutput, Text: in})
		if got := class + " " + body; !ok || got != want {
			t.Errorf("%s reads %q; want %q", in, got, want)
		}
	}
}

func TestASummaryIsRenderedAndCleaned(t *testing.T) {
	got := markdown("# Hi\n\n| a |\n|---|\n| <script>alert(1)</script>x |\n\n[l](javascript:alert(1)) [ok](https://example.com) <img src=x onerror=alert(1)> <a id=main href=\"/x\" onclick=y>k</a> <details><summary>s</summary>t</details>\n\n<form action=/x><input></form><style>*{}</style>")
	for _, bad := range []string{"<script", "javascript:", "onerror", "onclick", "<img", "<form", "<input", "<style", "id="} {
		if strings.Contains(got, bad) {
			t.Errorf("%q is left in %s", bad, got)
		}
	}
	for _, want := range []string{"<h1>Hi</h1>", "<td>x</td>", `href="https://example.com"`, "<details><summary>s</summary>"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in %s", want, got)
		}
	}
}

func TestTenThousandJobsAreDrawnAsFew(t *testing.T) {
	r := Run{RunRow: RunRow{Created: t0.Add(-time.Hour)}, Now: t0}
	for g := range 40 {
		for k := range 250 {
			j := Job{ID: fmt.Sprintf("job_%d_%d", g, k), Key: fmt.Sprintf("g%d (%d)", g, k), Group: fmt.Sprintf("g%d", g), State: Status{"ok", "Passed"}, Done: true,
				Started: r.Created.Add(time.Duration(g) * time.Minute), Finished: r.Created.Add(time.Duration(g)*time.Minute + time.Duration(k)*time.Millisecond)}
			if g > 0 {
				j.Needs = []string{fmt.Sprintf("g%d", g-1)}
			}
			r.Jobs = append(r.Jobs, j)
		}
	}
	r.Jobs[777].State = Status{"bad", "Failed"}
	nodes := drawn(r)
	if len(nodes) != 40 || nodes[3].Key != "g3 ×250" || nodes[3].State.Kind != "bad" || nodes[3].ID != r.Jobs[777].ID {
		t.Errorf("%d nodes; the fourth is %+v", len(nodes), nodes[3])
	}
	if tl := drawTimeline(r); len(tl.Lanes) != manyJobs || tl.More != 10_000-manyJobs {
		t.Errorf("%d lanes and %d more", len(tl.Lanes), tl.More)
	}
	critical := 0
	for _, on := range criticalPath(r.Jobs, r.Now) {
		if on {
			critical++
		}
	}
	if critical != 40 {
		t.Errorf("%d jobs are critical; want one of each group", critical)
	}
	var b bytes.Buffer
	if err := runPage(runView{Run: r, Job: r.Jobs[0], Tab: "time"}).Render(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 1<<20 {
		t.Errorf("the page has %d kB", b.Len()>>10)
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
