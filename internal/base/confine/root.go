package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// devices are the only ones there are.
var devices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}

// buildRoot makes the file tree of the sandbox and moves this process into it. Sources are opened as
// detached mounts first, because the new tree covers the paths that they come from.
func buildRoot(b boot) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	roots := slices.Clone(b.Roots)
	// A parent is mounted before what lies in it.
	slices.SortStableFunc(roots, func(x, y root) int { return strings.Compare(x.Path, y.Path) })
	type source struct {
		root
		fd  int
		dir bool
	}
	var sources []source
	for _, r := range roots {
		var flags uint64 = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
		if !r.Write {
			flags |= unix.MOUNT_ATTR_RDONLY
		}
		fd, dir, err := detach(r.Path, flags)
		if errors.Is(err, os.ErrNotExist) && r.Optional {
			continue
		}
		if err != nil {
			return fmt.Errorf("open %s for the sandbox: %w", r.Path, err)
		}
		sources = append(sources, source{r, fd, dir})
	}
	devs := map[string]int{}
	for _, d := range devices {
		fd, _, err := detach(d, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
		if err == nil {
			devs[d] = fd
		}
	}

	top, err := newTmpfs("16m", "0755")
	if err != nil {
		return fmt.Errorf("make the sandbox's root: %w", err)
	}
	// Any directory serves as a place to stand on; the old tree is gone in a moment.
	if err := unix.MoveMount(top, "", unix.AT_FDCWD, "/usr", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount the sandbox's root: %w", err)
	}
	if err := unix.Fchdir(top); err != nil {
		return err
	}
	for _, d := range []string{"proc", "dev", "tmp", "run", "var"} {
		if err := unix.Mkdirat(top, d, 0o755); err != nil {
			return fmt.Errorf("make /%s: %w", d, err)
		}
	}
	size := b.Limits.Tmp
	if size == 0 {
		size = 1 << 30
	}
	tmp, err := newTmpfs(strconv.FormatUint(size, 10), "1777")
	if err == nil {
		err = unix.MoveMount(tmp, "", top, "tmp", unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if err != nil {
		return fmt.Errorf("mount /tmp: %w", err)
	}
	for _, d := range devices {
		if fd, ok := devs[d]; ok {
			if err := attach(top, d, fd, false); err != nil {
				return fmt.Errorf("mount %s: %w", d, err)
			}
		}
	}
	for name, to := range map[string]string{
		"dev/fd": "/proc/self/fd", "dev/stdin": "/proc/self/fd/0", "dev/stdout": "/proc/self/fd/1", "dev/stderr": "/proc/self/fd/2",
		"dev/shm": "/tmp", "var/tmp": "/tmp", "var/run": "/run",
	} {
		if err := unix.Symlinkat(to, top, name); err != nil {
			return fmt.Errorf("link /%s: %w", name, err)
		}
	}
	for _, s := range sources {
		if err := attach(top, s.Path, s.fd, s.dir); err != nil {
			return fmt.Errorf("mount %s: %w", s.Path, err)
		}
	}
	for _, m := range b.Masks {
		mask(top, m)
	}
	// Refused where the machine hides parts of its own /proc. Then the sandbox has none, which Probe reports.
	if err := unix.Mount("proc", "proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err == nil {
		// No user namespaces inside: nothing in here may regain a capability, not even over itself.
		os.WriteFile("proc/sys/user/max_user_namespaces", []byte("0"), 0)
	} else {
		os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("enter the sandbox's root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("make the sandbox's root read-only: %w", err)
	}
	if err := os.Chdir(b.Dir); err != nil {
		return fmt.Errorf("enter %s: %w", b.Dir, errors.Unwrap(err))
	}
	return nil
}

// detach opens path as a mount of its own with the given attributes.
func detach(path string, flags uint64) (fd int, dir bool, err error) {
	fd, err = unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, false, err
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: flags}); err != nil {
		return -1, false, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, false, err
	}
	return fd, st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

func newTmpfs(size, mode string) (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	for _, kv := range [][2]string{{"size", size}, {"mode", mode}} {
		if err := unix.FsconfigSetString(fs, kv[0], kv[1]); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
}

// attach mounts fd at path below top, making the mount point where the tree is still ours.
func attach(top int, path string, fd int, dir bool) error {
	rel := strings.TrimPrefix(filepath.Clean(path), "/")
	if rel == "" || rel == "." {
		return errors.New("the whole file system cannot be a root of a sandbox")
	}
	parts := strings.Split(rel, "/")
	for i := range parts {
		p := strings.Join(parts[:i+1], "/")
		if i < len(parts)-1 || dir {
			unix.Mkdirat(top, p, 0o755)
		} else if f, err := unix.Openat(top, p, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o644); err == nil {
			unix.Close(f)
		}
	}
	// Resolved inside the new tree: a link planted in a writable root leads nowhere else.
	at, err := unix.Openat2(top, rel, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return err
	}
	defer unix.Close(at)
	defer unix.Close(fd)
	return unix.MoveMount(fd, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// mask covers a path that is inside a root but nobody's business. Missing is fine.
func mask(top int, path string) {
	at, err := unix.Openat2(top, strings.TrimPrefix(path, "/"), &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if unix.Fstat(at, &st) != nil {
		return
	}
	var fd int
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		fd, err = newTmpfs("4k", "0000")
	} else {
		fd, _, err = detach("/dev/null", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOEXEC)
	}
	if err != nil {
		return
	}
	defer unix.Close(fd)
	unix.MoveMount(fd, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}
