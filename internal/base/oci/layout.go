package oci

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"weir/internal/base/fault"
)

// Layout is a folder in the form of OCI's image layout, as `skopeo copy`, `buildah push` and `crane` write it, as a source. Images
// are found by their annotation org.opencontainers.image.ref.name: NAME:TAG. One
// that is alone and has no name has every name.
type Layout struct{ Dir string }

var _ Source = Layout{}

// Manifest implements Source.
func (l Layout) Manifest(_ context.Context, repository, reference string) (Manifest, error) {
	root, err := os.OpenRoot(l.Dir)
	if err != nil {
		return Manifest{}, fault.New(fault.NotFound, "There is no folder of images %s.", l.Dir)
	}
	defer root.Close()
	if strings.Contains(reference, ":") {
		raw, err := readBlob(root, reference)
		if err != nil {
			return Manifest{}, l.missing(repository, reference, err)
		}
		return Manifest{Raw: raw}, nil
	}
	index, err := root.Open("index.json")
	if err != nil {
		return Manifest{}, fault.New(fault.NotFound, "The folder %s has no index.json; it is no OCI image layout.", l.Dir)
	}
	defer index.Close()
	var all struct {
		Manifests []struct {
			MediaType   string            `json:"mediaType"`
			Digest      string            `json:"digest"`
			Annotations map[string]string `json:"annotations"`
		} `json:"manifests"`
	}
	if err := json.NewDecoder(io.LimitReader(index, maxManifest)).Decode(&all); err != nil {
		return Manifest{}, fault.New(fault.Invalid, "%s cannot be read: %v.", filepath.Join(l.Dir, "index.json"), err)
	}
	var names []string
	for _, m := range all.Manifests {
		name := m.Annotations["org.opencontainers.image.ref.name"]
		names = append(names, name)
		short := name
		if r, err := Parse(name); err == nil && strings.Contains(name, ":") {
			short = r.Repository + ":" + r.Tag
		}
		if short == repository+":"+reference || name == repository && reference == "latest" || name == "" && len(all.Manifests) == 1 {
			raw, err := readBlob(root, m.Digest)
			if err != nil {
				return Manifest{}, l.missing(repository, m.Digest, err)
			}
			return Manifest{MediaType: m.MediaType, Raw: raw}, nil
		}
	}
	return Manifest{}, fault.New(fault.NotFound, "There is no image %s:%s in %s; it has %s.", repository, reference, l.Dir, strings.Join(names, ", "))
}

// Blob implements Source.
func (l Layout) Blob(_ context.Context, repository, digest string) (io.ReadCloser, error) {
	root, err := os.OpenRoot(l.Dir)
	if err != nil {
		return nil, fault.New(fault.NotFound, "There is no folder of images %s.", l.Dir)
	}
	defer root.Close()
	f, err := root.Open(blobPath(digest))
	if err != nil {
		return nil, l.missing(repository, digest, err)
	}
	return f, nil
}

func (l Layout) missing(repository, digest string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.NotFound, "The folder %s lacks %s of the image %s.", l.Dir, digest, repository)
	}
	return err
}

func blobPath(digest string) string {
	kind, sum, _ := strings.Cut(digest, ":")
	return filepath.Join("blobs", kind, sum)
}

func readBlob(root *os.Root, digest string) ([]byte, error) {
	f, err := root.Open(blobPath(digest))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxManifest+1))
}
