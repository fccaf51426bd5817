package pipelinedb

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"weir/internal/base/db"
	"weir/internal/pipeline"
)

const runColumns = `org, id, repository_id, repository, workflow, name, title, event, ref, base, revision, trust, change_id, change_number, patchset,
	actor, state, attempt, reason, diagnostics, plan, github, cancel, created, started, finished, version`

type encoded struct{ diagnostics, plan, github string }

func encode(r pipeline.Run) (e encoded, err error) {
	for _, x := range []struct {
		to *string
		v  any
	}{{&e.diagnostics, r.Diagnostics}, {&e.plan, r.Plan}, {&e.github, r.GitHub}} {
		b, err := json.Marshal(x.v)
		if err != nil {
			return e, err
		}
		*x.to = string(b)
	}
	return e, nil
}

func scanRun(row interface{ Scan(...any) error }) (pipeline.Run, error) {
	var (
		r                          pipeline.Run
		e                          encoded
		cancel                     string
		created, started, finished int64
	)
	err := row.Scan(&r.Org, &r.ID, &r.RepositoryID, &r.Repository, &r.Workflow, &r.Name, &r.Title, &r.Event, &r.Ref, &r.Base, &r.Revision, &r.Trust,
		&r.ChangeID, &r.ChangeNumber, &r.Patchset, &r.Actor, &r.State, &r.Attempt, &r.Reason, &e.diagnostics, &e.plan, &e.github, &cancel,
		&created, &started, &finished, &r.Version)
	if err != nil {
		return r, err
	}
	r.Created, r.Started, r.Finished = db.Time(created), db.Time(started), db.Time(finished)
	for _, x := range []struct {
		text string
		v    any
	}{{e.diagnostics, &r.Diagnostics}, {e.plan, &r.Plan}, {e.github, &r.GitHub}, {cancel, &r.Cancel}} {
		if x.text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(x.text), x.v); err != nil {
			return r, fmt.Errorf("decode run %s: %w", r.ID, err)
		}
	}
	return r, nil
}

func insertJob(ctx context.Context, tx *db.Tx, r *pipeline.Run, i int) error {
	j := &r.Jobs[i]
	return tx.Later(ctx, `insert into pipeline_job (org, id, run_id, position, key, state, reason, outputs, since, rev) values (?, ?, ?, ?, ?, ?, ?, '', ?, ?)`,
		r.Org, j.ID, r.ID, i, j.Key, j.State, j.Reason, db.Micros(j.Since), j.Rev)
}

func saveJob(ctx context.Context, tx *db.Tx, prev, next *pipeline.Run, i int) error {
	j, old := &next.Jobs[i], &pipeline.Job{}
	if i < len(prev.Jobs) {
		old = &prev.Jobs[i]
	}
	outputs := ""
	if len(j.Outputs) > 0 {
		b, err := json.Marshal(j.Outputs)
		if err != nil {
			return err
		}
		outputs = string(b)
	}
	if err := tx.Later(ctx, "update pipeline_job set state = ?, reason = ?, outputs = ?, since = ?, rev = ? where id = ?",
		j.State, j.Reason, outputs, db.Micros(j.Since), j.Rev, j.ID); err != nil {
		return err
	}
	for k := range j.Attempts {
		a := &j.Attempts[k]
		if k < len(old.Attempts) && old.Attempts[k].State == a.State {
			continue
		}
		if err := saveAttempt(ctx, tx, next, j.ID, a); err != nil {
			return err
		}
	}
	return nil
}

type detail struct {
	Steps       []pipeline.Step       `json:"steps,omitempty"`
	Annotations []pipeline.Annotation `json:"annotations,omitempty"`
	Summary     string                `json:"summary,omitempty"`
	Unenforced  []string              `json:"unenforced,omitempty"`
	Images      []pipeline.Image      `json:"images,omitempty"`
	Caches      []pipeline.CacheUse   `json:"caches,omitempty"`
}

func saveAttempt(ctx context.Context, tx *db.Tx, r *pipeline.Run, job pipeline.JobID, a *pipeline.Attempt) error {
	d, err := json.Marshal(detail{a.Steps, a.Annotations, a.Summary, a.Unenforced, a.Images, a.Caches})
	if err != nil {
		return err
	}
	return tx.Later(ctx, `insert into pipeline_attempt (org, job_id, run_id, number, state, reason, epoch, runner, confined, network, detail, started, finished)
		values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		on conflict (job_id, number) do update set state = excluded.state, reason = excluded.reason, confined = excluded.confined, network = excluded.network,
		detail = excluded.detail, finished = excluded.finished`,
		r.Org, job, r.ID, a.Number, a.State, a.Reason, a.Epoch, a.Runner, db.Bool(a.Confined), a.Network, string(d), db.Micros(a.Started), db.Micros(a.Finished))
}

func loadJobs(ctx context.Context, q db.Querier, r *pipeline.Run) error {
	rows, err := q.Query(ctx, "select id, key, state, reason, outputs, since, rev from pipeline_job where run_id = ? order by position", r.ID)
	r.Jobs, err = db.Collect(rows, err, func(rows *sql.Rows) (j pipeline.Job, err error) {
		var outputs string
		var since int64
		if err := rows.Scan(&j.ID, &j.Key, &j.State, &j.Reason, &outputs, &since, &j.Rev); err != nil {
			return j, err
		}
		j.Since = db.Time(since)
		if outputs != "" {
			err = json.Unmarshal([]byte(outputs), &j.Outputs)
		}
		return j, err
	})
	if err != nil {
		return err
	}
	index := make(map[pipeline.JobID]int, len(r.Jobs))
	for i := range r.Jobs {
		index[r.Jobs[i].ID] = i
	}
	rows, err = q.Query(ctx, `select job_id, number, state, reason, epoch, runner, confined, network, detail, started, finished from pipeline_attempt
		where run_id = ? order by job_id, number`, r.ID)
	_, err = db.Collect(rows, err, func(rows *sql.Rows) (struct{}, error) {
		var (
			job               pipeline.JobID
			a                 pipeline.Attempt
			confined          int
			text              string
			d                 detail
			started, finished int64
		)
		if err := rows.Scan(&job, &a.Number, &a.State, &a.Reason, &a.Epoch, &a.Runner, &confined, &a.Network, &text, &started, &finished); err != nil {
			return struct{}{}, err
		}
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			return struct{}{}, err
		}
		a.Confined, a.Steps, a.Annotations, a.Summary = confined != 0, d.Steps, d.Annotations, d.Summary
		a.Unenforced, a.Images, a.Caches = d.Unenforced, d.Images, d.Caches
		a.Started, a.Finished = db.Time(started), db.Time(finished)
		if i, ok := index[job]; ok {
			r.Jobs[i].Attempts = append(r.Jobs[i].Attempts, a)
		}
		return struct{}{}, nil
	})
	return err
}
