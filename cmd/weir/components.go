package main

import (
	"cmp"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"weir/internal/edge/api/client"
)

func componentsCommand(g *globals) *cobra.Command {
	var match string
	c := &cobra.Command{Use: "components ARTIFACT", Short: "List what an artifact is made of, from its signed SBOM", Args: cobra.ExactArgs(1),
		Example: "  weir artifact components 1.4.0-ab12cd3\n  weir artifact components checkout@sha256:... --match x/net",
		RunE: func(cmd *cobra.Command, args []string) error {
			var all []client.Component
			if err := g.client().Get(cmd.Context(), "/artifacts/"+client.Escape(args[0])+"/components?"+url.Values{"q": {match}}.Encode(), &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				var rows [][]string
				for _, x := range all {
					rows = append(rows, []string{x.Kind, x.Name, cmp.Or(x.Version, brief(x.Hash)), x.Licence})
				}
				table(w, "KIND\tNAME\tVERSION\tLICENCE", rows)
			})
		}}
	c.Flags().StringVar(&match, "match", "", "only those with this text in the name")
	return c
}

func diffCommand(g *globals) *cobra.Command {
	return &cobra.Command{Use: "diff [FROM] TO", Short: "Say how what an artifact is made of differs from another, or from the one before", Args: cobra.RangeArgs(1, 2),
		Example: "  weir artifact diff 1.4.0-ab12cd3\n  weir artifact diff 1.3.0-0f3e1c2 1.4.0-ab12cd3",
		RunE: func(cmd *cobra.Command, args []string) error {
			from, to := "", args[len(args)-1]
			if len(args) == 2 {
				from = args[0]
			}
			var all []client.ComponentChange
			if err := g.client().Get(cmd.Context(), "/artifacts/"+client.Escape(to)+"/changes?"+url.Values{"from": {from}}.Encode(), &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				for _, x := range all {
					switch {
					case x.From == "":
						fmt.Fprintf(w, "+ %s %s %s\n", x.Kind, x.Name, brief(x.To))
					case x.To == "":
						fmt.Fprintf(w, "- %s %s %s\n", x.Kind, x.Name, brief(x.From))
					default:
						fmt.Fprintf(w, "~ %s %s %s -> %s\n", x.Kind, x.Name, brief(x.From), brief(x.To))
					}
				}
				if len(all) == 0 {
					fmt.Fprintln(w, "Both are made of the same components.")
				}
			})
		}}
}

func whereCommand(g *globals) *cobra.Command {
	return &cobra.Command{Use: "where NAME[@VERSION]", Short: "Say which artifacts contain a component, and where they run", Args: cobra.ExactArgs(1),
		Example: "  weir artifact where golang.org/x/net\n  weir artifact where golang.org/x/net@v0.46.0",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, version, _ := strings.Cut(args[0], "@")
			var all []client.ComponentUse
			if err := g.client().Get(cmd.Context(), "/components?"+url.Values{"q": {name}, "version": {version}}.Encode(), &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				if len(all) == 0 {
					fmt.Fprintf(w, "No artifact contains %s, by the SBOMs.\n", args[0])
					return
				}
				var rows [][]string
				for _, x := range all {
					rows = append(rows, []string{x.Name, cmp.Or(x.Version, brief(x.Hash)), x.Service, x.Tag, cmp.Or(strings.Join(x.Runs, ", "), "nowhere"), ago(x.Admitted)})
				}
				table(w, "COMPONENT\tVERSION\tSERVICE\tARTIFACT\tRUNS IN\tADMITTED", rows)
			})
		}}
}

// brief cuts a hash; versions are shorter.
func brief(s string) string {
	if len(s) > 40 {
		return s[:12]
	}
	return s
}
