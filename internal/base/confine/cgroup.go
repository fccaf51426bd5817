package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// groups is where this process may make control groups: one folder for all controllers (version 2), or one for each (version 1).
type groups struct {
	v2      bool
	dirs    map[string]string // controller to folder
	missing string            // why there is none, or not every one
}

// groupPrefix begins the names of all groups that Weir makes; the process that made one follows.
const groupPrefix = "weir-"

var controllers = []string{"memory", "pids", "cpu"}

var machineGroups = sync.OnceValue(func() groups {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	own, _ := os.ReadFile("/proc/self/cgroup")
	g := findGroups(string(mounts), string(own))
	for _, dir := range g.dirs {
		sweepGroups(dir)
	}
	return g
})

// findGroups reads where control groups are mounted and which are this process's own.
func findGroups(mounts, own string) groups {
	paths := map[string]string{} // controller, or "" for version 2, to this process's path
	for line := range strings.Lines(own) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for c := range strings.SplitSeq(f[1], ",") {
			paths[c] = f[2]
		}
	}
	var unified string
	old := map[string]string{}
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		switch f[2] {
		case "cgroup2":
			if p, ok := paths[""]; ok {
				unified = filepath.Join(f[1], p)
			}
		case "cgroup":
			for o := range strings.SplitSeq(f[3], ",") {
				if p, ok := paths[o]; ok && slices.Contains(controllers, o) {
					old[o] = filepath.Join(f[1], p)
				}
			}
		}
	}
	if unified != "" {
		dirs, err := delegated(unified)
		if err == nil {
			return groups{v2: true, dirs: dirs, missing: lacking(dirs)}
		}
		if len(old) == 0 {
			return groups{missing: err.Error()}
		}
	}
	for c, dir := range old {
		if syscall.Access(dir, 2) != nil {
			delete(old, c)
		}
	}
	if len(old) == 0 {
		return groups{missing: "this machine gives Weir no control groups of its own"}
	}
	return groups{dirs: old, missing: lacking(old)}
}

func lacking(dirs map[string]string) string {
	var none []string
	for _, c := range controllers {
		if dirs[c] == "" {
			none = append(none, c)
		}
	}
	if len(none) == 0 {
		return ""
	}
	return "this machine delegates no control of " + strings.Join(none, " and ")
}

// delegated prepares a version 2 group for children with limits. Processes live in leaves only, so this one may have to move first.
func delegated(dir string) (map[string]string, error) {
	if strings.HasPrefix(filepath.Base(dir), groupPrefix) {
		dir = filepath.Dir(dir) // this process was started by one that has moved already
	}
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return nil, errors.New("this machine's control groups cannot be read")
	}
	dirs, enable := map[string]string{}, ""
	for _, c := range controllers {
		if slices.Contains(strings.Fields(string(have)), c) {
			dirs[c] = dir
			enable += " +" + c
		}
	}
	if len(dirs) == 0 {
		return nil, errors.New("this machine delegates no control groups to Weir (with systemd: Delegate=yes)")
	}
	control := filepath.Join(dir, "cgroup.subtree_control")
	if err = os.WriteFile(control, []byte(enable[1:]), 0o644); errors.Is(err, syscall.EBUSY) {
		leaf := filepath.Join(dir, groupPrefix+strconv.Itoa(os.Getpid())+"-self")
		if err = os.Mkdir(leaf, 0o755); err == nil || errors.Is(err, os.ErrExist) {
			if err = os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte("0"), 0o644); err == nil {
				err = os.WriteFile(control, []byte(enable[1:]), 0o644)
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("this machine does not let Weir limit its control groups (with systemd: Delegate=yes): %w", err)
	}
	return dirs, nil
}

