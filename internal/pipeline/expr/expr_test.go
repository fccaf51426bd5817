package expr

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGitHubCases runs GitHub's own cases as they are.
func TestGitHubCases(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.json")
	if len(files) < 10 {
		t.Fatalf("found %d case files; want at least 10", len(files))
	}
	type result struct {
		Kind  string
		Value json.RawMessage
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var groups map[string][]struct {
			Expr     string
			Contexts json.RawMessage
			Result   *result
			Err      *result
		}
		if err := json.Unmarshal(data, &groups); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		for group, cases := range groups {
			for _, c := range cases {
				env := Env{Contexts: NewObject()}
				known := Names{Contexts: map[string]bool{}}
				if c.Contexts != nil {
					v, err := ParseJSON(string(c.Contexts))
					if err != nil {
						t.Fatal(err)
					}
					env.Contexts = v.(*Object)
				}
				env.Contexts.Each(func(k string, _ Value) { known.Contexts[strings.ToLower(k)] = true })
				var got Value
				e, err := Parse(c.Expr, known)
				if err == nil {
					got, err = e.Eval(env)
				}
				if c.Err != nil {
					var want string
					_ = json.Unmarshal(c.Err.Value, &want)
					if err == nil || err.Error() != want {
						t.Errorf("%s %s: %s = error %v; want %s", f, group, c.Expr, err, want)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s %s: %s: %v", f, group, c.Expr, err)
					continue
				}
				want, err := ParseJSON(string(c.Result.Value))
				if err != nil {
					t.Fatal(err)
				}
				if s, ok := want.(string); ok && c.Result.Kind == "Number" {
					want = Number(s)
				}
				if Kind(got) != c.Result.Kind || JSON(got) != JSON(want) {
					t.Errorf("%s %s: %s = %s %s; want %s %s", f, group, c.Expr, Kind(got), JSON(got), c.Result.Kind, JSON(want))
				}
			}
		}
	}
}

func TestConditionAddsSuccessUnlessStatusIsAsked(t *testing.T) {
	for cond, want := range map[string]string{
		"":                                   "success()",
		"github.ref == 'x'":                  "success() && (github.ref == 'x')",
		"${{ always() }}":                    "always()",
		"${{ failure() && true }}":           "failure() && true",
		"${{ github.a }} == ${{ github.b }}": "success() && (format('{0} == {1}', github.a, github.b))",
	} {
		got, err := ConditionSource(cond)
		if err != nil || got != want {
			t.Errorf("ConditionSource(%q) = %q, %v; want %q", cond, got, err, want)
		}
	}
}

func TestInterpolateKeepsTextAroundExpressions(t *testing.T) {
	env := Env{Contexts: NewObject().Set("m", NewObject().Set("v", 1.0).Set("s", "a}}b"))}
	for text, want := range map[string]string{
		"go${{ m.v }}.x":     "go1.x",
		"${{ '}}' }}":        "}}",
		"${{ m.s }}${{m.v}}": "a}}b1",
		"no expression }}":   "no expression }}",
	} {
		if got, err := Interpolate(text, env); err != nil || got != want {
			t.Errorf("Interpolate(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
	if _, err := Interpolate("${{ m.v", env); err == nil || !strings.Contains(err.Error(), "not closed") {
		t.Errorf("unclosed expression: %v", err)
	}
}

func TestDeepNestingIsRefused(t *testing.T) {
	for what, src := range map[string]string{
		"brackets": strings.Repeat("(", 1000) + "1" + strings.Repeat(")", 1000),
		"calls":    strings.Repeat("toJSON(", 1000) + "1" + strings.Repeat(")", 1000),
		"nots":     strings.Repeat("!", 1000) + "true",
		"indexes":  strings.Repeat("a[", 1000) + "1" + strings.Repeat("]", 1000),
		"accesses": "a" + strings.Repeat(".a", 1000),
	} {
		if _, err := Parse(src, Names{}); err == nil || !strings.Contains(err.Error(), "Exceeded max expression depth 50") {
			t.Errorf("1000 %s: %v; want a sentence about the depth", what, err)
		}
	}
	if e, err := Parse("1"+strings.Repeat("==1", 6000), Names{}); err != nil {
		t.Errorf("a long chain: %v", err)
	} else if _, err := e.Eval(Env{}); err != nil {
		t.Errorf("a long chain: %v", err)
	}
	if _, err := ParseJSON(strings.Repeat("[", 1000) + strings.Repeat("]", 1000)); err == nil {
		t.Error("JSON nested 1000 deep was accepted")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a.b[0] == 'x' && !c", "format('{0}', 1)", "-.5e3 < fromJSON('[]').*.x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if e, err := Parse(s, Names{}); err == nil {
			v, _ := e.Eval(Env{})
			_ = JSON(v)
		}
		_, _ = Interpolate(s, Env{})
		if src, err := ConditionSource(s); err == nil {
			if _, err := Parse(src, Names{}); err != nil && len(src) < maxSource {
				t.Errorf("condition %q became %q: %v", s, src, err)
			}
		}
	})
}
