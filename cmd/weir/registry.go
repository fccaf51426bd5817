package main

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"weir/internal/app"
	"weir/internal/edge/api/client"
)

func registryCommand(g *globals) *cobra.Command {
	c := parent("registry", "What the registry holds, for how long, and whether it is whole", registryListCommand(g), registryShowCommand(g), registryGCCommand(g),
		registryHoldCommand(g, true), registryHoldCommand(g, false), registryQuotaCommand(g), registryScrubCommand(g))
	c.Long = `What the registry holds, for how long, and whether it is whole.

docker, podman, skopeo, crane, oras, helm and cosign push to and pull from the
server's own address; sign in with any name and a token as the password:
  weir token create --name docker
  docker login --username me SERVER`
	return c
}

func registryListCommand(g *globals) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the repositories and what they take", Args: cobra.NoArgs, Example: "  weir registry list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []client.RegistryRepository
			if err := g.client().Get(cmd.Context(), "/registry/repositories", &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				if len(all) == 0 {
					fmt.Fprintln(w, "The registry is empty.")
					return
				}
				t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
				fmt.Fprintln(t, "REPOSITORY\tMANIFESTS\tTAGS\tRELEASES\tSIZE\tQUOTA\t")
				for _, r := range all {
					note := ""
					if r.Holds > 0 {
						note += fmt.Sprintf("%d held ", r.Holds)
					}
					if r.Damaged > 0 {
						note += fmt.Sprintf("%d DAMAGED (weir registry scrub)", r.Damaged)
					}
					fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\t%s\t%s\n", r.Name, r.Manifests, r.Tags, r.Releases, app.Size(r.Bytes), quota(r), note)
				}
				t.Flush()
			})
		}}
}

func quota(r client.RegistryRepository) string {
	switch {
	case r.Quota == 0:
		return "-"
	case r.OwnQuota:
		return app.Size(r.Quota)
	}
	return app.Size(r.Quota) + " (default)"
}

func registryShowCommand(g *globals) *cobra.Command {
	return &cobra.Command{Use: "show REPOSITORY", Short: "Say what a repository holds, and why each of it stays or goes", Args: cobra.ExactArgs(1), Example: "  weir registry show shop/checkout",
		RunE: func(cmd *cobra.Command, args []string) error {
			var all []client.RegistryManifest
			if err := g.client().Get(cmd.Context(), "/registry/contents?repository="+url.QueryEscape(args[0]), &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				for _, m := range all {
					names := m.Tags
					if m.Release != "" && len(names) == 0 {
						names = []string{"release " + m.Release}
					}
					if len(names) == 0 && m.Kind != "" {
						names = []string{"(" + m.Kind + ")"}
					}
					fmt.Fprintf(w, "%s  %s  %s  %s\n", m.Digest, app.Size(m.Size), m.Pushed.Format(time.DateOnly), strings.Join(names, " "))
					verb := "stays"
					if !m.Keep {
						verb = "GOES"
					}
					fmt.Fprintf(w, "  %s: %s\n", verb, strings.Join(m.Why, "; "))
					if len(m.Damaged) > 0 {
						fmt.Fprintf(w, "  DAMAGED: %s; push it again\n", strings.Join(m.Damaged, " "))
					}
				}
				if len(all) == 0 {
					fmt.Fprintf(w, "%s holds nothing.\n", args[0])
				}
			})
		}}
}

func registryGCCommand(g *globals) *cobra.Command {
	var remove, dry bool
	c := &cobra.Command{Use: "gc [REPOSITORY]", Short: "Say what retention would remove from the registry, and why, or remove it", Args: cobra.MaximumNArgs(1),
		Long: `Say what retention would remove from the registry, and by which rule. Nothing is
removed without --remove. What runs in an environment, what one can go back to, what
a tag or an index names and what somebody holds is never removed.
The server does the same by itself every six hours; each removal is an entry in the
ledger. weir gc also looks at logs and at artifacts of runs.`,
		Example: "  weir registry gc --dry-run\n  weir registry gc shop/checkout --remove",
		RunE: func(cmd *cobra.Command, args []string) error {
			if remove && dry {
				return usageError{fmt.Errorf("--dry-run and --remove exclude each other")}
			}
			repository := ""
			if len(args) == 1 {
				repository = args[0]
			}
			out, err := g.registryGarbage(cmd, repository, remove)
			if err != nil {
				return err
			}
			return g.print(cmd, out, func(w io.Writer) { printRegistryGarbage(w, out, true) })
		}}
	c.Flags().BoolVar(&remove, "remove", false, "remove it")
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what would go (the default)")
	return c
}

