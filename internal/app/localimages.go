package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"weir/internal/base/fault"
	"weir/internal/base/oci"
)

// localImages are what containers of a local run may be made of: a folder in OCI's image layout, else the registry of a server.
func localImages(o LocalRun) oci.Source {
	switch {
	case o.Images != "":
		return oci.Layout{Dir: o.Images}
	case o.Server != "":
		return serverImages{url: strings.TrimSuffix(o.Server, "/"), token: o.Token, http: &http.Client{Timeout: 30 * time.Minute}}
	}
	return noImages{}
}

// noImages says where images could come from.
type noImages struct{}

func (noImages) Manifest(_ context.Context, repository, reference string) (oci.Manifest, error) {
	return oci.Manifest{}, fault.New(fault.NotFound, "The image %s (%s) is wanted, and this run knows no place for images. Log in to a server whose registry has it (weir login, or --server and --token), or name a folder of images with --images DIR (an OCI image layout, as skopeo copy docker://... oci:DIR:NAME writes it)",
		repository, reference)
}

func (n noImages) Blob(ctx context.Context, repository, digest string) (io.ReadCloser, error) {
	_, err := n.Manifest(ctx, repository, digest)
	return nil, err
}

// serverImages are those of a server's registry, as whoever holds the token may pull them.
type serverImages struct {
	url, token string
	http       *http.Client
}

const manifestKinds = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"

func (s serverImages) get(ctx context.Context, repository, what string) (*http.Response, error) {
	first, rest, ok := strings.Cut(repository, "/")
	if ok && strings.ContainsAny(first, ".:[") {
		if u, err := url.Parse(s.url); err != nil || u.Host != first {
			return nil, fault.New(fault.Denied, "The image %s is one of %s, and jobs run in images of the server's registry only.", repository, first)
		}
		repository = rest
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/v2/"+repository+"/"+what, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", manifestKinds)
	if s.token != "" {
		req.SetBasicAuth("weir", s.token)
	}
	res, err := s.http.Do(req)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "The registry of %s cannot be reached: %v.", s.url, err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	var said struct {
		Errors []struct{ Message string }
	}
	_ = json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&said)
	why := res.Status
	if len(said.Errors) > 0 {
		why = said.Errors[0].Message
	}
	kind := fault.Unavailable
	switch res.StatusCode {
	case http.StatusNotFound:
		kind = fault.NotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = fault.Denied
	}
	return nil, fault.New(kind, "The registry of %s gives no %s: %s.", s.url, repository, strings.TrimSuffix(why, "."))
}

// Manifest implements oci.Source.
func (s serverImages) Manifest(ctx context.Context, repository, reference string) (oci.Manifest, error) {
	res, err := s.get(ctx, repository, "manifests/"+reference)
	if err != nil {
		return oci.Manifest{}, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
	return oci.Manifest{MediaType: res.Header.Get("Content-Type"), Raw: raw}, err
}

// Blob implements oci.Source.
func (s serverImages) Blob(ctx context.Context, repository, digest string) (io.ReadCloser, error) {
	res, err := s.get(ctx, repository, "blobs/"+digest)
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

// imageCache is where unpacked images of local runs stay, so that the next run finds them.
func imageCache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "weir", "images")
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", fmt.Errorf("make image cache: %w", err)
	}
	return dir, nil
}
