package image

import (
	"archive/tar"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"weir/internal/base/fault"
)

// Places of a Node service in its image. The release job stages them.
const (
	NodeProgram = "usr/bin/node"
	NodeFolder  = "app"
)

// treeEntry is a file or a link of a tree.
type treeEntry struct {
	file
	exec bool
	link string
}

// FromNode makes an image of a Node service: a tree with the runtime that the
// release job found on its runner, and the service with its packages below /app.
// The tree comes from a job and is not trusted. The runtime is a layer of its own,
// so that releases share it.
func FromNode(dir string, in Input, tree io.ReadSeeker, program string) (Image, error) {
	index, err := listTree(in.Name, tree)
	if err != nil {
		return Image{}, err
	}
	at, ok := index[NodeProgram]
	if !ok || at.link != "" {
		return Image{}, fault.New(fault.Invalid, "The build of %s left no %s; the release job of a Node service stages it from the runner.", in.Name, NodeProgram)
	}
	folder := path.Join(NodeFolder, path.Clean("/" + in.Folder)[1:])
	main := path.Join(folder, program)
	if _, ok := index[main]; !ok { // not of a workspace: the service itself is below /app
		folder, main = NodeFolder, path.Join(NodeFolder, program)
	}
	if e, ok := index[main]; !ok || e.link != "" {
		return Image{}, fault.New(fault.Invalid, "weir.yaml says that Node runs %s, and the service %s has no such file.", program, in.Name)
	}
	arch, err := machine(tree, at.file)
	if err != nil {
		return Image{}, fault.Wrap(fault.Invalid, err, "The Node program of %s cannot run: %s.", in.Name, err)
	}
	base, err := baseLayer(dir)
	if err != nil {
		return Image{}, err
	}
	layers := []Layer{base}
	for _, part := range []func(p string) bool{
		func(p string) bool { return !strings.HasPrefix(p, NodeFolder+"/") },
		func(p string) bool { return strings.HasPrefix(p, NodeFolder+"/") },
	} {
		l, err := writeLayer(dir, func(t *tar.Writer) error { return copyTree(t, tree, index, part) })
		if err != nil {
			Image{Layers: layers}.Close()
			return Image{}, fmt.Errorf("layer files of %s: %w", in.Name, err)
		}
		layers = append(layers, l)
	}
	return assemble(in, "node", arch, append([]string{"/" + NodeProgram, "/" + main}, in.Command...), "/"+folder, layers)
}

// listTree checks every entry of a tree: files, folders, and links that stay inside.
func listTree(service string, tree io.ReadSeeker) (map[string]treeEntry, error) {
	if _, err := tree.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	index, total := map[string]treeEntry{}, int64(0)
	for t := tar.NewReader(tree); ; {
		h, err := t.Next()
		if err == io.EOF {
			return index, nil
		}
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "what the build of %s wrote is not a readable tar archive", service)
		}
		name, ok := clean(h.Name)
		if !ok {
			return nil, fault.New(fault.Invalid, "the files of %s hold %q, which lies outside their folder", service, h.Name)
		}
		e := treeEntry{exec: h.Mode&0o111 != 0}
		switch {
		case h.Typeflag == tar.TypeDir:
			continue
		case h.Typeflag == tar.TypeSymlink && h.Linkname != "":
			if path.IsAbs(h.Linkname) || !filepath.IsLocal(path.Join(path.Dir(name), h.Linkname)) {
				return nil, fault.New(fault.Invalid, "the files of %s hold the link %q to %q, which leads outside", service, h.Name, h.Linkname)
			}
			e.link = h.Linkname
		case h.Typeflag != tar.TypeReg || sparse(h):
			return nil, fault.New(fault.Invalid, "the files of %s hold %q, which is a hard link, a device or sparse; an image takes plain files, folders and symbolic links", service, h.Name)
		}
		if e.at, err = tree.Seek(0, io.SeekCurrent); err != nil {
			return nil, err
		}
		e.size = h.Size
		index[name] = e
		total += h.Size
		if len(index) > maxFiles || total > maxBytes {
			return nil, fault.New(fault.Invalid, "the files of %s are more than %d or larger than %d bytes; leave out what the service does not need at run time", service, maxFiles, int64(maxBytes))
		}
	}
}

// copyTree writes the entries that part takes, in the order of their names.
func copyTree(t *tar.Writer, tree io.ReadSeeker, index map[string]treeEntry, part func(string) bool) error {
	all := map[string]bool{}
	for n := range index {
		if part(n) {
			all[n] = true
			for d := path.Dir(n); d != "."; d = path.Dir(d) {
				if _, ok := index[d]; ok {
					return fault.New(fault.Invalid, "the files of an image hold %q as a file and as a folder", d)
				}
				all[d+"/"] = true
			}
		}
	}
	for _, n := range slices.Sorted(maps.Keys(all)) {
		e := index[n]
		h := tar.Header{Name: n, Typeflag: tar.TypeReg, Mode: 0o444, Size: e.size}
		switch {
		case strings.HasSuffix(n, "/"):
			h = tar.Header{Name: n, Typeflag: tar.TypeDir, Mode: 0o755}
		case e.link != "":
			h = tar.Header{Name: n, Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: e.link}
		case e.exec:
			h.Mode = 0o555
		}
		if _, err := tree.Seek(e.at, io.SeekStart); err != nil {
			return err
		}
		if err := entry(t, h, io.LimitReader(tree, e.size)); err != nil {
			return err
		}
	}
	return nil
}

// machine is what a program runs on. Its libraries are in the tree.
func machine(tree io.ReadSeeker, at file) (string, error) {
	f, err := elf.NewFile(&offsetReader{tree, at})
	if err != nil {
		return "", errors.New("it is no Linux program")
	}
	switch f.Machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	}
	return "", fmt.Errorf("it is for %s, and this is %s", f.Machine, runtime.GOARCH)
}

// offsetReader reads one file of an archive at offsets. It is not safe for concurrent use.
type offsetReader struct {
	r  io.ReadSeeker
	at file
}

func (o *offsetReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= o.at.size {
		return 0, io.EOF
	}
	if _, err := o.r.Seek(o.at.at+off, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(o.r, p[:min(int64(len(p)), o.at.size-off)])
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}
