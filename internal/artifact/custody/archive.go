package custody

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
)

// An archive is an OCI image layout (image-spec, image-layout.md) in a tar file:
// the image, and everything that refers to it. The index names the image by
// repository@digest; each referrer carries its subject, as in a registry.
const (
	layoutFile    = "oci-layout"
	indexFile     = "index.json"
	refAnnotation = "org.opencontainers.image.ref.name"
	maxIndex      = 4 << 20
)

// Export writes the archive of image, fetched from its registry, to w. Nothing
// is verified on the way but digests: whoever gets the archive verifies it.
func Export(ctx context.Context, image string, w io.Writer, o Options) error {
	v, err := newVerifier(ctx, image, evidence.TrustedRoot{}, o)
	if err != nil {
		return err
	}
	out := &layout{w: tar.NewWriter(w), has: map[string]bool{}}
	if err := out.file(layoutFile, []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	main, err := v.export(out, v.ref, false)
	if err != nil {
		return err
	}
	main.Annotations = map[string]string{refAnnotation: v.ref.RepositoryStr() + "@" + v.ref.DigestStr()}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: "application/vnd.oci.image.index.v1+json", Manifests: []v1.Descriptor{main}}
	referrers, err := remote.Referrers(v.ref, v.remote...)
	if err != nil {
		return v.unreachable(err, "list of evidence")
	}
	m, err := referrers.IndexManifest()
	if err != nil {
		return v.unreachable(err, "list of evidence")
	}
	for n, d := range m.Manifests {
		if n == maxReferrers {
			break
		}
		got, err := v.export(out, v.ref.Context().Digest(d.Digest.String()), true)
		if err != nil {
			return err
		}
		got.ArtifactType, got.Annotations = d.ArtifactType, d.Annotations
		index.Manifests = append(index.Manifests, got)
	}
	raw, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return err
	}
	if err := out.file(indexFile, raw); err != nil {
		return err
	}
	return out.w.Close()
}

// export writes one manifest with its configuration and layers.
func (v *verifier) export(out *layout, ref name.Digest, referrer bool) (v1.Descriptor, error) {
	what := "manifest"
	if referrer {
		what = "evidence " + ref.DigestStr()
	}
	img, err := remote.Image(ref, v.remote...)
	if err != nil {
		return v1.Descriptor{}, v.unreachable(err, what)
	}
	raw, err := img.RawManifest()
	if err != nil {
		return v1.Descriptor{}, v.unreachable(err, what)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return v1.Descriptor{}, v.unreachable(err, "configuration")
	}
	m, err := img.Manifest()
	if err != nil {
		return v1.Descriptor{}, v.unreachable(err, what)
	}
	if err := out.blob(m.Config.Digest.String(), int64(len(config)), bytes.NewReader(config)); err != nil {
		return v1.Descriptor{}, err
	}
	layers, err := img.Layers()
	if err != nil {
		return v1.Descriptor{}, v.unreachable(err, what)
	}
	for n, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			return v1.Descriptor{}, v.unreachable(err, "layer "+m.Layers[n].Digest.String())
		}
		err = out.blob(m.Layers[n].Digest.String(), m.Layers[n].Size, rc)
		rc.Close()
		if err != nil {
			return v1.Descriptor{}, v.unreachable(err, "layer "+m.Layers[n].Digest.String())
		}
	}
	digest, err := v1.NewHash(ref.DigestStr())
	if err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{MediaType: m.MediaType, Digest: digest, Size: int64(len(raw))}, out.blob(ref.DigestStr(), int64(len(raw)), bytes.NewReader(raw))
}

// layout is an archive that is being written.
type layout struct {
	w   *tar.Writer
	has map[string]bool
}

func (l *layout) file(name string, b []byte) error {
	return l.copy(name, int64(len(b)), bytes.NewReader(b))
}

func (l *layout) blob(digest string, size int64, r io.Reader) error {
	if l.has[digest] {
		return nil
	}
	l.has[digest] = true
	return l.copy(path.Join("blobs", strings.Replace(digest, ":", "/", 1)), size, r)
}

// copy writes no time and no owner, so that the same content is the same archive.
func (l *layout) copy(name string, size int64, r io.Reader) error {
	if err := l.w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err := io.Copy(l.w, r)
	return err
}

