package artifact

import (
	"context"
	"time"
)

// Copy is an image that also lies in another registry, by the same digest.
type Copy struct {
	Digest     string    `json:"digest"`
	Repository string    `json:"repository"` // here
	To         string    `json:"to"`         // repository in the other registry
	Evidence   int       `json:"evidence"`   // what refers to the image there
	Verified   time.Time `json:"verified"`   // when all of it was last read back whole
	Failure    string    `json:"failure,omitempty"`
	Attempts   int       `json:"-"` // since it was last whole
	Next       time.Time `json:"-"` // not to be touched before
}

// Failed is c after an attempt to bring it up to date that failed. Waiting grows from two seconds to half an hour.
func (c Copy) Failed(sentence string, now time.Time) Copy {
	c.Next = now.Add(min(2*time.Second<<min(c.Attempts, 12), 30*time.Minute))
	c.Failure = sentence
	c.Attempts++
	return c
}

// CopyRows remember where copies lie.
type CopyRows interface {
	// Copied stores a copy that was verified; what is new in it is in the ledger.
	Copied(ctx context.Context, c Copy, referrers []string) error
	// Failed stores that an attempt to bring one up to date failed.
	Failed(ctx context.Context, c Copy) error
	// Behind lists the copies, due at now, of images that more refers to here than there.
	Behind(ctx context.Context, now time.Time, limit int) ([]Copy, error)
	// Of lists the copies of an image by their registries.
	Of(ctx context.Context, digest string) ([]Copy, error)
}

// Lies makes the service tell where copies of artifacts are.
func (s *Service) Lies(rows CopyRows) { s.copies = rows }

// Copies lists where an image lies besides Weir's registry.
func (s *Service) Copies(ctx context.Context, digest string) ([]Copy, error) {
	if err := s.authorize(ctx, "artifact.read", "default"); err != nil {
		return nil, err
	}
	if s.copies == nil {
		return nil, nil
	}
	return s.copies.Of(ctx, digest)
}
