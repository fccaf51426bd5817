package artifactdb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
)

const topic = "artifact:intake"

// Store implements artifact.Store.
type Store struct {
	db      *db.DB
	journal *journal.Journal
	ledger  artifact.Ledger
}

// New returns the store of a database. ledger may be nil in tests.
func New(d *db.DB, j *journal.Journal, ledger artifact.Ledger) *Store {
	if ledger == nil {
		ledger = func(context.Context, *db.Tx, artifact.Entry) error { return nil }
	}
	return &Store{d, j, ledger}
}

var _ artifact.Store = (*Store)(nil)

// Subscribe wakes whoever waits for a new or changed intake.
func (s *Store) Subscribe() (<-chan struct{}, func()) { return s.db.Subscribe(topic) }

const intakeColumns = "id, org, stored, size, output, state, progress, attempts, failure, next, created, updated"

// Add stores a new intake, or returns the one that is there.
func (s *Store) Add(ctx context.Context, i artifact.Intake, f journal.Fact, e artifact.Entry) (out artifact.Intake, added bool, err error) {
	output, progress, err := encode(i)
	if err != nil {
		return i, false, err
	}
	err = s.db.Write(ctx, func(tx *db.Tx) error {
		first, err := scanIntake(tx.QueryRow(ctx, "select "+intakeColumns+" from intake where org = ? and service_id = ? and revision = ?", i.Org, i.Output.ServiceID, i.Output.Revision))
		if err == nil {
			out, added = first, false
			return (Registry{s.db}).Discard(ctx, tx, i.Stored, i.Created)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		out, added = i, true
		_, err = tx.Exec(ctx, "insert into intake (service_id, revision, "+intakeColumns+") values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			i.Output.ServiceID, i.Output.Revision, string(i.ID), i.Org, string(i.Stored), i.Size, output, string(i.State), progress, i.Attempts, i.Failure,
			db.Micros(i.Next), db.Micros(i.Created), db.Micros(i.Updated))
		if err != nil {
			return err
		}
		if err := (Registry{s.db}).keep(ctx, tx, i.Stored); err != nil {
			return err
		}
		return s.announce(ctx, tx, &f, &e)
	})
	return out, added, err
}

// Save stores a step.
func (s *Store) Save(ctx context.Context, fence artifact.Fence, from artifact.State, i artifact.Intake, a *artifact.Artifact, f *journal.Fact, e *artifact.Entry) error {
	_, progress, err := encode(i)
	if err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *db.Tx) error {
		if fence != nil {
			if err := fence(ctx, tx); err != nil {
				return err
			}
		}
		res, err := tx.Exec(ctx, "update intake set state = ?, progress = ?, attempts = ?, failure = ?, next = ?, updated = ? where id = ? and state = ?",
			string(i.State), progress, i.Attempts, i.Failure, db.Micros(i.Next), db.Micros(i.Updated), string(i.ID), string(from))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, fault.New(fault.Conflict, "the intake %s is no longer %s; somebody else moved it", i.ID, from))
		}
		if a != nil {
			if err := insertArtifact(ctx, tx, *a); err != nil {
				return err
			}
		}
		return s.announce(ctx, tx, f, e)
	})
}

func (s *Store) announce(ctx context.Context, tx *db.Tx, f *journal.Fact, e *artifact.Entry) error {
	if f != nil {
		if err := s.journal.Append(ctx, tx, *f); err != nil {
			return err
		}
	}
	if e != nil {
		if err := s.ledger(ctx, tx, *e); err != nil {
			return fmt.Errorf("append to ledger: %w", err)
		}
	}
	tx.Wake(topic)
	return nil
}

// Open lists the intakes that want attention.
func (s *Store) Open(ctx context.Context, now time.Time, limit int) ([]artifact.Intake, error) {
	rows, err := s.db.Query(ctx, "select "+intakeColumns+" from intake where state not in ('admitted', 'rejected', 'refused') and next <= ? order by next limit ?", db.Micros(now), limit)
	return db.Collect(rows, err, func(r *sql.Rows) (artifact.Intake, error) { return scanIntake(r) })
}

// Intake returns one intake.
func (s *Store) Intake(ctx context.Context, id artifact.IntakeID) (artifact.Intake, error) {
	i, err := scanIntake(s.db.QueryRow(ctx, "select "+intakeColumns+" from intake where id = ?", string(id)))
	if errors.Is(err, sql.ErrNoRows) {
		return i, fault.New(fault.NotFound, "there is no intake %s", id)
	}
	return i, err
}

// Intakes lists intakes, the newest first.
func (s *Store) Intakes(ctx context.Context, f artifact.Filter) ([]artifact.Intake, error) {
	q := selection(f)
	q.and("service_id = ?", f.ServiceID).and("revision = ?", f.Revision)
	rows, err := s.db.Query(ctx, "select "+intakeColumns+" from intake where "+q.where()+" order by id desc limit ?", append(q.args, q.limit)...)
	return db.Collect(rows, err, func(r *sql.Rows) (artifact.Intake, error) { return scanIntake(r) })
}

