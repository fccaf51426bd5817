package e2e

import (
	"strings"
	"testing"
)

func TestAPushedChangeReachesProductionByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	first := w.released(w.bootstrap(tiny("first", "")))
	w.serves("production", "1.0.0")
	if first.Version != "1.0.0" {
		t.Errorf("first release is %s", first.Version)
	}
	second := w.commit("feat: second", tiny("second", ""))
	w.landed(w.propose("second"))
	if r := w.released(second); r.Version != "1.1.0" {
		t.Errorf("second release is %s", r.Version)
	}
	w.serves("production", "1.1.0")
	if out, stderr, status := w.cli("author", "release", "notes", "tiny", "1.1.0"); status != 0 || !strings.Contains(out, "## Features\n\n- second (") || !strings.Contains(out, "By author.") {
		t.Errorf("release notes: %d %s %s", status, out, stderr)
	}
	if got := w.says("production"); !strings.Contains(got, "tiny 1.1.0 second hello production") {
		t.Errorf("production says %q", got)
	}
}
