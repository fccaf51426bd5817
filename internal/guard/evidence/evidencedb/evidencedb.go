// Package evidencedb keeps signatures and their bundles in the database.
//
// A row is written once, with its log entry, and completed once, with its
// bundle; neither is changed afterwards.
package evidencedb

import (
	"context"
	"database/sql"
	"embed"
	"encoding/base64"
	"errors"
	"strings"

	"weir/internal/base/db"
	"weir/internal/guard/evidence"
)

//go:embed migrations
var migrations embed.FS

// Migrate makes the tables.
func Migrate(ctx context.Context, d *db.DB) error { return db.Migrate(ctx, d, "evidence", migrations) }

// Store implements evidence.Store.
type Store struct{ db *db.DB }

// New returns the store of a database.
func New(d *db.DB) *Store { return &Store{d} }

var _ evidence.Store = (*Store)(nil)

const columns = `id, org, key, identity, predicate_type, predicate_version, subject, subjects, statement, coalesce(bundle, ''), coalesce(ledger_index, -1),
	key_id, not_before, not_after, at, signature, certificate, timestamp, entry, entry_id`

// Add stores r with its log entry, or returns the record that is there.
func (s *Store) Add(ctx context.Context, r evidence.Record, enter func(context.Context, *db.Tx) (string, error)) (evidence.Record, error) {
	var out evidence.Record
	err := s.db.Write(ctx, func(tx *db.Tx) error {
		first, found, err := lookup(ctx, tx, r.Org, r.PredicateType, r.Subject, r.Key)
		if err != nil || found {
			out = first
			return err
		}
		out = r
		if out.EntryID, err = enter(ctx, tx); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `insert into evidence (id, org, key, identity, predicate_type, predicate_version, subject, subjects, statement,
			key_id, not_before, not_after, at, signature, certificate, timestamp, entry, entry_id) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			r.ID, r.Org, r.Key, r.Identity, r.PredicateType, r.PredicateVersion, r.Subject, strings.Join(r.Subjects, " "), string(r.Statement),
			r.KeyID, db.Micros(r.NotBefore), db.Micros(r.NotAfter), db.Micros(r.Time), text(r.Signature), text(r.Certificate), text(r.Timestamp), string(r.Entry), out.EntryID)
		if err != nil {
			return err
		}
		seen := map[string]bool{}
		for _, digest := range r.Subjects {
			if seen[digest] {
				continue
			}
			seen[digest] = true
			if _, err := tx.Exec(ctx, "insert into evidence_subject (org, digest, evidence_id) values (?, ?, ?)", r.Org, digest, r.ID); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// Complete stores the bundle of a record that has none.
func (s *Store) Complete(ctx context.Context, id string, index int64, bundle []byte) error {
	return s.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "update evidence set bundle = ?, ledger_index = ? where id = ? and bundle is null", string(bundle), index, id)
		return err
	})
}

// Lookup returns the record of a statement.
func (s *Store) Lookup(ctx context.Context, org, predicateType, subject, key string) (evidence.Record, bool, error) {
	return lookup(ctx, s.db, org, predicateType, subject, key)
}

// Pending lists records without a bundle, oldest first.
func (s *Store) Pending(ctx context.Context, limit int) ([]evidence.Record, error) {
	rows, err := s.db.Query(ctx, "select "+columns+" from evidence where bundle is null order by id limit ?", limit)
	return db.Collect(rows, err, func(r *sql.Rows) (evidence.Record, error) { return scan(r) })
}

// Find lists complete evidence, oldest first.
func (s *Store) Find(ctx context.Context, q evidence.Query) ([]evidence.Evidence, error) {
	where, args := []string{"org = ?", "bundle is not null"}, []any{q.Org}
	for _, c := range []struct{ cond, arg string }{
		{"id in (select evidence_id from evidence_subject where org = evidence.org and digest = ?)", q.Subject},
		{"predicate_type = ?", q.PredicateType},
		{"key = ?", q.Key},
	} {
		if c.arg != "" {
			where, args = append(where, c.cond), append(args, c.arg)
		}
	}
	rows, err := s.db.Query(ctx, "select "+columns+" from evidence where "+strings.Join(where, " and ")+" order by id limit ?", append(args, q.Limit)...)
	return db.Collect(rows, err, func(r *sql.Rows) (evidence.Evidence, error) {
		rec, err := scan(r)
		return rec.Evidence, err
	})
}

func lookup(ctx context.Context, q db.Querier, org, predicateType, subject, key string) (evidence.Record, bool, error) {
	r, err := scan(q.QueryRow(ctx, "select "+columns+" from evidence where org = ? and predicate_type = ? and subject = ? and key = ?", org, predicateType, subject, key))
	if errors.Is(err, sql.ErrNoRows) {
		return evidence.Record{}, false, nil
	}
	return r, err == nil, err
}

func scan(row interface{ Scan(...any) error }) (evidence.Record, error) {
	var (
		r                         evidence.Record
		subjects, statement       string
		bundle, sig, cert, stamp  string
		entry                     string
		notBefore, notAfter, when int64
	)
	err := row.Scan(&r.ID, &r.Org, &r.Key, &r.Identity, &r.PredicateType, &r.PredicateVersion, &r.Subject, &subjects, &statement, &bundle, &r.Index,
		&r.KeyID, &notBefore, &notAfter, &when, &sig, &cert, &stamp, &entry, &r.EntryID)
	if err != nil {
		return r, err
	}
	r.Subjects, r.Statement, r.Bundle, r.Entry = strings.Fields(subjects), []byte(statement), []byte(bundle), []byte(entry)
	r.NotBefore, r.NotAfter, r.Time = db.Time(notBefore), db.Time(notAfter), db.Time(when)
	for _, f := range []struct {
		to   *[]byte
		from string
	}{{&r.Signature, sig}, {&r.Certificate, cert}, {&r.Timestamp, stamp}} {
		b, err := base64.StdEncoding.DecodeString(f.from)
		if err != nil {
			return r, err
		}
		*f.to = b
	}
	return r, nil
}

func text(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
