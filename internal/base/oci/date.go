package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"weir/internal/base/fault"
)

// Bounds of an archive that a builder wrote.
const (
	maxBuilt        = 4096    // blobs
	maxBuiltLayer   = 8 << 30 // bytes of a layer, unpacked
	maxBuiltEntries = 200_000
)

// copied are the steps of a Dockerfile whose layers hold files as they lie in the source, as buildah and BuildKit write them into the history.
var copied = regexp.MustCompile(`^(/bin/sh -c #\(nop\) )?(COPY|ADD) `)

// Date gives an image that was built with all times at the beginning of time, which makes layers comparable, the time of its source: the image
// itself, the steps that built it, and the files that were copied into it. What a command of the Dockerfile made keeps the beginning of time: its layer
// would otherwise be another one at each revision, whatever is in it. Base images, which have times of their own, stay as they are.
//
// in is an OCI archive of one image; anything else is copied. The same input gives the same output, byte for byte.
func Date(in io.ReadSeeker, out io.Writer, dir string, when time.Time) error {
	when = when.UTC().Truncate(time.Second)
	a, err := openBuilt(in)
	if err != nil {
		return err
	}
	d := &dating{built: a, dir: dir, when: when, blobs: map[string]source{}}
	index, err := d.image()
	if errors.Is(err, errOther) {
		if _, err := in.Seek(0, io.SeekStart); err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		return err
	}
	defer d.close()
	if err != nil {
		return err
	}
	return d.write(out, index)
}

var errOther = errors.New("it is not one image")

// built is an archive on disk.
type built struct {
	r     io.ReadSeeker
	blobs map[string][2]int64 // digest to place and size
	index []byte
}

func openBuilt(r io.ReadSeeker) (*built, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	a := &built{r: r, blobs: map[string][2]int64{}}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			return a, nil
		}
		if err != nil {
			return nil, fault.New(fault.Invalid, "The image that was built cannot be read: %v.", err)
		}
		name := path.Clean(h.Name)
		at, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		switch digest, isBlob := strings.CutPrefix(name, "blobs/sha256/"); {
		case h.Typeflag != tar.TypeReg:
		case name == "index.json":
			if a.index, err = io.ReadAll(io.LimitReader(t, maxManifest)); err != nil {
				return nil, err
			}
		case isBlob:
			if a.blobs["sha256:"+digest] = [2]int64{at, h.Size}; len(a.blobs) > maxBuilt {
				return nil, fault.New(fault.Invalid, "The image that was built has more than %d parts.", maxBuilt)
			}
		}
	}
}

func (a *built) open(digest string) (io.Reader, error) {
	at, ok := a.blobs[digest]
	if !ok {
		return nil, fault.New(fault.Invalid, "The image that was built lacks its part %s.", clip(digest))
	}
	if _, err := a.r.Seek(at[0], io.SeekStart); err != nil {
		return nil, err
	}
	return io.LimitReader(a.r, at[1]), nil
}

// document reads JSON, keeping what is not understood.
func (a *built) document(digest string) (map[string]json.RawMessage, error) {
	r, err := a.open(digest)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(r, maxManifest))
	if err != nil {
		return nil, err
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fault.New(fault.Invalid, "The image that was built has a part that cannot be read: %v.", err)
	}
	return doc, nil
}

// source is a blob of what is written: one that is kept, bytes, or a file.
type source struct {
	kept  string
	bytes []byte
	file  *os.File
	size  int64
}

type dating struct {
	*built
	dir   string
	when  time.Time
	blobs map[string]source
}

func (d *dating) close() {
	for _, s := range d.blobs {
		if s.file != nil {
			_ = s.file.Close()
			_ = os.Remove(s.file.Name())
		}
	}
}

func (d *dating) keep(digest string) error {
	at, ok := d.built.blobs[digest]
	if !ok {
		return fault.New(fault.Invalid, "The image that was built lacks its part %s.", clip(digest))
	}
	d.blobs[digest] = source{kept: digest, size: at[1]}
	return nil
}

func (d *dating) add(v any) (digest string, size int64, err error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return "", 0, err
	}
	sum := sha256.Sum256(raw)
	digest = "sha256:" + hex.EncodeToString(sum[:])
	d.blobs[digest] = source{bytes: raw, size: int64(len(raw))}
	return digest, int64(len(raw)), nil
}

// part is one entry of a document with members that are only passed on.
type part map[string]json.RawMessage

func (p part) text(key string) (s string) {
	_ = json.Unmarshal(p[key], &s)
	return s
}

func (p part) set(key string, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers
	}
	p[key] = raw
}

// early reports whether a time is one that the builder was told to write.
func early(s string) bool {
	t, err := time.Parse(time.RFC3339Nano, s)
	return err == nil && t.Unix() == 0
}

