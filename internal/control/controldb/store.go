// Package controldb keeps what canaries and their baselines have counted, and what the judge made of it.
package controldb

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"

	"weir/internal/base/db"
	"weir/internal/control"
	"weir/internal/deploy"
)

//go:embed migrations
var migrations embed.FS

// Migrate makes the tables.
func Migrate(ctx context.Context, d *db.DB) error { return db.Migrate(ctx, d, "control", migrations) }

// Store implements control.Store.
type Store struct{ db *db.DB }

// New returns the store of a database.
func New(d *db.DB) *Store { return &Store{d} }

var _ control.Store = (*Store)(nil)

const org = "default"

// maxSamples bounds a chart.
const maxSamples = 2000

// Save stores one look.
func (s *Store) Save(ctx context.Context, arms []control.Arm, st control.State, sample bool) error {
	doc, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *db.Tx) error {
		for _, a := range arms {
			b, err := json.Marshal(a)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "insert into arm (org, rollout_id, grp, doc) values (?, ?, ?, ?) on conflict (rollout_id, grp) do update set doc = excluded.doc", org, string(st.Rollout), a.Group, string(b)); err != nil {
				return fmt.Errorf("save arm %s: %w", a.Group, err)
			}
		}
		if _, err := tx.Exec(ctx, "insert into look (org, rollout_id, at, doc) values (?, ?, ?, ?) on conflict (rollout_id) do update set at = excluded.at, doc = excluded.doc", org, string(st.Rollout), db.Micros(st.At), string(doc)); err != nil {
			return fmt.Errorf("save look at %s: %w", st.Rollout, err)
		}
		if sample {
			if _, err := tx.Exec(ctx, "insert into sample (org, rollout_id, at, doc) values (?, ?, ?, ?) on conflict (rollout_id, at) do nothing", org, string(st.Rollout), db.Micros(st.At), string(doc)); err != nil {
				return fmt.Errorf("save sample of %s: %w", st.Rollout, err)
			}
		}
		tx.Wake(deploy.RolloutTopic(st.Rollout))
		return nil
	})
}

// Arms lists every group that was counted in a rollout.
func (s *Store) Arms(ctx context.Context, id deploy.RolloutID) ([]control.Arm, error) {
	rows, err := s.db.Query(ctx, "select doc from arm where rollout_id = ? order by grp", string(id))
	return db.Collect(rows, err, scan[control.Arm])
}

// State is the newest look.
func (s *Store) State(ctx context.Context, id deploy.RolloutID) (st control.State, found bool, err error) {
	var doc string
	err = s.db.QueryRow(ctx, "select doc from look where rollout_id = ?", string(id)).Scan(&doc)
	if errors.Is(err, sql.ErrNoRows) {
		return st, false, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(doc), &st)
	}
	return st, err == nil, err
}

// Samples are the points of the chart, the newest 2000.
func (s *Store) Samples(ctx context.Context, id deploy.RolloutID) ([]control.State, error) {
	rows, err := s.db.Query(ctx, "select doc from (select at, doc from sample where rollout_id = ? order by at desc limit ?) as newest order by at", string(id), maxSamples)
	return db.Collect(rows, err, scan[control.State])
}

func scan[T any](r *sql.Rows) (v T, err error) {
	var doc string
	if err := r.Scan(&doc); err != nil {
		return v, err
	}
	return v, json.Unmarshal([]byte(doc), &v)
}
