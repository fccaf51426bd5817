package artifactdb

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"weir/internal/base/db"
)

// Versions keeps the versions that were given to revisions.
type Versions struct{ DB *db.DB }

// Given lists the versions of a service by revision.
func (v Versions) Given(ctx context.Context, serviceID string) (map[string]string, error) {
	rows, err := v.DB.Query(ctx, "select revision, version from version_given where org = ? and service_id = ?", org, serviceID)
	given := map[string]string{}
	_, err = db.Collect(rows, err, func(r *sql.Rows) (struct{}, error) {
		var revision, version string
		err := r.Scan(&revision, &version)
		given[revision] = version
		return struct{}{}, err
	})
	return given, err
}

// Give gives a revision the first version that choose offers and nobody has.
// A revision that has a version keeps it. choose is called with how many of its
// offers were taken.
func (v Versions) Give(ctx context.Context, serviceID, revision string, choose func(taken int) string) (version string, err error) {
	err = v.DB.Write(ctx, func(tx *db.Tx) error {
		err := tx.QueryRow(ctx, "select version from version_given where org = ? and service_id = ? and revision = ?", org, serviceID, revision).Scan(&version)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		for taken := 0; ; taken++ {
			version = choose(taken)
			var n int
			if err := tx.QueryRow(ctx, "select count(*) from version_given where org = ? and service_id = ? and version = ?", org, serviceID, version).Scan(&n); err != nil {
				return err
			}
			if n == 0 {
				break
			}
		}
		_, err = tx.Exec(ctx, "insert into version_given (org, service_id, revision, version, created) values (?, ?, ?, ?, ?)", org, serviceID, revision, version, db.Micros(time.Now()))
		return err
	})
	return version, err
}
