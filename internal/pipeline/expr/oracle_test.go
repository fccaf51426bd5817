package expr

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestExpressionsAreWhatGitHubsLibraryComputes evaluates random expressions here and under node. Known to differ, and so left
// out, because GitHub's server, which the library stands in for, does as we do:
//   - the library unescapes only the first doubled quote of a string
//   - it accepts a comma before the closing bracket of a call, and text behind the number in format's {0:text}
//   - it rounds numbers to 15 decimals when they become text, where the server keeps 15 digits
//   - 0X and 0b begin numbers there
//   - names such as "constructor", which JavaScript gives to every object, exist in its contexts
func TestExpressionsAreWhatGitHubsLibraryComputes(t *testing.T) {
	script := os.Getenv("WEIR_TEST_EXPRESSIONS") // build/test-all sets it
	if script == "" {
		t.Skip("set WEIR_TEST_EXPRESSIONS to the path of test/expressions/oracle.mjs")
	}
	rounds := 200_000
	if n, err := strconv.Atoi(os.Getenv("WEIR_TEST_EXPRESSIONS_ROUNDS")); err == nil {
		rounds = n
	}
	ask := oracle(t, script)
	seed := uint64(1) // a seed of its own for a search, the same one for a check
	if n, err := strconv.ParseUint(os.Getenv("WEIR_TEST_EXPRESSIONS_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("seed %d", seed)
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1))}
	contexts, err := ParseJSON(oracleContexts)
	if err != nil {
		t.Fatal(err)
	}
	known := Names{Contexts: map[string]bool{}, Functions: map[string]bool{}}
	contexts.(*Object).Each(func(k string, _ Value) { known.Contexts[k] = true })
	values, wrong := 0, 0
	for range rounds {
		src := g.expr(g.IntN(6))
		if g.IntN(4) == 0 {
			src = g.damage(src)
		}
		if knownToDiffer(src) {
			continue
		}
		want := ask(src)
		var got Value
		e, err := Parse(src, known)
		if err == nil {
			got, err = e.Eval(Env{Contexts: contexts.(*Object)})
		}
		switch {
		case err != nil && want.Error != "":
		case err == nil && want.Error == "" && Kind(got) == want.Kind && JSON(got) == want.JSON:
			values++
		default:
			if wrong++; wrong > 20 {
				t.Fatal("too many differences")
			}
			t.Errorf("%s\n got %s %s, error %v\nwant %s %s, error %s", src, Kind(got), JSON(got), err, want.Kind, want.JSON, want.Error)
		}
	}
	t.Logf("%d expressions, %d of them with a value", rounds, values)
	if values < rounds/4 {
		t.Errorf("only %d of %d expressions had a value; the generator tests too little", values, rounds)
	}
}

type verdict struct{ Kind, JSON, Error string }

func oracle(t *testing.T, script string) func(string) verdict {
	cmd := exec.Command("node", filepath.Base(script))
	cmd.Dir = filepath.Dir(script)
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	r := bufio.NewReaderSize(out, 1<<20)
	return func(src string) verdict {
		line, _ := json.Marshal(map[string]string{"expr": src, "contexts": oracleContexts})
		if _, err := in.Write(append(line, '\n')); err != nil {
			t.Fatal(err)
		}
		answer, err := r.ReadBytes('\n')
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		var v verdict
		if err := json.Unmarshal(answer, &v); err != nil {
			t.Fatalf("oracle said %q of %q: %v", answer, src, err)
		}
		return v
	}
}

const oracleContexts = `{"github":{"ref":"refs/heads/Main","number":42,"empty":"","none":null,"yes":true,"no":false,"text":"Hello, Wörld"},
"matrix":{"os":["linux","Darwin","linux"],"n":[1,2.5,-3],"nested":[{"a":1,"b":{"a":[7]}},{"a":"x"},[5,6],null,"s"]},
"env":{"A":"1","hex":"0xff","oct":"0o17","exp":"1e3","blank":"  ","inf":"Infinity","nan":"abc","json":"{\"a\":[1,{\"b\":null}],\"A\":2}"},"o":{},"l":[]}`

type generator struct{ *rand.Rand }

