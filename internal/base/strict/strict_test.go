package strict_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"weir/internal/base/strict"
)

type share float64

func (s *share) UnmarshalText(b []byte) error {
	if string(b) != "5%" {
		return errors.New("write 5%")
	}
	*s = 0.05
	return nil
}

func (share) Describe() (pattern, example string) { return "^[0-9]+%$", "5%" }

type inner struct {
	Port int `yaml:"port" doc:"Where it listens." default:"8080"`
}

type document struct {
	Name  string           `yaml:"name" doc:"What it is called."`
	Kind  string           `yaml:"kind" doc:"What it is." enum:"http,worker"`
	Kinds []string         `yaml:"kinds" doc:"What it may be." enum:"http,worker"`
	On    bool             `yaml:"on" doc:"Whether it is on."`
	Rate  float64          `yaml:"rate" doc:"How much."`
	Share share            `yaml:"share" doc:"A part."`
	Run   map[string]inner `yaml:"run" doc:"Processes."`
	Opt   *inner           `yaml:"opt" doc:"May be chosen."`
	inner `yaml:",inline"`
}

func TestEveryMistakeHasItsPlaceAndSentence(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{"nmae: x", `f:1:1: unknown key "nmae"; did you mean "name"?`},
		{"zzzzzzzz: x", `f:1:1: unknown key "zzzzzzzz"; known here: kind, kinds, name, on, opt, port, rate, run, share`},
		{"run: {a: {prt: 1}}", `f:1:11: unknown key "prt" in run.a; did you mean "port"?`},
		{"name: a\nname: b", `f:2:1: "name" is given twice`},
		{"run: {a: {}, a: {}}", `f:1:14: "a" is given twice`},
		{"name: [a]", "f:1:7: name must be a single value, not a list"},
		{"name:", "f:1:6: name needs a value"},
		{"on: yes", `f:1:5: on must be true or false, not "yes"`},
		{"port: eighty", `f:1:7: port must be a whole number, not "eighty"`},
		{"rate: fast", `f:1:7: rate must be a number, not "fast"`},
		{"share: 5", "f:1:8: share: write 5%"},
		{"share: {}", "f:1:8: share must be a single value, not a mapping"},
		{"kind: cron", `f:1:7: kind must be one of http, worker, not "cron"`},
		{"kinds: [http, cron]", `f:1:15: kinds must be one of http, worker, not "cron"`},
		{"kinds: http", `f:1:8: kinds must be a list, not "http"`},
		{"run: [a]", "f:1:6: run must be a mapping of names to values, not a list"},
		{"opt: 1", `f:1:6: opt must be a mapping of keys to values, not "1"`},
		{"- a", "f:1:1: the document must be a mapping of keys to values, not a list"},
		{"name: &a x\nkind: *a", "f:2:7: anchors and aliases are not supported here; write the value out"},
		{"a: 1\n---\nb: 2", "the file holds more than one YAML document"},
		{"", "f:1:1: the file is empty"},
		{"# nothing", "f:1:1: the file is empty"},
		{"name: [", "not YAML"},
		{"name: " + strings.Repeat("x", strict.MaxSize), "f:1:1: the file is larger than 1 MiB"},
	} {
		var d document
		diags := strict.Decode("f", []byte(c.src), &d)
		if len(diags) == 0 || !strings.Contains(diags[0].String(), c.want) {
			t.Errorf("Decode(%.40q) = %v; want %q", c.src, diags, c.want)
		}
	}
}

func TestDecodedIsWhatIsWritten(t *testing.T) {
	var d document
	src := "name: a\nkind: http\nkinds: [worker]\non: true\nrate: 0.5\nshare: 5%\nport: 1\nopt:\nrun: {web: {port: 2}}\n"
	if diags := strict.Decode("f", []byte(src), &d); len(diags) > 0 {
		t.Fatal(diags)
	}
	if d.Name != "a" || d.Kind != "http" || d.Kinds[0] != "worker" || !d.On || d.Rate != 0.5 || d.Share != 0.05 || d.Port != 1 || d.Opt == nil || d.Run["web"].Port != 2 {
		t.Errorf("decoded %+v", d)
	}
}

func TestDiagnosticsComeInTheOrderOfLines(t *testing.T) {
	var d document
	diags := strict.Decode("f", []byte("run:\n  a: {port: x}\n  b: {port: y}\nname: []\non: z\n"), &d)
	var lines []int
	for _, g := range diags {
		lines = append(lines, g.Line)
	}
	if len(lines) != 4 || lines[0] != 2 || lines[1] != 3 || lines[2] != 4 || lines[3] != 5 {
		t.Errorf("lines %v", lines)
	}
}

func TestLocateFindsTheDeepestPartThatIsThere(t *testing.T) {
	src := []byte("run:\n  web:\n    port: 1\n")
	if l, c := strict.Locate(src, "run.web.port"); l != 3 || c != 5 {
		t.Errorf("Locate() = %d:%d; want 3:5", l, c)
	}
	if l, c := strict.Locate(src, "run.web.live"); l != 2 || c != 3 {
		t.Errorf("Locate() = %d:%d; want 2:3", l, c)
	}
	if strict.Has(src, "run.web.live") || !strict.Has(src, "run.web") {
		t.Error("Has() is wrong")
	}
}

func TestDocumentationAndSchemaSayTheSame(t *testing.T) {
	d, ok := strict.Explain(document{}, "run.anything.port")
	if !ok || d.Key != "run.NAME.port" || d.Default != "8080" || d.Type != "whole number" {
		t.Errorf("Explain() = %+v, %v", d, ok)
	}
	if _, ok := strict.Explain(document{}, "run.port"); ok {
		t.Error("Explain() knows a key that is not there")
	}
	raw, err := json.Marshal(strict.Schema(document{}, "x", "y"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"enum":["http","worker"]`, `"additionalProperties":false`, `"pattern":"^[0-9]+%$"`, `"description":"Where it listens."`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("schema %s has no %s", raw, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("name: a\nrun: {web: {port: 2}}\n")
	f.Fuzz(func(_ *testing.T, src string) {
		var d document
		strict.Decode("f", []byte(src), &d)
		strict.Values([]byte(src))
		strict.Locate([]byte(src), "run.web.port")
	})
}
