package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"weir/internal/base/fault"
)

// Source is where images come from. Its methods may be called concurrently.
type Source interface {
	// Manifest returns a manifest or index of a repository by tag or digest, byte for byte. One that does not exist is a NotFound fault.
	Manifest(ctx context.Context, repository, reference string) (Manifest, error)
	// Blob opens a blob of a repository. The caller closes it and checks what it reads.
	Blob(ctx context.Context, repository, digest string) (io.ReadCloser, error)
}

// Manifest is a document of a registry.
type Manifest struct {
	MediaType string
	Raw       []byte
}

// Config is what an image says about the processes that it is made for.
type Config struct {
	User         string
	Env          []string
	Entrypoint   []string
	Cmd          []string
	WorkingDir   string
	ExposedPorts map[string]struct{}
	Volumes      map[string]struct{}
	StopSignal   string
	Healthcheck  *Health
}

// Health is an image's own test of whether it works.
type Health struct {
	Test                           []string // NONE, CMD args..., or CMD-SHELL line
	Interval, Timeout, StartPeriod time.Duration
	Retries                        int
}

// Image is an image on disk.
type Image struct {
	Name   string // as it was asked for
	Digest string // of its manifest
	Config Config
	Layers []string // folders, the lowest first
	Size   int64    // bytes unpacked
}

// Bounds of what is read of an image.
const (
	maxManifest = 4 << 20
	maxConfig   = 4 << 20
	maxLayers   = 127
)

type descriptor struct {
	MediaType string    `json:"mediaType"`
	Digest    string    `json:"digest"`
	Size      int64     `json:"size"`
	URLs      []string  `json:"urls"`
	Platform  *platform `json:"platform"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant"`
}

func (p platform) String() string { return p.OS + "/" + p.Architecture }

type manifest struct {
	MediaType string       `json:"mediaType"`
	Config    *descriptor  `json:"config"`
	Layers    []descriptor `json:"layers"`
	Manifests []descriptor `json:"manifests"`
}

