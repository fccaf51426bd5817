package app

import (
	"strings"
	"testing"
)

func TestExpressionsPrintAsJSONOrTellTheirMistake(t *testing.T) {
	contexts := `{"github": {"ref_name": "main"}}`
	for src, want := range map[string]string{
		"github.ref_name":        `"main"`,
		"${{ GitHub.REF_name }}": `"main"`,
		"1 == '0x1'":             "true",
		"0/0":                    "Unexpected symbol: '0/0'. Located at position 1 within expression: 0/0",
		"NaN":                    `"NaN"`,
		"secrets.x":              "Unrecognized named-value: 'secrets'. Located at position 1 within expression: secrets.x",
		"fromJSON('{')":          "Error parsing fromJson: unexpected end of JSON input",
	} {
		got, err := EvalExpression(src, "-", strings.NewReader(contexts))
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s = %s; want %s", src, got, want)
		}
	}
	for in, want := range map[string]string{"[]": "is not a JSON object", "{": "is not a JSON object", "": "is not a JSON object"} {
		if _, err := EvalExpression("1", "-", strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("contexts %q: %v; want %q", in, err, want)
		}
	}
}

// A folder is linted as the server reads it: what workflows call each other for, and how much they unfold to, included.
func TestLintFollowsCallsAndMatrices(t *testing.T) {
	dir := workingTree(t, map[string]string{
		".github/workflows/rec.yml":  "on: [push, workflow_call]\njobs:\n  a: {uses: ./.github/workflows/rec.yml}\n",
		".github/workflows/gone.yml": "on: push\njobs:\n  a: {uses: ./.github/workflows/nowhere.yml}\n  b: {uses: acme/x/.github/workflows/y.yml@v1}\n",
		".github/workflows/mat.yml":  "on: push\njobs:\n  a: {runs-on: x, strategy: {matrix: {a: [" + strings.Repeat("1,", 299) + "1]}}, steps: [{run: x}]}\n",
	})
	findings, err := Lint(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range findings {
		all.WriteString(f.String() + "\n")
	}
	for _, want := range []string{"rec.yml:3:13: error: the workflow .github/workflows/rec.yml calls itself", "gone.yml:3:13: error: uses: ./.github/workflows/nowhere.yml: There is no file", "it may have 256"} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("%q is not among\n%s", want, all.String())
		}
	}
	if strings.Contains(all.String(), "acme") {
		t.Errorf("what only a server knows was judged:\n%s", all.String())
	}
}
