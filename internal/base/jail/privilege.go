package jail

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// SetupCaps are held by init, within its own user namespace, only until the file tree stands.
var SetupCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_SETPCAP, unix.CAP_SYS_RESOURCE}

// dropPrivileges leaves the calling thread without any capability and without a way back.
func dropPrivileges() error {
	for c := uintptr(0); c <= 63; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			if err == unix.EINVAL {
				break // past the last capability that this kernel knows
			}
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	const (
		noRoot      = 1<<0 | 1<<1 // and locked
		noFixup     = 1<<2 | 1<<3
		noAmbient   = 1<<6 | 1<<7
		keepCapsOff = 1 << 5
	)
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, noRoot|noFixup|noAmbient|keepCapsOff, 0, 0, 0); err != nil {
		return fmt.Errorf("lock the security bits: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&head, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	// Init itself cannot be read or traced by what it starts.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make init undumpable: %w", err)
	}
	return nil
}

// DefaultProcesses is how many a sandbox may have if nobody says otherwise.
const DefaultProcesses = 4096

// boundProcesses bounds the tasks of this pid namespace by the number that they may have (Linux 6.14). Root outside is exempt
// from the resource limit of processes, and this holds for it too.
func boundProcesses(l Limits) {
	n := l.Processes
	if n == 0 {
		n = DefaultProcesses
	}
	// A control group at the same number answers first, because it counts what it refuses. The kernel wants at least 301 numbers. Older ones have one setting for the whole machine, and refuse.
	_ = os.WriteFile("/proc/sys/kernel/pid_max", strconv.AppendUint(nil, max(n, 301)+64, 10), 0)
}

func setLimits(l Limits) error {
	for _, want := range []struct {
		name     string
		resource int
		value    uint64
		fallback uint64
	}{
		{"open files", unix.RLIMIT_NOFILE, l.Files, 65536},
		{"processes", unix.RLIMIT_NPROC, l.Processes, DefaultProcesses},
		{"file size", unix.RLIMIT_FSIZE, l.FileSize, unix.RLIM_INFINITY},
		{"core dumps", unix.RLIMIT_CORE, 0, 0},
	} {
		value := want.value
		if value == 0 {
			value = want.fallback
		}
		var now syscall.Rlimit
		if err := syscall.Getrlimit(want.resource, &now); err != nil {
			return fmt.Errorf("read the limit of %s: %w", want.name, err)
		}
		value = min(value, now.Max)
		if err := syscall.Setrlimit(want.resource, &syscall.Rlimit{Cur: value, Max: value}); err != nil {
			return fmt.Errorf("limit %s to %d: %w", want.name, value, err)
		}
	}
	return nil
}
