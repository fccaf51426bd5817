package confine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"weir/internal/base/jail"
)

// Support is what this machine can do for a sandbox.
type Support struct {
	OK       bool     `json:"ok"`       // sandboxes can be opened
	Landlock int      `json:"landlock"` // ABI version, 0: none
	Scoped   bool     `json:"scoped"`   // Landlock also covers signals and abstract sockets
	Proc     bool     `json:"proc"`     // a sandbox has a /proc of its own
	Limits   []string `json:"limits"`   // what can be limited by control groups: memory, pids, cpu
	Missing  []string `json:"missing"`  // sentences: what is not there, and what to do
}

// Probe tries it once, by opening a sandbox, and remembers the answer.
var Probe = sync.OnceValue(func() Support {
	s := Support{Landlock: jail.LandlockABI()}
	s.Scoped = s.Landlock >= 6
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	box, err := Open(ctx, Spec{})
	if err != nil {
		s.Missing = append(s.Missing, err.Error())
		return s
	}
	defer box.Close()
	s.OK = true
	var out strings.Builder
	p, err := box.Start(Cmd{Argv: []string{"/bin/sh", "-c", "test -d /proc/self && echo yes"}, Stdout: &out})
	if err == nil {
		p.Wait()
	}
	s.Proc = strings.Contains(out.String(), "yes")
	if !s.Proc {
		s.Missing = append(s.Missing, "sandboxes have no /proc, because this machine hides parts of its own (run Weir outside of a container, or in one that does not mask /proc)")
	}
	if !s.Scoped {
		s.Missing = append(s.Missing, fmt.Sprintf("Landlock ABI %d does not cover abstract sockets and signals (Linux 6.12 or newer does); the namespaces still do, except for sockets with network: host", s.Landlock))
	}
	groups := machineGroups()
	for _, c := range controllers {
		if groups.dirs[c] != "" {
			s.Limits = append(s.Limits, c)
		}
	}
	if groups.missing != "" {
		s.Missing = append(s.Missing, groups.missing+"; limits of memory and cpu that a configuration asks for are recorded as not enforced")
	}
	return s
})

// refusal is the sentence for a host on which a sandbox cannot be opened.
func refusal(err error) string {
	const choice = "; fix this, or start Weir with --unconfined, which every provenance then records"
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return "cannot open a sandbox: " + err.Error()
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EUSERS):
		why := "this machine does not let " + who() + " make user namespaces"
		if b, e := os.ReadFile("/proc/sys/user/max_user_namespaces"); e == nil && strings.TrimSpace(string(b)) == "0" {
			why += " (sysctl user.max_user_namespaces is 0)"
		} else if b, e := os.ReadFile("/proc/sys/kernel/unprivileged_userns_clone"); e == nil && strings.TrimSpace(string(b)) == "0" {
			why += " (sysctl kernel.unprivileged_userns_clone is 0)"
		} else if b, e := os.ReadFile("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"); e == nil && strings.TrimSpace(string(b)) == "1" {
			why += " (sysctl kernel.apparmor_restrict_unprivileged_userns is 1)"
		}
		return "cannot confine programs: " + why + ": " + err.Error() + choice
	}
	return "cannot confine programs: " + err.Error() + choice
}

func who() string {
	if os.Getuid() == 0 {
		return "root"
	}
	return fmt.Sprintf("user %d", os.Getuid())
}
