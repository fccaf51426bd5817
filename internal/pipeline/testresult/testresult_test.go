package testresult

import (
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"weir/internal/pipeline"
)

func short(r pipeline.TestResult) string {
	s := fmt.Sprintf("%s %s|%s|%s", r.Outcome, r.Suite, r.Package, r.Name)
	if r.Flaky {
		s += " flaky"
	}
	if r.Message != "" {
		s += " (" + r.Message + ")"
	}
	if r.File != "" {
		s += fmt.Sprintf(" at %s:%d", r.File, r.Line)
	}
	if r.LogLine > 0 {
		s += fmt.Sprintf(" line %d", r.LogLine)
	}
	return s
}

func shorts(c *Collector) (out []string) {
	_, results := c.Report()
	for _, r := range results {
		out = append(out, short(r))
	}
	return out
}

func junitOf(text string) *Collector {
	c := NewCollector(Scope{Job: "test"})
	c.JUnit("r.xml", strings.NewReader(text))
	return c
}

func TestJUnitInTheFormsThatRunnersWrite(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"surefire": {`<?xml version="1.0" encoding="UTF-8"?><testsuite name="com.acme.CartTest" tests="4"><properties><property name="a" value="b"/></properties>
			<testcase name="adds" classname="com.acme.CartTest" time="0.012"/>
			<testcase name="removes" classname="com.acme.CartTest" time="1,000.5"><failure message="expected:&lt;1&gt; but was:&lt;2&gt;" type="AssertionError">at CartTest.java:12</failure><system-out>noise <![CDATA[<failure/>]]></system-out></testcase>
			<testcase name="flaps" classname="com.acme.CartTest"><flakyFailure message="timed out">x</flakyFailure></testcase>
			<testcase name="later" classname="com.acme.CartTest"><skipped/></testcase></testsuite>`,
			[]string{"passed com.acme.CartTest|com.acme.CartTest|adds", "failed com.acme.CartTest|com.acme.CartTest|removes (expected:<1> but was:<2>)",
				"passed com.acme.CartTest|com.acme.CartTest|flaps flaky (timed out)", "skipped com.acme.CartTest|com.acme.CartTest|later"}},
		"pytest": {`<testsuites><testsuite name="pytest"><testcase classname="tests.test_a" name="test_x[1]" file="tests/test_a.py" line="7"><error>Traceback
			more</error></testcase></testsuite></testsuites>`, []string{"failed pytest|tests.test_a|test_x[1] (Traceback) at tests/test_a.py:7"}},
		"jest, nested": {`<testsuites name="jest"><testsuite name="outer"><testsuite name="inner"><testcase name="a" classname="b"/></testsuite><testcase name="c" classname="d"/></testsuite></testsuites>`,
			[]string{"passed inner|b|a", "passed outer|d|c"}},
		"latin": {"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><testsuite name=\"s\"><testcase name=\"caf\xe9\"/></testsuite>", []string{"passed s||café"}},
		"twice": {`<testsuite name="s"><testcase name="a"><failure message="no"/></testcase><testcase name="a"/></testsuite>`, []string{"failed s||a flaky (no)"}},
	} {
		got := junitOf(c.in)
		if r, _ := got.Report(); !reflect.DeepEqual(shorts(got), c.want) || len(r.Problems) > 0 {
			t.Errorf("%s: %q, problems %q; want %q", name, shorts(got), r.Problems, c.want)
		}
	}
	c := junitOf(`<testsuite name="s"><testcase name="a" time="1,000.5"/></testsuite>`)
	if r, _ := c.Report(); r.Count.Duration != 1000*time.Second+500*time.Millisecond {
		t.Errorf("took %v", r.Count.Duration)
	}
}

func TestAReportThatCannotBeReadIsNamed(t *testing.T) {
	bomb := `<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;">]><testsuite name="s"><testcase name="&lol2;"/></testsuite>`
	for in, want := range map[string]string{
		bomb:                               "it defines entities, which are not read",
		`<testsuite><testcase name="a">`:   "it is not well-formed at line 1: unexpected EOF",
		strings.Repeat("<testsuite>", 100): "nested deeper than 64",
		`<html><body/></html>`:             "is not JUnit XML: it has no testsuite",
		"<testsuite name='" + strings.Repeat("a", 5<<20):      "one of its texts is longer than 4 MiB",
		`<?xml version="1.0" encoding="EBCDIC"?><testsuite/>`: "its encoding EBCDIC is not read; write UTF-8",
	} {
		r, _ := junitOf(in).Report()
		if len(r.Problems) == 0 || !strings.Contains(strings.Join(r.Problems, "\n"), want) || !strings.Contains(r.Problems[0], "r.xml") {
			t.Errorf("%.60q: problems %q; want %q", in, r.Problems, want)
		}
	}
}

// many writes a report of n tests as it is read.
type many struct {
	n, at int
	rest  []byte
}