// VerifyArchive proves the chain of the image in an archive. It needs nothing
// but the file and the trusted root.
func VerifyArchive(ctx context.Context, file string, trust evidence.TrustedRoot, o Options) (Report, error) {
	a, err := openArchive(file)
	if err != nil {
		return Report{}, err
	}
	defer a.f.Close()
	if err := a.whole(); err != nil {
		return Report{Image: a.image}, err
	}
	o.Transport, o.Insecure, o.Token = a, true, ""
	r, err := VerifyChain(ctx, archiveHost+"/"+a.image, trust, o)
	r.Image = a.image
	return r, err
}

const archiveHost = "archive.invalid"

// archive answers requests of a registry's client from a file: the same code
// verifies both. Whatever is in it is hostile until proven.
type archive struct {
	f     *os.File
	image string // repository@digest
	index v1.IndexManifest
	blobs map[string]section
}

type section struct{ at, size int64 }

var blobName = regexp.MustCompile(`^blobs/sha256/([0-9a-f]{64})$`)

func openArchive(file string) (_ *archive, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "The archive %s cannot be read. Make one with `weir evidence`.", file)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	a := &archive{f: f, blobs: map[string]section{}}
	counted := &counter{r: f}
	var index []byte
	for t := tar.NewReader(counted); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err == nil && len(a.blobs) > 10*maxReferrers {
			err = errors.New("too many parts")
		}
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "%s is not an archive of evidence, or only a part of one.", file)
		}
		if m := blobName.FindStringSubmatch(h.Name); m != nil && h.Typeflag == tar.TypeReg {
			a.blobs["sha256:"+m[1]] = section{counted.n, h.Size}
		}
		if h.Name == indexFile {
			if index, err = io.ReadAll(io.LimitReader(t, maxIndex)); err != nil {
				return nil, fault.Wrap(fault.Invalid, err, "%s is not an archive of evidence, or only a part of one.", file)
			}
		}
	}
	if err := json.Unmarshal(index, &a.index); err != nil || len(a.index.Manifests) == 0 {
		return nil, fault.New(fault.Invalid, "%s is not an archive of evidence: it has no index of an OCI image layout.", file)
	}
	a.image = a.index.Manifests[0].Annotations[refAnnotation]
	if _, digest, ok := strings.Cut(a.image, "@"); !ok || digest != a.index.Manifests[0].Digest.String() {
		return nil, fault.New(fault.Invalid, "The index of %s names no image as repository@digest.", file)
	}
	return a, nil
}

// whole checks that every part of the archive is the bytes that its name says,
// also of evidence that the chain could do without.
func (a *archive) whole() error {
	for digest, s := range a.blobs {
		sum := sha256.New()
		if _, err := io.Copy(sum, io.NewSectionReader(a.f, s.at, s.size)); err != nil {
			return fmt.Errorf("read %s: %w", digest, err)
		}
		if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != digest {
			return fault.New(fault.Denied, "The part %s of the archive is not the bytes that its digest names: it was tampered with or damaged. Get the archive again.", digest)
		}
	}
	for _, m := range a.index.Manifests {
		if _, ok := a.blobs[m.Digest.String()]; !ok {
			return fault.New(fault.Denied, "The archive names %s and does not have it: something was taken out. Get the archive again.", m.Digest)
		}
	}
	return nil
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// RoundTrip implements http.RoundTripper for the requests of OCI's distribution specification that read.
func (a *archive) RoundTrip(q *http.Request) (*http.Response, error) {
	answer := func(status int, media string, size int64, body io.Reader) *http.Response {
		return &http.Response{StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: q,
			Header: http.Header{"Content-Type": {media}}, ContentLength: size, Body: io.NopCloser(body)}
	}
	parts := strings.Split(q.URL.Path, "/")
	if len(parts) < 4 {
		return answer(http.StatusOK, "application/json", 2, strings.NewReader("{}")), nil
	}
	kind, digest := parts[len(parts)-2], parts[len(parts)-1]
	if kind == "referrers" {
		list := v1.IndexManifest{SchemaVersion: 2, MediaType: "application/vnd.oci.image.index.v1+json", Manifests: a.index.Manifests[1:]}
		raw, err := json.Marshal(list)
		if err != nil {
			return nil, err
		}
		return answer(http.StatusOK, string(list.MediaType), int64(len(raw)), bytes.NewReader(raw)), nil
	}
	s, ok := a.blobs[digest]
	if !ok {
		return answer(http.StatusNotFound, "application/json", 2, strings.NewReader("{}")), nil
	}
	media := "application/octet-stream"
	if kind == "manifests" {
		media = "application/vnd.oci.image.manifest.v1+json"
	}
	r := answer(http.StatusOK, media, s.size, io.NewSectionReader(a.f, s.at, s.size))
	r.Header.Set("Docker-Content-Digest", digest)
	return r, nil
}
