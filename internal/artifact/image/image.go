// Package image makes an OCI image from a static binary or a folder of files,
// without a daemon and without a base image.
//
// The same input gives the same bytes: entries are sorted, owned by root, dated
// 1970, and nothing is read from the machine that builds. That is also why no
// CA certificates are put in: they would make the digest depend on the builder.
// A service that calls others over TLS carries its roots in the binary
// (golang.org/x/crypto/x509roots/fallback).
//
// Processes run as 65532:65532, who may write to /tmp only.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/fault"
)

// User is who processes of an image run as.
const User = "65532:65532"

// KindLabel says in an image's configuration what is in it: "binary" or "static".
const KindLabel = "dev.weir.kind"

// Bounds of a folder of files.
const (
	maxFiles = 100_000
	maxBytes = 4 << 30 // unpacked
)

// Input is what an image is made of.
type Input struct {
	Name     string   // of the service; also of the binary
	Command  []string // arguments after the binary
	Revision string
	Version  string
	Source   string    // URL of the repository
	Folder   string    // of the service in its repository, where a Node workspace has it
	Created  time.Time // of the commit, so that a second build agrees
}

// Image is a built image. Close removes its files.
type Image struct {
	Manifest []byte
	Digest   string // of Manifest
	Config   []byte
	Layers   []Layer
	Arch     string
}

// Layer is a compressed layer on disk.
type Layer struct {
	artifact.Descriptor
	diffID string
	file   *os.File
}

// Open returns the bytes of the layer from the start. Only one reader at a time.
func (l Layer) Open() (io.Reader, error) {
	_, err := l.file.Seek(0, io.SeekStart)
	return l.file, err
}

// Close removes the files of an image.
func (i Image) Close() {
	for _, l := range i.Layers {
		l.file.Close()
		os.Remove(l.file.Name())
	}
}

// ConfigDescriptor describes the configuration blob.
func (i Image) ConfigDescriptor() artifact.Descriptor {
	return artifact.Descriptor{MediaType: artifact.MediaConfig, Digest: digest(i.Config), Size: int64(len(i.Config))}
}

// Size is how many bytes have to be pulled.
func (i Image) Size() int64 {
	n := int64(len(i.Config))
	for _, l := range i.Layers {
		n += l.Size
	}
	return n
}

// FromBinary makes an image of a static Linux binary. dir takes temporary files.
func FromBinary(dir string, in Input, binary io.ReadSeeker, size int64) (Image, error) {
	at, ok := binary.(io.ReaderAt)
	if !ok {
		return Image{}, fmt.Errorf("image of %s: the binary cannot be read at an offset", in.Name)
	}
	arch, err := architecture(in.Name, at)
	if err != nil {
		return Image{}, err
	}
	if _, err := binary.Seek(0, io.SeekStart); err != nil {
		return Image{}, err
	}
	base, err := baseLayer(dir)
	if err != nil {
		return Image{}, err
	}
	app, err := writeLayer(dir, func(t *tar.Writer) error {
		if err := entry(t, tar.Header{Name: "app/", Typeflag: tar.TypeDir, Mode: 0o755}, nil); err != nil {
			return err
		}
		return entry(t, tar.Header{Name: "app/" + in.Name, Typeflag: tar.TypeReg, Mode: 0o555, Size: size}, binary)
	})
	if err != nil {
		Image{Layers: []Layer{base}}.Close()
		return Image{}, fmt.Errorf("layer binary of %s: %w", in.Name, err)
	}
	return assemble(in, "binary", arch, append([]string{"/app/" + in.Name}, in.Command...), "/", []Layer{base, app})
}

// FromFiles makes an image of a tar of files, which come from a job and are not
// trusted: only regular files and folders, inside the root.
func FromFiles(dir string, in Input, files io.ReadSeeker) (Image, error) {
	index, err := list(in.Name, files)
	if err != nil {
		return Image{}, err
	}
	layer, err := writeLayer(dir, func(t *tar.Writer) error { return copySorted(t, files, index) })
	if err != nil {
		return Image{}, fmt.Errorf("layer files of %s: %w", in.Name, err)
	}
	var entrypoint []string
	arch := runtime.GOARCH
	if at, ok := index[SiteServer]; ok {
		body, err := section(files, at)
		if err != nil {
			return Image{}, err
		}
		if arch, err = architecture(in.Name, bytes.NewReader(body)); err != nil {
			return Image{}, err
		}
		entrypoint = []string{"/srv/" + SiteServer, "/srv"}
	}
	return assemble(in, "static", arch, entrypoint, "/srv", []Layer{layer})
}

