package engine

import (
	"context"
	"fmt"
	"io"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/pipelinedb"
	"weir/internal/pipeline/runner"
)

// Keeper keeps what jobs leave for other jobs.
type Keeper struct {
	Blobs blob.Store
	Rows  *pipelinedb.Store
}

// host answers one job.
type host struct {
	e *Engine
	j runner.Job
}

var _ runner.Host = (*host)(nil)

// Checkout implements runner.Host.
func (h *host) Checkout(ctx context.Context, dir string) error {
	return h.e.Repository.Checkout(ctx, h.j.RepositoryID, h.j.Revision, dir)
}

// Action implements runner.Host.
func (h *host) Action(ctx context.Context, name, revision, dir string) error {
	if h.e.Mirrors == nil {
		return fault.New(fault.NotFound, "There is no mirror of %s.", name)
	}
	return h.e.Mirrors.Checkout(ctx, name, revision, dir)
}

// Upload implements runner.Host.
func (h *host) Upload(ctx context.Context, name string, overwrite bool, tar io.Reader) error {
	d, size, err := h.e.Keeper.Blobs.Put(ctx, tar)
	if err != nil {
		return fmt.Errorf("keep artifact: %w", err)
	}
	a := pipeline.Artifact{Name: name, JobID: h.j.JobID, Digest: d, Size: size, Created: time.Now()}
	return h.e.Keeper.Rows.PutArtifact(ctx, h.j.Org, h.j.RunID, a, overwrite)
}

// Artifacts implements runner.Host.
func (h *host) Artifacts(ctx context.Context) ([]string, error) {
	all, err := h.e.Keeper.Rows.Artifacts(ctx, h.j.RunID)
	var names []string
	for _, a := range all {
		names = append(names, a.Name)
	}
	return names, err
}

// Download implements runner.Host.
func (h *host) Download(ctx context.Context, name string) (io.ReadCloser, error) {
	all, err := h.e.Keeper.Rows.Artifacts(ctx, h.j.RunID)
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		if a.Name == name {
			r, _, err := h.e.Keeper.Blobs.Open(ctx, a.Digest)
			return r, err
		}
	}
	return nil, fault.New(fault.NotFound, "This run has no artifact named %q. Upload it in a job that this one needs.", name)
}

// scopes are where a job finds cache entries: its own trust first. A change reads what landed, never the other way round.
func (h *host) scopes() []string {
	if h.j.Trust == pipeline.Change {
		return []string{h.j.ChangeID, string(pipeline.Landed)}
	}
	return []string{string(h.j.Trust)}
}

// SaveCache implements runner.Host.
func (h *host) SaveCache(ctx context.Context, key string, tar io.Reader) error {
	d, size, err := h.e.Keeper.Blobs.Put(ctx, tar)
	if err != nil {
		return fmt.Errorf("keep cache: %w", err)
	}
	return h.e.Keeper.Rows.PutCache(ctx, h.j.Org, h.j.RepositoryID, h.scopes()[0], key, d, size, time.Now())
}

// FindCache implements runner.Host.
func (h *host) FindCache(ctx context.Context, key string, prefixes []string) (string, io.ReadCloser, error) {
	found, d, err := h.e.Keeper.Rows.FindCache(ctx, h.j.Org, h.j.RepositoryID, h.scopes(), key, prefixes)
	if err != nil || found == "" {
		return "", nil, err
	}
	r, _, err := h.e.Keeper.Blobs.Open(ctx, d)
	if fault.Is(err, fault.NotFound) { // the blob was collected; the entry is as good as none
		return "", nil, nil
	}
	return found, r, err
}

// Output implements runner.Host.
func (h *host) Output(ctx context.Context, o pipeline.Output, r io.Reader) error {
	if h.j.Trust != pipeline.Landed || h.j.Plan.Build == nil {
		return fault.New(fault.Denied, "Only the run of a landed revision may produce a release; this one is a %s run.", h.j.Trust)
	}
	if h.e.Outputs == nil {
		return fault.New(fault.Unavailable, "This server takes no build outputs.")
	}
	return h.e.Outputs.Put(ctx, o, r)
}
