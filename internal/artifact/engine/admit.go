package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/version"
	"weir/internal/base/fault"
	"weir/internal/base/id"
)

// judge asks policy. A no is asked again, because evidence may still arrive.
func (e *Engine) judge(ctx context.Context, i artifact.Intake) (outcome, error) {
	o, next := i.Output, i.Progress
	decision, allow, blocks, err := e.Gate.Admit(ctx, artifact.AdmitRequest{
		Org: i.Org, ServiceID: o.ServiceID, Service: o.Service, RepositoryID: o.RepositoryID, Revision: o.Revision, Version: o.Version,
		Image: next.Repository + "@" + next.Digest, Digest: next.Digest, RunID: string(o.RunID), Author: next.Author, Confined: o.Confined, Network: o.Network, Evidence: next.Evidence, Submission: next.Submission,
	})
	if err != nil {
		return outcome{}, fmt.Errorf("ask policy about %s: %w", next.Digest, err)
	}
	next.DecisionID, next.Blocks = decision, blocks
	if allow {
		next.Blocks = nil
		return outcome{next: artifact.Judged, progress: next}, nil
	}
	why := "policy does not admit it"
	if len(blocks) > 0 {
		why = blocks[0].Message
	}
	if time.Since(i.Created) > patience {
		return outcome{next: artifact.Rejected, progress: next, reason: why}, nil
	}
	return outcome{}, waiting{sentence: why, progress: &next}
}

// tag signs the admission, and gives the image its release tag, and the revision its tag in git.
func (e *Engine) tag(ctx context.Context, i artifact.Intake) (outcome, error) {
	scan, err := e.scanned(ctx, i)
	if err != nil {
		return outcome{}, err
	}
	if scan != nil {
		i.Progress.Evidence = append(slices.Clone(i.Progress.Evidence), *scan)
	}
	if err := e.summarise(ctx, i); err != nil {
		return outcome{}, err
	}
	m, err := e.Images.Manifest(ctx, i.Progress.Repository, i.Progress.Digest)
	if err != nil {
		return outcome{}, fmt.Errorf("read manifest %s: %w", i.Progress.Digest, err)
	}
	if _, err := e.Images.PutManifest(ctx, i.Progress.Repository, i.Tag(), m.MediaType, m.Raw); err != nil {
		return outcome{}, fmt.Errorf("tag %s as %s: %w", i.Progress.Digest, i.Tag(), err)
	}
	s, several, err := e.spec(ctx, i)
	if err != nil {
		return outcome{}, err
	}
	name := version.Prefix(s.Service, several) + i.Output.Version
	err = e.Source.Tag(ctx, i.Output.RepositoryID, name, i.Output.Revision)
	if fault.Is(err, fault.Conflict) { // somebody tagged another revision so by hand
		name = version.Prefix(s.Service, several) + i.Tag()
		err = e.Source.Tag(ctx, i.Output.RepositoryID, name, i.Output.Revision)
	}
	if err != nil {
		return outcome{}, fmt.Errorf("tag revision %s as %s: %w", i.Output.Revision, name, err)
	}
	if len(s.Copies) > 0 && e.Copies != nil { // with the evidence that is complete now, and before anybody is told
		if err := e.Copies.Copy(ctx, i.Progress.Repository, i.Progress.Digest, i.Tag(), s.Copies); err != nil {
			return outcome{}, err
		}
	}
	return outcome{next: artifact.Tagged, progress: i.Progress}, nil
}

// admit makes the artifact.
func (e *Engine) admit(_ context.Context, i artifact.Intake) (outcome, error) {
	o, p := i.Output, i.Progress
	return outcome{next: artifact.Admitted, progress: p, admitted: &artifact.Artifact{
		ID: artifact.ID(id.New("artifact")), Org: i.Org, ServiceID: o.ServiceID, Service: o.Service, RepositoryID: o.RepositoryID, Revision: o.Revision,
		Version: o.Version, Tag: i.Tag(), Repository: p.Repository, Digest: p.Digest, Size: p.ImageSize, RunID: string(o.RunID), DecisionID: p.DecisionID,
		Author: p.Author, CommitTime: p.CommitTime, ConfigDigest: p.ConfigDigest, Created: time.Now(),
	}}, nil
}
