package pipelinedb

import (
	"context"
	"database/sql"
	"fmt"

	"weir/internal/base/db"
	"weir/internal/pipeline"
)

// ScheduleTopic is woken when schedules change.
const ScheduleTopic = "pipeline/schedules"

// Schedules keeps when the workflows of trunks start by themselves.
type Schedules struct{ DB *db.DB }

// Replace stores the schedules of a repository's trunk.
func (s *Schedules) Replace(ctx context.Context, org, repositoryID string, all []pipeline.Schedule) error {
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, "delete from pipeline_schedule where org = ? and repository_id = ?", org, repositoryID); err != nil {
			return err
		}
		for _, x := range all {
			if _, err := tx.Exec(ctx, `insert into pipeline_schedule (org, repository_id, repository, workflow, cron, zone) values (?, ?, ?, ?, ?, ?) on conflict do nothing`,
				org, repositoryID, x.Repository, x.Workflow, x.Cron, x.Zone); err != nil {
				return err
			}
		}
		tx.Wake(ScheduleTopic)
		return nil
	})
	if err != nil {
		return fmt.Errorf("schedules of repository %s: %w", repositoryID, err)
	}
	return nil
}

// All returns every schedule.
func (s *Schedules) All(ctx context.Context) ([]pipeline.Schedule, error) {
	rows, err := s.DB.Query(ctx, "select org, repository_id, repository, workflow, cron, zone from pipeline_schedule order by repository_id, workflow, cron, zone")
	return db.Collect(rows, err, func(r *sql.Rows) (x pipeline.Schedule, err error) {
		return x, r.Scan(&x.Org, &x.RepositoryID, &x.Repository, &x.Workflow, &x.Cron, &x.Zone)
	})
}
