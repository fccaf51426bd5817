package engine

import (
	"context"
	"io"

	"weir/internal/base/fault"
	"weir/internal/base/oci"
)

// Manifest implements runner.Host.
func (h *host) Manifest(ctx context.Context, repository, reference string) (oci.Manifest, error) {
	if h.e.Images == nil {
		return oci.Manifest{}, fault.New(fault.NotFound, "There are no images here; jobs run on the machine's own tools.")
	}
	return h.e.Images(h.j.JobID, h.j.Attempt).Manifest(ctx, repository, reference)
}

// Blob implements runner.Host.
func (h *host) Blob(ctx context.Context, repository, digest string) (io.ReadCloser, error) {
	if h.e.Images == nil {
		return nil, fault.New(fault.NotFound, "There are no images here; jobs run on the machine's own tools.")
	}
	return h.e.Images(h.j.JobID, h.j.Attempt).Blob(ctx, repository, digest)
}