func (g *generator) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g *generator) expr(depth int) string {
	if depth <= 0 {
		return g.leaf()
	}
	d := depth - 1
	switch g.IntN(12) {
	case 0, 1, 2:
		op := g.pick("==", "!=", "<", "<=", ">", ">=", "&&", "||")
		return g.expr(d) + g.pick(" ", "", "\n") + op + g.pick(" ", "\t") + g.expr(d)
	case 3:
		return "!" + g.expr(d)
	case 4:
		return "(" + g.expr(d) + ")"
	case 5, 6:
		return g.path(d)
	case 7:
		return g.pick("contains", "startsWith", "ENDSWITH", "Contains") + "(" + g.expr(d) + ", " + g.expr(d) + ")"
	case 8:
		return g.pick("toJSON(", "fromJson(toJson(", "join(") + g.expr(d) + g.pick(")", "))")
	case 9:
		return "join(" + g.expr(d) + "," + g.expr(d) + ")"
	case 10:
		return "format('" + g.pick("{0}", "{{{0}}}", "{1} {0}", "}}{{", "a{0", "{2}", "{}", "x") + "', " + g.expr(d) + ", " + g.expr(d) + ")"
	}
	if g.IntN(2) == 0 {
		return "case(" + g.expr(d) + ", " + g.expr(d) + ", " + g.expr(d) + ")"
	}
	return "fromJSON(" + g.pick("env.json", "'[1, [2], {\"k\": [3]}]'", "'{\"b\": 1e3, \"a\": -0}'", "'[1'", "' null '", "'\"x\"'") + ")" + g.access(d)
}

func (g *generator) leaf() string {
	switch g.IntN(6) {
	case 0:
		return g.pick("true", "false", "null", "NaN", "Infinity", "-Infinity", "True")
	case 1:
		return g.pick("0", "-0", "1", "+1", "-1.5", ".5", "0xfF", "0o17", "1e3", "1E-2", "255", "1000", "1.", "00", "-0x1", "1e400", "12-3")
	case 2:
		return g.pick("''", "'1'", "'0xff'", "'a'", "'A'", "'linux'", "'true'", "'it''s'", "' 1 '", "'Object'", "'refs/HEADS/main'", "'ı'", "'ö'", "'Array'", "'-0'", "'1e3'")
	}
	return g.path(1)
}

func (g *generator) path(d int) string {
	s := g.pick("github", "matrix", "env", "o", "l", "GitHub", "matrix.nested", "matrix.os", "unknown")
	return s + g.access(d)
}

func (g *generator) access(d int) string {
	var b strings.Builder
	for range g.IntN(4) {
		switch g.IntN(5) {
		case 0:
			b.WriteString(g.pick(".*", "[*]", " . *"))
		case 1:
			fmt.Fprintf(&b, "[%s]", g.expr(d-1))
		default:
			b.WriteString(g.pick(".a", ".b", ".os", ".nested", ".ref", ".REF", ".n", "[0]", "[1]", "['a']", "[-1]", "[1.9]", ".none", ".k", ".true"))
		}
	}
	return b.String()
}

var specifier = regexp.MustCompile(`\{[0-9]+[^0-9}]`)

// knownToDiffer tells what the test's comment lists; an expression that does not lex is no such one, since both refuse it.
func knownToDiffer(src string) bool {
	if specifier.MatchString(src) || strings.Contains(strings.Join(strings.Fields(src), ""), ",)") {
		return true
	}
	toks, _ := lex(src)
	for _, tok := range toks {
		switch tok.kind {
		case tString:
			if strings.Count(tok.text, "'") > 1 {
				return true
			}
		case tNumber:
			if _, decimals, _ := strings.Cut(strconv.FormatFloat(tok.num, 'f', -1, 64), "."); len(decimals) > 15 {
				return true
			}
		}
	}
	return false
}

// damage puts in or takes out a piece, mostly to make mistakes.
func (g *generator) damage(s string) string {
	i := g.IntN(len(s) + 1)
	if g.IntN(2) == 0 && i < len(s) {
		s = s[:i] + s[i+1:]
	} else {
		s = s[:i] + g.pick("(", ")", "[", "]", ".", ",", "!", "=", "&", " ", "-", "*", "x", "1", "$", "#", "\"") + s[i:]
	}
	if strings.TrimSpace(s) == "" {
		return "null"
	}
	return strings.ToValidUTF8(s, "")
}
