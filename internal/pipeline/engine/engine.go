// Package engine drives runs to an end, across restarts.
//
// One replica holds the lease "pipeline/engine" and does three things while it does: it turns the facts of source into runs, it
// moves runs (driver.go), and it reports their outcomes as checks. Every write of a run's state is fenced by the lease's epoch.
// The driver wakes on events - a new run, a finished job, a user's command - and polls only to catch a lost wake-up.
//
// What is stored comes first, what is done comes second. After a crash the next holder finds attempts of an older epoch, marks
// them lost and starts the next attempt in a fresh workspace.
package engine

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
	"weir/internal/base/oci"
	"weir/internal/base/part"
	"weir/internal/pipeline"
	"weir/internal/pipeline/logs"
	"weir/internal/pipeline/pipelinedb"
	"weir/internal/pipeline/runner"
)

// Config of the engine. Zero values are good.
type Config struct {
	Org    string        // default "default"
	Holder string        // name of this replica
	Slots  int           // jobs at a time, default max(2, CPUs)
	Poll   time.Duration // how long a lost wake-up may delay a run, default 15 s
	// Room refuses new work while there is no room for it: a fault with a sentence, or nil. See Disk.
	Room func() error
	// Select says which of the jobs that a group makes are wanted; nil is all.
	Select func(*pipeline.JobPlan) bool
}

// Parts are what the engine works with. Refs, Schedules, Mirrors, Settings, Checks, Builds and Outputs may be nil: nobody mirrors, gives, reports, builds or takes.
type Parts struct {
	DB         *db.DB
	Journal    *journal.Journal
	Store      pipeline.Store
	Keeper     Keeper
	Repository pipeline.Repository
	Refs       pipeline.Refs
	Schedules  *pipelinedb.Schedules
	Mirrors    pipeline.Mirrors
	Networks   pipeline.Networks // nil leaves it to the runners
	// Images are what an attempt's containers may be made of; nil is none.
	Images   func(job pipeline.JobID, attempt int) oci.Source
	Settings pipeline.Settings
	// Environments says who must agree before a job enters one; nil asks nobody.
	Environments pipeline.Environments
	Checks       pipeline.Checks
	Builds       pipeline.Builds
	Outputs      pipeline.Outputs
	Runner       runner.Runner
	Fleet        runner.Fleet // nil: Runner alone, with Config.Slots
	Logs         *logs.Dir
	// Registry gives an attempt its access to images; nil gives none.
	Registry func(run pipeline.RunID, job pipeline.JobID, attempt int) runner.Registry
	// Token makes the token that an attempt's code holds; nil gives none.
	Token func(run *pipeline.Run, job pipeline.JobID, attempt int, permissions map[string]string) string
	// URL is where people and jobs find this server; "" is nowhere.
	URL string
}

// Engine is a part.Service.
type Engine struct {
	Parts
	cfg  Config
	told map[pipeline.RunID]*told // used by the follower of checks alone
}

// New returns an engine.
func New(cfg Config, p Parts) *Engine {
	if cfg.Org == "" {
		cfg.Org = "default"
	}
	if cfg.Holder == "" {
		cfg.Holder = "local"
	}
	if cfg.Slots <= 0 {
		cfg.Slots = max(2, runtime.NumCPU())
	}
	if cfg.Poll <= 0 {
		cfg.Poll = 15 * time.Second
	}
	if cfg.Room == nil {
		cfg.Room = func() error { return nil }
	}
	if p.Fleet == nil {
		p.Fleet = runner.NewLocal(p.Runner, cfg.Slots)
	}
	return &Engine{Parts: p, cfg: cfg}
}

// Name implements part.Service.
func (e *Engine) Name() string { return "pipeline engine" }

// Slots is how many jobs run at a time.
func (e *Engine) Slots() int { return e.cfg.Slots }

// Run implements part.Service.
func (e *Engine) Run(ctx context.Context) error {
	return lease.Hold(ctx, e.DB, "pipeline/engine", e.cfg.Holder, func(ctx context.Context, l lease.Lease) error {
		e.told = nil // another replica may have followed on meanwhile
		slog.InfoContext(ctx, "pipeline engine leads", "epoch", l.Epoch, "slots", e.cfg.Slots)
		services := []part.Service{
			part.Func("pipeline driver", func(ctx context.Context) error { return newDriver(e, l).run(ctx) }),
			part.Func("pipeline follower", func(ctx context.Context) error { return e.Journal.Follow(ctx, "pipeline/runs", e.handle) }),
		}
		if e.Schedules != nil && e.Refs != nil {
			services = append(services, part.Func("pipeline schedules", func(ctx context.Context) error { return e.keepSchedules(ctx) }))
		}
		if e.Checks != nil {
			services = append(services, part.Func("pipeline checks", func(ctx context.Context) error {
				return e.Journal.Follow(ctx, "pipeline/checks", e.report)
			}))
		}
		if err := part.Run(ctx, services...); err != nil {
			return fmt.Errorf("lead pipeline: %w", err)
		}
		return ctx.Err()
	})
}