type config struct {
	platform
	Config Config `json:"config"`
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// here is the platform of this machine.
var here = platform{OS: "linux", Architecture: runtime.GOARCH}

// How far an index leads to others: as deep as the registry takes them, and not more documents than anybody needs.
const (
	maxNesting = 4
	maxIndexes = 32
)

// resolve finds the manifest of an image for this machine, by way of indexes if the name stands for one.
func resolve(ctx context.Context, src Source, r Reference) (m manifest, digest string, err error) {
	w := &way{src: src, r: r, seen: map[string]bool{}}
	m, digest, err = w.to(ctx, r.wanted(), 0)
	if err == nil && digest == "" {
		err = fault.New(fault.Invalid, "%s is not for this machine, which is %s: it is for %s. Choose a runner of that platform with runs-on, or push the image for both.", r, here, platforms(w.others))
	}
	return m, digest, err
}

// way leads from a name to an image.
type way struct {
	src    Source
	r      Reference
	seen   map[string]bool
	others []descriptor // of other platforms
}

// to follows one reference. Without an image for this machine behind it, digest is "".
func (w *way) to(ctx context.Context, want string, depth int) (m manifest, digest string, err error) {
	r := w.r
	raw, err := w.src.Manifest(ctx, r.Name(), want)
	if err != nil {
		return m, "", err
	}
	if len(raw.Raw) > maxManifest {
		return m, "", fault.New(fault.Invalid, "The manifest of %s has %d bytes; it may have %d.", r, len(raw.Raw), maxManifest)
	}
	sum := sha256.Sum256(raw.Raw)
	digest = "sha256:" + hex.EncodeToString(sum[:])
	if strings.Contains(want, ":") && want != digest {
		return m, "", fault.New(fault.Invalid, "The registry sent something else than %s of %s: its digest is %s.", want, r.Name(), digest)
	}
	if err := json.Unmarshal(raw.Raw, &m); err != nil {
		return m, "", fault.New(fault.Invalid, "The manifest of %s cannot be read: %v.", r, err)
	}
	if len(m.Manifests) == 0 {
		if m.Config == nil || len(m.Layers) == 0 {
			return m, "", fault.New(fault.Invalid, "%s is no image that could be run: it has no layers.", r)
		}
		return m, digest, nil
	}
	if depth >= maxNesting {
		return m, "", fault.New(fault.Invalid, "%s is an index that names indexes more than %d deep; name the image itself by its digest.", r, maxNesting)
	}
	if w.seen[digest] = true; len(w.seen) > maxIndexes {
		return m, "", fault.New(fault.Invalid, "%s names more than %d indexes; name the image itself by its digest.", r, maxIndexes)
	}
	// What is named for this machine comes first, then indexes that do not say for which they are.
	for _, inner := range []bool{false, true} {
		for _, d := range m.Manifests {
			mine := d.Platform != nil && d.Platform.OS == here.OS && d.Platform.Architecture == here.Architecture
			switch {
			case !inner && !mine:
				if d.Platform != nil {
					w.others = append(w.others, d)
				}
				continue
			case inner && (d.Platform != nil || !strings.Contains(d.MediaType, "image.index") && !strings.Contains(d.MediaType, "manifest.list")):
				continue
			}
			if !digestForm.MatchString(d.Digest) {
				return m, "", fault.New(fault.Invalid, "The index of %s names %q, which is no sha256 digest.", r, clip(d.Digest))
			}
			if w.seen[d.Digest] {
				continue
			}
			if got, digest, err := w.to(ctx, d.Digest, depth+1); err != nil || digest != "" {
				return got, digest, err
			}
		}
	}
	return m, "", nil
}

func platforms(all []descriptor) string {
	var out []string
	for _, d := range all {
		if d.Platform != nil && d.Platform.OS != "unknown" && !slices.Contains(out, d.Platform.String()) && len(out) < 20 {
			out = append(out, d.Platform.String())
		}
	}
	if len(out) == 0 {
		return "no platform that it names"
	}
	return strings.Join(out, ", ")
}

// configOf reads and checks the configuration of an image.
func configOf(ctx context.Context, src Source, r Reference, m manifest) (c config, err error) {
	d := *m.Config
	if !digestForm.MatchString(d.Digest) || d.Size > maxConfig {
		return c, fault.New(fault.Invalid, "The configuration of %s has no sha256 digest, or more than %d bytes.", r, maxConfig)
	}
	body, err := src.Blob(ctx, r.Name(), d.Digest)
	if err != nil {
		return c, err
	}
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, maxConfig+1))
	if err != nil {
		return c, err
	}
	if sum := sha256.Sum256(raw); "sha256:"+hex.EncodeToString(sum[:]) != d.Digest {
		return c, fault.New(fault.Invalid, "The configuration of %s is not what its digest says.", r)
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fault.New(fault.Invalid, "The configuration of %s cannot be read: %v.", r, err)
	}
	switch {
	case c.OS != here.OS || c.Architecture != here.Architecture:
		return c, fault.New(fault.Invalid, "%s is not for this machine, which is %s: it is for %s.", r, here, c.platform)
	case len(m.Layers) > maxLayers:
		return c, fault.New(fault.Invalid, "%s has %d layers; it may have %d.", r, len(m.Layers), maxLayers)
	case len(c.RootFS.DiffIDs) != len(m.Layers):
		return c, fault.New(fault.Invalid, "%s has %d layers and names %d.", r, len(m.Layers), len(c.RootFS.DiffIDs))
	}
	return c, nil
}

// Entry finds a line of a file of the image by its fields, which colons part: of etc/passwd, say. Nil if there is none.
func (i Image) Entry(file string, is func(fields []string) bool) []string {
	for _, dir := range slices.Backward(i.Layers) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			continue
		}
		f, err := root.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
		root.Close()
		if err != nil {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(f, 1<<20))
		f.Close()
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if fields := strings.Split(strings.TrimSpace(line), ":"); is(fields) {
				return fields
			}
		}
		return nil
	}
	return nil
}

// Has reports whether the image holds a file or link at a path.
func (i Image) Has(path string) bool {
	for _, dir := range slices.Backward(i.Layers) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			continue
		}
		info, err := root.Lstat(path)
		root.Close()
		if err == nil {
			return info.Mode()&os.ModeCharDevice == 0 // that is a deletion
		}
	}
	return false
}