func (g *globals) registryGarbage(cmd *cobra.Command, repository string, remove bool) (out client.RegistryGarbage, err error) {
	if remove {
		return out, g.client().Post(cmd.Context(), "/registry/garbage/remove", map[string]string{"repository": repository}, &out)
	}
	return out, g.client().Get(cmd.Context(), "/registry/garbage?repository="+url.QueryEscape(repository), &out)
}

func printRegistryGarbage(w io.Writer, g client.RegistryGarbage, each bool) {
	verb := "Removed"
	if g.DryRun {
		verb = "Would remove"
	}
	if len(g.Gone) == 0 && g.Blobs == 0 {
		fmt.Fprintf(w, "Nothing in the registry is past its time: %d manifests stay (weir registry show REPOSITORY says why).\n", g.Kept)
	} else {
		if each {
			for _, r := range g.Gone {
				fmt.Fprintf(w, "%s@%s  %s  %s\n  %s\n", r.Repository, r.Digest, app.Size(r.Size), strings.Join(slices.DeleteFunc(append(r.Tags, r.Kind), func(s string) bool { return s == "" }), " "), r.Why)
			}
		}
		fmt.Fprintf(w, "%s %d manifests and %d blobs that nothing names (%s) from the registry; %d manifests stay.\n", verb, len(g.Gone), g.Blobs, app.Size(g.Bytes), g.Kept)
	}
	if len(g.Changed) > 0 {
		fmt.Fprintf(w, "%d manifests were wanted again before they could go, and stay.\n", len(g.Changed))
	}
	if g.DryRun && each && len(g.Gone)+g.Blobs > 0 {
		fmt.Fprintln(w, "Nothing was removed. Do it with: weir registry gc --remove")
	}
}

func registryHoldCommand(g *globals, hold bool) *cobra.Command {
	var reason string
	use, short, path := "hold REPOSITORY TAG|DIGEST", "Keep an image whatever the rules say, for a reason", "/registry/holds"
	example := "  weir registry hold shop/checkout 1.4.0-ab12cd3 --reason \"case 4711\""
	if !hold {
		use, short, path = "release-hold REPOSITORY TAG|DIGEST", "End a hold, for a reason", "/registry/holds/release"
		example = "  weir registry release-hold shop/checkout 1.4.0-ab12cd3 --reason \"case 4711 is closed\""
	}
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(2), Example: example,
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usageError{fmt.Errorf("say why with --reason; it is written into the ledger")}
			}
			var out struct {
				Digest string `json:"digest"`
			}
			if err := g.client().Post(cmd.Context(), path, map[string]string{"repository": args[0], "reference": args[1], "reason": reason}, &out); err != nil {
				return err
			}
			return g.print(cmd, out, func(w io.Writer) {
				if hold {
					fmt.Fprintf(w, "%s@%s stays until somebody ends the hold (weir registry release-hold).\n", args[0], out.Digest)
					return
				}
				fmt.Fprintf(w, "%s@%s is held no longer; the rules decide about it again.\n", args[0], out.Digest)
			})
		}}
	c.Flags().StringVar(&reason, "reason", "", "why (required)")
	return c
}

