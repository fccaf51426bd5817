package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/internal/app"
	"weir/internal/edge/api/client"
)

func releaseCommand(g *globals) *cobra.Command {
	list := &cobra.Command{Use: "list [SERVICE]", Short: "List releases and what they wait for", Args: cobra.MaximumNArgs(1), Example: "  weir release list checkout",
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{}
			if len(args) > 0 {
				q.Set("service", args[0])
			}
			var all []client.Release
			if err := g.client().Get(cmd.Context(), "/releases?"+q.Encode(), &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				for _, r := range all {
					fmt.Fprintf(w, "%s %s  %s  revision %s  %s\n", r.Service, r.Version, r.ID, short(r.Revision), ago(r.Created))
					for _, p := range r.Promotions {
						fmt.Fprintf(w, "  %-12s %s\n", p.Environment, p.State)
						for _, b := range p.Blocks {
							fmt.Fprintf(w, "    waits since %s: %s\n", ago(b.Since), b.Message)
							if len(b.Who) > 0 {
								fmt.Fprintf(w, "    who can release it: %s\n", strings.Join(b.Who, ", "))
							}
						}
					}
				}
			})
		}}
	var reason string
	say := func(verdict, short, example string) *cobra.Command {
		c := &cobra.Command{Use: verdict + " SERVICE VERSION ENVIRONMENT", Short: short, Args: cobra.ExactArgs(3), Example: example,
			RunE: func(cmd *cobra.Command, args []string) error {
				r, err := findRelease(cmd, g, args[0], args[1])
				if err != nil {
					return err
				}
				if err := g.client().Post(cmd.Context(), "/releases/"+client.Escape(r.ID)+"/approvals", map[string]string{"environment": args[2], "verdict": verdict, "reason": reason}, nil); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s %s to %s.\n", verdict, r.Service, r.Version, args[2])
				return nil
			}}
		c.Flags().StringVar(&reason, "reason", "", "why")
		return c
	}
	return parent("release", "Look at releases and approve them", submitCommand(g), notesCommand(g), list, releaseWhyCommand(g),
		say("approve", "Agree that a release goes to an environment", "  weir release approve checkout 1.1.0 production"),
		say("reject", "Refuse that a release goes to an environment", "  weir release reject checkout 1.1.0 production --reason 'not on a Friday'"))
}

// findRelease takes an id, a version, or a version without its revision.
func findRelease(cmd *cobra.Command, g *globals, service, version string) (client.Release, error) {
	var all []client.Release
	if err := g.client().Get(cmd.Context(), "/releases?"+url.Values{"service": {service}}.Encode(), &all); err != nil {
		return client.Release{}, err
	}
	for _, r := range all {
		if r.ID == version || r.Version == version || strings.HasPrefix(r.Version, version+"-") {
			return r, nil
		}
	}
	return client.Release{}, client.NotFound("%s has no release %s. `weir release list %s` shows what there is.", service, version, service)
}

func rolloutCommand(g *globals) *cobra.Command {
	list := &cobra.Command{Use: "list [SERVICE]", Short: "List rollouts, newest first", Args: cobra.MaximumNArgs(1), Example: "  weir rollout list checkout",
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{}
			if len(args) > 0 {
				q.Set("service", args[0])
			}
			var all []client.Rollout
			if err := g.client().Get(cmd.Context(), "/rollouts?"+q.Encode(), &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				var rows [][]string
				for _, r := range all {
					rows = append(rows, []string{r.ID, r.Service, r.Environment, first(r.FromVersion, "-") + " -> " + r.Version, r.Intent, r.State, ago(r.Created)})
				}
				table(w, "ROLLOUT\tSERVICE\tENVIRONMENT\tRELEASE\tINTENT\tSTATE\tSTARTED", rows)
			})
		}}
	show := &cobra.Command{Use: "show ROLLOUT", Short: "Show a rollout with every decision", Args: cobra.ExactArgs(1), Example: "  weir rollout show rollout_01...",
		RunE: func(cmd *cobra.Command, args []string) error {
			var r client.Rollout
			if err := g.client().Get(cmd.Context(), "/rollouts/"+client.Escape(args[0]), &r); err != nil {
				return err
			}
			return g.print(cmd, r, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s %s -> %s in %s: %s\n", r.ID, r.Service, first(r.FromVersion, "nothing"), r.Version, r.Environment, r.State)
				for _, d := range r.Decisions {
					fmt.Fprintf(w, "  %s  %s. %s\n", d.Time.Local().Format("15:04:05.000"), d.Bold, d.Reason)
				}
			})
		}}
	var reason string
	act := func(verb, short, example string) *cobra.Command {
		return &cobra.Command{Use: verb + " ROLLOUT", Short: short, Args: cobra.ExactArgs(1), Example: example,
			RunE: func(cmd *cobra.Command, args []string) error {
				return g.client().Post(cmd.Context(), "/rollouts/"+client.Escape(args[0])+"/"+verb, map[string]string{"reason": reason}, nil)
			}}
	}
	promote := act("promote", "Go on to the next step now", "  weir rollout promote rollout_01... --reason 'agreed with the team'")
	promote.Flags().StringVar(&reason, "reason", "", "why it need not wait (required)")
	_ = promote.MarkFlagRequired("reason")
	return parent("rollout", "Watch and steer rollouts", list, show,
		act("pause", "Stop the clock of a rollout; it is still judged", "  weir rollout pause rollout_01..."),
		act("resume", "Let a paused rollout go on", "  weir rollout resume rollout_01..."),
		promote)
}

