package jail

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
func buildRoot(b Boot) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	roots := slices.Clone(b.Roots)
	// A parent is mounted before what lies in it.
	slices.SortStableFunc(roots, func(x, y Root) int { return strings.Compare(x.Path, y.Path) })
	type source struct {
		Root
		fd  int
		dir bool
	}
	var sources []source
	for _, r := range roots {
		var flags uint64 = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
		if !r.Write {
			flags |= unix.MOUNT_ATTR_RDONLY
		}
		fd, dir, err := detachAs(r, flags)
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

	top, err := newTop(b)
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
	size := b.Limits.Tmp
	if size == 0 {
		size = 1 << 30
	}
	tmp, err := newTmpfs(strconv.FormatUint(size, 10), "1777")
	if err == nil {
		err = attach(top, "tmp", tmp, true)
	}
	if err != nil {
		return fmt.Errorf("mount /tmp: %w", err)
	}
	// Made relative to itself, so that no link in an image has a say in it.
	dev, err := newTmpfs("64k", "0755")
	if err != nil {
		return fmt.Errorf("make /dev: %w", err)
	}
	place, err := unix.FcntlInt(uintptr(dev), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = attach(top, "dev", place, true)
	}
	if err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	for _, d := range devices {
		if fd, ok := devs[d]; ok {
			if err := attach(dev, filepath.Base(d), fd, false); err != nil {
				return fmt.Errorf("mount %s: %w", d, err)
			}
		}
	}
	for name, to := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "shm": "/tmp",
	} {
		if err := unix.Symlinkat(to, dev, name); err != nil {
			return fmt.Errorf("link /dev/%s: %w", name, err)
		}
	}
	if err := unix.MountSetattr(dev, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("make /dev read-only: %w", err)
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
	if proc, err := newFS("proc", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC); err == nil {
		if err := attach(top, "proc", proc, true); err != nil {
			return fmt.Errorf("mount /proc: %w", err)
		}
	}
	// No user namespaces inside: nothing in here may regain a capability, not even over itself. This is the
	// old /proc; the setting belongs to the namespace of whoever writes.
	if !b.Builder {
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

// detachAs is detach, which for a plain root follows no link.
func detachAs(r Root, flags uint64) (fd int, dir bool, err error) {
	if !r.Plain {
		return detach(r.Path, flags)
	}
	at, err := unix.Openat2(unix.AT_FDCWD, r.Path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return -1, false, err
	}
	defer unix.Close(at)
	return detachAt(at, "", unix.AT_EMPTY_PATH, flags)
}

// detach opens path as a mount of its own with the given attributes.
func detach(path string, flags uint64) (fd int, dir bool, err error) {
	return detachAt(unix.AT_FDCWD, path, 0, flags)
}

func detachAt(at int, path string, how uint, flags uint64) (fd int, dir bool, err error) {
	fd, err = unix.OpenTree(at, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|how)
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

// newTop is the root of the new tree: an image, or an empty folder to hang the roots in.
func newTop(b Boot) (int, error) {
	if b.Image != "" {
		fd, dir, err := detach(b.Image, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_RDONLY)
		if err == nil && !dir {
			return -1, unix.ENOTDIR
		}
		return fd, err
	}
	top, err := newTmpfs("16m", "0755")
	if err != nil {
		return -1, err
	}
	folders := []string{"proc", "dev", "tmp", "run", "var"}
	if b.Builder {
		folders = append(folders, "sys") // builders mount it into their roots, empty as it is
	}
	for _, d := range folders {
		if err := unix.Mkdirat(top, d, 0o755); err != nil {
			return -1, err
		}
	}
	for name, to := range map[string]string{"var/tmp": "/tmp", "var/run": "/run"} {
		if err := unix.Symlinkat(to, top, name); err != nil {
			return -1, err
		}
	}
	return top, nil
}

func newTmpfs(size, mode string) (int, error) {
	return newFS("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, "size", size, "mode", mode)
}

func newFS(kind string, flags int, options ...string) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	for i := 0; i < len(options); i += 2 {
		if err := unix.FsconfigSetString(fs, options[i], options[i+1]); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, flags)
}

// attach mounts fd at path below top, making the mount point where the tree is still ours.
func attach(top int, path string, fd int, dir bool) error {
	rel := strings.TrimPrefix(filepath.Clean(path), "/")
	if rel == "" || rel == "." {
		return errors.New("the whole file system cannot be a root of a sandbox")
	}
	// Every step is resolved inside the new tree: a link planted in a writable root leads nowhere else.
	at, err := within(top, ".")
	if err != nil {
		return err
	}
	parts := strings.Split(rel, "/")
	for i, part := range parts {
		if i < len(parts)-1 || dir {
			unix.Mkdirat(at, part, 0o755)
		} else if f, err := unix.Openat(at, part, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o644); err == nil {
			unix.Close(f)
		}
		unix.Close(at)
		if at, err = within(top, strings.Join(parts[:i+1], "/")); err != nil {
			return err
		}
	}
	defer unix.Close(at)
	defer unix.Close(fd)
	return unix.MoveMount(fd, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

func within(top int, path string) (int, error) {
	return unix.Openat2(top, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
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
