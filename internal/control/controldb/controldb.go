// Package controldb keeps the rows of the control layer.
package controldb

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"fmt"
	"time"

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

// Groups implements control.Store.
func (s *Store) Groups(ctx context.Context, id deploy.RolloutID) (map[deploy.Role]map[string]deploy.Counters, error) {
	rows, err := s.db.Query(ctx, "select counters from control_group where rollout_id = ?", id)
	all, err := db.Collect(rows, err, func(r *sql.Rows) (c deploy.Counters, err error) {
		var body string
		if err := r.Scan(&body); err != nil {
			return c, err
		}
		return c, json.Unmarshal([]byte(body), &c)
	})
	if err != nil {
		return nil, fmt.Errorf("groups of rollout %s: %w", id, err)
	}
	out := map[deploy.Role]map[string]deploy.Counters{}
	for _, c := range all {
		if out[c.Role] == nil {
			out[c.Role] = map[string]deploy.Counters{}
		}
		out[c.Role][c.Group] = c
	}
	return out, nil
}

// Keep implements control.Store.
func (s *Store) Keep(ctx context.Context, sample control.Sample, counters []deploy.Counters) error {
	body, err := json.Marshal(sample)
	if err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *db.Tx) error {
		for _, c := range counters {
			raw, err := json.Marshal(c)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `insert into control_group (org, rollout_id, role, grp, counters) values ('default', ?, ?, ?, ?)
				on conflict (rollout_id, role, grp) do update set counters = excluded.counters`, sample.RolloutID, c.Role, c.Group, string(raw)); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "insert into control_sample (org, rollout_id, at, body) values ('default', ?, ?, ?) on conflict (rollout_id, at) do nothing",
			sample.RolloutID, sample.Time.UnixMicro(), string(body))
		tx.Wake(deploy.RolloutTopic(sample.RolloutID))
		return err
	})
}

// Samples implements control.Store.
func (s *Store) Samples(ctx context.Context, id deploy.RolloutID, since time.Time) ([]control.Sample, error) {
	rows, err := s.db.Query(ctx, "select body from control_sample where rollout_id = ? and at > ? order by at", id, db.Micros(since))
	return db.Collect(rows, err, func(r *sql.Rows) (c control.Sample, err error) {
		var body string
		if err := r.Scan(&body); err != nil {
			return c, err
		}
		return c, json.Unmarshal([]byte(body), &c)
	})
}
