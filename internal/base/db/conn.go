package db

import (
	"context"
	"database/sql"
)

// Conn is a pool on which a migration tool may work.
type Conn struct{ DB *sql.DB }

// migrator is an engine that can lend a connection to a migration tool, under
// a lock that keeps two replicas from migrating at once.
type migrator interface {
	Migrating(ctx context.Context, fn func(Conn) error) error
}
