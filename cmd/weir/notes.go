package main

import (
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"weir/internal/edge/api/client"
)

func notesCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "notes SERVICE VERSION", Short: "Say what a release brings, as Markdown", Args: cobra.ExactArgs(2),
		Long: `Write the notes of a release: the changes since the release before it, by the kinds of
conventional commits, with their authors and the issues that they name.`,
		Example: "  weir release notes checkout 1.1.0",
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := findRelease(cmd, g, args[0], args[1])
			if err != nil {
				return err
			}
			var found []client.Artifact
			if err := g.client().Get(cmd.Context(), "/artifacts?"+url.Values{"service": {args[0]}, "revision": {r.Revision}}.Encode(), &found); err != nil {
				return err
			}
			if len(found) == 0 {
				return fmt.Errorf("the release %s of %s has no artifact", r.Version, r.Service)
			}
			var n client.ReleaseNotes
			if err := g.client().Get(cmd.Context(), "/artifacts/"+client.Escape(found[0].ID)+"/notes", &n); err != nil {
				return err
			}
			return g.print(cmd, n, func(w io.Writer) { fmt.Fprint(w, n.Text) })
		},
	}
}