// SiteServer is the program, in the folder of a static service, that serves it.
// The release job puts it there.
const SiteServer = ".weir-serve"

// maxServer bounds a site's server, in bytes.
const maxServer = 64 << 20

func section(files io.ReadSeeker, at file) ([]byte, error) {
	if at.size > maxServer {
		return nil, fault.New(fault.Invalid, "the site's server has %d bytes; it may have %d", at.size, maxServer)
	}
	if _, err := files.Seek(at.at, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(files, at.size))
}

// architecture refuses what would not start on an empty image.
func architecture(name string, r io.ReaderAt) (string, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return "", fault.New(fault.Invalid, "what the build of %s wrote is not a Linux program; let the build write the binary itself, not an archive or a script", name)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "", fault.New(fault.Invalid, "the binary of %s is linked dynamically and would not start on an empty image; build with CGO_ENABLED=0", name)
		}
	}
	switch f.Machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	}
	return "", fault.New(fault.Invalid, "the binary of %s is for %s; amd64 and arm64 can be run", name, f.Machine)
}

func baseLayer(dir string) (Layer, error) {
	l, err := writeLayer(dir, func(t *tar.Writer) error {
		for _, e := range []struct {
			h    tar.Header
			body string
		}{
			{tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}, ""},
			{tar.Header{Name: "etc/group", Mode: 0o644}, "root:x:0:\nnonroot:x:65532:\n"},
			{tar.Header{Name: "etc/passwd", Mode: 0o644}, "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n"},
			{tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, ""},
		} {
			if e.h.Typeflag == 0 {
				e.h.Typeflag, e.h.Size = tar.TypeReg, int64(len(e.body))
			}
			if err := entry(t, e.h, strings.NewReader(e.body)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return l, fmt.Errorf("layer base: %w", err)
	}
	return l, nil
}

// file is where the bytes of an entry are in the archive.
type file struct{ at, size int64 }

// list checks every entry and returns where the files are.
func list(service string, files io.ReadSeeker) (map[string]file, error) {
	if _, err := files.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	index, total := map[string]file{}, int64(0)
	for t := tar.NewReader(files); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "what the build of %s wrote is not a readable tar archive", service)
		}
		name, ok := clean(h.Name)
		switch {
		case !ok:
			return nil, fault.New(fault.Invalid, "the files of %s hold %q, which lies outside their folder", service, h.Name)
		case h.Typeflag == tar.TypeDir:
			continue
		case h.Typeflag != tar.TypeReg || sparse(h):
			return nil, fault.New(fault.Invalid, "the files of %s hold %q, which is a link, a device or sparse; only plain files and folders can be served", service, h.Name)
		}
		at, err := files.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		index[name] = file{at, h.Size}
		total += h.Size
		if len(index) > maxFiles || total > maxBytes {
			return nil, fault.New(fault.Invalid, "the files of %s are more than %d or larger than %d bytes; leave out what is not served", service, maxFiles, int64(maxBytes))
		}
	}
	if len(index) == 0 {
		return nil, fault.New(fault.Invalid, "the folder that the build of %s wrote is empty", service)
	}
	return index, nil
}

// sparse entries take less room in the archive than their size says.
func sparse(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse") {
			return true
		}
	}
	return false
}

func clean(name string) (string, bool) {
	if strings.HasPrefix(name, "/") || strings.ContainsRune(name, 0) || slices.Contains(strings.Split(name, "/"), "..") {
		return "", false
	}
	return path.Clean(name), true
}

