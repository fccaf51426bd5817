// Package ocitest makes images for tests: in memory, or written as an OCI layout.
package ocitest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"weir/internal/base/fault"
	"weir/internal/base/oci"
)

// Registry holds images in memory. The zero value is empty.
type Registry struct {
	mu        sync.Mutex
	blobs     map[string][]byte
	manifests map[string][]byte // repository:tag and repository@digest
	tags      map[string]string // repository:tag to digest
	Asked     int               // how many blobs were opened
}

var _ oci.Source = (*Registry)(nil)

// Image is what to make.
type Image struct {
	Layers       [][]tar.Header // with contents in Body
	Body         map[string]string
	Config       map[string]any
	Architecture string
}

// File is an entry of a layer. Its contents are in Image.Body under its name.
func File(name string, mode int64) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode}
}

// Dir is a folder.
func Dir(name string, mode int64) tar.Header {
	return tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: mode}
}

// Link is a symbolic link.
func Link(name, to string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to, Mode: 0o777}
}

// Digest of bytes.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Put stores an image under repository:tag and returns its digest.
func (r *Registry) Put(t testing.TB, name string, img Image) string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.blobs == nil {
		r.blobs, r.manifests, r.tags = map[string][]byte{}, map[string][]byte{}, map[string]string{}
	}
	type desc map[string]any
	var layers []desc
	var diffs []string
	for _, entries := range img.Layers {
		var plain bytes.Buffer
		w := tar.NewWriter(&plain)
		for _, h := range entries {
			body := img.Body[h.Name]
			if h.Typeflag == tar.TypeReg && h.Size == 0 {
				h.Size = int64(len(body))
			}
			if err := w.WriteHeader(&h); err != nil {
				t.Fatalf("write layer: %v", err)
			}
			if h.Typeflag == tar.TypeReg {
				if _, err := io.WriteString(w, body); err != nil {
					t.Fatalf("write layer: %v", err)
				}
			}
		}
		w.Close()
		var packed bytes.Buffer
		z, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
		z.Write(plain.Bytes())
		z.Close()
		diffs = append(diffs, Digest(plain.Bytes()))
		d := Digest(packed.Bytes())
		r.blobs[d] = packed.Bytes()
		layers = append(layers, desc{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": d, "size": packed.Len()})
	}
	arch := img.Architecture
	if arch == "" {
		arch = runtime.GOARCH
	}
	conf := encode(t, map[string]any{"os": "linux", "architecture": arch, "config": img.Config, "rootfs": map[string]any{"type": "layers", "diff_ids": diffs}})
	r.blobs[Digest(conf)] = conf
	m := encode(t, map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": layers,
		"config": desc{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest(conf), "size": len(conf)}})
	r.put(name, m)
	return Digest(m)
}

// PutManifest stores any document under a name.
func (r *Registry) PutManifest(t testing.TB, name string, v any) string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.blobs == nil {
		r.blobs, r.manifests, r.tags = map[string][]byte{}, map[string][]byte{}, map[string]string{}
	}
	m := encode(t, v)
	r.put(name, m)
	return Digest(m)
}

func (r *Registry) put(name string, m []byte) {
	repository, _, _ := strings.Cut(name, ":")
	r.manifests[name] = m
	r.manifests[repository+"@"+Digest(m)] = m
	r.tags[name] = Digest(m)
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	return b
}

// Corrupt changes a byte of every blob of more than n bytes.
func (r *Registry) Corrupt(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for d, b := range r.blobs {
		if len(b) > n {
			b = bytes.Clone(b)
			b[len(b)-1] ^= 1
			r.blobs[d] = b
		}
	}
}

// Manifest implements oci.Source.
func (r *Registry) Manifest(_ context.Context, repository, reference string) (oci.Manifest, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sep := ":"
	if strings.Contains(reference, ":") {
		sep = "@"
	}
	m, ok := r.manifests[repository+sep+reference]
	if !ok {
		return oci.Manifest{}, fault.New(fault.NotFound, "There is no image %s%s%s.", repository, sep, reference)
	}
	return oci.Manifest{Raw: m}, nil
}

// Blob implements oci.Source.
func (r *Registry) Blob(_ context.Context, _, digest string) (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Asked++
	b, ok := r.blobs[digest]
	if !ok {
		return nil, fault.New(fault.NotFound, "There is no blob %s.", digest)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// Each calls f with every blob and then every tagged manifest.
func (r *Registry) Each(blob func(digest string, b []byte), manifest func(name string, b []byte)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for d, b := range r.blobs {
		blob(d, b)
	}
	for name := range r.tags {
		manifest(name, r.manifests[name])
	}
}

// Layout writes all images as an OCI layout.
func (r *Registry) Layout(t testing.TB, dir string) {
	t.Helper()
	write := func(d string, b []byte) {
		kind, sum, _ := strings.Cut(d, ":")
		p := filepath.Join(dir, "blobs", kind, sum)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var all []map[string]any
	r.Each(write, func(name string, b []byte) {
		write(Digest(b), b)
		all = append(all, map[string]any{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": Digest(b), "size": len(b),
			"annotations": map[string]string{"org.opencontainers.image.ref.name": name}})
	})
	if err := os.WriteFile(filepath.Join(dir, "index.json"), encode(t, map[string]any{"schemaVersion": 2, "manifests": all}), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Busybox is an image with Debian's static busybox as its shell and tools. The test is skipped where that is not installed.
func Busybox(t testing.TB) Image {
	t.Helper()
	b, err := os.ReadFile("/bin/busybox")
	if err != nil || bytes.Contains(b[:min(len(b), 4096)], []byte("/lib64/ld-linux")) {
		t.Skip("needs /bin/busybox of Debian's busybox-static; `make deps` installs it")
	}
	entries := []tar.Header{Dir("bin", 0o755), Dir("etc", 0o755), Dir("tmp", 0o1777), Dir("root", 0o700), File("bin/busybox", 0o755), File("etc/passwd", 0o644), File("etc/group", 0o644)}
	for _, tool := range strings.Fields("sh cat ls echo id env sleep touch mkdir rm grep sed test true false pwd wget nc head tail tr wc kill ps mount dd printf tee chmod chown su sort uname hostname stat dirname basename seq date") {
		entries = append(entries, Link("bin/"+tool, "busybox"))
	}
	return Image{Layers: [][]tar.Header{entries},
		Body:   map[string]string{"bin/busybox": string(b), "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/tmp:/bin/sh\n", "etc/group": "root:x:0:\nweb:x:33:\n"},
		Config: map[string]any{"Env": []string{"PATH=/usr/local/bin:/usr/bin:/bin"}, "Cmd": []string{"sh"}}}
}
