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
