package artifact

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"weir/internal/guard/evidence"
)

// Describe names bytes as a registry does.
func Describe(mediaType string, b []byte) Descriptor {
	sum := sha256.Sum256(b)
	return Descriptor{MediaType: mediaType, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(b))}
}

// Image describes the manifest of what was pushed.
func (i Intake) Image() Descriptor {
	return Descriptor{MediaType: cmp.Or(i.Progress.MediaType, MediaManifest), Digest: i.Progress.Digest, Size: i.Progress.ManifestSize}
}

// Attach pushes the bundle of ev as a referrer of subject and returns the
// referrer's digest. Doing it again changes nothing.
func Attach(ctx context.Context, images Images, repository string, subject Descriptor, ev evidence.Evidence) (string, error) {
	bundle, empty := Describe(evidence.BundleMediaType, ev.Bundle), Describe(MediaEmpty, []byte("{}"))
	for _, b := range []struct {
		d Descriptor
		r io.Reader
	}{{bundle, bytes.NewReader(ev.Bundle)}, {empty, strings.NewReader("{}")}} {
		if _, err := images.PutBlob(ctx, repository, b.d.Digest, b.r); err != nil {
			return "", err
		}
	}
	raw, err := json.Marshal(struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		ArtifactType  string            `json:"artifactType"`
		Config        Descriptor        `json:"config"`
		Layers        []Descriptor      `json:"layers"`
		Subject       Descriptor        `json:"subject"`
		Annotations   map[string]string `json:"annotations"`
	}{2, MediaManifest, evidence.BundleMediaType, empty, []Descriptor{bundle}, subject,
		map[string]string{
			"org.opencontainers.image.created":  ev.Time.UTC().Format(time.RFC3339),
			"dev.sigstore.bundle.content":       "dsse-envelope",
			"dev.sigstore.bundle.predicateType": ev.PredicateType,
		}})
	if err != nil {
		return "", err
	}
	d := Describe(MediaManifest, raw)
	_, err = images.PutManifest(ctx, repository, d.Digest, d.MediaType, raw)
	return d.Digest, err
}

// Attach pushes evidence beside an image of the registry, by the control
// plane's own right: what it signs about an image travels with the image.
func (s *Service) Attach(ctx context.Context, repository, digest string, ev evidence.Evidence) error {
	m, err := s.images.Manifest(ctx, repository, digest)
	if err != nil {
		return fmt.Errorf("read manifest %s@%s: %w", repository, digest, err)
	}
	if _, err := Attach(ctx, s.images, repository, Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size}, ev); err != nil {
		return fmt.Errorf("attach %s to %s@%s: %w", ev.PredicateType, repository, digest, err)
	}
	return nil
}