const artifactColumns = "id, org, service_id, service, repository_id, revision, version, tag, repository, digest, size, run_id, decision_id, details, created"

type details struct {
	Author       string    `json:"author"`
	CommitTime   time.Time `json:"commit_time"`
	ConfigDigest string    `json:"config_digest"`
}

func insertArtifact(ctx context.Context, tx *db.Tx, a artifact.Artifact) error {
	d, err := json.Marshal(details{a.Author, a.CommitTime, a.ConfigDigest})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "insert into artifact ("+artifactColumns+") values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		string(a.ID), a.Org, a.ServiceID, a.Service, a.RepositoryID, a.Revision, a.Version, a.Tag, a.Repository, a.Digest, a.Size, a.RunID, a.DecisionID, string(d), db.Micros(a.Created))
	return err
}

// Get returns one artifact, named by its id, its tag, its digest or as
// repository@digest. The newest counts if several carry a tag.
func (s *Store) Get(ctx context.Context, id artifact.ID) (artifact.Artifact, error) {
	where, args := "id = ? or tag = ? or digest = ?", []any{string(id), string(id), string(id)}
	if repository, digest, ok := strings.Cut(string(id), "@"); ok {
		where, args = "repository = ? and digest = ?", []any{repository, digest}
	}
	a, err := scanArtifact(s.db.QueryRow(ctx, "select "+artifactColumns+" from artifact where "+where+" order by id desc limit 1", args...))
	if errors.Is(err, sql.ErrNoRows) {
		return a, fault.New(fault.NotFound, "There is no artifact %s. Name one by its id, its tag, its digest or as repository@digest; `weir artifact list` shows them.", id)
	}
	return a, err
}

// List lists artifacts, the newest first.
func (s *Store) List(ctx context.Context, f artifact.Filter) ([]artifact.Artifact, error) {
	q := selection(f)
	q.and("service_id = ?", f.ServiceID).and("repository_id = ?", f.RepositoryID).and("revision = ?", f.Revision).and("digest = ?", f.Digest)
	if f.Text != "" {
		like := "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(strings.ToLower(f.Text)) + "%"
		q.conditions = append(q.conditions, "(lower(service) like ? escape '!' or lower(tag) like ? escape '!' or digest like ? escape '!' or revision like ? escape '!')")
		q.args = append(q.args, like, like, like, like)
	}
	rows, err := s.db.Query(ctx, "select "+artifactColumns+" from artifact where "+q.where()+" order by id desc limit ?", append(q.args, q.limit)...)
	return db.Collect(rows, err, func(r *sql.Rows) (artifact.Artifact, error) { return scanArtifact(r) })
}

// query collects conditions.
type query struct {
	conditions []string
	args       []any
	limit      int
}

func selection(f artifact.Filter) *query {
	q := &query{limit: f.Limit}
	if q.limit <= 0 || q.limit > 1000 {
		q.limit = 50
	}
	if f.Org == "" {
		f.Org = org
	}
	return q.and("org = ?", f.Org).and("id < ?", string(f.Before))
}

func (q *query) and(condition, arg string) *query {
	if arg != "" {
		q.conditions, q.args = append(q.conditions, condition), append(q.args, arg)
	}
	return q
}

func (q *query) where() string { return strings.Join(q.conditions, " and ") }

func encode(i artifact.Intake) (output, progress string, err error) {
	o, err := json.Marshal(i.Output)
	if err != nil {
		return "", "", err
	}
	p, err := json.Marshal(i.Progress)
	return string(o), string(p), err
}

func scanIntake(row interface{ Scan(...any) error }) (i artifact.Intake, err error) {
	var (
		output, progress       string
		next, created, updated int64
	)
	if err := row.Scan(&i.ID, &i.Org, &i.Stored, &i.Size, &output, &i.State, &progress, &i.Attempts, &i.Failure, &next, &created, &updated); err != nil {
		return i, err
	}
	i.Next, i.Created, i.Updated = db.Time(next), db.Time(created), db.Time(updated)
	return i, errors.Join(json.Unmarshal([]byte(output), &i.Output), json.Unmarshal([]byte(progress), &i.Progress))
}

func scanArtifact(row interface{ Scan(...any) error }) (a artifact.Artifact, err error) {
	var (
		raw     string
		created int64
		d       details
	)
	if err := row.Scan(&a.ID, &a.Org, &a.ServiceID, &a.Service, &a.RepositoryID, &a.Revision, &a.Version, &a.Tag, &a.Repository, &a.Digest, &a.Size, &a.RunID, &a.DecisionID, &raw, &created); err != nil {
		return a, err
	}
	if err := json.Unmarshal([]byte(raw), &d); err != nil {
		return a, err
	}
	a.Author, a.CommitTime, a.ConfigDigest, a.Created = d.Author, d.CommitTime, d.ConfigDigest, db.Time(created)
	return a, nil
}
