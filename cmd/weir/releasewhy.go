package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"weir/internal/edge/api/client"
)

// releaseWhyCommand tells of each environment what policy said.
func releaseWhyCommand(g *globals) *cobra.Command {
	return &cobra.Command{Use: "why SERVICE VERSION", Short: "Say what each environment decided about a release, rule by rule", Args: cobra.ExactArgs(2), Example: "  weir release why checkout 1.4.0",
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := findRelease(cmd, g, args[0], args[1])
			if err != nil {
				return err
			}
			var a client.ArtifactDetails
			if err := g.client().Get(cmd.Context(), "/artifacts/"+client.Escape(r.Digest), &a); err != nil {
				return err
			}
			type told struct {
				client.Promotion
				Decision *client.PolicyDecision `json:"decision,omitempty"`
			}
			var all []told
			for _, p := range r.Promotions {
				t := told{Promotion: p}
				for i := range a.Decisions {
					if a.Decisions[i].ID == p.DecisionID {
						t.Decision = &a.Decisions[i]
					}
				}
				all = append(all, t)
			}
			return g.print(cmd, all, func(w io.Writer) {
				for _, t := range all {
					fmt.Fprintf(w, "%s: %s\n", t.Environment, t.State)
					if t.Decision == nil {
						for _, b := range t.Blocks {
							fmt.Fprintf(w, "  waits since %s: %s\n", ago(b.Since), b.Message)
						}
						continue
					}
					fmt.Fprintf(w, "  %s, %s\n", t.Decision.ID, ago(t.Decision.Time))
					for _, l := range t.Decision.Rules {
						mark := "no "
						if l.Allow {
							mark = "yes"
						}
						fmt.Fprintf(w, "  %s %-28s %s\n", mark, l.Rule, l.Message)
						if !l.Allow && len(l.Who) > 0 {
							fmt.Fprintf(w, "      who can change that: %s\n", strings.Join(l.Who, ", "))
						}
					}
				}
			})
		}}
}