// image makes all documents anew and returns the index.
func (d *dating) image() (index []byte, err error) {
	var top struct {
		SchemaVersion int    `json:"schemaVersion"`
		MediaType     string `json:"mediaType,omitempty"`
		Manifests     []part `json:"manifests"`
	}
	if json.Unmarshal(d.index, &top) != nil || len(top.Manifests) != 1 || strings.Contains(top.Manifests[0].text("mediaType"), "index") {
		return nil, errOther
	}
	manifest, err := d.document(top.Manifests[0].text("digest"))
	if err != nil {
		return nil, err
	}
	var conf part
	var layers []part
	if json.Unmarshal(manifest["config"], &conf) != nil || json.Unmarshal(manifest["layers"], &layers) != nil || len(layers) > maxLayers {
		return nil, errOther
	}
	config, err := d.document(conf.text("digest"))
	if err != nil {
		return nil, err
	}
	var history []part
	var fs struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	}
	if json.Unmarshal(config["rootfs"], &fs) != nil || len(fs.DiffIDs) != len(layers) {
		return nil, errOther
	}
	_ = json.Unmarshal(config["history"], &history) // an image may have none
	n := 0
	for _, step := range history {
		ours := early(step.text("created"))
		if ours {
			step.set("created", d.when)
		}
		if bytes.Equal(step["empty_layer"], []byte("true")) {
			continue
		}
		if n < len(layers) && ours && copied.MatchString(step.text("created_by")) {
			if err := d.layer(layers[n], &fs.DiffIDs[n]); err != nil {
				return nil, err
			}
		}
		n++
	}
	for _, l := range layers {
		if digest := l.text("digest"); d.blobs[digest].size == 0 {
			if err := d.keep(digest); err != nil {
				return nil, err
			}
		}
	}
	created, c := "", part(config)
	if created = c.text("created"); created == "" || early(created) {
		c.set("created", d.when)
	}
	if history != nil {
		c.set("history", history)
	}
	c.set("rootfs", fs)
	digest, size, err := d.add(config)
	if err != nil {
		return nil, err
	}
	conf.set("digest", digest)
	conf.set("size", size)
	m := part(manifest)
	m.set("config", conf)
	m.set("layers", layers)
	if digest, size, err = d.add(manifest); err != nil {
		return nil, err
	}
	top.Manifests[0].set("digest", digest)
	top.Manifests[0].set("size", size)
	return json.Marshal(top)
}

// layer writes one anew whose files are all from the beginning of time. One that has files with times of their own is kept.
func (d *dating) layer(l part, diffID *string) error {
	r, err := d.open(l.text("digest"))
	if err != nil {
		return err
	}
	plain, err := Plain(l.text("mediaType"), r)
	if err != nil {
		return fault.New(fault.Invalid, "A layer of the image that was built %v.", err)
	}
	defer plain.Close()
	file, err := os.CreateTemp(d.dir, "layer-")
	if err != nil {
		return err
	}
	s := source{file: file}
	sum, diff := sha256.New(), sha256.New()
	z, _ := gzip.NewWriterLevel(io.MultiWriter(file, sum), gzip.DefaultCompression)
	all, err := redate(tar.NewReader(io.LimitReader(plain, maxBuiltLayer)), io.MultiWriter(z, diff), d.when)
	if err = errors.Join(err, z.Close()); err == nil && all {
		s.size, err = file.Seek(0, io.SeekCurrent)
	}
	if err != nil || !all {
		return errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	digest := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	if old, twice := d.blobs[digest]; twice && old.file != nil {
		_ = old.file.Close()
		_ = os.Remove(old.file.Name())
	}
	d.blobs[digest] = s
	l.set("mediaType", "application/vnd.oci.image.layer.v1.tar+gzip")
	l.set("digest", digest)
	l.set("size", s.size)
	*diffID = "sha256:" + hex.EncodeToString(diff.Sum(nil))
	return nil
}

// redate copies an archive. all is false once an entry has a time of its own.
func redate(t *tar.Reader, out io.Writer, when time.Time) (all bool, err error) {
	w := tar.NewWriter(out)
	for n := 0; ; n++ {
		h, err := t.Next()
		if err == io.EOF {
			return true, w.Close()
		}
		if err != nil {
			return false, fault.New(fault.Invalid, "A layer of the image that was built cannot be read: %v.", err)
		}
		if n >= maxBuiltEntries {
			return false, fault.New(fault.Invalid, "A layer of the image that was built has more than %d files.", maxBuiltEntries)
		}
		if h.ModTime.Unix() != 0 {
			return false, nil
		}
		h.ModTime, h.AccessTime, h.ChangeTime = when, time.Time{}, time.Time{}
		if h.Format == tar.FormatUnknown {
			h.Format = tar.FormatPAX
		}
		if err := w.WriteHeader(h); err != nil {
			return false, fault.New(fault.Invalid, "A layer of the image that was built holds %q, which cannot be written: %v.", clip(h.Name), err)
		}
		if _, err := io.Copy(w, t); err != nil {
			return false, fmt.Errorf("copy %q: %w", h.Name, err)
		}
	}
}

// write packs the image.
func (d *dating) write(out io.Writer, index []byte) error {
	w := tar.NewWriter(out)
	put := func(name string, size int64, r io.Reader) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size, Format: tar.FormatPAX}); err != nil {
			return err
		}
		_, err := io.Copy(w, r)
		return err
	}
	const version = `{"imageLayoutVersion":"1.0.0"}`
	if err := errors.Join(put("oci-layout", int64(len(version)), strings.NewReader(version)), put("index.json", int64(len(index)), bytes.NewReader(index))); err != nil {
		return err
	}
	digests := make([]string, 0, len(d.blobs))
	for digest := range d.blobs {
		digests = append(digests, digest)
	}
	slices.Sort(digests)
	for _, digest := range digests {
		s := d.blobs[digest]
		var r io.Reader = bytes.NewReader(s.bytes)
		switch {
		case s.file != nil:
			if _, err := s.file.Seek(0, io.SeekStart); err != nil {
				return err
			}
			r = s.file
		case s.kept != "":
			var err error
			if r, err = d.open(s.kept); err != nil {
				return err
			}
		}
		if err := put("blobs/sha256/"+strings.TrimPrefix(digest, "sha256:"), s.size, r); err != nil {
			return err
		}
	}
	return w.Close()
}
