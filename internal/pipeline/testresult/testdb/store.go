// Package testdb keeps test results in rows. It is the only reader and writer of its tables.
//
// An attempt's report is stored after its results and makes them visible: a crash in between leaves rows that nobody shows and
// that the next try completes.
package testdb

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/testresult"
)

//go:embed migrations
var migrations embed.FS

// Migrate makes the tables.
func Migrate(ctx context.Context, d *db.DB) error {
	return db.Migrate(ctx, d, "pipeline_tests", migrations)
}

// Store implements pipeline.Tests and testresult.Store.
type Store struct{ db *db.DB }

// New returns the store of a database.
func New(d *db.DB) *Store { return &Store{d} }

var (
	_ pipeline.Tests   = (*Store)(nil)
	_ testresult.Store = (*Store)(nil)
)

type detail struct {
	Count    pipeline.TestCount `json:"count"`
	Sources  []string           `json:"sources,omitempty"`
	Problems []string           `json:"problems,omitempty"`
}

// rows of one statement: SQLite takes 32,766 values, PostgreSQL 65,535.
const perStatement = 400

// perWrite is how many results one transaction has: a long one would hold up every other writer.
const perWrite = 2000

// Put implements testresult.Store.
func (s *Store) Put(ctx context.Context, a testresult.Attempt, report pipeline.TestReport, results []pipeline.TestResult) error {
	var known int
	err := s.db.QueryRow(ctx, "select count(*) from test_report where run_id = ? and job_id = ? and attempt = ?", a.RunID, a.JobID, a.Number).Scan(&known)
	if err != nil || known > 0 {
		return err
	}
	for from := 0; from < len(results); from += perWrite {
		part := results[from:min(len(results), from+perWrite)]
		if err := s.db.Write(ctx, func(tx *db.Tx) error { return put(ctx, tx, a, part) }); err != nil {
			return fmt.Errorf("put test results of %s: %w", a.JobID, err)
		}
	}
	b, err := json.Marshal(detail{report.Count, report.Sources, report.Problems})
	if err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `insert into test_report (org, repository_id, workflow, run_id, job_id, job, attempt, revision, trust, at, detail)
			values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (run_id, job_id, attempt) do nothing`,
			a.Org, a.RepositoryID, a.Workflow, a.RunID, a.JobID, a.Job, a.Number, a.Revision, a.Trust, db.Micros(a.At), string(b))
		tx.Wake(pipeline.Topic(a.RunID))
		return err
	})
}

func put(ctx context.Context, tx *db.Tx, a testresult.Attempt, results []pipeline.TestResult) error {
	for from := 0; from < len(results); from += perStatement {
		part := results[from:min(len(results), from+perStatement)]
		var cases, rows strings.Builder
		var caseArgs, rowArgs []any
		for i, r := range part {
			if i > 0 {
				cases.WriteString(", ")
				rows.WriteString(", ")
			}
			cases.WriteString("(?, ?, ?, ?, ?, ?, ?, ?, ?)")
			caseArgs = append(caseArgs, r.Key, a.Org, a.RepositoryID, a.Workflow, a.Job, r.Suite, r.Package, r.Name, db.Micros(a.At))
			rows.WriteString("(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
			rowArgs = append(rowArgs, r.Key, a.RunID, a.JobID, a.Number, rank(r), r.Outcome, db.Bool(r.Flaky), r.Duration.Microseconds(), r.Message, r.Detail, r.File, r.Line, r.LogLine, db.Micros(a.At))
		}
		if _, err := tx.Exec(ctx, `insert into test_case (key, org, repository_id, workflow, job, suite, package, name, first_seen) values `+cases.String()+` on conflict (key) do nothing`, caseArgs...); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `insert into test_result (key, run_id, job_id, attempt, rank, outcome, flaky, duration, message, detail, file, line, log_line, at) values `+rows.String()+
			` on conflict (run_id, job_id, attempt, key) do nothing`, rowArgs...); err != nil {
			return err
		}
	}
	return nil
}

func rank(r pipeline.TestResult) int {
	switch {
	case r.Outcome == pipeline.TestFailed:
		return 0
	case r.Flaky:
		return 1
	case r.Outcome == pipeline.TestSkipped:
		return 2
	}
	return 3
}

