// Package artifactdb keeps the rows of the artifact layer: what the registry
// holds, what jobs have handed in, and what was admitted.
package artifactdb

import (
	"context"
	"embed"

	"weir/internal/base/db"
)

//go:embed migrations
var migrations embed.FS

// Migrate makes the tables.
func Migrate(ctx context.Context, d *db.DB) error { return db.Migrate(ctx, d, "artifact", migrations) }
