package app

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.yaml.in/yaml/v3"

	"weir/internal/artifact"
	"weir/internal/base/fault"
)

// Registry is where an OCI artifact goes to or comes from. A name without a registry means the server's.
type Registry struct {
	Server string
	Token  string
}

// FilesPush is files that become one OCI artifact.
type FilesPush struct {
	Files   []string // "file" or "file:media/type"
	Name    string   // repository, with a tag or without
	Type    string   // what the artifact is, a media type; found in the file if ""
	Subject string   // digest of what it is about, in the same repository
}

// Pushed is what became of it.
type Pushed struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Type   string `json:"type"`
	Size   int64  `json:"size"`
}

const (
	titleAnnotation = "org.opencontainers.image.title"
	chartConfig     = "application/vnd.cncf.helm.config.v1+json"
	chartContent    = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	anyFile         = "application/octet-stream"
)

// ref reads a name, with the server's registry where it has none.
func (r Registry) ref(text string) (name.Reference, error) {
	u, err := url.Parse(r.Server)
	if err != nil {
		return nil, err
	}
	var opts []name.Option
	head, _, _ := strings.Cut(text, "/")
	if head == u.Host || !strings.ContainsAny(head, ".:") && head != "localhost" || !strings.Contains(text, "/") {
		if head != u.Host {
			text = u.Host + "/" + text
		}
		if u.Scheme == "http" {
			opts = append(opts, name.Insecure)
		}
	}
	ref, err := name.ParseReference(text, opts...)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "%q does not name a place in a registry; write it as REPOSITORY:TAG, or REPOSITORY@sha256:...", text)
	}
	return ref, nil
}

func (r Registry) options(ctx context.Context, ref name.Reference) []remote.Option {
	auth := remote.WithAuthFromKeychain(authn.DefaultKeychain)
	if u, err := url.Parse(r.Server); err == nil && u.Host == ref.Context().RegistryStr() {
		auth = remote.WithAuth(authn.Anonymous)
		if r.Token != "" {
			auth = remote.WithAuth(&authn.Basic{Username: "weir", Password: r.Token})
		}
	}
	return []remote.Option{auth, remote.WithContext(ctx), remote.WithUserAgent("weir/" + Release)}
}

// Push makes one OCI artifact of files and pushes it.
func (r Registry) Push(ctx context.Context, p FilesPush) (out Pushed, err error) {
	ref, err := r.ref(p.Name)
	if err != nil {
		return out, err
	}
	m := artifactManifest{SchemaVersion: 2, MediaType: artifact.MediaManifest, Type: p.Type, Config: artifact.Describe(artifact.MediaEmpty, []byte("{}"))}
	config := []byte("{}")
	opts := r.options(ctx, ref)
	for _, f := range p.Files {
		file, mediaType := split(f)
		l, err := openLayer(file, mediaType)
		if err != nil {
			return out, err
		}
		if chart, ok := l.chart(); ok && mediaType == "" && len(p.Files) == 1 && p.Type == "" {
			l.mediaType, config = chartContent, chart
			m.Config = artifact.Describe(chartConfig, config)
		}
		if m.Type == "" && m.Config.MediaType == artifact.MediaEmpty {
			m.Type = l.says()
		}
		if err := remote.WriteLayer(ref.Context(), l, opts...); err != nil {
			return out, pushRefusal(ref, err)
		}
		m.Layers = append(m.Layers, artifact.Descriptor{MediaType: string(l.mediaType), Digest: l.digest, Size: l.size, Annotations: map[string]string{titleAnnotation: filepath.Base(file)}})
		out.Size += l.size
	}
	if err := remote.WriteLayer(ref.Context(), bytesLayer(m.Config.MediaType, config), opts...); err != nil {
		return out, pushRefusal(ref, err)
	}
	if p.Subject != "" {
		d, err := remote.Head(ref.Context().Digest(p.Subject), opts...)
		if err != nil {
			return out, fault.Wrap(fault.NotFound, err, "%s has no %s to refer to: %s", ref.Context(), p.Subject, err)
		}
		m.Subject = &artifact.Descriptor{MediaType: string(d.MediaType), Digest: d.Digest.String(), Size: d.Size}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return out, err
	}
	d := artifact.Describe(artifact.MediaManifest, raw)
	to := ref
	if _, byDigest := ref.(name.Digest); byDigest || p.Subject != "" && !strings.Contains(path.Base(p.Name), ":") {
		to = ref.Context().Digest(d.Digest)
	}
	if err := remote.Put(to, manifestBytes(raw), opts...); err != nil {
		return out, pushRefusal(ref, err)
	}
	out.Name, out.Digest, out.Type, out.Size = to.Name(), d.Digest, m.Type, out.Size+d.Size
	if out.Type == "" {
		out.Type = m.Config.MediaType
	}
	return out, nil
}