// sweepGroups removes what processes that are gone have left.
func sweepGroups(dir string) {
	found, _ := filepath.Glob(filepath.Join(dir, groupPrefix+"*"))
	for _, g := range found {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(g), groupPrefix), "-")
		if n, err := strconv.Atoi(pid); err == nil && syscall.Kill(n, 0) == syscall.ESRCH {
			_ = syscall.Rmdir(g)
		}
	}
}

var groupCount atomic.Int64

// group is the control group of one sandbox. The zero value is none.
type group struct {
	v2     bool
	dirs   map[string]string
	limits Limits
}

// newGroup makes a group with the limits that are asked for, and says which of them the machine cannot hold anybody to.
func (g groups) newGroup(l Limits) (group, []string) {
	made := group{v2: g.v2, dirs: map[string]string{}, limits: l}
	var missing []string
	name := fmt.Sprintf("%s%d-%d", groupPrefix, os.Getpid(), groupCount.Add(1))
	for _, want := range []struct {
		controller, what string
		on               bool
		v1, v2           [][2]string
	}{
		{"memory", "memory", l.Memory > 0,
			[][2]string{{"memory.limit_in_bytes", strconv.FormatUint(l.Memory, 10)}},
			[][2]string{{"memory.max", strconv.FormatUint(l.Memory, 10)}, {"memory.swap.max", "0"}}},
		{"cpu", "cpu", l.CPU > 0,
			[][2]string{{"cpu.cfs_period_us", "100000"}, {"cpu.cfs_quota_us", strconv.FormatInt(max(1000, int64(l.CPU*100_000)), 10)}},
			[][2]string{{"cpu.max", strconv.FormatInt(max(1000, int64(l.CPU*100_000)), 10) + " 100000"}}},
		{"pids", "processes", l.Processes > 0,
			[][2]string{{"pids.max", strconv.FormatUint(l.Processes, 10)}},
			[][2]string{{"pids.max", strconv.FormatUint(l.Processes, 10)}}},
	} {
		if !want.on {
			continue
		}
		parent := g.dirs[want.controller]
		if parent == "" {
			missing = append(missing, want.what)
			continue
		}
		dir := filepath.Join(parent, name)
		err := os.Mkdir(dir, 0o755)
		if err != nil && !errors.Is(err, os.ErrExist) {
			missing = append(missing, want.what)
			continue
		}
		made.dirs[want.controller] = dir
		values := want.v1
		if g.v2 {
			values = want.v2
		}
		for _, v := range values {
			if err := os.WriteFile(filepath.Join(dir, v[0]), []byte(v[1]), 0o644); err != nil && v[0] != "memory.swap.max" {
				missing = append(missing, want.what)
				break
			}
		}
	}
	return made, missing
}

// add puts a process and all its descendants to come into the group.
func (g group) add(pid int) error {
	for _, dir := range g.dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), strconv.AppendInt(nil, int64(pid), 10), 0o644); err != nil {
			return fmt.Errorf("put the sandbox into its control group: %w", err)
		}
	}
	return nil
}

// remove waits a moment for the kernel to let go of what has ended.
func (g group) remove() {
	for _, dir := range g.dirs {
		for range 20 {
			if err := syscall.Rmdir(dir); err != syscall.EBUSY {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// exceeded says which limits the sandbox has run into, as the end of a sentence, or "".
func (g group) exceeded() string {
	count := func(controller, file, key string) bool {
		dir := g.dirs[controller]
		if dir == "" {
			return false
		}
		b, _ := os.ReadFile(filepath.Join(dir, file))
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key && v != "0" {
				return true
			}
		}
		return false
	}
	oom := "memory.oom_control"
	if g.v2 {
		oom = "memory.events"
	}
	switch {
	case count("memory", oom, "oom_kill"):
		return fmt.Sprintf("it needed more than its %d MiB of memory, and the kernel ended a process of it", g.limits.Memory>>20)
	case count("pids", "pids.events", "max"):
		return fmt.Sprintf("it tried to have more than %d processes at a time", g.limits.Processes)
	}
	return ""
}
