package engine

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/pipelinedb"
	"weir/internal/pipeline/plan"
	"weir/internal/pipeline/spec"
)

// maxSchedules bounds the schedules of one repository.
const maxSchedules = 100

// reschedule stores what the workflows of a trunk's new revision say about when they start by themselves.
func (e *Engine) reschedule(ctx context.Context, base pipeline.Run) error {
	if e.Schedules == nil {
		return nil
	}
	files, err := e.workflows(ctx, base.RepositoryID, base.Revision)
	if err != nil {
		return err
	}
	var all []pipeline.Schedule
	for _, file := range files {
		content, err := e.Repository.ReadFile(ctx, base.RepositoryID, base.Revision, file)
		if err != nil {
			return fmt.Errorf("read %s at %s: %w", file, base.Revision, err)
		}
		w, _ := spec.Parse(file, content)
		if w == nil {
			continue
		}
		for _, s := range w.Schedules {
			if len(all) < maxSchedules {
				all = append(all, pipeline.Schedule{Org: base.Org, RepositoryID: base.RepositoryID, Repository: base.Repository, Workflow: file, Cron: s.Cron, Zone: s.Zone})
			}
		}
	}
	return e.Schedules.Replace(ctx, base.Org, base.RepositoryID, all)
}

// keepSchedules starts runs when their time comes. Times that pass while nobody leads are not made up for.
func (e *Engine) keepSchedules(ctx context.Context) error {
	wake, cancel := e.DB.Subscribe(pipelinedb.ScheduleTopic)
	defer cancel()
	from := time.Now()
	for {
		all, err := e.Schedules.All(ctx)
		if err != nil {
			return fmt.Errorf("read schedules: %w", err)
		}
		now := time.Now()
		due, next := Due(all, from, now)
		for _, d := range due {
			if err := e.scheduled(ctx, d); err != nil && ctx.Err() == nil {
				slog.ErrorContext(ctx, "scheduled run not started", "repository", d.Repository, "workflow", d.Workflow, "cron", d.Cron, "error", err)
			}
		}
		from = now
		pause := time.Hour // a lost wake-up
		if !next.IsZero() {
			pause = min(pause, max(time.Until(next), 0))
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// DueSchedule is a schedule and the minute that has come.
type DueSchedule struct {
	pipeline.Schedule
	At time.Time
}

// Due returns the schedules whose time came after from and up to now, the newest time of each, and when the next one comes. A
// time more than a minute ago was slept through and is not made up for.
func Due(all []pipeline.Schedule, from, now time.Time) (due []DueSchedule, next time.Time) {
	if now.Sub(from) > time.Minute {
		from = now.Add(-time.Minute)
	}
	for _, s := range all {
		c, err := spec.Cron.Parse(s.Cron)
		if err != nil {
			continue
		}
		zone, err := time.LoadLocation(s.Zone)
		if err != nil {
			continue
		}
		at := c.Next(from.In(zone))
		if at.IsZero() {
			continue // such as 30 February
		}
		if !at.After(now) {
			due = append(due, DueSchedule{s, at})
			at = c.Next(now.In(zone))
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return due, next
}

// scheduled starts one run on the trunk. The minute is part of what makes it unique: a second leader makes no second run.
func (e *Engine) scheduled(ctx context.Context, d DueSchedule) error {
	ref, head, err := e.Refs.Trunk(ctx, d.RepositoryID)
	if err != nil {
		return err
	}
	if head == "" {
		return nil
	}
	base := pipeline.Run{Org: d.Org, RepositoryID: d.RepositoryID, Repository: d.Repository, Event: "schedule", Ref: ref, Revision: head,
		Base: "schedule:" + d.Cron + "@" + d.At.UTC().Format(time.RFC3339), Trust: pipeline.Landed, Actor: "system:schedule"}
	base.GitHub = e.github(base, map[string]any{"event": map[string]any{"schedule": d.Cron}})
	content, err := e.Repository.ReadFile(ctx, d.RepositoryID, head, d.Workflow)
	if fault.Is(err, fault.NotFound) {
		return nil // the trunk has moved on
	}
	if err != nil {
		return err
	}
	r, ok := e.one(ctx, base, head, d.Workflow, content, plan.Event{Name: "schedule", Branch: branch(ref)})
	if !ok {
		return nil
	}
	return e.create(ctx, []pipeline.Run{r})
}
