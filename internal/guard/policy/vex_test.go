package policy_test

import (
	"encoding/json"
	"strings"
	"testing"

	"weir/internal/guard/policy"
)

func TestExceptionsAreWrittenAsVEX(t *testing.T) {
	v := examined()
	now := at("2026-11-23")
	if doc := v.Exceptions("id", "me", "pkg:oci/shop", now); doc != nil {
		t.Errorf("without an exception there is %+v", doc)
	}
	v.Limit.Block = "medium"
	v.Limit.Ignore = []policy.Ignored{{ID: "CVE-2026-1", Justification: "vulnerable_code_not_in_execute_path", Reason: "never called", Ends: at("2026-12-01")},
		{ID: "GHSA-2", Reason: "fixed next week", Ends: at("2026-12-02")}}
	raw, err := json.Marshal(v.Exceptions("https://weir/decisions/1/vex", "https://weir/control-plane", "pkg:oci/shop", now))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"@context":"https://openvex.dev/ns/v0.2.0"`, `"name":"GO-1","aliases":["CVE-2026-1"]`, `"subcomponents":[{"@id":"golang.org/x/net@v0.37.0"}]`,
		`"status":"not_affected","justification":"vulnerable_code_not_in_execute_path","impact_statement":"never called (looked at until 2026-11-30)"`,
		`"status":"affected","action_statement":"fixed next week (accepted until 2026-12-01)"`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("%s does not say %s", raw, want)
		}
	}
	if doc := v.Exceptions("id", "me", "p", at("2026-12-02")); doc != nil {
		t.Errorf("exceptions that ended are written: %+v", doc)
	}
}
