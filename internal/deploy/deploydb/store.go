// Package deploydb keeps the rows of the deploy layer: releases, promotions, environments, rollouts and
// what was decided in them. Documents are JSON; columns beside them are what is searched by.
package deploydb

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/deploy"
)

//go:embed migrations
var migrations embed.FS

// Migrate makes the tables.
func Migrate(ctx context.Context, d *db.DB) error { return db.Migrate(ctx, d, "deploy", migrations) }

// Ledger records what was done, by the actor of ctx, in the transaction of doing it.
type Ledger func(ctx context.Context, tx *db.Tx, action, subject string, data any) error

// Store implements deploy.Store.
type Store struct {
	rows
	db      *db.DB
	journal *journal.Journal
	ledger  Ledger
}

// New returns the store of a database. A nil ledger records nothing, which is for tests.
func New(d *db.DB, j *journal.Journal, ledger Ledger) *Store {
	if ledger == nil {
		ledger = func(context.Context, *db.Tx, string, string, any) error { return nil }
	}
	return &Store{rows{d}, d, j, ledger}
}

var _ deploy.Store = (*Store)(nil)

// Subscribe wakes whoever waits for something to do.
func (s *Store) Subscribe() (<-chan struct{}, func()) { return s.db.Subscribe(deploy.Topic) }

// Write runs fn in one serializable transaction.
func (s *Store) Write(ctx context.Context, fence deploy.Fence, fn func(deploy.Tx) error) error {
	return s.db.Write(ctx, func(tx *db.Tx) error {
		if fence != nil {
			if err := fence(ctx, tx); err != nil {
				return err
			}
		}
		tx.Wake(deploy.Topic)
		return fn(&transaction{rows{tx}, s, tx})
	})
}

type transaction struct {
	rows
	s  *Store
	tx *db.Tx
}

func (t *transaction) exec(ctx context.Context, what, query string, args ...any) (int64, error) {
	res, err := t.tx.Exec(ctx, query, args...)
	if err != nil {
		return 0, fmt.Errorf("save %s: %w", what, err)
	}
	return res.RowsAffected()
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs
	}
	return string(b)
}

func (t *transaction) AddRelease(ctx context.Context, r deploy.Release) (deploy.Release, bool, error) {
	n, err := t.exec(ctx, "release "+string(r.ID),
		"insert into release (org, id, service_id, digest, config_digest, doc, created) values (?, ?, ?, ?, ?, ?, ?) on conflict (org, service_id, digest, config_digest) do nothing",
		r.Org, string(r.ID), r.ServiceID, r.Digest(), r.ConfigDigest, encode(r), db.Micros(r.Created))
	if err != nil || n == 1 {
		return r, n == 1, err
	}
	return decode1[deploy.Release](t.q.QueryRow(ctx, "select doc from release where org = ? and service_id = ? and digest = ? and config_digest = ?",
		r.Org, r.ServiceID, r.Digest(), r.ConfigDigest))
}

func decode1[T any](row *sql.Row) (v T, added bool, err error) {
	v, err = scan[T](row)
	return v, false, err
}

func (t *transaction) PutPromotion(ctx context.Context, p deploy.Promotion) error {
	_, err := t.exec(ctx, "promotion "+string(p.ID),
		"insert into promotion (org, id, service_id, environment, release_id, state, doc) values (?, ?, ?, ?, ?, ?, ?) on conflict (release_id, environment) do update set state = excluded.state, doc = excluded.doc",
		p.Org, string(p.ID), p.ServiceID, p.Environment, string(p.ReleaseID), string(p.State), encode(p))
	return err
}

func (t *transaction) PutRollout(ctx context.Context, r deploy.Rollout) error {
	t.tx.Wake(deploy.RolloutTopic(r.ID))
	_, err := t.exec(ctx, "rollout "+string(r.ID),
		"insert into rollout (org, id, service_id, environment, release_id, state, live, doc) values (?, ?, ?, ?, ?, ?, ?, ?) on conflict (id) do update set state = excluded.state, live = excluded.live, doc = excluded.doc",
		r.Org, string(r.ID), r.ServiceID, r.Environment, string(r.ReleaseID), string(r.State), db.Bool(r.State.Live()), encode(r))
	return err
}