// Reports implements pipeline.Tests.
func (s *Store) Reports(ctx context.Context, run pipeline.RunID) ([]pipeline.TestReport, error) {
	rows, err := s.db.Query(ctx, `select job_id, job, attempt, detail from test_report r where run_id = ?
		and not exists (select 1 from test_report l where l.run_id = r.run_id and l.job_id = r.job_id and l.attempt > r.attempt) order by job_id`, run)
	return db.Collect(rows, err, func(r *sql.Rows) (t pipeline.TestReport, err error) {
		var text string
		if err := r.Scan(&t.JobID, &t.Job, &t.Attempt, &text); err != nil {
			return t, err
		}
		var d detail
		err = json.Unmarshal([]byte(text), &d)
		t.Count, t.Sources, t.Problems = d.Count, d.Sources, d.Problems
		return t, err
	})
}

const columns = `c.key, c.suite, c.package, c.name, t.outcome, t.flaky, t.duration, t.message, t.detail, t.file, t.line, t.log_line,
	t.run_id, t.job_id, r.job, t.attempt, r.revision, r.trust, t.at`

func scan(rows *sql.Rows) (t pipeline.TestResult, err error) {
	var flaky int
	var took, at int64
	err = rows.Scan(&t.Key, &t.Suite, &t.Package, &t.Name, &t.Outcome, &flaky, &took, &t.Message, &t.Detail, &t.File, &t.Line, &t.LogLine,
		&t.RunID, &t.JobID, &t.Job, &t.Attempt, &t.Revision, &t.Trust, &at)
	t.Flaky, t.Duration, t.At = flaky != 0, time.Duration(took)*time.Microsecond, db.Time(at)
	return t, err
}

// Results implements pipeline.Tests.
func (s *Store) Results(ctx context.Context, run pipeline.RunID, f pipeline.TestFilter) ([]pipeline.TestResult, error) {
	query := `select ` + columns + ` from test_result t join test_case c on c.key = t.key
		join test_report r on r.run_id = t.run_id and r.job_id = t.job_id and r.attempt = t.attempt
		where t.run_id = ? and not exists (select 1 from test_report l where l.run_id = t.run_id and l.job_id = t.job_id and l.attempt > t.attempt)`
	args := []any{run}
	if f.Outcome != "" {
		query, args = query+" and t.outcome = ?", append(args, f.Outcome)
	}
	if f.Job != "" {
		query, args = query+" and (r.job = ? or r.job_id = ?)", append(args, f.Job, f.Job)
	}
	if f.Text != "" {
		like := "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(f.Text)) + "%"
		query += ` and lower(c.suite || ' ' || c.package || ' ' || c.name) like ? escape '\'`
		args = append(args, like)
	}
	query += " order by t.rank, t.duration desc, c.package, c.name, c.key limit ? offset ?"
	rows, err := s.db.Query(ctx, query, append(args, f.Limit, f.Offset)...)
	return db.Collect(rows, err, scan)
}

// History implements pipeline.Tests.
func (s *Store) History(ctx context.Context, key string, limit int) (t pipeline.Test, _ []pipeline.TestResult, err error) {
	t.Key = key
	err = s.db.QueryRow(ctx, "select suite, package, name from test_case where key = ?", key).Scan(&t.Suite, &t.Package, &t.Name)
	if errors.Is(err, sql.ErrNoRows) {
		return t, nil, fault.New(fault.NotFound, "There is no test %s. `weir tests RUN --json` shows the keys of a run's tests.", key)
	}
	if err != nil {
		return t, nil, fmt.Errorf("find test %s: %w", key, err)
	}
	rows, err := s.db.Query(ctx, `select `+columns+` from test_result t join test_case c on c.key = t.key
		join test_report r on r.run_id = t.run_id and r.job_id = t.job_id and r.attempt = t.attempt
		where t.key = ? order by t.at desc, t.run_id desc, t.attempt desc limit ?`, key, limit)
	results, err := db.Collect(rows, err, scan)
	return t, results, err
}

// Histories implements pipeline.Tests.
func (s *Store) Histories(ctx context.Context, keys []string, limit int) (map[string][]pipeline.TestResult, error) {
	out := map[string][]pipeline.TestResult{}
	for _, key := range keys {
		rows, err := s.db.Query(ctx, "select outcome, flaky, run_id, attempt, duration, at from test_result where key = ? order by at desc, run_id desc, attempt desc limit ?", key, limit)
		all, err := db.Collect(rows, err, func(r *sql.Rows) (t pipeline.TestResult, err error) {
			var flaky int
			var took, at int64
			err = r.Scan(&t.Outcome, &flaky, &t.RunID, &t.Attempt, &took, &at)
			t.Flaky, t.Duration, t.At = flaky != 0, time.Duration(took)*time.Microsecond, db.Time(at)
			return t, err
		})
		if err != nil {
			return nil, err
		}
		out[key] = all
	}
	return out, nil
}
