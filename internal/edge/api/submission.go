package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/artifact"
	"weir/internal/base/fault"
)

// Submission is an image that was built elsewhere and that somebody vouches for.
type Submission struct {
	Image   string `json:"image" doc:"HOST/REPOSITORY@sha256:..., in the repository that weir.yaml names as external." maxLength:"1000"`
	Commit  string `json:"commit" doc:"Full id of the landed revision that it was built from." maxLength:"64"`
	Service string `json:"service" maxLength:"200"`
}

// Submitter takes in submissions.
type Submitter interface {
	Submit(ctx context.Context, in Submission) (Intake, error)
}

// IntakeOf is an intake on the wire.
func IntakeOf(x artifact.Intake) Intake {
	return Intake{string(x.ID), x.Output.Service, x.Output.Revision, x.Output.Version, string(x.Output.RunID), string(x.State), x.Progress.Digest, x.Failure, x.Progress.Blocks, x.Created, x.Updated}
}

func (s *server) submissions(a huma.API) {
	route(a, "POST", "/submissions", "submit-image", "Submit an image that was built elsewhere, by its digest", func(ctx context.Context, in *struct{ Body Submission }) (Intake, error) {
		if s.Submissions == nil {
			return Intake{}, fault.New(fault.Unavailable, "This server takes no submissions.")
		}
		return s.Submissions.Submit(ctx, in.Body)
	})
}