func (t *transaction) AddDecisions(ctx context.Context, ds []deploy.Decision) error {
	for _, d := range ds {
		_, err := t.exec(ctx, "decision of "+string(d.Rollout),
			"insert into rollout_decision (org, rollout_id, n, at, doc) select r.org, r.id, (select count(*) from rollout_decision where rollout_id = r.id), ?, ? from rollout r where r.id = ?",
			db.Micros(d.At), encode(d), string(d.Rollout))
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *transaction) PutEnvironment(ctx context.Context, e deploy.Environment) error {
	_, err := t.exec(ctx, "environment "+e.Service+"/"+e.Environment,
		"insert into environment (org, service_id, name, rollout_id, generation, doc) values (?, ?, ?, ?, ?, ?) on conflict (service_id, name) do update set rollout_id = excluded.rollout_id, generation = excluded.generation, doc = excluded.doc",
		e.Org, e.ServiceID, e.Environment, string(e.Rollout), e.Generation, encode(e))
	return err
}

func (t *transaction) AddSpec(ctx context.Context, serviceID, environment string, s deploy.Spec) error {
	_, err := t.exec(ctx, "spec of "+string(s.ReleaseID),
		"insert into spec (org, service_id, environment, release_id, doc) select org, service_id, ?, id, ? from release where id = ? and service_id = ? on conflict (service_id, environment, release_id) do nothing",
		environment, encode(s), string(s.ReleaseID), serviceID)
	return err
}

func (t *transaction) Announce(ctx context.Context, kind, org, subject string, body any, at time.Time) error {
	return t.s.journal.Append(ctx, t.tx, journal.Fact{Org: org, Type: kind, Version: 1, Subject: subject, Body: []byte(encode(body)), Time: at})
}

func (t *transaction) Record(ctx context.Context, action, subject string, data any) error {
	return t.s.ledger(ctx, t.tx, action, subject, data)
}

// rows reads, inside a transaction or outside.
type rows struct{ q db.Querier }

func scan[T any](row interface{ Scan(...any) error }) (v T, err error) {
	var doc string
	if err := row.Scan(&doc); err != nil {
		return v, err
	}
	return v, json.Unmarshal([]byte(doc), &v)
}

func one[T any](row *sql.Row, what, id string) (T, error) {
	v, err := scan[T](row)
	if errors.Is(err, sql.ErrNoRows) {
		return v, fault.New(fault.NotFound, "There is no %s %s.", what, id)
	}
	if err != nil {
		return v, fmt.Errorf("read %s %s: %w", what, id, err)
	}
	return v, nil
}

// many lists documents of a table that a filter selects, newest first.
func many[T any](ctx context.Context, r rows, table, live string, f deploy.Filter) ([]T, error) {
	if f.Limit <= 0 {
		f.Limit = 50
	}
	query, args := "select doc from "+table+" where 1 = 1", []any{}
	for _, c := range []struct{ column, value string }{
		{"org = ?", f.Org}, {"service_id = ?", f.ServiceID}, {"environment = ?", f.Environment}, {"release_id = ?", string(f.ReleaseID)}, {"id < ?", f.Before},
	} {
		if c.value != "" {
			query, args = query+" and "+c.column, append(args, c.value)
		}
	}
	if f.Live {
		query += " and " + live
	}
	rs, err := r.q.Query(ctx, query+" order by id desc limit ?", append(args, f.Limit)...)
	out, err := db.Collect(rs, err, func(r *sql.Rows) (T, error) { return scan[T](r) })
	if err != nil {
		return nil, fmt.Errorf("list %ss: %w", table, err)
	}
	return out, nil
}

func (r rows) Release(ctx context.Context, id deploy.ReleaseID) (deploy.Release, error) {
	return one[deploy.Release](r.q.QueryRow(ctx, "select doc from release where id = ?", string(id)), "release", string(id))
}

func (r rows) Releases(ctx context.Context, f deploy.Filter) ([]deploy.Release, error) {
	f.Environment, f.ReleaseID = "", ""
	return many[deploy.Release](ctx, r, "release", "1 = 1", f)
}

func (r rows) Promotion(ctx context.Context, id deploy.PromotionID) (deploy.Promotion, error) {
	return one[deploy.Promotion](r.q.QueryRow(ctx, "select doc from promotion where id = ?", string(id)), "promotion", string(id))
}

func (r rows) Promotions(ctx context.Context, f deploy.Filter) ([]deploy.Promotion, error) {
	return many[deploy.Promotion](ctx, r, "promotion", "state = 'waiting'", f)
}

func (r rows) Rollout(ctx context.Context, id deploy.RolloutID) (deploy.Rollout, error) {
	return one[deploy.Rollout](r.q.QueryRow(ctx, "select doc from rollout where id = ?", string(id)), "rollout", string(id))
}

func (r rows) Rollouts(ctx context.Context, f deploy.Filter) ([]deploy.Rollout, error) {
	return many[deploy.Rollout](ctx, r, "rollout", "live = 1", f)
}

func (r rows) Decisions(ctx context.Context, id deploy.RolloutID) ([]deploy.Decision, error) {
	rs, err := r.q.Query(ctx, "select doc from rollout_decision where rollout_id = ? order by n", string(id))
	return db.Collect(rs, err, func(r *sql.Rows) (deploy.Decision, error) { return scan[deploy.Decision](r) })
}

func (r rows) Environment(ctx context.Context, serviceID, name string) (deploy.Environment, error) {
	e, err := scan[deploy.Environment](r.q.QueryRow(ctx, "select doc from environment where service_id = ? and name = ?", serviceID, name))
	if errors.Is(err, sql.ErrNoRows) {
		return deploy.Environment{}, nil
	}
	return e, err
}

func (r rows) Environments(ctx context.Context, org string) ([]deploy.Environment, error) {
	rs, err := r.q.Query(ctx, "select doc from environment where org = ? order by service_id, name", org)
	return db.Collect(rs, err, func(r *sql.Rows) (deploy.Environment, error) { return scan[deploy.Environment](r) })
}

func (r rows) Spec(ctx context.Context, serviceID, environment string, id deploy.ReleaseID) (deploy.Spec, error) {
	return one[deploy.Spec](r.q.QueryRow(ctx, "select doc from spec where service_id = ? and environment = ? and release_id = ?", serviceID, environment, string(id)), "spec of release", string(id))
}
