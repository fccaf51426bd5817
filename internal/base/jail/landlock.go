package jail

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Landlock rights, by the kernel's numbering.
const (
	fsExecute    = 1 << 0
	fsWriteFile  = 1 << 1
	fsReadFile   = 1 << 2
	fsReadDir    = 1 << 3
	fsRefer      = 1 << 13 // ABI 2
	fsTruncate   = 1 << 14 // ABI 3
	fsIoctlDev   = 1 << 15 // ABI 5
	fsAllV1      = 1<<13 - 1
	scopeAll     = 1<<0 | 1<<1 // ABI 6: abstract unix sockets, signals
	readRights   = fsExecute | fsReadFile | fsReadDir
	fileRights   = fsExecute | fsWriteFile | fsReadFile | fsTruncate | fsIoctlDev
	deviceRights = fsWriteFile | fsReadFile | fsTruncate | fsIoctlDev
)

type rulesetAttr struct{ fs, net, scoped uint64 }

type pathBeneathAttr struct {
	access uint64
	parent int32
}

// LandlockABI is the version that the kernel offers, 0 where the kernel has no Landlock.
func LandlockABI() int {
	n, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// rules is a Landlock ruleset that repeats what the mounts say.
type rules struct {
	fd      int
	handled uint64
}

func newRules(b Boot) (rules, error) {
	abi := LandlockABI()
	if abi == 0 {
		return rules{}, errors.New("this kernel has no Landlock (Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK is needed)")
	}
	attr := rulesetAttr{fs: fsAllV1}
	if abi >= 2 {
		attr.fs |= fsRefer
	}
	if abi >= 3 {
		attr.fs |= fsTruncate
	}
	if abi >= 5 {
		attr.fs |= fsIoctlDev
	}
	size := unsafe.Sizeof(attr.fs)
	if abi >= 6 {
		attr.scoped = scopeAll
		size = unsafe.Sizeof(attr)
	}
	fd, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return rules{}, fmt.Errorf("make a Landlock ruleset: %w", errno)
	}
	r := rules{fd: int(fd), handled: attr.fs}
	allow := map[string]uint64{"/": fsReadDir, "/tmp": r.handled, "/proc": readRights}
	if b.Image != "" {
		allow["/"] = readRights
	}
	for _, d := range devices {
		allow[d] = deviceRights
	}
	for _, root := range b.Roots {
		allow[filepath.Clean(root.Path)] |= readRights
		if root.Write {
			allow[filepath.Clean(root.Path)] = r.handled
		}
	}
	for path, access := range allow {
		err := r.allow(path, access)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return rules{}, fmt.Errorf("allow %s: %w", path, err)
		}
	}
	return r, nil
}

func (r rules) allow(path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= fileRights
	}
	attr := pathBeneathAttr{access: access & r.handled, parent: int32(fd)}
	_, _, errno := syscall.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(r.fd), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// enforce binds the calling thread and all that it starts, for ever.
func (r rules) enforce() error {
	defer unix.Close(r.fd)
	if _, _, errno := syscall.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(r.fd), 0, 0); errno != 0 {
		return fmt.Errorf("enforce Landlock: %w", errno)
	}
	return nil
}
