package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"weir/internal/base/fault"
)

const bundleMedia = "application/vnd.dev.sigstore.bundle"

// registry reads images from an OCI registry, always by digest.
type registry struct {
	url    string
	token  func(ctx context.Context) (string, error)
	client *http.Client
}

func newRegistry(base string, token func(context.Context) (string, error)) *registry {
	return &registry{strings.TrimSuffix(base, "/"), token, &http.Client{Timeout: 10 * time.Minute}}
}

func (r *registry) get(ctx context.Context, path string, accept ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, nil)
	if err != nil {
		return nil, fmt.Errorf("address of the registry: %w", err)
	}
	req.Header["Accept"] = accept
	if r.token != nil {
		token, err := r.token(ctx)
		if err != nil {
			return nil, fmt.Errorf("token for the registry: %w", err)
		}
		if token != "" {
			req.SetBasicAuth("weir-host", token)
		}
	}
	res, err := r.client.Do(req)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "The registry at %s cannot be reached, so the image was not pulled: %s", r.url, reason(err))
	}
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
		res.Body.Close()
		kind := fault.Unavailable
		switch res.StatusCode {
		case http.StatusNotFound:
			kind = fault.NotFound
		case http.StatusUnauthorized, http.StatusForbidden:
			kind = fault.Denied
		}
		return nil, fault.New(kind, "The registry at %s answered %s to %s: %s", r.url, res.Status, path, strings.TrimSpace(string(b)))
	}
	return res, nil
}

func reason(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err.Error()
	}
	return err.Error()
}

func (r *registry) manifest(ctx context.Context, image, digest string) ([]byte, error) {
	res, err := r.get(ctx, "/v2/"+image+"/manifests/"+digest, "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json", ociIndex, dockerIndex)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return readUpTo(res.Body, maxManifest)
}

func (r *registry) open(ctx context.Context, image string, d descriptor) (io.ReadCloser, error) {
	if !validDigest(d.Digest) {
		return nil, fault.New(fault.Invalid, "The image %s names a part by %q, which is not a sha256 digest.", image, d.Digest)
	}
	res, err := r.get(ctx, "/v2/"+image+"/blobs/"+d.Digest)
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

func (r *registry) blob(ctx context.Context, image string, d descriptor, limit int64) ([]byte, error) {
	body, err := r.open(ctx, image, d)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return readUpTo(body, limit)
}

// bundles returns the sigstore bundles that refer to an image.
func (r *registry) bundles(ctx context.Context, image, digest string) (bundles [][]byte, err error) {
	res, err := r.get(ctx, "/v2/"+image+"/referrers/"+digest, "application/vnd.oci.image.index.v1+json")
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	raw, err := readUpTo(res.Body, maxManifest)
	res.Body.Close()
	if err != nil {
		return nil, err
	}
	var index struct {
		Manifests []descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("referrers of %s: %w", digest, err)
	}
	for _, d := range index.Manifests {
		if !strings.HasPrefix(d.ArtifactType, bundleMedia) {
			continue
		}
		if len(bundles) == maxBundles {
			break
		}
		raw, err := r.manifest(ctx, image, d.Digest)
		if err != nil {
			return nil, err
		}
		var m manifest
		if err := json.Unmarshal(raw, &m); err != nil || len(m.Layers) != 1 {
			continue
		}
		b, err := r.blob(ctx, image, m.Layers[0], maxBundle)
		if err != nil {
			return nil, err
		}
		if sum(b) != m.Layers[0].Digest || sum(raw) != d.Digest {
			return nil, fault.New(fault.Invalid, "Evidence %s of the image %s@%s is corrupt in the registry.", d.Digest, image, digest)
		}
		bundles = append(bundles, b)
	}
	return bundles, nil
}

func readUpTo(r io.Reader, limit int64) ([]byte, error) {
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, fault.New(fault.Invalid, "The registry sent more than %d bytes where less was expected.", limit)
	}
	return b.Bytes(), nil
}