func rollbackCommand(g *globals) *cobra.Command {
	var to, reason string
	c := &cobra.Command{
		Use: "rollback SERVICE ENVIRONMENT", Short: "Go back to an earlier release, now", Args: cobra.ExactArgs(2),
		Long: `Send all requests to an earlier release: without a build, without an approval. By
default that is the newest good one before the current; --to chooses another that ran
there. Any release may be chosen that was admitted to the environment and is not
remembered as bad. If the server is down, use weir host rollback on the machine.`,
		Example: "  weir rollback checkout production\n  weir rollback checkout production --to 1.0.0",
		RunE: func(cmd *cobra.Command, args []string) error {
			started := time.Now()
			var r client.Rollout
			path := "/services/" + client.Escape(args[0]) + "/environments/" + client.Escape(args[1]) + "/rollback"
			if err := g.client().Post(cmd.Context(), path, map[string]string{"to": to, "reason": reason}, &r); err != nil {
				return err
			}
			for r.Live {
				select {
				case <-cmd.Context().Done():
					return cmd.Context().Err()
				case <-time.After(20 * time.Millisecond):
				}
				if err := g.client().Get(cmd.Context(), "/rollouts/"+client.Escape(r.ID), &r); err != nil {
					return err
				}
				if time.Since(started) > 2*time.Minute {
					return client.Unavailable("The rollback %s is decided but not complete after two minutes: it is %s. `weir rollout show %s` says why.", r.ID, r.State, r.ID)
				}
			}
			if r.State != "completed" && r.State != "rolled_back" {
				return client.Conflict("The rollback ended as %s: %s", r.State, r.Reason)
			}
			return g.print(cmd, r, func(w io.Writer) {
				fmt.Fprintf(w, "%s %s is back on %s after %s.\n", args[0], args[1], r.Serves, time.Since(started).Round(time.Millisecond))
			})
		},
	}
	c.Flags().StringVar(&to, "to", "", "version or release to go back to")
	c.Flags().StringVar(&reason, "reason", "", "why; may be said later")
	return c
}

func hostCommand(g *globals) *cobra.Command {
	var dir, registry, root string
	var unconfined bool
	c := parent("host", "The process that runs deployed services on this machine")
	c.Long = `The host owns the proxies, the processes and the images of this machine. It is a
process of its own: the server drives it, and it goes on without the server. weir
serve starts one by itself; start it by a service manager to have it at boot.
It pulls images with --token, or with the token that the server keeps in its folder.`
	run := &cobra.Command{Use: "run", Short: "Run the host", Args: cobra.NoArgs, Example: "  weir host run --dir ./weir-data/host --registry http://127.0.0.1:7400 --trusted-root ./weir-data/trusted_root.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.RunHost(cmd.Context(), app.HostOptions{Dir: dir, Registry: registry, TrustedRoot: root, Token: g.token, Unconfined: unconfined})
		}}
	run.Flags().StringVar(&registry, "registry", "http://127.0.0.1:7400", "registry to pull images from")
	run.Flags().StringVar(&root, "trusted-root", "./weir-data/trusted_root.json", "file with the keys to trust")
	run.Flags().BoolVar(&unconfined, "unconfined", false, "run services without confinement")
	status := &cobra.Command{Use: "status", Short: "Show what runs on this machine", Args: cobra.NoArgs, Example: "  weir host status --dir ./weir-data/host",
		RunE: func(cmd *cobra.Command, _ []string) error {
			envs, err := app.HostStatus(cmd.Context(), dir)
			if err != nil {
				return err
			}
			return g.print(cmd, envs, func(w io.Writer) {
				for _, e := range envs {
					fmt.Fprintf(w, "%s %s  http://%s\n", e.Service, e.Environment, e.Address)
					for _, s := range e.Slots {
						fmt.Fprintf(w, "  %-9s %s  %d/%d ready  %.4g%%  %s %s\n", s.Role, s.Version, s.Ready, s.Replicas, float64(s.Weight)/100, s.State, s.Reason)
					}
					for _, k := range e.Kept {
						bad := ""
						if k.Bad != "" {
							bad = "  remembered as bad: " + k.Bad
						}
						fmt.Fprintf(w, "  kept      %s%s\n", k.Version, bad)
					}
				}
			})
		}}
	var to string
	back := &cobra.Command{Use: "rollback SERVICE ENVIRONMENT", Short: "Go back without server, database, registry and git", Args: cobra.ExactArgs(2),
		Example: "  weir host rollback checkout production",
		RunE: func(cmd *cobra.Command, args []string) error {
			ev, err := app.HostRollback(cmd.Context(), dir, args[0], args[1], to)
			if err != nil {
				return err
			}
			return g.print(cmd, ev, func(w io.Writer) {
				fmt.Fprintf(w, "%s %s is back on %s after %s. The server will record it when it is there.\n", ev.Service, ev.Environment, ev.ToVersion, ev.Took.Round(time.Millisecond))
			})
		}}
	back.Flags().StringVar(&to, "to", "", "version or release to go back to")
	c.PersistentFlags().StringVar(&dir, "dir", "./weir-data/host", "folder of the host")
	c.AddCommand(run, status, back)
	return c
}