func registryQuotaCommand(g *globals) *cobra.Command {
	var set string
	c := &cobra.Command{Use: "quota REPOSITORY", Short: "Show or set how much a repository may take", Args: cobra.ExactArgs(1), Example: "  weir registry quota shop/checkout\n  weir registry quota shop/checkout --set 20Gi\n  weir registry quota shop/checkout --set default",
		RunE: func(cmd *cobra.Command, args []string) error {
			var r client.RegistryRepository
			if set != "" {
				bytes, err := app.ParseSize(set)
				if err != nil {
					return err
				}
				if err := g.client().Post(cmd.Context(), "/registry/quotas", map[string]any{"repository": args[0], "bytes": bytes}, &r); err != nil {
					return err
				}
			} else {
				var all []client.RegistryRepository
				if err := g.client().Get(cmd.Context(), "/registry/repositories", &all); err != nil {
					return err
				}
				i := slices.IndexFunc(all, func(r client.RegistryRepository) bool { return r.Name == args[0] })
				if i < 0 {
					return client.NotFound("There is no repository %s in the registry. `weir registry list` shows them.", args[0])
				}
				r = all[i]
			}
			return g.print(cmd, r, func(w io.Writer) {
				if r.Quota == 0 {
					fmt.Fprintf(w, "%s takes %s and has no quota.\n", r.Name, app.Size(r.Bytes))
					return
				}
				fmt.Fprintf(w, "%s takes %s of its quota of %s.\n", r.Name, app.Size(r.Bytes), quota(r))
			})
		}}
	c.Flags().StringVar(&set, "set", "", "size such as 20Gi, or default")
	return c
}

func registryScrubCommand(g *globals) *cobra.Command {
	var now bool
	c := &cobra.Command{Use: "scrub", Short: "Show how the reading of all stored bytes goes and what is damaged, or read them now", Args: cobra.NoArgs,
		Long: `The server reads all bytes of the registry again and again, slowly, and hashes them.
Damaged ones are put aside and given to nobody; pushing the same image again heals
them. This shows how far it is, what is damaged, and which images, releases and
environments that hits. With --now a reading starts, as fast as the disk allows, and
the command waits for its end.`,
		Example: "  weir registry scrub\n  weir registry scrub --now",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var st client.RegistryScrub
			c := g.client()
			if err := c.Get(cmd.Context(), "/registry/scrub", &st); err != nil {
				return err
			}
			if now {
				if err := c.Post(cmd.Context(), "/registry/scrub", nil, &st); err != nil {
					return err
				}
				for asked := st.Asked; st.Finished.Before(asked); {
					select {
					case <-cmd.Context().Done():
						return cmd.Context().Err()
					case <-time.After(500 * time.Millisecond):
					}
					if err := c.Get(cmd.Context(), "/registry/scrub", &st); err != nil {
						return err
					}
				}
			}
			if err := g.print(cmd, st, func(w io.Writer) { printScrub(w, st) }); err != nil || len(st.Damage) == 0 {
				return err
			}
			return client.Conflict("%d stored blobs are damaged. Push the images again, or restore the bytes from a backup.", len(st.Damage))
		}}
	c.Flags().BoolVar(&now, "now", false, "read everything now, and wait")
	return c
}

func printScrub(w io.Writer, st client.RegistryScrub) {
	switch {
	case st.Running:
		fmt.Fprintf(w, "Reading: %d of about %d blobs (%s) since %s.\n", st.Checked, st.Total, app.Size(st.Bytes), st.Started.Format("2006-01-02 15:04"))
	case st.Finished.IsZero():
		fmt.Fprintln(w, "Not everything was read yet. Read it now with: weir registry scrub --now")
	}
	if !st.Finished.IsZero() {
		fmt.Fprintf(w, "The last whole reading ended on %s: %d blobs (%s) in %s, %d damaged.\n", st.Finished.Format("2006-01-02 15:04"), st.Last.Checked, app.Size(st.Last.Bytes), time.Duration(st.Last.Seconds)*time.Second, st.Last.Damaged)
	}
	for _, d := range st.Damage {
		fmt.Fprintf(w, "DAMAGED %s (found %s): %s\n", d.Digest, d.Found.Format("2006-01-02 15:04"), d.Why)
		for _, i := range d.Images {
			release := ""
			if i.Release != "" {
				release = " (release " + i.Release + ")"
			}
			fmt.Fprintf(w, "  hits %s@%s%s %s\n", i.Repository, i.Digest, release, strings.Join(i.Tags, " "))
		}
		for _, e := range d.Environments {
			fmt.Fprintf(w, "  %s\n", e)
		}
	}
}
