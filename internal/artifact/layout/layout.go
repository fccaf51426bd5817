package layout

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"weir/internal/artifact"
	"weir/internal/base/fault"
)

// Bounds of a layout. Those of unpacking are what a host allows itself.
const (
	maxEntries  = 4096 // of the archive
	maxManifest = 4 << 20
	maxImages   = 32
	maxNesting  = 4 // indexes in indexes, as the registry takes them
	maxLayers   = 128
	maxUnpacked = 8 << 30 // of one image
	maxFiles    = 200_000 // of one image
)

// Layout is an image, or an index of images for several platforms, with every
// blob that it names.
type Layout struct {
	Top    artifact.Descriptor // what the layout is about: it has the digest that is signed
	Raw    []byte              // its bytes
	Images []Image             // one, or one for each platform, in the order of the index
	Inner  []Other             // indexes that the index names, each after those that it names itself
	Others []Other             // manifests of an index that are no images, such as attestations of a builder

	service string
	r       io.ReadSeeker
	blobs   map[string]span // digest to place
}

// Other is a manifest that travels with an index and is not run.
type Other struct {
	artifact.Descriptor
	Raw   []byte
	Blobs []artifact.Descriptor
}

// Image is what runs on one platform.
type Image struct {
	artifact.Descriptor
	Raw              []byte // of the manifest
	Platform         Platform
	Config           Config
	ConfigDescriptor artifact.Descriptor
	Layers           []artifact.Descriptor
}

// Platform is where an image runs.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
}

func (p Platform) String() string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// Config is the part of an image's configuration that somebody here looks at.
type Config struct {
	Platform
	Config struct {
		User       string            `json:"User"`
		Env        []string          `json:"Env"`
		Entrypoint []string          `json:"Entrypoint"`
		Cmd        []string          `json:"Cmd"`
		WorkingDir string            `json:"WorkingDir"`
		Labels     map[string]string `json:"Labels"`
	} `json:"config"`
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

type span struct{ at, size int64 }

// descriptor is a reference as a document writes it.
type descriptor struct {
	artifact.Descriptor
	URLs     []string  `json:"urls"`
	Platform *Platform `json:"platform"`
}

// document is a manifest or an index.
type document struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        *descriptor  `json:"config"`
	Layers        []descriptor `json:"layers"`
	Manifests     []descriptor `json:"manifests"`
}

const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	plainLayer     = "application/vnd.oci.image.layer.v1.tar"
	zstdLayer      = "application/vnd.oci.image.layer.v1.tar+zstd"
)

// Open reads the archive's table and its documents; Check looks at the layers.
// The reader is used until the layout is no longer needed, by one caller at a time.
func Open(service string, r io.ReadSeeker) (*Layout, error) {
	l := &Layout{service: service, r: r, blobs: map[string]span{}}
	index, err := l.table()
	if err != nil {
		return nil, err
	}
	d, err := l.parse("index.json", index)
	if err != nil {
		return nil, err
	}
	if d.Config != nil || d.Layers != nil {
		return nil, l.bad("its index.json is not an index")
	}
	switch n := len(d.Manifests); {
	case n == 0:
		return nil, l.bad("its index.json names no image")
	case n == 1:
		return l, l.top(d.Manifests[0])
	}
	for _, m := range d.Manifests {
		if m.Platform == nil {
			return nil, l.bad("its index.json names %d images without saying for which platform each is; leave one, or push an index of platforms", len(d.Manifests))
		}
	}
	// Several images, each for its platform: the layout's own index is the artifact.
	l.Raw, l.Top = index, artifact.Describe(artifact.MediaIndex, index)
	return l, l.index(d)
}

// bad is a refusal of the layout.
func (l *Layout) bad(why string, args ...any) error {
	return fault.New(fault.Invalid, "The image layout of %s cannot be taken: %s.", l.service, fmt.Sprintf(why, args...))
}

