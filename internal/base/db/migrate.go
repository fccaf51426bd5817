package db

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"unicode"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// Migrate brings the tables of one layer up to date with the migrations in
// fsys, folder "migrations", files NNNN_name.sql. Each layer keeps its own
// version table, so that layers migrate apart. Migrations only add: old and new
// binaries run side by side for one release.
func Migrate(ctx context.Context, d *DB, layer string, fsys fs.FS) error {
	for _, r := range layer {
		if !unicode.IsLower(r) && r != '_' {
			return fmt.Errorf("migrate: %q is not the name of a layer", layer)
		}
	}
	sub, err := fs.Sub(fsys, "migrations")
	if err != nil {
		return fmt.Errorf("migrate %s: %w", layer, err)
	}
	dialect := database.DialectSQLite3
	if d.Engine() == "postgres" {
		dialect = database.DialectPostgres
	}
	store, err := database.NewStore(dialect, "weir_migration_"+layer)
	if err != nil {
		return fmt.Errorf("migrate %s: %w", layer, err)
	}
	m, ok := d.engine.(migrator)
	if !ok {
		return fmt.Errorf("migrate %s: engine %s has no migration connection", layer, d.Engine())
	}
	return m.Migrating(ctx, func(conn Conn) error {
		p, err := goose.NewProvider("", conn.DB, sub, goose.WithStore(store), goose.WithDisableGlobalRegistry(true))
		if err != nil {
			return fmt.Errorf("migrate %s: %w", layer, err)
		}
		if _, err := p.Up(ctx); err != nil {
			// Goose names the file; the layer says whose it is.
			return fmt.Errorf("migrate %s: %w", layer, err)
		}
		return nil
	})
}

// Rebind turns `?` placeholders into $1, $2, ... outside quoted text.
func Rebind(query string) string {
	if !strings.Contains(query, "?") {
		return query
	}
	var b strings.Builder
	n, quoted := 0, false
	for _, r := range query {
		switch {
		case r == '\'':
			quoted = !quoted
			b.WriteRune(r)
		case r == '?' && !quoted:
			n++
			fmt.Fprintf(&b, "$%d", n)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
