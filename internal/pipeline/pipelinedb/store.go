// Package pipelinedb keeps runs, jobs, attempts, artifacts and caches in rows. It is the only reader and writer of its tables.
//
// A run's row carries a version: Save succeeds only on top of the version that was read, so the engine, a user who cancels and
// a second replica never overwrite each other. Facts and ledger entries go into the same transaction.
package pipelinedb

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/pipeline"
)

//go:embed migrations
var migrations embed.FS

// Migrate makes the tables.
func Migrate(ctx context.Context, d *db.DB) error { return db.Migrate(ctx, d, "pipeline", migrations) }

// Store implements pipeline.Store.
type Store struct {
	db      *db.DB
	journal *journal.Journal
	ledger  pipeline.Ledger
}

// New returns the store of a database. A nil ledger keeps no entries.
func New(d *db.DB, j *journal.Journal, ledger pipeline.Ledger) *Store {
	if ledger == nil {
		ledger = func(context.Context, *db.Tx, pipeline.Entry) error { return nil }
	}
	return &Store{d, j, ledger}
}

var _ pipeline.Store = (*Store)(nil)

// Create implements pipeline.Store.
func (s *Store) Create(ctx context.Context, r pipeline.Run) (created bool, err error) {
	enc, err := encode(r)
	if err != nil {
		return false, fmt.Errorf("create run %s: %w", r.ID, err)
	}
	err = s.db.Write(ctx, func(tx *db.Tx) error {
		created = false
		res, err := tx.Exec(ctx, `insert into pipeline_run (org, id, repository_id, repository, workflow, name, title, event, ref, base, revision, trust,
			change_id, change_number, patchset, actor, state, attempt, reason, diagnostics, plan, github, cancel, created, started, finished, version)
			values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?, ?, ?, 1)
			on conflict (org, repository_id, revision, base, workflow, trust, change_id) do nothing`,
			r.Org, r.ID, r.RepositoryID, r.Repository, r.Workflow, r.Name, r.Title, r.Event, r.Ref, r.Base, r.Revision, r.Trust,
			r.ChangeID, r.ChangeNumber, r.Patchset, r.Actor, r.State, r.Attempt, r.Reason, enc.diagnostics, enc.plan, enc.github,
			db.Micros(r.Created), db.Micros(r.Started), db.Micros(r.Finished))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		for i := range r.Jobs {
			if err := insertJob(ctx, tx, &r, i); err != nil {
				return err
			}
		}
		if err := s.supersede(ctx, tx, r); err != nil {
			return err
		}
		created = true
		return s.announce(ctx, tx, pipeline.Run{}, r)
	})
	if err != nil {
		return false, fmt.Errorf("create run %s: %w", r.ID, err)
	}
	return created, nil
}

// supersede asks the runs of older patchsets of the same change to stop.
func (s *Store) supersede(ctx context.Context, tx *db.Tx, r pipeline.Run) error {
	if r.ChangeID == "" {
		return nil
	}
	c, err := json.Marshal(pipeline.Cancellation{By: "system:pipeline", Reason: fmt.Sprintf("superseded by patchset %d", r.Patchset), At: r.Created})
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, `update pipeline_run set cancel = ?, version = version + 1
		where change_id = ? and finished = 0 and patchset < ? and org = ? and repository_id = ? and cancel = '' returning id`,
		string(c), r.ChangeID, r.Patchset, r.Org, r.RepositoryID)
	ids, err := db.Collect(rows, err, func(r *sql.Rows) (id string, err error) { return id, r.Scan(&id) })
	for _, id := range ids {
		tx.Wake(pipeline.Topic(pipeline.RunID(id)))
	}
	return err
}

// EngineTopic is woken when the engine should look for new or changed runs.
const EngineTopic = "pipeline/engine"

func (s *Store) announce(ctx context.Context, tx *db.Tx, prev, next pipeline.Run) error {
	for _, a := range pipeline.Announce(prev, next) {
		body, err := json.Marshal(a.Body)
		if err != nil {
			return err
		}
		if err := s.journal.Append(ctx, tx, journal.Fact{Org: next.Org, Type: a.Type, Version: 1, Subject: string(next.ID), Body: body}); err != nil {
			return err
		}
		if a.Type == pipeline.FactRunCreated || a.Type == pipeline.FactRunFinished {
			if err := s.ledger(ctx, tx, pipeline.Entry{Actor: "system:pipeline", Action: a.Type, Subject: string(next.ID), Data: a.Body}); err != nil {
				return err
			}
		}
	}
	tx.Wake(pipeline.Topic(next.ID))
	if prev.State != next.State {
		tx.Wake(pipeline.RunsTopic)
	}
	if prev.ID == "" {
		tx.Wake(EngineTopic)
	}
	return nil
}

// Save implements pipeline.Store.
func (s *Store) Save(ctx context.Context, fence pipeline.Fence, prev, next pipeline.Run) error {
	err := s.db.Write(ctx, func(tx *db.Tx) error {
		if fence != nil {
			if err := fence(ctx, tx); err != nil {
				return err
			}
		}
		return s.save(ctx, tx, prev, next)
	})
	if err != nil {
		return fmt.Errorf("save run %s: %w", next.ID, err)
	}
	return nil
}

