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
	c := &cobra.Command{Use: "gc", Short: "Say which logs, artifacts of runs and images are past their time, or remove them", Args: cobra.NoArgs,
		Long: `Say what is past its time: logs and artifacts of runs, as keep in the configuration
file says, bytes that a server which died has stored for nothing, and images in the registry, as registry.keep and the services' own
artifact.keep say (weir registry gc tells each of them and why). Nothing is removed
without --remove.
The server removes the same by itself every six hours; each removal is an entry in the
ledger.`,
		Example: "  weir gc\n  weir gc --remove",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct {
				client.Garbage
				Registry client.RegistryGarbage `json:"registry"`
			}
			var err error
			if remove {
				err = g.client().Post(cmd.Context(), "/garbage/remove", nil, &out.Garbage)
			} else {
				err = g.client().Get(cmd.Context(), "/garbage", &out.Garbage)
			}
			if err != nil {
				return err
			}
			if out.Registry, err = g.registryGarbage(cmd, "", remove); err != nil {
				return err
			}
			return g.print(cmd, out, func(w io.Writer) {
				printGarbage(w, out.Garbage)
				printRegistryGarbage(w, out.Registry, false)
				if out.DryRun && (!out.Nothing() || len(out.Registry.Gone)+out.Registry.Blobs > 0) {
					fmt.Fprintln(w, "Nothing was removed. Do it with: weir gc --remove")
				}
			})
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
	if g.Orphans > 0 {
		fmt.Fprintf(w, "%s %d stored blobs that nothing refers to (%.1f MB), left behind by a server that died.\n", verb, g.Orphans, float64(g.OrphanBytes)/1e6)
	}
	if g.Logs == 0 && g.Artifacts == 0 {
		return
	}
	fmt.Fprintf(w, "%s %d logs of %d runs (%.1f MB) and %d artifacts of %d runs (%.1f MB), from %s to %s.\n", verb, g.Logs, g.LogRuns, float64(g.LogBytes)/1e6,
		g.Artifacts, g.ArtifactRuns, float64(g.ArtifactBytes)/1e6, g.Oldest, g.Newest)
}
