package testresult

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"time"

	"weir/internal/pipeline"
)

const (
	maxOpen = 10_000   // tests that have begun and not ended
	maxHeld = 32 << 20 // bytes of what they said
)

// Golang reads the output of go test, line by line: events of -json, else the plain text.
type Golang struct {
	c      *Collector
	events int
	open   map[string]*pipeline.TestResult // by package and name
	failed map[string]bool                 // packages in which a test failed
	held   int                             // bytes of output of open tests

	plain   []pipeline.TestResult // tests of the package that is printed, by their --- lines
	current int                   // index in plain of the test that output belongs to; -1
	last    string                // output that came before any ---
	saying  string                // with -v, the test whose output follows: it comes before the verdict
	said    map[string]*pipeline.TestResult
}

// NewGolang returns a reader that adds to c.
func NewGolang(c *Collector) *Golang {
	return &Golang{c: c, open: map[string]*pipeline.TestResult{}, failed: map[string]bool{}, said: map[string]*pipeline.TestResult{}, current: -1}
}

type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64
}

// Line takes one line with its number in the log, 0 if it stands in a file.
func (g *Golang) Line(line []byte, number int64) {
	trimmed := bytes.TrimSpace(line)
	if len(trimmed) > 2 && trimmed[0] == '{' && bytes.Contains(trimmed, []byte(`"Action":"`)) {
		var e event
		if json.Unmarshal(trimmed, &e) == nil && e.Action != "" && (e.Package != "" || e.ImportPath != "") {
			g.events++
			g.event(e, number)
		}
		return
	}
	if g.events == 0 {
		g.text(string(line), number)
	}
}

func (g *Golang) event(e event, number int64) {
	if e.Action == "build-output" { // of a package, or of its tests: "shop/cart [shop/cart.test]"
		e.Action = "output"
		e.Package, _, _ = strings.Cut(e.ImportPath, " ")
	}
	key := e.Package + "\x00" + e.Test
	switch e.Action {
	case "run", "start":
		if e.Test != "" && len(g.open) < maxOpen {
			g.open[key] = &pipeline.TestResult{}
		}
	case "output":
		t := g.open[key]
		if t == nil {
			if len(g.open) >= maxOpen {
				return
			}
			t = &pipeline.TestResult{}
			g.open[key] = t
		}
		g.output(t, e.Output, number)
	case "pass", "fail", "skip":
		t := g.open[key]
		delete(g.open, key)
		if t != nil {
			g.held -= len(t.Detail)
		}
		if t == nil {
			t = &pipeline.TestResult{LogLine: number}
		}
		if t.LogLine == 0 {
			t.LogLine = number
		}
		t.Package, t.Name, t.Duration = e.Package, e.Test, time.Duration(e.Elapsed*float64(time.Second))
		t.Outcome = map[string]pipeline.TestOutcome{"pass": pipeline.TestPassed, "fail": pipeline.TestFailed, "skip": pipeline.TestSkipped}[e.Action]
		if e.Test == "" { // the package: a test of its own only if it failed and none of its tests says why
			if e.Action != "fail" || g.failed[e.Package] {
				return
			}
			t.Name = "(package)"
			if t.Message == "" {
				t.Message, _, _ = strings.Cut(strings.TrimSpace(t.Detail), "\n")
			}
		} else if e.Action == "fail" {
			g.failed[e.Package] = true
		}
		g.c.Add(*t)
	}
}

var place = regexp.MustCompile(`^\s*([A-Za-z0-9_./-]+\.go):(\d+)(?::\d+)?: (.*)`)

// output remembers what a test says, and the first place that it names.
func (g *Golang) output(t *pipeline.TestResult, text string, number int64) {
	if strings.HasPrefix(text, "=== ") {
		return
	}
	if room := min(maxDetail-len(t.Detail), maxHeld-g.held); room > 0 {
		t.Detail += text[:min(len(text), room)]
		g.held += min(len(text), room)
	}
	if t.Line == 0 {
		if m := place.FindStringSubmatch(strings.TrimRight(text, "\n")); m != nil {
			t.File, t.Message, t.LogLine = m[1], m[3], number
			t.Line, _ = strconv.Atoi(m[2])
			return
		}
	}
	if t.LogLine == 0 && (strings.HasPrefix(strings.TrimSpace(text), "--- FAIL") || strings.HasPrefix(text, "panic: ")) {
		t.LogLine = number
		if t.Message == "" {
			t.Message = strings.TrimSpace(text)
		}
	}
}

