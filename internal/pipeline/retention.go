package pipeline

import (
	"context"
	"time"

	"weir/internal/base/fault"
)

// Retention says how long what runs leave is kept. The longer wins: age or being among the newest.
type Retention struct {
	Logs      time.Duration // after the end of the run
	Artifacts time.Duration
	Releases  time.Duration // of runs that built a release: both, at least so long
	Newest    int           // of each workflow: kept whatever their age
}

// DefaultRetention keeps what is looked at, and what an auditor asks for.
var DefaultRetention = Retention{Logs: 90 * 24 * time.Hour, Artifacts: 90 * 24 * time.Hour, Releases: 400 * 24 * time.Hour, Newest: 10}

// Garbage is what retention no longer keeps.
type Garbage struct {
	DryRun        bool      `json:"dry_run" doc:"Whether it is still there: nothing was removed."`
	Before        time.Time `json:"logs_before"`
	LogRuns       int       `json:"log_runs" doc:"Runs whose logs go."`
	Logs          int       `json:"logs"`
	LogBytes      int64     `json:"log_bytes"`
	ArtifactRuns  int       `json:"artifact_runs" doc:"Runs whose artifacts go."`
	Artifacts     int       `json:"artifacts"`
	ArtifactBytes int64     `json:"artifact_bytes"`
	Orphans       int       `json:"orphans" doc:"Stored bytes that nothing refers to, as a crash leaves them."`
	OrphanBytes   int64     `json:"orphan_bytes"`
	Oldest        RunID     `json:"oldest,omitempty"`
	Newest        RunID     `json:"newest,omitempty"`
}

// Nothing reports whether there is none.
func (g Garbage) Nothing() bool { return g.Logs == 0 && g.Artifacts == 0 && g.Orphans == 0 }

// Collector removes what retention no longer keeps, or with dry says what it would remove. Each removal is in the ledger.
type Collector interface {
	Collect(ctx context.Context, by string, dry bool) (Garbage, error)
}

// Collect removes logs and artifacts that are past their time, or with dry says what would go.
func (s *Service) Collect(ctx context.Context, by string, dry bool) (Garbage, error) {
	action := "garbage:collect"
	if dry {
		action = "run:read"
	}
	if err := s.may(ctx, action); err != nil {
		return Garbage{}, err
	}
	if s.Garbage == nil {
		return Garbage{}, fault.New(fault.Unavailable, "This server removes nothing: it has no retention.")
	}
	return s.Garbage.Collect(ctx, by, dry)
}
