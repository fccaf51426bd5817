package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"weir/internal/edge/api/client"
)

func gcCommand(g *globals) *cobra.Command {
	var remove bool
	c := &cobra.Command{Use: "gc", Short: "Say which logs and artifacts are past their time, or remove them", Args: cobra.NoArgs,
		Long:    "Say which logs and artifacts of runs are past their time, as `keep` in the configuration file says. Nothing is removed without --remove.\nThe server removes the same by itself every six hours; each removal is an entry in the ledger.",
		Example: "  weir gc\n  weir gc --remove",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out client.Garbage
			var err error
			if remove {
				err = g.client().Post(cmd.Context(), "/garbage/remove", nil, &out)
			} else {
				err = g.client().Get(cmd.Context(), "/garbage", &out)
			}
			if err != nil {
				return err
			}
			return g.print(cmd, out, func(w io.Writer) { printGarbage(w, out) })
		}}
	c.Flags().BoolVar(&remove, "remove", false, "remove them")
	return c
}

func printGarbage(w io.Writer, g client.Garbage) {
	if g.Nothing() {
		fmt.Fprintf(w, "Nothing is past its time: logs are kept for runs that ended after %s, and for the newest of each workflow.\n", g.Before.Format(time.DateOnly))
		return
	}
	verb := "Removed"
	if g.DryRun {
		verb = "Would remove"
	}
	fmt.Fprintf(w, "%s %d logs of %d runs (%.1f MB) and %d artifacts of %d runs (%.1f MB), from %s to %s.\n", verb, g.Logs, g.LogRuns, float64(g.LogBytes)/1e6,
		g.Artifacts, g.ArtifactRuns, float64(g.ArtifactBytes)/1e6, g.Oldest, g.Newest)
	if g.DryRun {
		fmt.Fprintln(w, "Nothing was removed. Do it with: weir gc --remove")
	}
}
