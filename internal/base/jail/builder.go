package jail

import (
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A builder of images wants to be root, to mount, to change root, and to give files to users. It gets all of that in a world where
// it means little. Each command is root of an inner user namespace, a child of the sandbox's: the mounts that it sees were made
// outside of it, so the kernel locks their read-only, nosuid and nodev flags for it. There is one user in there. Giving a file to
// another one, or becoming one, answers as if it were done and does nothing, so that an image comes out the same whoever runs
// Weir: all of it belongs to root.

// builderMay is what the filter of jobs denies and a builder needs.
var builderMay = []int{
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_MOUNT_SETATTR,
	unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
}

// pretended are the calls that answer 0 and do nothing.
var pretended = append([]int{
	unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_SETGROUPS, unix.SYS_SETUID, unix.SYS_SETGID, unix.SYS_SETREUID, unix.SYS_SETREGID,
	unix.SYS_SETRESUID, unix.SYS_SETRESGID, unix.SYS_SETFSUID, unix.SYS_SETFSGID,
}, pretendedHere...)

// builderFilter is the filter of jobs without what a builder must do.
func builderFilter() []bpf.Instruction {
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1},
		answer(unix.ENOSYS),
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
	}
	if auditArch == unix.AUDIT_ARCH_X86_64 {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpLessThan, Val: 1 << 30, SkipTrue: 1}, answer(unix.ENOSYS))
	}
	for _, nr := range append(slices.Clone(denied), deniedHere...) {
		if !slices.Contains(builderMay, nr) {
			p = append(p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(nr), SkipTrue: 1}, answer(unix.EPERM))
		}
	}
	for _, nr := range pretended {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(nr), SkipTrue: 1}, answer(0))
	}
	for _, nr := range []uint32{unix.SYS_SOCKET, unix.SYS_SOCKETPAIR} {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nr, SkipTrue: uint8(3 + len(families))}, bpf.LoadAbsolute{Off: offArgs, Size: 4})
		for i, f := range families {
			p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: f, SkipTrue: uint8(len(families) - i)})
		}
		p = append(p, answer(unix.EAFNOSUPPORT), allow)
	}
	return append(p, allow)
}

// restrictBuilder takes from init what the commands of a builder shall not have either.
func restrictBuilder() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return install(builderFilter())
}

// inner makes a command root of a user namespace of its own, and of copies of the mounts.
func inner(sys *syscall.SysProcAttr) {
	sys.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS
	sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
}
