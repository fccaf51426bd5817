package engine

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/pipelinedb"
	"weir/internal/pipeline/runner"
	"weir/internal/source"
)

// Keeper keeps what jobs leave for other jobs.
type Keeper struct {
	Blobs blob.Store
	Rows  *pipelinedb.Store
	// Caches together take no more bytes than CacheMost, 0 for any number; a repository keeps at least CacheFloor of them.
	CacheMost, CacheFloor int64
}

// host answers one job.
type host struct {
	e *Engine
	j runner.Job
}

var _ runner.Host = (*host)(nil)

// Checkout implements runner.Host.
func (h *host) Checkout(ctx context.Context, c runner.Checkout, dir string) (string, error) {
	ref, _ := h.j.GitHub["ref"].(string)
	server, _ := h.j.GitHub["server_url"].(string)
	return h.e.Repository.Clone(ctx, h.j.RepositoryID, source.Clone{Revision: h.j.Revision, RunRef: ref, Ref: c.Ref, Depth: c.Depth, Tags: c.Tags,
		Filter: c.Filter, Sparse: c.Sparse, Cone: c.Cone, Origin: strings.TrimSuffix(server, "/") + "/git/" + h.j.Repository + ".git"}, dir)
}

// Action implements runner.Host.
func (h *host) Action(ctx context.Context, name, revision, dir string) error {
	if h.e.Mirrors == nil {
		return fault.New(fault.NotFound, "There is no mirror of %s. Actions of other repositories run from mirrors on this server, pinned by revision; add one with `weir mirror add`.", name)
	}
	at, err := h.e.Mirrors.Resolve(ctx, name, revision) // an action inside of another names what it likes
	if err != nil {
		return err
	}
	return h.e.Mirrors.Checkout(ctx, name, at, dir)
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
	k, now := h.e.Keeper, time.Now()
	if err := k.Rows.PutCache(ctx, h.j.Org, h.j.RepositoryID, h.scopes()[0], key, d, size, now); err != nil || k.CacheMost == 0 {
		return err
	}
	if n, bytes, err := k.Rows.TrimCaches(ctx, h.j.Org, k.CacheMost, k.CacheFloor, now); err != nil {
		slog.ErrorContext(ctx, "caches not trimmed; it will be tried with the next entry", "error", err)
	} else if n > 0 {
		slog.InfoContext(ctx, "caches trimmed", "entries", n, "bytes", bytes)
	}
	return nil
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