// copySorted writes the files in the order of their names.
func copySorted(t *tar.Writer, files io.ReadSeeker, index map[string]file) error {
	dirs := map[string]bool{"srv": true}
	for n := range index {
		for d := path.Dir(n); d != "."; d = path.Dir(d) {
			dirs["srv/"+d] = true
		}
	}
	for _, d := range slices.Sorted(maps.Keys(dirs)) {
		if err := entry(t, tar.Header{Name: d + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil); err != nil {
			return err
		}
	}
	for _, n := range slices.Sorted(maps.Keys(index)) {
		if _, err := files.Seek(index[n].at, io.SeekStart); err != nil {
			return err
		}
		mode := int64(0o444)
		if n == SiteServer {
			mode = 0o555
		}
		if err := entry(t, tar.Header{Name: "srv/" + n, Typeflag: tar.TypeReg, Mode: mode, Size: index[n].size}, io.LimitReader(files, index[n].size)); err != nil {
			return err
		}
	}
	return nil
}

func entry(t *tar.Writer, h tar.Header, body io.Reader) error {
	h.Format, h.ModTime = tar.FormatPAX, time.Unix(0, 0)
	if err := t.WriteHeader(&h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	_, err := io.Copy(t, body)
	return err
}

// writeLayer packs what fill writes into a temporary file.
func writeLayer(dir string, fill func(*tar.Writer) error) (l Layer, err error) {
	f, err := os.CreateTemp(dir, "layer-")
	if err != nil {
		return Layer{}, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	packed, plain := sha256.New(), sha256.New()
	z, err := gzip.NewWriterLevel(io.MultiWriter(f, packed), gzip.BestSpeed)
	if err != nil {
		return Layer{}, err
	}
	t := tar.NewWriter(io.MultiWriter(z, plain))
	if err := fill(t); err != nil {
		return Layer{}, err
	}
	if err := t.Close(); err != nil {
		return Layer{}, err
	}
	if err := z.Close(); err != nil {
		return Layer{}, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return Layer{}, err
	}
	return Layer{artifact.Descriptor{MediaType: artifact.MediaLayer, Digest: sum(packed), Size: size}, sum(plain), f}, nil
}

// Config is the part of an image configuration that a host needs.
type Config struct {
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Created      time.Time `json:"created"`
	Config       struct {
		User       string            `json:"User"`
		Env        []string          `json:"Env"`
		Entrypoint []string          `json:"Entrypoint,omitempty"`
		WorkingDir string            `json:"WorkingDir"`
		Labels     map[string]string `json:"Labels"`
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []map[string]any `json:"history"`
}

func assemble(in Input, kind, arch string, entrypoint []string, workdir string, layers []Layer) (img Image, err error) {
	img = Image{Layers: layers, Arch: arch}
	defer func() {
		if err != nil {
			img.Close()
		}
	}()
	created := in.Created.UTC().Truncate(time.Second)
	labels := map[string]string{
		"org.opencontainers.image.title":    in.Name,
		"org.opencontainers.image.revision": in.Revision,
		"org.opencontainers.image.version":  in.Version,
		"org.opencontainers.image.source":   in.Source,
		"org.opencontainers.image.created":  created.Format(time.RFC3339),
	}
	c := Config{Architecture: arch, OS: "linux", Created: created}
	c.Config.User, c.Config.Entrypoint, c.Config.WorkingDir = User, entrypoint, workdir
	c.Config.Env = []string{"PATH=/app", "HOME=/tmp"}
	c.Config.Labels = map[string]string{KindLabel: kind}
	for k, v := range labels {
		c.Config.Labels[k] = v
	}
	c.RootFS.Type = "layers"
	var descriptors []artifact.Descriptor
	for _, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, l.diffID)
		c.History = append(c.History, map[string]any{"created": created, "created_by": "weir"})
		descriptors = append(descriptors, l.Descriptor)
	}
	if img.Config, err = json.Marshal(c); err != nil {
		return img, err
	}
	img.Manifest, err = json.Marshal(struct {
		SchemaVersion int                   `json:"schemaVersion"`
		MediaType     string                `json:"mediaType"`
		Config        artifact.Descriptor   `json:"config"`
		Layers        []artifact.Descriptor `json:"layers"`
		Annotations   map[string]string     `json:"annotations"`
	}{2, artifact.MediaManifest, img.ConfigDescriptor(), descriptors, labels})
	img.Digest = digest(img.Manifest)
	return img, err
}

func digest(b []byte) string {
	h := sha256.New()
	_, _ = io.Copy(h, bytes.NewReader(b))
	return sum(h)
}

func sum(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }
