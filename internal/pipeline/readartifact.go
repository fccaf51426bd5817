package pipeline

import (
	"context"
	"io"

	"weir/internal/base/fault"
)

// OpenArtifact opens what a job of a run kept under a name: a tar, or a zip as GitHub's clients upload it. The caller closes it.
func (s *Service) OpenArtifact(ctx context.Context, id RunID, name string) (io.ReadCloser, int64, error) {
	all, err := s.Artifacts(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	for _, a := range all {
		if a.Name != name {
			continue
		}
		if s.Blobs == nil {
			return nil, 0, fault.New(fault.Unavailable, "This server cannot open artifacts.")
		}
		in, size, err := s.Blobs.Open(ctx, a.Digest)
		if fault.Is(err, fault.NotFound) {
			return nil, 0, fault.New(fault.NotFound, "The bytes of artifact %s of run %s were removed, as the retention of artifacts says. Run the job again to have it anew.", name, id)
		}
		return in, size, err
	}
	return nil, 0, fault.New(fault.NotFound, "Run %s has no artifact named %q.", id, name)
}
