package app

import (
	"context"
	"log/slog"

	"weir/internal/base/confine"
	"weir/internal/catalog"
)

// limits are what each job of this machine is held to. The configuration was checked when it was read.
func (c RunnerConf) limits() confine.Limits {
	cpu, _ := catalog.Resources{CPU: c.CPU}.Processors()
	return confine.Limits{Memory: uint64(c.Memory), CPU: cpu, Processes: uint64(c.Processes)}
}

// tellSupport says at start what this machine cannot give to sandboxes.
func tellSupport(ctx context.Context) {
	s := confine.Probe()
	slog.InfoContext(ctx, "sandboxes", "landlock", s.Landlock, "limits", s.Limits)
	if _, err := confine.Runtime(); err != nil {
		slog.InfoContext(ctx, "no runc here; jobs with containers fail on this machine, and say so")
	} else {
		slog.InfoContext(ctx, "containers", "runc", confine.RuntimeVersion())
	}
	for _, m := range s.Missing {
		slog.WarnContext(ctx, "this machine gives sandboxes less than Weir can use", "missing", m)
	}
}
