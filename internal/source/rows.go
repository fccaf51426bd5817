package source

import (
	"context"
	"database/sql"
	"errors"

	"weir/internal/base/db"
	"weir/internal/base/fault"
)

const changeColumns = "org, id, repository_id, number, title, target, branch, state, author, patchset, revision, base, at, ended"

func scanChange(r interface{ Scan(...any) error }) (c Change, err error) {
	var at, ended int64
	err = r.Scan(&c.Org, &c.ID, &c.RepositoryID, &c.Number, &c.Title, &c.Target, &c.Branch, &c.State, &c.Author, &c.Patchset, &c.Revision, &c.Base, &at, &ended)
	c.Created, c.Ended = db.Time(at), db.Time(ended)
	return c, err
}

func loadChange(ctx context.Context, q db.Querier, id string) (Change, error) {
	c, err := scanChange(q.QueryRow(ctx, "select "+changeColumns+" from change where id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		return c, fault.New(fault.NotFound, "There is no change %s.", id)
	}
	return c, err
}

func loadRefs(ctx context.Context, q db.Querier, repositoryID string) (map[string]string, error) {
	rows, err := q.Query(ctx, "select name, revision from git_ref where repository_id = ?", repositoryID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	refs := map[string]string{}
	for rows.Next() {
		var name, revision string
		if err := rows.Scan(&name, &revision); err != nil {
			return nil, err
		}
		refs[name] = revision
	}
	return refs, rows.Err()
}

func loadPatchsets(ctx context.Context, q db.Querier, changeID string) ([]Patchset, error) {
	rows, err := q.Query(ctx, "select n, revision, base, pusher, at from patchset where change_id = ? order by n", changeID)
	return db.Collect(rows, err, func(r *sql.Rows) (p Patchset, err error) {
		var at int64
		err = r.Scan(&p.N, &p.Revision, &p.Base, &p.Pusher, &at)
		p.Time = db.Time(at)
		return p, err
	})
}

func loadReviews(ctx context.Context, q db.Querier, changeID string) ([]Review, error) {
	rows, err := q.Query(ctx, "select id, revision, by_name, verdict, comment, at from review where change_id = ? order by at, id", changeID)
	return db.Collect(rows, err, func(r *sql.Rows) (v Review, err error) {
		var at int64
		err = r.Scan(&v.ID, &v.Revision, &v.By, &v.Verdict, &v.Comment, &at)
		v.Time = db.Time(at)
		return v, err
	})
}

// anyBase asks for the results under whatever rules they came.
const anyBase = "*"

// loadChecks returns the newest result of each check of a revision: of those
// that ran under the workflows of base, or since the revision landed.
func loadChecks(ctx context.Context, q db.Querier, repositoryID, revision, base string) ([]Check, error) {
	rows, err := q.Query(ctx, `select repository_id, revision, name, base, state, run_id, job_id, summary, at from check_result
		where repository_id = ? and revision = ? and (? = '*' or base = '' or base = ?) order by name, at`, repositoryID, revision, base, base)
	all, err := db.Collect(rows, err, func(r *sql.Rows) (c Check, err error) {
		var at int64
		err = r.Scan(&c.RepositoryID, &c.Revision, &c.Name, &c.Base, &c.State, &c.RunID, &c.JobID, &c.Summary, &at)
		c.Time = db.Time(at)
		return c, err
	})
	var newest []Check
	for i, c := range all {
		if i+1 == len(all) || all[i+1].Name != c.Name {
			newest = append(newest, c)
		}
	}
	return newest, err
}

func scanChanges(r *sql.Rows) (Change, error) { return scanChange(r) }

func scanLanding(r *sql.Rows) (l Landing, err error) {
	var at int64
	err = r.Scan(&l.ChangeID, &l.Actor, &at)
	l.Time = db.Time(at)
	return l, err
}

func scanRefUpdate(r *sql.Rows) (u RefUpdate, err error) {
	var (
		landed int
		at     int64
	)
	err = r.Scan(&u.Name, &u.Old, &u.New, &u.Actor, &landed, &u.ChangeID, &at)
	u.Landed, u.Time = landed != 0, db.Time(at)
	return u, err
}

func scanString(r *sql.Rows) (s string, err error) { return s, r.Scan(&s) }
