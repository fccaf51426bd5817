package pipelinedb

import (
	"context"
	"database/sql"
	"errors"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
)

// Standing is whose code an attempt runs.
type Standing struct {
	RepositoryID string
	Repository   string
	Revision     string
	Trust        pipeline.Trust
	Key          string // of the job
}

// Standing returns that of an attempt that has not ended, else a Denied fault.
func (s *Store) Standing(ctx context.Context, job pipeline.JobID, attempt int) (st Standing, err error) {
	err = s.db.QueryRow(ctx, `select r.repository_id, r.repository, r.revision, r.trust, j.key from pipeline_attempt a
		join pipeline_job j on j.id = a.job_id join pipeline_run r on r.id = a.run_id where a.job_id = ? and a.number = ? and a.finished = 0`, string(job), attempt).
		Scan(&st.RepositoryID, &st.Repository, &st.Revision, &st.Trust, &st.Key)
	if errors.Is(err, sql.ErrNoRows) {
		return st, fault.New(fault.Denied, "The job that this token was made for has ended.")
	}
	return st, err
}
