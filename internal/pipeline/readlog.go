package pipeline

import (
	"context"

	"weir/internal/base/fault"
)

// attemptOf finds the attempt whose log is asked for; 0 is the latest.
func (s *Service) attemptOf(ctx context.Context, id RunID, job string, attempt int) (LogRef, LogReader, error) {
	r, err := s.get(ctx, id)
	if err != nil {
		return LogRef{}, nil, err
	}
	j, err := find(&r, job)
	if err != nil {
		return LogRef{}, nil, err
	}
	reader, ok := s.Logs.(LogReader)
	if !ok {
		return LogRef{}, nil, fault.New(fault.Unavailable, "This server cannot read logs by line.")
	}
	if attempt == 0 {
		attempt = len(j.Attempts)
	}
	if len(j.Attempts) == 0 {
		return LogRef{}, nil, fault.New(fault.NotFound, "Job %s of run %s has not run: %s.", j.Key, id, orElse(j.Reason, "it is "+string(j.State)))
	}
	if attempt < 0 || attempt > len(j.Attempts) {
		return LogRef{}, nil, fault.New(fault.NotFound, "Job %s of run %s has %d attempts, not %d.", j.Key, id, len(j.Attempts), attempt)
	}
	return LogRef{Run: id, Job: j.ID, Attempt: attempt}, reader, nil
}

// LogLines returns up to limit lines of an attempt's log from a number on.
func (s *Service) LogLines(ctx context.Context, id RunID, job string, attempt int, from int64, limit int) ([]LogLine, error) {
	ref, logs, err := s.attemptOf(ctx, id, job, attempt)
	if err != nil {
		return nil, err
	}
	return logs.Lines(ctx, ref, from, limit)
}

// LogOutline says what is where in an attempt's log.
func (s *Service) LogOutline(ctx context.Context, id RunID, job string, attempt int) (LogOutline, error) {
	ref, logs, err := s.attemptOf(ctx, id, job, attempt)
	if err != nil {
		return LogOutline{}, err
	}
	return logs.Outline(ctx, ref)
}

// SearchLog looks for lines of an attempt's log.
func (s *Service) SearchLog(ctx context.Context, id RunID, job string, attempt int, q LogQuery) (LogMatches, error) {
	ref, logs, err := s.attemptOf(ctx, id, job, attempt)
	if err != nil {
		return LogMatches{}, err
	}
	return logs.Search(ctx, ref, q)
}
