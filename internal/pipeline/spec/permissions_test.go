package spec

import (
	"maps"
	"testing"
)

func TestPermissionsBecomeWhatTheyOpenInWeir(t *testing.T) {
	for _, c := range []struct {
		given Permissions
		want  map[string]string
	}{
		{nil, nil},
		{Permissions{}, map[string]string{"metadata": "read"}},
		{Permissions{"contents": 2, "issues": 2, "checks": 2}, map[string]string{"metadata": "read", "contents": "write", "checks": "read"}},
		{Permissions{"contents": 0}, map[string]string{"metadata": "read"}},
		{Permissions{"*": 1}, map[string]string{"metadata": "read", "contents": "read", "packages": "read", "pull-requests": "read", "actions": "read", "checks": "read", "statuses": "read"}},
		{Permissions{"*": 2}, map[string]string{"metadata": "read", "contents": "write", "packages": "write", "pull-requests": "write", "actions": "write", "checks": "read", "statuses": "read"}},
	} {
		if got := c.given.Words(); !maps.Equal(got, c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("%v.Words() = %v; want %v", c.given, got, c.want)
		}
	}
}

func TestAnEmptyConditionOrEnvironmentIsNone(t *testing.T) {
	w, diags := Parse("ci.yml", []byte("on: push\njobs:\n  a:\n    if: ''\n    environment: \"\" # none\n    runs-on: x\n    steps:\n      - if: ''\n        run: x\n"))
	if w == nil || w.Jobs[0].If.Value != "" || w.Jobs[0].Environment != nil && w.Jobs[0].Environment.Name.Value != "" || len(diags) != 3 || diags[0].Message != "an empty if: is as good as none; remove it" {
		t.Errorf("%+v %+v", w, diags)
	}
	if w, _ := Parse("ci.yml", []byte("on: push\njobs:\n  a:\n    runs-on: ''\n    steps: [{run: x}]\n")); w != nil {
		t.Error("an empty runs-on was taken")
	}
}
