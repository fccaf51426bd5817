package remote

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"weir/internal/base/oci"
)

// Manifest implements runner.Host.
func (h *host) Manifest(ctx context.Context, repository, reference string) (m oci.Manifest, err error) {
	r, err := h.fetch(ctx, http.MethodGet, "image", url.Values{"repository": {repository}, "reference": {reference}}, nil, func(res *http.Response) { m.MediaType = res.Header.Get("Weir-Media-Type") })
	if err != nil {
		return m, err
	}
	defer r.Close()
	m.Raw, err = io.ReadAll(io.LimitReader(r, 8<<20))
	return m, err
}

// Blob implements runner.Host.
func (h *host) Blob(ctx context.Context, repository, digest string) (io.ReadCloser, error) {
	return h.fetch(ctx, http.MethodGet, "blob", url.Values{"repository": {repository}, "digest": {digest}}, nil, nil)
}

// Manifest reads a manifest of an image that the job may run in.
func (a *Attempt) Manifest(ctx context.Context, repository, reference string) (mediaType string, raw []byte, err error) {
	m, err := a.t.host.Manifest(ctx, repository, reference)
	return m.MediaType, m.Raw, err
}

// Blob opens a blob of an image that the job may run in.
func (a *Attempt) Blob(ctx context.Context, repository, digest string) (io.ReadCloser, error) {
	return a.t.host.Blob(ctx, repository, digest)
}