// Pull writes the files of an OCI artifact into a folder and names them. Each has the digest that the manifest says, or is not there.
func (r Registry) Pull(ctx context.Context, from, dir string) (files []string, err error) {
	ref, err := r.ref(from)
	if err != nil {
		return nil, err
	}
	opts := r.options(ctx, ref)
	d, err := remote.Get(ref, opts...)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "%s cannot be pulled: %s", ref.Name(), err)
	}
	var m artifactManifest
	if err := json.Unmarshal(d.Manifest, &m); err != nil || m.Layers == nil {
		return nil, fault.New(fault.Invalid, "%s is no artifact of files but %s; `docker pull` and `skopeo copy` take images.", ref.Name(), d.MediaType)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for _, l := range m.Layers {
		title := l.Annotations[titleAnnotation]
		if title == "" {
			title = strings.Replace(l.Digest, ":", "-", 1)
		}
		if !filepath.IsLocal(title) || title != filepath.Base(title) || strings.HasPrefix(title, ".") {
			return files, fault.New(fault.Invalid, "%s names the file %q, which is not a plain name; nothing more was written.", ref.Name(), title)
		}
		layer, err := remote.Layer(ref.Context().Digest(l.Digest), opts...)
		if err != nil {
			return files, err
		}
		if err := writePulled(root, title, l, layer); err != nil {
			return files, fault.Wrap(fault.Unavailable, err, "%s of %s was not pulled: %s", title, ref.Name(), err)
		}
		files = append(files, filepath.Join(dir, title))
	}
	return files, nil
}

func writePulled(root *os.Root, title string, d artifact.Descriptor, layer v1.Layer) error {
	rc, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	f, err := root.OpenFile(title, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("there is a file %s already; name another folder with --output", title)
	}
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, h), io.LimitReader(rc, d.Size+1))
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); err == nil && got != d.Digest {
		err = fmt.Errorf("the registry sent bytes with the digest %s instead of %s", got, d.Digest)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = root.Remove(title)
	}
	return err
}

func pushRefusal(ref name.Reference, err error) error {
	return fault.Wrap(fault.Denied, err, "%s was not pushed: %s", ref.Name(), err)
}

// artifactManifest is the manifest of an artifact that is no image.
type artifactManifest struct {
	SchemaVersion int                   `json:"schemaVersion"`
	MediaType     string                `json:"mediaType"`
	Type          string                `json:"artifactType,omitempty"`
	Config        artifact.Descriptor   `json:"config"`
	Layers        []artifact.Descriptor `json:"layers"`
	Subject       *artifact.Descriptor  `json:"subject,omitempty"`
}

type manifestBytes []byte

func (m manifestBytes) RawManifest() ([]byte, error)        { return m, nil }
func (m manifestBytes) MediaType() (types.MediaType, error) { return artifact.MediaManifest, nil }

// split takes the media type off "file:media/type".
func split(s string) (file, mediaType string) {
	if i := strings.LastIndexByte(s, ':'); i > 0 && strings.Contains(s[i:], "/") && !strings.HasPrefix(s[i:], ":/") {
		return s[:i], s[i+1:]
	}
	return s, ""
}

// fileLayer is a file as it is, which is what go-containerregistry calls a compressed layer.
type fileLayer struct {
	path      string
	raw       []byte // instead of a file
	mediaType types.MediaType
	digest    string
	size      int64
}

func openLayer(file, mediaType string) (*fileLayer, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "The file %s cannot be read.", file)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "The file %s cannot be read.", file)
	}
	if mediaType == "" {
		mediaType = anyFile
	}
	return &fileLayer{path: file, mediaType: types.MediaType(mediaType), digest: "sha256:" + hex.EncodeToString(h.Sum(nil)), size: n}, nil
}

func bytesLayer(mediaType string, b []byte) *fileLayer {
	d := artifact.Describe(mediaType, b)
	return &fileLayer{raw: b, mediaType: types.MediaType(mediaType), digest: d.Digest, size: d.Size}
}

func (l *fileLayer) Digest() (v1.Hash, error) { return v1.NewHash(l.digest) }
func (l *fileLayer) DiffID() (v1.Hash, error) { return v1.NewHash(l.digest) }
func (l *fileLayer) Size() (int64, error)     { return l.size, nil }
func (l *fileLayer) Compressed() (io.ReadCloser, error) {
	if l.path == "" {
		return io.NopCloser(bytes.NewReader(l.raw)), nil
	}
	return os.Open(l.path)
}
func (l *fileLayer) Uncompressed() (io.ReadCloser, error) { return l.Compressed() }

// MediaType implements v1.Layer.
func (l *fileLayer) MediaType() (types.MediaType, error) { return l.mediaType, nil }

// says is what kind of document the file is, "" for any file.
func (l *fileLayer) says() string {
	if l.mediaType != anyFile {
		return string(l.mediaType)
	}
	raw, err := os.ReadFile(l.path)
	if err != nil || l.size > 64<<20 {
		return anyFile
	}
	var bom struct{ BOMFormat, SPDXVersion string }
	if json.Unmarshal(raw, &bom) == nil {
		switch {
		case bom.BOMFormat == "CycloneDX":
			l.mediaType = "application/vnd.cyclonedx+json"
		case strings.HasPrefix(bom.SPDXVersion, "SPDX-"):
			l.mediaType = "application/spdx+json"
		}
	}
	return string(l.mediaType)
}

// chart returns what a Helm chart's Chart.yaml says, as the configuration of its artifact.
func (l *fileLayer) chart() (json.RawMessage, bool) {
	f, err := os.Open(l.path)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, false
	}
	t := tar.NewReader(io.LimitReader(z, 256<<20))
	for range 10_000 {
		h, err := t.Next()
		if err != nil {
			return nil, false
		}
		if ok, _ := path.Match("*/Chart.yaml", path.Clean(h.Name)); !ok || h.Size > 1<<20 {
			continue
		}
		raw, err := io.ReadAll(t)
		if err != nil {
			return nil, false
		}
		var chart map[string]any
		if yaml.Unmarshal(raw, &chart) != nil || chart["name"] == nil || chart["version"] == nil {
			return nil, false
		}
		config, err := json.Marshal(chart)
		return config, err == nil
	}
	return nil, false
}
