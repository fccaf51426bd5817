package artifact

import (
	"context"
	"fmt"
	"io"
	"time"

	"weir/internal/base/fault"
	"weir/internal/base/id"
	"weir/internal/pipeline"
)

// Origin says where the evidence about how an image was built comes from.
type Origin string

// The origins.
const (
	Built    Origin = "built"    // Weir built it and saw how
	Observed Origin = "observed" // its builder signed a provenance, which verified
	Asserted Origin = "asserted" // somebody says so
)

// Submission is an image that was built elsewhere.
type Submission struct {
	Image   string `json:"image"` // where it came from: HOST/REPOSITORY@DIGEST
	By      string `json:"by"`    // who submitted it
	Origin  Origin `json:"origin"`
	Builder string `json:"builder,omitempty"` // id of the builder, if observed
	Signer  string `json:"signer,omitempty"`  // who signed that provenance, if observed
	Commit  string `json:"commit,omitempty"`  // that it names, if observed
}

// Submit takes in an image that was built elsewhere, as an image layout. A service
// and revision have one image: the same one again changes nothing, another is a
// conflict.
func (s *Service) Submit(ctx context.Context, o pipeline.Output, sub Submission, digest string, layout io.Reader) (Intake, error) {
	if err := s.authorize(ctx, "release.submit", "default"); err != nil {
		return Intake{}, err
	}
	if !revisionForm.MatchString(o.Revision) || !versionForm.MatchString(o.Version) || o.ServiceID == "" {
		return Intake{}, fault.New(fault.Invalid, "a submission names a service, a full revision and a version; this one has %q, %q and %q", o.Service, o.Revision, o.Version)
	}
	max := &bounded{r: layout, left: MaxOutput}
	stored, size, err := s.bytes.Put(ctx, max)
	if max.over {
		return Intake{}, fault.New(fault.Invalid, "the image %s is larger than %d bytes", sub.Image, MaxOutput)
	}
	if err != nil {
		return Intake{}, fmt.Errorf("store submission %s: %w", sub.Image, err)
	}
	now := time.Now()
	i := Intake{ID: IntakeID(id.New("intake")), Org: "default", Stored: stored, Size: size, Output: o, State: Received, Next: now, Created: now, Updated: now,
		Progress: Progress{Submission: &sub, Digest: digest}}
	i, added, err := s.store.Add(ctx, i, i.Announce(FactReceived, ""), Entry{Actor: sub.By, Action: "artifact.submitted", Subject: string(i.ID),
		Data: map[string]any{"service_id": o.ServiceID, "revision": o.Revision, "version": o.Version, "image": sub.Image, "by": sub.By, "origin": sub.Origin, "builder": sub.Builder}})
	if err != nil {
		return i, fmt.Errorf("take in submission %s: %w", sub.Image, err)
	}
	if !added && i.Progress.Digest != digest {
		return i, fault.New(fault.Conflict, "%s at %.12s already has the image %s, so %s cannot be submitted for the same revision; land a new revision for it", o.Service, o.Revision, i.Progress.Digest, digest)
	}
	return i, nil
}
