// Package dbtest runs a storage test on every engine: SQLite always, PostgreSQL
// when WEIR_TEST_POSTGRES holds the URL of a server on which schemas may be made.
package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // driver for making schemas

	"weir/internal/base/db"
	"weir/internal/base/db/postgres"
	"weir/internal/base/db/sqlite"
	"weir/internal/base/id"
)

// PostgresVariable names the environment variable with the server's URL.
const PostgresVariable = "WEIR_TEST_POSTGRES"

// Each runs test once per engine, each time on an empty database.
func Each(t *testing.T, test func(t *testing.T, d *db.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, open(t, PostgresURL(t))) })
}

// SQLite opens an empty SQLite database that is closed when the test ends.
func SQLite(t testing.TB) *db.DB {
	t.Helper()
	return open(t, "sqlite://"+filepath.Join(t.TempDir(), "weir.db"))
}

// Open opens the database that rawURL names and closes it when the test ends.
func Open(t testing.TB, rawURL string) *db.DB { return open(t, rawURL) }

func open(t testing.TB, rawURL string) *db.DB {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	opener := sqlite.Open
	if u.Scheme == "postgres" {
		opener = postgres.Open
	}
	d, err := opener(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// PostgresURL returns the URL of an empty schema, or skips the test if no server was given.
func PostgresURL(t testing.TB) string {
	t.Helper()
	raw := os.Getenv(PostgresVariable)
	if raw == "" {
		t.Skipf("%s is not set; `make test` starts a server and sets it", PostgresVariable)
	}
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := sql.Open("pgx", raw)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	schema := "t_" + strings.ToLower(id.New("s")[2:])
	if _, err := admin.ExecContext(t.Context(), fmt.Sprintf("create schema %q", schema)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		admin, err := sql.Open("pgx", raw)
		if err != nil {
			t.Error(err)
			return
		}
		defer admin.Close()
		if _, err := admin.ExecContext(context.Background(), fmt.Sprintf("drop schema %q cascade", schema)); err != nil {
			t.Error(err)
		}
	})
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	return u.String()
}