func (s *Store) save(ctx context.Context, tx *db.Tx, prev, next pipeline.Run) error {
	cancel := ""
	if next.Cancel != nil {
		b, err := json.Marshal(next.Cancel)
		if err != nil {
			return err
		}
		cancel = string(b)
	}
	res, err := tx.Exec(ctx, `update pipeline_run set state = ?, attempt = ?, reason = ?, cancel = ?, started = ?, finished = ?, version = version + 1
		where id = ? and version = ?`, next.State, next.Attempt, next.Reason, cancel, db.Micros(next.Started), db.Micros(next.Finished), next.ID, prev.Version)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil {
		return err
	} else if n == 0 {
		return pipeline.ErrChanged
	}
	if next.Plan.Rev != prev.Plan.Rev {
		b, err := json.Marshal(next.Plan)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "update pipeline_run set plan = ? where id = ?", string(b), next.ID); err != nil {
			return err
		}
	}
	for i := range next.Jobs {
		if i >= len(prev.Jobs) {
			if err := insertJob(ctx, tx, &next, i); err != nil {
				return err
			}
			if err := saveJob(ctx, tx, &prev, &next, i); err != nil {
				return err
			}
			continue
		}
		if next.Jobs[i].Rev == prev.Jobs[i].Rev {
			continue
		}
		if err := saveJob(ctx, tx, &prev, &next, i); err != nil {
			return err
		}
	}
	return s.announce(ctx, tx, prev, next)
}

// Update implements pipeline.Store.
func (s *Store) Update(ctx context.Context, id pipeline.RunID, entry pipeline.Entry, decide func(pipeline.Run) (pipeline.Run, error)) error {
	err := s.db.Write(ctx, func(tx *db.Tx) error {
		prev, err := load(ctx, tx, id)
		if err != nil {
			return err
		}
		next, err := decide(prev)
		if err != nil {
			return err
		}
		if err := s.save(ctx, tx, prev, next); err != nil {
			return err
		}
		tx.Wake(EngineTopic)
		return s.ledger(ctx, tx, entry)
	})
	if err != nil {
		return fmt.Errorf("update run %s: %w", id, err)
	}
	return nil
}

// Load implements pipeline.Store.
func (s *Store) Load(ctx context.Context, id pipeline.RunID) (pipeline.Run, error) {
	for range 100 {
		r, err := load(ctx, s.db, id)
		// Outside of a transaction the rows of the jobs are read after that of the run, whose plan grows with them.
		if err != nil || len(r.Jobs) <= len(r.Plan.Jobs) {
			return r, err
		}
	}
	return pipeline.Run{}, fmt.Errorf("load run %s: it has more jobs than its plan", id)
}

// Active implements pipeline.Store.
func (s *Store) Active(ctx context.Context) ([]pipeline.Ref, error) {
	rows, err := s.db.Query(ctx, "select id, version from pipeline_run where finished = 0 order by id")
	return db.Collect(rows, err, func(r *sql.Rows) (ref pipeline.Ref, err error) { return ref, r.Scan(&ref.ID, &ref.Version) })
}

// List implements pipeline.Store.
func (s *Store) List(ctx context.Context, f pipeline.Filter) ([]pipeline.Run, error) {
	if f.Limit <= 0 || f.Limit > 200 {
		f.Limit = 50
	}
	// A plan may be large and a list does not show it.
	query, args := "select "+strings.Replace(runColumns, "plan, github", "'{}', '{}'", 1)+" from pipeline_run where org = ?", []any{f.Org}
	for _, c := range []struct{ column, value string }{{"repository_id = ?", f.RepositoryID}, {"revision = ?", f.Revision}, {"change_id = ?", f.ChangeID}, {"id < ?", string(f.Before)}} {
		if c.value != "" {
			query += " and " + c.column
			args = append(args, c.value)
		}
	}
	for _, c := range []struct{ column, value string }{{"state = ?", string(f.State)}, {"actor = ?", f.Actor}} {
		if c.value != "" {
			query += " and " + c.column
			args = append(args, c.value)
		}
	}
	if f.Workflow != "" {
		query += " and (workflow = ? or workflow = ? or workflow = ? or name = ?)"
		args = append(args, f.Workflow, ".github/workflows/"+f.Workflow, ".weir/workflows/"+f.Workflow, f.Workflow)
	}
	if f.Branch != "" {
		query += " and ref in (?, ?, ?)"
		args = append(args, f.Branch, "refs/heads/"+f.Branch, "refs/tags/"+f.Branch)
	}
	rows, err := s.db.Query(ctx, query+" order by id desc limit ?", append(args, f.Limit)...)
	return db.Collect(rows, err, func(r *sql.Rows) (pipeline.Run, error) {
		run, err := scanRun(r)
		run.Plan, run.GitHub = pipeline.Plan{}, nil
		return run, err
	})
}

func load(ctx context.Context, q db.Querier, id pipeline.RunID) (pipeline.Run, error) {
	r, err := scanRun(q.QueryRow(ctx, "select "+runColumns+" from pipeline_run where id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		return r, fault.New(fault.NotFound, "There is no run %s. List the runs with `weir runs`.", id)
	}
	if err != nil {
		return r, fmt.Errorf("load run %s: %w", id, err)
	}
	if err := loadJobs(ctx, q, &r); err != nil {
		return r, fmt.Errorf("load jobs of run %s: %w", id, err)
	}
	return r, nil
}
