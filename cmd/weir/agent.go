package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/internal/app"
	"weir/internal/edge/api/client"
)

func agentCommand(g *globals) *cobra.Command {
	var o app.AgentOptions
	var level, format string
	c := &cobra.Command{
		Use:   "agent",
		Short: "Run jobs on this machine for a server elsewhere",
		Long: `Run jobs on this machine for a server elsewhere. The agent opens one connection to the server and
listens on no port. A job runs here if this agent has every label that the job's runs-on
names: self-hosted, linux and the processor's are there by themselves.

SIGTERM drains: no new jobs are taken, those under way are finished. A second signal ends
them; they run again elsewhere. The server may restart meanwhile: jobs go on.`,
		Example: `  weir agent token builder-1                                   on the server: make the token
  weir agent --server https://weir.example.com --token weir_... --labels gpu,big --slots 2
  weir agent list`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Server = first(g.server, os.Getenv("WEIR_SERVER"), "http://127.0.0.1:7400")
			o.Token = first(g.token, os.Getenv("WEIR_TOKEN")) // never the one of a person who has logged in here
			app.SetupLog(app.LogConf{Level: level, Format: format}, os.Stderr)
			return app.RunAgent(cmd.Context(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "./weir-agent", "folder for workspaces and caches")
	f.StringSliceVar(&o.Labels, "labels", nil, "labels beside self-hosted, linux and the processor's")
	f.IntVar(&o.Slots, "slots", 2, "jobs at a time")
	f.StringVar(&o.Network, "network", "egress", "what jobs may reach: egress or none")
	f.BoolVar(&o.Unconfined, "unconfined", false, "run jobs without confinement; recorded in every provenance")
	f.Uint64Var(&o.Memory, "memory", 0, "bytes of memory of a job (default unlimited)")
	f.Float64Var(&o.CPU, "cpu", 0, "processors of a job (default all)")
	f.Uint64Var(&o.Processes, "processes", 4096, "processes and threads of a job")
	f.Uint64Var(&o.Repositories, "repositories", 8<<30, "bytes of copies of repositories that are kept for fast checkouts, if there is git; 0 keeps none")
	f.StringVar(&level, "log-level", "info", "least level that is written: debug, info, warn, error")
	f.StringVar(&format, "log-format", "text", "how lines are written: text or json")

	var life time.Duration
	token := &cobra.Command{Use: "token NAME", Short: "Make the token of an agent; it is shown once", Args: cobra.ExactArgs(1), Example: "  weir agent token builder-1\n  weir agent token builder-1 --for 720h",
		RunE: func(cmd *cobra.Command, args []string) error {
			var t client.Token
			if err := g.client().Post(cmd.Context(), "/agents", map[string]any{"name": args[0], "hours": max(1, int(life.Hours()))}, &t); err != nil {
				return err
			}
			return g.print(cmd, t, func(w io.Writer) { fmt.Fprintln(w, t.Token) })
		}}
	token.Flags().DurationVar(&life, "for", 365*24*time.Hour, "how long it lives")
	list := &cobra.Command{Use: "list", Short: "List the agents", Args: cobra.NoArgs, Example: "  weir agent list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []struct {
				Name      string    `json:"name"`
				Labels    []string  `json:"labels"`
				Slots     int       `json:"slots"`
				Version   string    `json:"version"`
				Connected bool      `json:"connected"`
				Draining  bool      `json:"draining,omitempty"`
				Running   int       `json:"running"`
				Seen      time.Time `json:"seen"`
			}
			if err := g.client().Get(cmd.Context(), "/agents", &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				var rows [][]string
				for _, a := range all {
					state := "away since " + a.Seen.Local().Format(time.DateTime)
					if a.Connected {
						state = "connected"
					}
					if a.Connected && a.Draining {
						state = "draining"
					}
					rows = append(rows, []string{a.Name, state, fmt.Sprintf("%d/%d", a.Running, a.Slots), strings.Join(a.Labels, ","), a.Version})
				}
				table(w, "NAME\tSTATE\tJOBS\tLABELS\tVERSION", rows)
			})
		}}
	remove := &cobra.Command{Use: "remove NAME", Short: "Remove an agent that is gone for good, so that no job waits for it", Args: cobra.ExactArgs(1), Example: "  weir agent remove builder-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client().Do(cmd.Context(), "DELETE", "/agents/"+client.Escape(args[0]), nil, nil)
		}}
	c.AddCommand(token, list, remove)
	return c
}
