package pipelinedb

import (
	"context"
	"database/sql"
	"strings"

	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/pipeline"
)

// SaveAgent keeps what an agent says of itself.
func (s *Store) SaveAgent(ctx context.Context, org string, a pipeline.Agent) error {
	return s.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `insert into pipeline_agent (org, name, labels, slots, version, seen) values (?, ?, ?, ?, ?, ?)
			on conflict (org, name) do update set labels = excluded.labels, slots = excluded.slots, version = excluded.version, seen = excluded.seen`,
			org, a.Name, strings.Join(a.Labels, ","), a.Slots, a.Version, db.Micros(a.Seen))
		return err
	})
}

// Agents lists those that have ever connected, by name.
func (s *Store) Agents(ctx context.Context, org string) ([]pipeline.Agent, error) {
	rows, err := s.db.Query(ctx, "select name, labels, slots, version, seen from pipeline_agent where org = ? order by name", org)
	return db.Collect(rows, err, func(r *sql.Rows) (a pipeline.Agent, err error) {
		var labels string
		var seen int64
		err = r.Scan(&a.Name, &labels, &a.Slots, &a.Version, &seen)
		a.Labels, a.Seen = strings.Split(labels, ","), db.Time(seen)
		return a, err
	})
}

// ForgetAgent removes one from the list, so that no job waits for it any more.
func (s *Store) ForgetAgent(ctx context.Context, org, name string) error {
	return s.db.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(ctx, "delete from pipeline_agent where org = ? and name = ?", org, name)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return fault.New(fault.NotFound, "There is no agent %s. List them with `weir agent list`.", name)
		}
		return nil
	})
}
