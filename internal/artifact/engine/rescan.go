package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
	"weir/internal/guard/evidence"
	"weir/internal/guard/identity"
)

const (
	// mostScans bounds the images that are looked at again after one import.
	mostScans = 2000
	// scanAge is how old a signed scan may become before one that says the same is signed again.
	scanAge = 7 * 24 * time.Hour
)

// scanned compares an image with the published vulnerabilities before it is
// admitted, and signs what was found. While nothing was imported there is
// nothing to say.
func (e *Engine) scanned(ctx context.Context, i artifact.Intake) (*artifact.Attached, error) {
	if e.Scan == nil {
		return nil, nil
	}
	sbom, err := newest(ctx, e.Signer, i.Progress.Digest, evidence.SBOM)
	if err != nil || sbom == nil {
		return nil, err
	}
	f, err := e.Scan(ctx, *sbom)
	if err != nil {
		return nil, fmt.Errorf("compare %s with published vulnerabilities: %w", i.Progress.Digest, err)
	}
	if f.Database.Advisories == 0 {
		return nil, nil
	}
	ev, err := e.Signer.Sign(ctx, f.ScanStatement(e.Signer.Issuer(), i.Progress.Repository, i.Progress.Digest, string(i.ID)))
	if err != nil {
		return nil, fmt.Errorf("sign the scan of %s: %w", i.Progress.Digest, err)
	}
	digest, err := artifact.Attach(ctx, e.Images, i.Progress.Repository, i.Image(), ev)
	if err != nil {
		return nil, fmt.Errorf("attach the scan of %s: %w", i.Progress.Digest, err)
	}
	return &artifact.Attached{EvidenceID: ev.ID, PredicateType: ev.PredicateType, Digest: digest, LedgerIndex: ev.Index}, nil
}

// newest finds the last evidence of a kind about an image; nil if there is none.
func newest(ctx context.Context, s artifact.Signer, digest, kind string) (*evidence.Evidence, error) {
	about, err := s.About(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("find evidence about %s: %w", digest, err)
	}
	var last *evidence.Evidence
	for n := range about {
		if about[n].PredicateType == kind && (last == nil || about[n].Index > last.Index) {
			last = &about[n]
		}
	}
	return last, nil
}

// Rescan compares what runs with what was imported newly, and signs what that
// changed. It is a part of the process; one replica works at a time.
type Rescan struct {
	DB      *db.DB
	Journal *journal.Journal
	Scan    func(ctx context.Context, sbom evidence.Evidence) (artifact.Findings, error)
	Signer  artifact.Signer
	Attach  func(ctx context.Context, repository, digest string, ev evidence.Evidence) error
	// Running lists the images that run anywhere, as repository@digest.
	Running func(ctx context.Context) ([]string, error)
	Holder  string
}

// Name makes it a part of the process.
func (r *Rescan) Name() string { return "artifact/rescan" }

// Run follows imports until ctx ends.
func (r *Rescan) Run(ctx context.Context) error {
	return lease.Hold(ctx, r.DB, "artifact/rescan", r.Holder, func(ctx context.Context, _ lease.Lease) error {
		return r.Journal.Follow(identity.With(ctx, identity.System("artifact")), "artifact/rescan", r.Handle)
	})
}

// Handle looks at what runs, once for each import. An image that cannot be
// looked at is logged, and holds up no other.
func (r *Rescan) Handle(ctx context.Context, f journal.Fact) error {
	if f.Type != artifact.FactAdvisories {
		return nil
	}
	var b artifact.AdvisoriesFact
	if err := json.Unmarshal(f.Body, &b); err != nil {
		slog.ErrorContext(ctx, "fact not understood", "fact", f.ID, "type", f.Type, "error", err)
		return nil
	}
	images, err := r.Running(ctx)
	if err != nil {
		return fmt.Errorf("list what runs: %w", err)
	}
	for _, image := range images[:min(len(images), mostScans)] {
		if err := r.again(ctx, image, f); err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, "image not compared with new vulnerabilities", "image", image, "error", err)
		}
	}
	return ctx.Err()
}

func (r *Rescan) again(ctx context.Context, image string, f journal.Fact) error {
	repository, digest, _ := strings.Cut(image, "@")
	sbom, err := newest(ctx, r.Signer, digest, evidence.SBOM)
	if err != nil || sbom == nil {
		return err
	}
	found, err := r.Scan(ctx, *sbom)
	if err != nil {
		return err
	}
	last, err := newest(ctx, r.Signer, digest, evidence.Scan)
	if err != nil {
		return err
	}
	if last != nil {
		var was artifact.ScanPredicate
		if err := last.Predicate(&was); err != nil {
			return err
		}
		if was.Scanner.Result.Same(found.Predicate("").Scanner.Result) && found.At.Sub(last.Time) < scanAge {
			return nil
		}
	}
	ev, err := r.Signer.Sign(ctx, found.ScanStatement(r.Signer.Issuer(), repository, digest, f.ID)) // the fact, since it may come again
	if err != nil {
		return err
	}
	err = r.Attach(ctx, repository, digest, ev)
	if fault.Is(err, fault.NotFound) { // the image is gone from the registry
		return nil
	}
	return err
}
