package app

import (
	"context"
	"path"
	"slices"

	"weir/internal/base/fault"
	"weir/internal/catalog"
	"weir/internal/pipeline"
)

// networks is the catalog as it says what jobs may reach.
type networks struct{ catalog *catalog.Catalog }

// Network implements pipeline.Networks.
func (n networks) Network(ctx context.Context, repositoryID, revision, workflow string) (string, error) {
	file, err := n.catalog.At(ctx, repositoryID, revision)
	if fault.Is(err, fault.NotFound) || err == nil && file == nil {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	strictest := ""
	for _, s := range file.Services {
		if of := s.Pipeline.Workflows; len(of) == 0 || slices.ContainsFunc(of, func(w string) bool { return w == workflow || path.Base(w) == path.Base(workflow) }) {
			strictest = pipeline.Stricter(strictest, s.Pipeline.Network)
		}
	}
	return strictest, nil
}
