package artifact

import (
	"context"
	"strings"
	"time"

	"weir/internal/base/fault"
)

// ComponentQuery asks which artifacts contain a component.
type ComponentQuery struct {
	Name    string // a part of the name, in any case
	Whole   bool   // Name is all of the name
	Version string // exactly; "" is any
	Limit   int    // of rows; 0 means 1000
}

// Use is an artifact that contains a component.
type Use struct {
	Component
	ArtifactID ID
	Service    string
	Tag        string
	Digest     string
	Admitted   time.Time
}

// Index finds artifacts by what they contain. Its adapter is componentdb.
type Index interface {
	// Find lists uses by name and version, the newest artifact first.
	Find(ctx context.Context, q ComponentQuery) ([]Use, error)
}

// Search makes s answer Uses.
func (s *Service) Search(x Index) { s.index = x }

// Uses lists the artifacts that contain a component.
func (s *Service) Uses(ctx context.Context, q ComponentQuery) ([]Use, error) {
	if err := s.authorize(ctx, "artifact.read", "default"); err != nil {
		return nil, err
	}
	if strings.TrimSpace(q.Name) == "" {
		return nil, fault.New(fault.Invalid, "Name the component to look for, such as golang.org/x/net.")
	}
	if len(q.Name) > 300 {
		return nil, fault.New(fault.Invalid, "The name of a component has at most 300 characters here.")
	}
	return s.index.Find(ctx, q)
}