func (m *many) Read(p []byte) (int, error) {
	if len(m.rest) == 0 {
		switch {
		case m.at == 0:
			m.rest = []byte(`<testsuite name="s">`)
		case m.at <= m.n:
			if m.at%10 == 0 {
				m.rest = fmt.Appendf(nil, `<testcase name="t%d"><failure message="m"/></testcase>`, m.at)
			} else {
				m.rest = fmt.Appendf(nil, `<testcase name="t%d" time="0.1"/>`, m.at)
			}
		case m.at == m.n+1:
			m.rest = []byte(`</testsuite>`)
		default:
			return 0, io.EOF
		}
		m.at++
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

func TestAMillionTestsAreCountedAndBounded(t *testing.T) {
	n := 200_000
	if !testing.Short() {
		n = 1_000_000
	}
	c := NewCollector(Scope{})
	c.JUnit("r.xml", &many{n: n})
	r, results := c.Report()
	if r.Count.Total != n || r.Count.Failed != n/10 || len(results) != MaxKept || r.Count.Dropped != n-MaxKept {
		t.Errorf("counted %+v, kept %d", r.Count, len(results))
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapSys > 512<<20 {
		t.Errorf("it took %d MiB", m.HeapSys>>20)
	}
}

func golang(text string) *Collector {
	c := NewCollector(Scope{Job: "test"})
	g := NewGolang(c)
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		g.Line([]byte(line), int64(i+1))
	}
	g.Close()
	return c
}

func TestGoTestJSON(t *testing.T) {
	c := golang(`go: downloading x
{"Time":"2026-11-01T10:00:00Z","Action":"start","Package":"shop/cart"}
{"Action":"run","Package":"shop/cart","Test":"TestAdd"}
{"Action":"output","Package":"shop/cart","Test":"TestAdd","Output":"=== RUN   TestAdd\n"}
{"Action":"output","Package":"shop/cart","Test":"TestAdd","Output":"    cart_test.go:12: got 1, want 2\n"}
{"Action":"output","Package":"shop/cart","Test":"TestAdd","Output":"--- FAIL: TestAdd (0.01s)\n"}
{"Action":"fail","Package":"shop/cart","Test":"TestAdd","Elapsed":0.01}
{"Action":"run","Package":"shop/cart","Test":"TestOK"}
{"Action":"pass","Package":"shop/cart","Test":"TestOK","Elapsed":1.5}
{"Action":"skip","Package":"shop/cart","Test":"TestSkip","Elapsed":0}
{"Action":"fail","Package":"shop/cart","Elapsed":0.1}
{"ImportPath":"shop/bad [shop/bad.test]","Action":"build-output","Output":"bad.go:1:1: x\n"}
{"ImportPath":"shop/bad [shop/bad.test]","Action":"build-fail"}
{"Action":"output","Package":"shop/bad","Output":"FAIL\tshop/bad [build failed]\n"}
{"Action":"fail","Package":"shop/bad","Elapsed":0}
{"Action":"run","Package":"shop/hang","Test":"TestHang"}
{"Action":"output","Package":"shop/hang","Test":"TestHang","Output":"panic: test timed out\n"}
`)
	want := []string{"failed |shop/cart|TestAdd (got 1, want 2) at cart_test.go:12 line 5", "passed |shop/cart|TestOK line 9", "skipped |shop/cart|TestSkip line 10",
		"failed |shop/bad|(package) (x) at bad.go:1 line 12", "failed |shop/hang|TestHang (panic: test timed out) line 17"}
	if got := shorts(c); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestGoTestAsPeopleReadIt(t *testing.T) {
	c := golang(`=== RUN   TestOne
--- PASS: TestOne (0.00s)
=== RUN   TestTwo
    two_test.go:9: broken
        with more
--- FAIL: TestTwo (0.25s)
    two_test.go:10: and this
    --- FAIL: TestTwo/sub (0.10s)
FAIL
FAIL	example.com/a	0.300s
ok  	example.com/b	1.250s
?   	example.com/c	[no test files]
# example.com/d
./d.go:3:1: undefined: x
FAIL	example.com/d [build failed]
ok  	example.com/e	(cached)
`)
	want := []string{"passed |example.com/a|TestOne line 2", "failed |example.com/a|TestTwo (broken) at two_test.go:9 line 4", "failed |example.com/a|TestTwo/sub (--- FAIL: TestTwo/sub (0.10s)) line 8",
		"passed |example.com/b|(package) line 11", "failed |example.com/d|(package) (FAIL	example.com/d [build failed]) line 15", "passed |example.com/e|(package) line 16"}
	if got := shorts(c); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAKeyTellsTestsOfOtherJobsApart(t *testing.T) {
	a := Scope{"repo_1", "ci.yml", "test", ""}
	seen := map[string]bool{}
	for _, k := range []string{a.Key("s", "p", "n"), a.Key("sp", "", "n"), a.Key("", "sp", "n"), Scope{"repo_1", "ci.yml", "test", `{"go":"1.26"}`}.Key("s", "p", "n"), Scope{"repo_2", "ci.yml", "test", ""}.Key("s", "p", "n")} {
		if seen[k] {
			t.Errorf("%s names two tests", k)
		}
		seen[k] = true
	}
	again := Scope{"repo_1", "ci.yml", "test", ""}
	if got, want := again.Key("s", "p", "n"), a.Key("s", "p", "n"); got != want || len(got) != 32 {
		t.Errorf("the same test has the keys %s and %s", got, want)
	}
}

func FuzzJUnit(f *testing.F) {
	f.Add(`<testsuite name="s"><testcase name="a"><failure message="m">x</failure></testcase></testsuite>`)
	f.Fuzz(func(t *testing.T, in string) {
		c := junitOf(in)
		r, results := c.Report()
		if r.Count.Total < len(results) || r.Count.Total != r.Count.Passed+r.Count.Failed+r.Count.Skipped {
			t.Fatalf("%q: %+v with %d results", in, r.Count, len(results))
		}
	})
}

func FuzzGolang(f *testing.F) {
	f.Add("{\"Action\":\"fail\",\"Package\":\"p\",\"Test\":\"T\"}\n--- FAIL: X (0.1s)\nFAIL\tp\t0.1s\n")
	f.Fuzz(func(t *testing.T, in string) {
		c := golang(in)
		if r, results := c.Report(); r.Count.Total < len(results) {
			t.Fatalf("%q: %+v with %d results", in, r.Count, len(results))
		}
	})
}
