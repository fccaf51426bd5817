// Package layouttest writes image layouts for tests, right and wrong ones.
package layouttest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"weir/internal/artifact"
)

// File is an entry of a layer. Zero Typeflag is a regular file with Body.
type File struct {
	Name string
	Body string
	Mode int64
	Type byte
	Link string
	PAX  map[string]string
}

// Builder gathers blobs. Its methods panic on what only a wrong test can cause.
type Builder struct{ Blobs map[string][]byte }

// New returns an empty builder.
func New() *Builder { return &Builder{map[string][]byte{}} }

// Add keeps bytes and describes them.
func (b *Builder) Add(mediaType string, raw []byte) artifact.Descriptor {
	d := artifact.Describe(mediaType, raw)
	b.Blobs[d.Digest] = raw
	return d
}

// JSON keeps a document.
func (b *Builder) JSON(mediaType string, v any) artifact.Descriptor {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b.Add(mediaType, raw)
}

// Tar packs files.
func Tar(files ...File) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Typeflag: f.Type, Mode: f.Mode, Linkname: f.Link, Size: int64(len(f.Body)), PAXRecords: f.PAX}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := w.Write([]byte(f.Body)); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// Gzip compresses.
func Gzip(raw []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(raw); err != nil {
		panic(err)
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// Zstd compresses.
func Zstd(raw []byte) []byte {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return z.EncodeAll(raw, nil)
}

// Image keeps an image of layers for linux and an architecture.
func (b *Builder) Image(architecture string, entrypoint []string, layers ...[]byte) artifact.Descriptor {
	var diffs []string
	list := []artifact.Descriptor{}
	for _, l := range layers {
		diffs = append(diffs, artifact.Describe("", l).Digest)
		list = append(list, b.Add(artifact.MediaLayer, Gzip(l)))
	}
	config := b.JSON(artifact.MediaConfig, map[string]any{"architecture": architecture, "os": "linux", "config": map[string]any{"Entrypoint": entrypoint, "Env": []string{"PATH=/usr/bin:/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs}})
	return b.JSON(artifact.MediaManifest, map[string]any{"schemaVersion": 2, "mediaType": artifact.MediaManifest, "config": config, "layers": list})
}

// Packed keeps an image of one layer that is packed already.
func (b *Builder) Packed(mediaType string, packed, plain []byte) artifact.Descriptor {
	config := b.JSON(artifact.MediaConfig, map[string]any{"architecture": "amd64", "os": "linux", "config": map[string]any{"Entrypoint": []string{"/a"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{artifact.Describe("", plain).Digest}}})
	return b.JSON(artifact.MediaManifest, map[string]any{"schemaVersion": 2, "mediaType": artifact.MediaManifest, "config": config, "layers": []artifact.Descriptor{b.Add(mediaType, packed)}})
}

// Index keeps an index of images by architecture.
func (b *Builder) Index(images map[string]artifact.Descriptor) artifact.Descriptor {
	var list []map[string]any
	for _, arch := range slices.Sorted(maps.Keys(images)) {
		d := images[arch]
		list = append(list, map[string]any{"mediaType": d.MediaType, "digest": d.Digest, "size": d.Size, "platform": map[string]string{"os": "linux", "architecture": arch}})
	}
	return b.JSON(artifact.MediaIndex, map[string]any{"schemaVersion": 2, "mediaType": artifact.MediaIndex, "manifests": list})
}

// Archive packs the layout whose index.json names top.
func (b *Builder) Archive(top ...artifact.Descriptor) []byte {
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": top})
	if err != nil {
		panic(err)
	}
	return b.With(index)
}

// With packs the layout with an index.json of one's own and more files.
func (b *Builder) With(index []byte, more ...File) []byte {
	files := append([]File{{Name: "oci-layout", Body: `{"imageLayoutVersion":"1.0.0"}`}, {Name: "index.json", Body: string(index)}}, more...)
	for _, digest := range slices.Sorted(maps.Keys(b.Blobs)) {
		files = append(files, File{Name: "blobs/" + strings.Replace(digest, ":", "/", 1), Body: string(b.Blobs[digest])})
	}
	return Tar(files...)
}
