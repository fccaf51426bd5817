package confine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGroupsOfBothVersionsAreFound(t *testing.T) {
	two := t.TempDir()
	if err := os.MkdirAll(filepath.Join(two, "weir.service"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(two, "weir.service", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("cgroup.controllers", "cpu memory pids\n")
	write("cgroup.subtree_control", "")
	g := findGroups("cgroup2 "+two+" cgroup2 rw 0 0\n", "0::/weir.service\n")
	if !g.v2 || g.dirs["memory"] != filepath.Join(two, "weir.service") || g.missing != "" {
		t.Errorf("version 2, delegated: %+v", g)
	}
	if b, _ := os.ReadFile(filepath.Join(two, "weir.service", "cgroup.subtree_control")); string(b) != "+memory +pids +cpu" {
		t.Errorf("enabled %q; want all three controllers", b)
	}
	made, missing := g.newGroup(Limits{Memory: 1 << 20, CPU: 1.5, Processes: 10})
	if len(missing) != 0 || len(made.dirs) != 3 {
		t.Errorf("newGroup() = %v, not enforced %v; want all", made.dirs, missing)
	}
	if b, _ := os.ReadFile(filepath.Join(made.dirs["cpu"], "cpu.max")); string(b) != "150000 100000" {
		t.Errorf("cpu.max = %q; want 150000 100000", b)
	}

	// A process that was started by one which moved into a leaf makes its groups beside that leaf.
	if dirs, err := delegated(filepath.Join(two, "weir.service", "weir-12-self")); err != nil || dirs["pids"] != filepath.Join(two, "weir.service") {
		t.Errorf("delegated(leaf) = %v, %v; want the folder above", dirs, err)
	}

	write("cgroup.controllers", "hugetlb\n")
	if g := findGroups("cgroup2 "+two+" cgroup2 rw 0 0\n", "0::/weir.service\n"); len(g.dirs) != 0 || !strings.Contains(g.missing, "Delegate=yes") {
		t.Errorf("nothing delegated: %+v; want a sentence that says how", g)
	}

	one := t.TempDir()
	g = findGroups("cgroup "+one+" cgroup rw,memory 0 0\n", "8:memory:/\n0::/\n")
	if g.v2 || g.dirs["memory"] != one || !strings.Contains(g.missing, "pids and cpu") {
		t.Errorf("version 1 with memory alone: %+v", g)
	}
	if _, missing := g.newGroup(Limits{CPU: 1}); len(missing) != 1 || missing[0] != "cpu" {
		t.Errorf("cpu limit is %v; want it named as not enforced", missing)
	}
}