// table finds every entry of the archive, and returns index.json.
func (l *Layout) table() (index []byte, err error) {
	if _, err := l.r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	var version []byte
	n, t := 0, tar.NewReader(l.r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			if n == 0 {
				return nil, l.bad("it is no tar archive (%v); write it with a destination such as oci-archive:FILE, or let the build leave the folder", err)
			}
			return nil, l.bad("it breaks off after %d entries (%v)", n, err)
		}
		if n++; n > maxEntries {
			return nil, l.bad("it has more than %d entries", maxEntries)
		}
		if path.IsAbs(h.Name) || slices.Contains(strings.Split(h.Name, "/"), "..") || strings.ContainsRune(h.Name, 0) {
			return nil, l.bad("it names %q, which lies outside", h.Name)
		}
		if h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if h.Typeflag != tar.TypeReg || sparse(h) {
			return nil, l.bad("%q is not a plain file", h.Name)
		}
		at, err := l.r.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		name := path.Clean(h.Name)
		switch {
		case name == "index.json" || name == "oci-layout":
			if h.Size > maxManifest {
				return nil, l.bad("its %s has %d bytes; it may have %d", name, h.Size, maxManifest)
			}
			b, err := io.ReadAll(t)
			if err != nil {
				return nil, l.bad("its %s cannot be read (%v)", name, err)
			}
			if name == "index.json" {
				index = b
			} else {
				version = b
			}
		case strings.HasPrefix(name, "blobs/"):
			digest := strings.Replace(strings.TrimPrefix(name, "blobs/"), "/", ":", 1)
			if !artifact.ValidDigest(digest) || !strings.HasPrefix(digest, "sha256:") {
				return nil, l.bad("%q is not named by a sha256 digest", h.Name)
			}
			if _, twice := l.blobs[digest]; twice {
				return nil, l.bad("it holds the blob %s twice", digest)
			}
			l.blobs[digest] = span{at, h.Size}
		} // anything else belongs to other tools, such as manifest.json of docker save
	}
	var v struct {
		Version string `json:"imageLayoutVersion"`
	}
	switch {
	case version == nil || index == nil:
		return nil, l.bad("it has no oci-layout and index.json at its top; write it with a destination such as oci-archive:FILE")
	case json.Unmarshal(version, &v) != nil || v.Version != "1.0.0":
		return nil, l.bad("its oci-layout says version %q; 1.0.0 is known", v.Version)
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

// top reads the one thing that the layout is about.
func (l *Layout) top(d descriptor) error {
	raw, doc, err := l.document(d.Descriptor)
	if err != nil {
		return err
	}
	l.Raw, l.Top = raw, artifact.Describe(d.MediaType, raw)
	if d.MediaType == artifact.MediaIndex || d.MediaType == dockerIndex {
		return l.index(doc)
	}
	img, err := l.image(d.Descriptor, raw, doc)
	if err != nil {
		return err
	}
	l.Images = []Image{img}
	return l.runnable(img.Platform)
}

// index reads an index, and the indexes that it names.
func (l *Layout) index(d document) error {
	if err := l.entries(d, 1, map[string]bool{}, map[Platform]bool{}); err != nil {
		return err
	}
	for _, img := range l.Images {
		if l.runnable(img.Platform) == nil {
			return nil
		}
	}
	return l.bad("none of its images is for linux/amd64 or linux/arm64")
}

// entries reads what one index names. Each document counts once, however often and on whatever way it is named.
func (l *Layout) entries(d document, depth int, seen map[string]bool, have map[Platform]bool) error {
	if len(d.Manifests) == 0 || len(d.Manifests) > maxImages {
		return l.bad("its index names %d images; it may name 1 to %d", len(d.Manifests), maxImages)
	}
	for _, m := range d.Manifests {
		if seen[m.Digest] {
			continue
		}
		if seen[m.Digest] = true; len(seen) > 2*maxImages {
			return l.bad("its index and those in it name more than %d manifests", 2*maxImages)
		}
		raw, doc, err := l.document(m.Descriptor)
		if err != nil {
			return err
		}
		if m.MediaType == artifact.MediaIndex || m.MediaType == dockerIndex {
			if depth >= maxNesting {
				return l.bad("its index names indexes more than %d deep", maxNesting)
			}
			before := len(l.Images)
			if err := l.entries(doc, depth+1, seen, have); err != nil {
				return err
			}
			for _, img := range l.Images[before:] {
				if p := m.Platform; p != nil && (p.OS != img.Platform.OS || p.Architecture != img.Platform.Architecture) {
					return l.bad("its index says that all in %s is for %s, and %s is for %s", m.Digest, p, img.Digest, img.Platform)
				}
			}
			l.Inner = append(l.Inner, Other{Descriptor: artifact.Describe(m.MediaType, raw), Raw: raw})
			continue
		}
		if m.Platform != nil && m.Platform.OS == "unknown" { // builders put their attestations there
			if err := l.other(m, raw, doc); err != nil {
				return err
			}
			continue
		}
		img, err := l.image(m.Descriptor, raw, doc)
		if err != nil {
			return err
		}
		if p := m.Platform; p != nil && (p.OS != img.Platform.OS || p.Architecture != img.Platform.Architecture) {
			return l.bad("its index says that %s is for %s, and the image says %s", m.Digest, p, img.Platform)
		}
		if m.Platform != nil {
			img.Platform = *m.Platform
		}
		if have[img.Platform] {
			return l.bad("its index names two images for %s", img.Platform)
		}
		have[img.Platform] = true
		l.Images = append(l.Images, img)
	}
	return nil
}

// other reads a manifest that is no image.
func (l *Layout) other(m descriptor, raw []byte, doc document) error {
	o := Other{Descriptor: artifact.Describe(m.MediaType, raw), Raw: raw}
	for _, b := range append(doc.Layers, *doc.Config) {
		if len(o.Blobs) > maxLayers {
			return l.bad("its manifest %s names too many blobs", m.Digest)
		}
		if err := l.there(b); err != nil {
			return err
		}
		o.Blobs = append(o.Blobs, b.Descriptor)
	}
	l.Others = append(l.Others, o)
	return nil
}

func (l *Layout) runnable(p Platform) error {
	if p.OS == "linux" && (p.Architecture == "amd64" || p.Architecture == "arm64") {
		return nil
	}
	return l.bad("its image is for %s; linux/amd64 and linux/arm64 can be run", p)
}

// image reads what one manifest names, except for the layers' content.
func (l *Layout) image(d artifact.Descriptor, raw []byte, doc document) (Image, error) {
	img := Image{Descriptor: artifact.Describe(d.MediaType, raw), Raw: raw, ConfigDescriptor: doc.Config.Descriptor}
	if t := doc.Config.MediaType; t != artifact.MediaConfig && t != dockerConfig {
		return img, l.bad("the manifest %s has a configuration of type %q, so it is no image", d.Digest, t)
	}
	if len(doc.Layers) > maxLayers {
		return img, l.bad("the image %s has %d layers; it may have %d", d.Digest, len(doc.Layers), maxLayers)
	}
	if err := l.there(*doc.Config); err != nil {
		return img, err
	}
	config, err := l.small(doc.Config.Descriptor)
	if err != nil {
		return img, err
	}
	if err := json.Unmarshal(config, &img.Config); err != nil {
		return img, l.bad("the configuration %s cannot be read (%v)", doc.Config.Digest, err)
	}
	img.Platform = img.Config.Platform
	for _, layer := range doc.Layers {
		if err := l.there(layer); err != nil {
			return img, err
		}
		if t := layer.MediaType; t != artifact.MediaLayer && t != plainLayer && t != zstdLayer && t != dockerLayer {
			return img, l.bad("the layer %s has the type %q; layers are tar, plain or with gzip or zstd", layer.Digest, t)
		}
		img.Layers = append(img.Layers, layer.Descriptor)
	}
	if n := len(img.Config.RootFS.DiffIDs); n != len(img.Layers) {
		return img, l.bad("the image %s has %d layers, and its configuration names the content of %d", d.Digest, len(img.Layers), n)
	}
	return img, nil
}

// there checks that a blob is in the archive as it is described.
func (l *Layout) there(d descriptor) error {
	s, ok := l.blobs[d.Digest]
	switch {
	case len(d.URLs) > 0 || strings.Contains(d.MediaType, "nondistributable") || strings.Contains(d.MediaType, ".foreign."):
		return l.bad("the blob %s lies elsewhere, so nobody could verify it; put it into the image", d.Digest)
	case !artifact.ValidDigest(d.Digest):
		return l.bad("%q is not a digest", d.Digest)
	case !ok:
		return l.bad("it names the blob %s and does not hold it", d.Digest)
	case s.size != d.Size:
		return l.bad("the blob %s has %d bytes, and is said to have %d", d.Digest, s.size, d.Size)
	}
	return nil
}

// document reads and checks a manifest or an index.
func (l *Layout) document(d artifact.Descriptor) ([]byte, document, error) {
	if err := l.there(descriptor{Descriptor: d}); err != nil {
		return nil, document{}, err
	}
	raw, err := l.small(d)
	if err != nil {
		return nil, document{}, err
	}
	doc, err := l.parse(d.Digest, raw)
	if err != nil {
		return nil, doc, err
	}
	isIndex := d.MediaType == artifact.MediaIndex || d.MediaType == dockerIndex
	switch {
	case !isIndex && d.MediaType != artifact.MediaManifest && d.MediaType != dockerManifest:
		return nil, doc, l.bad("%s has the type %q, which is neither an image nor an index", d.Digest, d.MediaType)
	case doc.MediaType != "" && doc.MediaType != d.MediaType:
		return nil, doc, l.bad("%s says that it is %q, and is referred to as %q", d.Digest, doc.MediaType, d.MediaType)
	case isIndex && (doc.Config != nil || doc.Layers != nil), !isIndex && doc.Manifests != nil:
		return nil, doc, l.bad("%s is an image and an index at once", d.Digest)
	case !isIndex && doc.Config == nil:
		return nil, doc, l.bad("the manifest %s has no configuration", d.Digest)
	}
	return raw, doc, nil
}

func (l *Layout) parse(name string, raw []byte) (d document, err error) {
	if err := unambiguous(raw); err != nil {
		return d, l.bad("%s %v", name, err)
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, l.bad("%s is not JSON of the shape of a manifest or an index (%v)", name, err)
	}
	if d.SchemaVersion != 2 {
		return d, l.bad("%s has the schemaVersion %d; 2 is known", name, d.SchemaVersion)
	}
	return d, nil
}

// small reads a blob that is held in memory, and checks its digest.
func (l *Layout) small(d artifact.Descriptor) ([]byte, error) {
	if d.Size > maxManifest {
		return nil, l.bad("%s has %d bytes; a manifest or a configuration may have %d", d.Digest, d.Size, maxManifest)
	}
	r, err := l.Blob(d.Digest)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	if got := "sha256:" + hex.EncodeToString(sum[:]); got != d.Digest {
		return nil, l.bad("the blob %s has the digest %s", d.Digest, got)
	}
	return b, nil
}

// Blob reads a blob that the layout holds. It ends the reading of any other.
func (l *Layout) Blob(digest string) (io.Reader, error) {
	s, ok := l.blobs[digest]
	if !ok {
		return nil, l.bad("it does not hold the blob %s", digest)
	}
	if _, err := l.r.Seek(s.at, io.SeekStart); err != nil {
		return nil, err
	}
	return io.LimitReader(l.r, s.size), nil
}

// Size is how many bytes of an image have to be pulled.
func (i Image) Size() int64 {
	n := i.ConfigDescriptor.Size
	for _, d := range i.Layers {
		n += d.Size
	}
	return n
}

// Size is how many bytes have to be pulled, on the platform that needs most.
func (l *Layout) Size() (n int64) {
	for _, i := range l.Images {
		n = max(n, i.Size())
	}
	return n
}

// Each names every blob that must be pushed before the manifests, once.
func (l *Layout) Each(fn func(artifact.Descriptor) error) error {
	seen := map[string]bool{}
	one := func(d artifact.Descriptor) error {
		if seen[d.Digest] {
			return nil
		}
		seen[d.Digest] = true
		return fn(d)
	}
	for _, i := range l.Images {
		for _, d := range append(slices.Clone(i.Layers), i.ConfigDescriptor) {
			if err := one(d); err != nil {
				return err
			}
		}
	}
	for _, o := range l.Others {
		for _, d := range o.Blobs {
			if err := one(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// Index reports whether the layout is an index of images.
func (l *Layout) Index() bool {
	return l.Top.MediaType == artifact.MediaIndex || l.Top.MediaType == dockerIndex
}
