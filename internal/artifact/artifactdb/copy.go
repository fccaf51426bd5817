package artifactdb

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/db"
)

// Copies implements artifact.CopyRows.
type Copies struct {
	DB     *db.DB
	Ledger artifact.Ledger // nil in tests
}

var _ artifact.CopyRows = Copies{}

const copyColumns = "c.digest, c.place, c.repository, c.refers, c.verified, c.failure, c.attempts, c.next"

func scanCopy(r *sql.Rows) (c artifact.Copy, err error) {
	var verified, next int64
	err = r.Scan(&c.Digest, &c.To, &c.Repository, &c.Evidence, &verified, &c.Failure, &c.Attempts, &next)
	c.Verified, c.Next = db.Time(verified), db.Time(next)
	return c, err
}

// Copied stores a copy that is whole. The ledger hears of what was not there before, once.
func (s Copies) Copied(ctx context.Context, c artifact.Copy, referrers []string) error {
	referrers = slices.Sorted(slices.Values(referrers))
	all, err := json.Marshal(append([]string{}, referrers...))
	if err != nil {
		return err
	}
	return s.DB.Write(ctx, func(tx *db.Tx) error {
		var raw string
		var before []string
		err := tx.QueryRow(ctx, "select referrers from artifact_copy where org = ? and digest = ? and place = ?", org, c.Digest, c.To).Scan(&raw)
		first := err == sql.ErrNoRows
		if err := none(err); err != nil {
			return err
		}
		if !first {
			if err := json.Unmarshal([]byte(raw), &before); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `insert into artifact_copy (org, digest, place, repository, refers, referrers, verified, failure, attempts, next) values (?, ?, ?, ?, ?, ?, ?, '', 0, ?)
			on conflict (org, digest, place) do update set repository = excluded.repository, refers = excluded.refers, referrers = excluded.referrers, verified = excluded.verified, failure = '', attempts = 0, next = excluded.next`,
			org, c.Digest, c.To, c.Repository, len(referrers), string(all), db.Micros(c.Verified), db.Micros(c.Next)); err != nil {
			return err
		}
		fresh := slices.DeleteFunc(slices.Clone(referrers), func(d string) bool { return slices.Contains(before, d) })
		if s.Ledger == nil || !first && len(fresh) == 0 {
			return nil
		}
		return s.Ledger(ctx, tx, artifact.Entry{Actor: "artifact", Action: "artifact.copied", Subject: c.Digest,
			Data: map[string]any{"repository": c.Repository, "to": c.To, "first": first, "referrers": append([]string{}, fresh...)}})
	})
}

// Failed stores an attempt that failed.
func (s Copies) Failed(ctx context.Context, c artifact.Copy) error {
	return s.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "update artifact_copy set failure = ?, attempts = ?, next = ? where org = ? and digest = ? and place = ?", c.Failure, c.Attempts, db.Micros(c.Next), org, c.Digest, c.To)
		return err
	})
}

// Behind lists what is to be brought up to date. An image that is gone here has no more to bring.
func (s Copies) Behind(ctx context.Context, now time.Time, limit int) ([]artifact.Copy, error) {
	rows, err := s.DB.Query(ctx, "select "+copyColumns+` from artifact_copy c where c.org = ? and c.next <= ?
		and exists (select 1 from registry_manifest m where m.org = c.org and m.repository = c.repository and m.digest = c.digest)
		and (select count(*) from registry_manifest m where m.org = c.org and m.repository = c.repository and m.subject = c.digest) <> c.refers
		order by c.next, c.digest, c.place limit ?`, org, db.Micros(now), limit)
	return db.Collect(rows, err, scanCopy)
}

// Of lists the copies of an image.
func (s Copies) Of(ctx context.Context, digest string) ([]artifact.Copy, error) {
	rows, err := s.DB.Query(ctx, "select "+copyColumns+" from artifact_copy c where c.org = ? and c.digest = ? order by c.place", org, digest)
	return db.Collect(rows, err, scanCopy)
}