var (
	verdict = regexp.MustCompile(`^(\s*)--- (PASS|FAIL|SKIP): (\S.*?) \(([0-9.]+)s\)\s*$`)
	summary = regexp.MustCompile(`^(ok  |FAIL|---)\s+(\S+)\s+(\(cached\)|[0-9.]+s|\[build failed\]|\[setup failed\])`)
)

// text reads plain output. Which package a test belongs to is said after its tests.
func (g *Golang) text(line string, number int64) {
	if m := verdict.FindStringSubmatch(line); m != nil {
		if len(g.plain) >= maxOpen {
			return
		}
		took, _ := strconv.ParseFloat(m[4], 64)
		t := pipeline.TestResult{LogLine: number, Duration: time.Duration(took * float64(time.Second)),
			Outcome: map[string]pipeline.TestOutcome{"PASS": pipeline.TestPassed, "FAIL": pipeline.TestFailed, "SKIP": pipeline.TestSkipped}[m[2]]}
		if before := g.said[m[3]]; before != nil {
			t.File, t.Line, t.Message, t.Detail = before.File, before.Line, before.Message, before.Detail
			if before.Line > 0 {
				t.LogLine = before.LogLine
			}
			delete(g.said, m[3])
		}
		g.saying = ""
		t.Name = m[3]
		if m[2] == "FAIL" && t.Message == "" {
			t.Message = strings.TrimSpace(line)
		}
		g.plain = append(g.plain, t)
		g.current = len(g.plain) - 1
		return
	}
	if rest, ok := strings.CutPrefix(line, "=== "); ok {
		_, g.saying, _ = strings.Cut(rest, " ")
		g.saying, g.current = strings.TrimSpace(g.saying), -1
		return
	}
	if g.saying != "" && strings.HasPrefix(line, " ") && (g.said[g.saying] != nil || len(g.said) < 1000) {
		if g.said[g.saying] == nil {
			g.said[g.saying] = &pipeline.TestResult{}
		}
		g.output(g.said[g.saying], line+"\n", number)
		return
	}
	if m := summary.FindStringSubmatch(line); m != nil && m[1] != "---" {
		g.endPackage(m[2], m[1] == "FAIL", line, number)
		return
	}
	if g.current >= 0 && g.plain[g.current].Outcome == pipeline.TestFailed && strings.HasPrefix(line, " ") {
		t := &g.plain[g.current]
		said := t.LogLine
		first := t.Line == 0
		g.output(t, line+"\n", number)
		if first && t.Line == 0 {
			t.LogLine = said
		}
		return
	}
	g.current = -1
	if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "# ") || place.MatchString(line) {
		if len(g.last) < maxDetail {
			g.last += line + "\n"
		}
	}
}

func (g *Golang) endPackage(pkg string, failed bool, line string, number int64) {
	why := false
	for _, t := range g.plain {
		t.Package = pkg
		why = why || t.Outcome == pipeline.TestFailed
		g.c.Add(t)
	}
	switch {
	case !failed && len(g.plain) == 0: // without -v only failures are named
		t := pipeline.TestResult{Outcome: pipeline.TestPassed, LogLine: number, Duration: packageTime(line)}
		t.Package, t.Name = pkg, "(package)"
		g.c.Add(t)
	case failed && !why:
		t := pipeline.TestResult{Outcome: pipeline.TestFailed, LogLine: number, Message: strings.TrimSpace(line), Detail: g.last}
		t.Package, t.Name = pkg, "(package)"
		g.c.Add(t)
	}
	g.plain, g.current, g.last, g.saying = nil, -1, "", ""
	clear(g.said)
}

// packageTime is the time in `ok  	example.com/a	0.012s`.
func packageTime(line string) time.Duration {
	m := summary.FindStringSubmatch(line)
	d, err := time.ParseDuration(m[3])
	if err != nil {
		return 0
	}
	return d
}

// Close ends the reading: what began and did not end has failed.
func (g *Golang) Close() {
	for key, t := range g.open {
		pkg, name, _ := strings.Cut(key, "\x00")
		if name == "" {
			continue
		}
		t.Package, t.Name, t.Outcome = pkg, name, pipeline.TestFailed
		if t.Message == "" {
			t.Message = "the test did not end: its process stopped before"
		}
		g.c.Add(*t)
	}
	g.open = map[string]*pipeline.TestResult{}
}
