package confine_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"weir/internal/base/confine"
)

func TestSystemCallsThatNobodyNeedsAreRefused(t *testing.T) {
	s := open(t, confine.Spec{Dir: t.TempDir()})
	for name, call := range map[string][2]int{
		"keyctl":              {unix.SYS_KEYCTL, 0},
		"bpf":                 {unix.SYS_BPF, 0},
		"perf_event_open":     {unix.SYS_PERF_EVENT_OPEN, 0},
		"userfaultfd":         {unix.SYS_USERFAULTFD, 0},
		"io_uring_setup":      {unix.SYS_IO_URING_SETUP, 1},
		"init_module":         {unix.SYS_INIT_MODULE, 0},
		"kexec_load":          {unix.SYS_KEXEC_LOAD, 0},
		"mount":               {unix.SYS_MOUNT, 0},
		"chroot":              {unix.SYS_CHROOT, 0},
		"setns":               {unix.SYS_SETNS, 0},
		"unshare(user)":       {unix.SYS_UNSHARE, unix.CLONE_NEWUSER},
		"unshare(net)":        {unix.SYS_UNSHARE, unix.CLONE_NEWNET},
		"clock_settime":       {unix.SYS_CLOCK_SETTIME, 0},
		"syslog":              {unix.SYS_SYSLOG, 0},
		"x32 getpid":          {1<<30 | unix.SYS_GETPID, 0},
		"clone3":              {unix.SYS_CLONE3, 0},
		"socket(AF_VSOCK)":    {unix.SYS_SOCKET, unix.AF_VSOCK},
		"socket(AF_ALG)":      {unix.SYS_SOCKET, unix.AF_ALG},
		"socket(AF_PACKET)":   {unix.SYS_SOCKET, unix.AF_PACKET},
		"socketpair(AF_TIPC)": {unix.SYS_SOCKETPAIR, unix.AF_TIPC},
	} {
		got := attack(t, s, "syscall", strconv.Itoa(call[0]), strconv.Itoa(call[1]))
		// A refusal by the filter, not one that the kernel gives for the nonsense in the arguments.
		if got != "safe: operation not permitted" && got != "safe: function not implemented" && got != "safe: address family not supported by protocol" {
			t.Errorf("%s: %s; want the filter to refuse it", name, got)
		}
	}
	if out, _ := sh(t, s, "grep ^Seccomp: /proc/self/status"); !strings.Contains(out, "2") {
		t.Errorf("status of a process shows %q; want a filter (2)", out)
	}
	// What programs do every day still works: files, processes, threads, sockets of the usual families.
	if out, exit := sh(t, s, `set -e; mkdir d; echo x > d/f; (sleep 0.01 & wait); test "$(cat d/f)" = x; nice -n 1 true; echo fine`); exit.Code != 0 || !strings.Contains(out, "fine") {
		t.Errorf("an ordinary script ended with %v: %s", exit, out)
	}
}

func TestAForkBombIsBounded(t *testing.T) {
	s := open(t, confine.Spec{Dir: t.TempDir(), Limits: confine.Limits{Processes: 310}})
	got := attack(t, s, "multiply", "2000")
	if slices.Contains(s.Unenforced(), "processes") && !strings.HasPrefix(got, "safe") {
		t.Skip("this machine can neither bound pids by namespace nor by control group")
	}
	if !strings.HasPrefix(got, "safe") {
		t.Errorf("2000 processes: %s; want a refusal at 310", got)
	}
	if slices.Contains(confine.Probe().Limits, "pids") && !strings.Contains(s.Exceeded(), "more than 310 processes") {
		t.Errorf("Exceeded() = %q; want the limit of processes named", s.Exceeded())
	}
}

func TestMemoryIsBounded(t *testing.T) {
	if !slices.Contains(confine.Probe().Limits, "memory") {
		t.Skip("this machine delegates no control group of memory")
	}
	s := open(t, confine.Spec{Dir: t.TempDir(), Limits: confine.Limits{Memory: 64 << 20}})
	if got := attack(t, s, "eat", "400"); strings.Contains(got, "ate") {
		t.Errorf("a program in a sandbox of 64 MiB %s MiB", got)
	}
	if got := s.Exceeded(); !strings.Contains(got, "more than its 64 MiB of memory") {
		t.Errorf("Exceeded() = %q; want the limit of memory named", got)
	}
	s.Close()
	if got := s.Exceeded(); !strings.Contains(got, "64 MiB") {
		t.Errorf("after Close, Exceeded() = %q; want the same", got)
	}
}

func TestNoControlGroupIsLeftBehind(t *testing.T) {
	s := open(t, confine.Spec{Dir: t.TempDir(), Limits: confine.Limits{Memory: 64 << 20, CPU: 0.5, Processes: 400}})
	s.Close()
	for _, m := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/cpu"} {
		entries, _ := os.ReadDir(m)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "weir-"+strconv.Itoa(os.Getpid())+"-") && !strings.HasSuffix(e.Name(), "-self") {
				t.Errorf("%s/%s was left behind", m, e.Name())
			}
		}
	}
}
