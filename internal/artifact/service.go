package artifact

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"time"

	"weir/internal/base/fault"
	"weir/internal/base/id"
	"weir/internal/guard/evidence"
	"weir/internal/pipeline"
)

// MaxOutput is the most bytes that a job may hand in.
const MaxOutput = 2 << 30

// Service takes in what jobs make and tells what there is.
type Service struct {
	store      Store
	bytes      Bytes
	images     Images
	signer     Signer
	authorize  func(ctx context.Context, action, org string) error
	index      Index // what Uses looks in
	advisories Advisories
	copies     CopyRows // nil remembers none
}

// NewService returns the service. authorize asks policy about the actor in ctx.
func NewService(store Store, bytes Bytes, images Images, signer Signer, authorize func(ctx context.Context, action, org string) error) *Service {
	return &Service{store: store, bytes: bytes, images: images, signer: signer, authorize: authorize}
}

var (
	revisionForm = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)
	versionForm  = regexp.MustCompile(`^\d+\.\d+\.\d+$`)
)

// Put implements pipeline.Outputs: it stores the bytes and, in one transaction,
// the intake, its fact and its ledger entry. A service and revision are taken in
// once; handing in again, with whatever bytes, changes nothing.
func (s *Service) Put(ctx context.Context, o pipeline.Output, r io.Reader) error {
	switch {
	case !revisionForm.MatchString(o.Revision):
		return fault.New(fault.Invalid, "the output %s names the revision %q, which is not a full commit id", o.Name, o.Revision)
	case !versionForm.MatchString(o.Version):
		return fault.New(fault.Invalid, "the output %s of %s has the version %q; a version is three numbers, as in 1.4.0", o.Name, o.Service, o.Version)
	case o.ServiceID == "" || o.Service == "":
		return fault.New(fault.Invalid, "the output %s of run %s names no service", o.Name, o.RunID)
	}
	max := &bounded{r: r, left: MaxOutput}
	stored, size, err := s.bytes.Put(ctx, max)
	if max.over {
		return fault.New(fault.Invalid, "the output %s of %s is larger than %d bytes; leave out what the service does not need at run time", o.Name, o.Service, MaxOutput)
	}
	if err != nil {
		return fmt.Errorf("store output %s of run %s: %w", o.Name, o.RunID, err)
	}
	if size == 0 {
		return fault.New(fault.Invalid, "the output %s of %s is empty; the build wrote nothing to it", o.Name, o.Service)
	}
	now := time.Now()
	i := Intake{ID: IntakeID(id.New("intake")), Org: "default", Stored: stored, Size: size, Output: o, State: Received, Next: now, Created: now, Updated: now}
	_, _, err = s.store.Add(ctx, i, i.Announce(FactReceived, ""), Entry{Actor: "pipeline", Action: FactReceived, Subject: string(i.ID),
		Data: map[string]any{"service_id": o.ServiceID, "revision": o.Revision, "version": o.Version, "run_id": o.RunID, "bytes": stored, "size": size}})
	if err != nil {
		return fmt.Errorf("take in output %s of run %s: %w", o.Name, o.RunID, err)
	}
	return nil
}

// Get returns an artifact.
func (s *Service) Get(ctx context.Context, id ID) (Artifact, error) {
	if err := s.authorize(ctx, "artifact.read", "default"); err != nil {
		return Artifact{}, err
	}
	return s.store.Get(ctx, id)
}

// List returns artifacts, the newest first.
func (s *Service) List(ctx context.Context, f Filter) ([]Artifact, error) {
	if err := s.authorize(ctx, "artifact.read", "default"); err != nil {
		return nil, err
	}
	return s.store.List(ctx, f)
}

// Intakes returns what was handed in and how far it has come, the newest first.
func (s *Service) Intakes(ctx context.Context, f Filter) ([]Intake, error) {
	if err := s.authorize(ctx, "artifact.read", "default"); err != nil {
		return nil, err
	}
	return s.store.Intakes(ctx, f)
}

// Details is an artifact with everything that speaks for it.
type Details struct {
	Artifact
	Evidence  []evidence.Evidence // about the image, oldest first
	Revision  []evidence.Evidence // about the revision, oldest first
	Referrers []Descriptor
	Copies    []Copy // in other registries
}

// Details returns an artifact with its evidence and what is attached to it.
func (s *Service) Details(ctx context.Context, id ID) (Details, error) {
	a, err := s.Get(ctx, id)
	if err != nil {
		return Details{}, err
	}
	d := Details{Artifact: a}
	if d.Evidence, err = s.signer.About(ctx, a.Digest); err != nil {
		return d, fmt.Errorf("find evidence about %s: %w", a.Digest, err)
	}
	if d.Revision, err = s.signer.About(ctx, "gitCommit:"+a.Revision); err != nil {
		return d, fmt.Errorf("find evidence about %s: %w", a.Revision, err)
	}
	if d.Referrers, err = s.images.Referrers(ctx, a.Repository, a.Digest, ""); err != nil {
		return d, fmt.Errorf("list referrers of %s: %w", a.Image(), err)
	}
	if d.Copies, err = s.Copies(ctx, a.Digest); err != nil {
		return d, fmt.Errorf("list copies of %s: %w", a.Image(), err)
	}
	return d, nil
}

// bounded stops reading at left bytes and remembers whether there were more.
type bounded struct {
	r    io.Reader
	left int64
	over bool
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		b.over = true
		return 0, fault.New(fault.Invalid, "too large")
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left+1)])
	b.left -= int64(n)
	return n, err
}
