package oci

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"weir/internal/base/fault"
)

// Whiteouts, as OCI writes deletions into layers.
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// room bounds what is unpacked of one image.
type room struct {
	bytes, files int64
	owner        func(id int) int
	lower        []*os.Root // the layers below, the highest first
}

var errRoom = errors.New("no room")

// layer unpacks one layer into an empty folder, as overlayfs wants it.
func (b *room) layer(r io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewReader(r)
	made := map[string]tar.Header{} // folders get their dates and modes at the end
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fault.New(fault.Invalid, "it is no readable tar archive: %v", err)
		}
		if b.files--; b.files < 0 {
			return errRoom
		}
		name := path.Clean(strings.TrimLeft(h.Name, "/"))
		if name == "." {
			continue
		}
		if !filepath.IsLocal(name) || strings.ContainsRune(h.Name, 0) {
			return fault.New(fault.Invalid, "it holds %q, which leads out of the image", clip(h.Name))
		}
		if err := b.entry(root, t, h, name, made); err != nil {
			return err
		}
	}
	for name, h := range made {
		if err := b.finish(root, name, &h); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (b *room) entry(root *os.Root, t *tar.Reader, h *tar.Header, name string, made map[string]tar.Header) error {
	dir, base := path.Split(name)
	dir = path.Clean(dir)
	if err := b.parents(root, dir); err != nil {
		return outside(h.Name, err)
	}
	switch {
	case base == opaque:
		return opaqueDir(root, dir)
	case strings.HasPrefix(base, whiteout+whiteout):
		return nil // notes of other tools
	case strings.HasPrefix(base, whiteout):
		gone := path.Join(dir, strings.TrimPrefix(base, whiteout))
		if path.Dir(gone) != dir || !filepath.IsLocal(gone) {
			return fault.New(fault.Invalid, "it deletes %q, which is no name", clip(h.Name))
		}
		return deleted(root, gone)
	}
	info, err := root.Lstat(name)
	replaced := err == nil && info.Mode()&fs.ModeCharDevice != 0
	if err == nil && !(info.IsDir() && h.Typeflag == tar.TypeDir) { // an archive may say something twice; the last counts
		if err := root.RemoveAll(name); err != nil {
			return outside(h.Name, err)
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return outside(h.Name, err)
		}
		made[name] = *h
		if replaced {
			return opaqueDir(root, name)
		}
		return nil
	case tar.TypeReg:
		if h.Size < 0 || h.Size > b.bytes {
			return errRoom
		}
		b.bytes -= h.Size
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return outside(h.Name, err)
		}
		_, err = io.Copy(f, t)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	case tar.TypeSymlink:
		if err := root.Symlink(h.Linkname, name); err != nil {
			return outside(h.Name, err)
		}
		return b.own(root, name, h)
	case tar.TypeLink:
		to := path.Clean(strings.TrimLeft(h.Linkname, "/"))
		if !filepath.IsLocal(to) {
			return fault.New(fault.Invalid, "it holds the link %q to %q, which leads out of the image", clip(h.Name), clip(h.Linkname))
		}
		if err := root.Link(to, name); err != nil {
			return outside(h.Name, err)
		}
		return nil
	default:
		return nil // devices and pipes: a container has devices of its own, and a pipe is nothing to ship
	}
	return b.finish(root, name, h)
}

// parents makes the folders above an entry that the archive does not name. What is below knows how they look.
func (b *room) parents(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if _, err := root.Lstat(dir); err == nil {
		return nil
	}
	if err := b.parents(root, path.Dir(dir)); err != nil {
		return err
	}
	if err := root.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, l := range b.lower {
		info, err := l.Lstat(dir)
		if err != nil {
			continue
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || !info.IsDir() {
			break
		}
		if b.owner != nil {
			if err := root.Lchown(dir, int(st.Uid), int(st.Gid)); err != nil {
				return err
			}
		}
		return root.Chmod(dir, info.Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky))
	}
	return nil
}

// finish gives a file or folder its owner, mode and date.
func (b *room) finish(root *os.Root, name string, h *tar.Header) error {
	if err := b.own(root, name, h); err != nil {
		return err
	}
	// After the owner, because changing that clears these bits.
	mode := h.FileInfo().Mode()
	if err := root.Chmod(name, mode&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return outside(h.Name, err)
	}
	when := h.ModTime
	if when.Before(time.Unix(0, 0)) {
		when = time.Unix(0, 0)
	}
	_ = root.Chtimes(name, when, when)
	return nil
}

func (b *room) own(root *os.Root, name string, h *tar.Header) error {
	if b.owner == nil {
		return nil
	}
	if err := root.Lchown(name, b.owner(h.Uid), b.owner(h.Gid)); err != nil {
		return outside(h.Name, err)
	}
	return nil
}

// opaqueDir hides what lower layers have in a folder.
func opaqueDir(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return outside(dir, err)
	}
	defer f.Close()
	if err := unix.Fsetxattr(int(f.Fd()), "user.overlay.opaque", []byte("y"), 0); err != nil {
		return fmt.Errorf("mark %s as replaced: %w", dir, err)
	}
	return nil
}

// deleted hides what a lower layer has under a name.
func deleted(root *os.Root, name string) error {
	if info, err := root.Lstat(name); err == nil { // this layer puts something else there
		if info.IsDir() {
			return opaqueDir(root, name)
		}
		return nil
	}
	parent, err := root.Open(path.Dir(name))
	if err != nil {
		return outside(name, err)
	}
	defer parent.Close()
	if err := unix.Mknodat(int(parent.Fd()), path.Base(name), unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("mark %s as deleted: %w", name, err)
	}
	return nil
}

// outside is the sentence for an entry that cannot be written where it says.
func outside(name string, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return err
	}
	return fault.New(fault.Invalid, "it holds %q, which cannot be unpacked inside of the image: %v", clip(name), errors.Unwrap(err))
}
