package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"weir/internal/app"
)

// registry is where a name points that names none: the server's own, with the token of weir login.
func (g *globals) registry() app.Registry {
	c := g.client()
	return app.Registry{Server: c.Server, Token: c.Token}
}

func pushCommand(g *globals) *cobra.Command {
	var p app.FilesPush
	c := &cobra.Command{
		Use: "push FILE[:MEDIA-TYPE]... NAME[:TAG]", Short: "Push files as one OCI artifact", Args: cobra.MinimumNArgs(2),
		Long: `Push files into the registry as one OCI artifact: any files, a Helm chart (a .tgz with a
Chart.yaml), or a document about an image, such as an SBOM, with --subject. NAME without a
registry means the server's; another one is asked with the credentials of docker login.
oras, helm, cosign and weir artifact pull read what is pushed.`,
		Example: "  weir artifact push config.json tool.tar.gz shop/tools:1.2\n  weir artifact push chart-1.0.0.tgz shop/charts/chart:1.0.0\n  weir artifact push bom.json shop/checkout --subject sha256:4f2a...",
		RunE: func(cmd *cobra.Command, args []string) error {
			p.Files, p.Name = args[:len(args)-1], args[len(args)-1]
			out, err := g.registry().Push(cmd.Context(), p)
			if err != nil {
				return err
			}
			return g.print(cmd, out, func(w io.Writer) {
				fmt.Fprintf(w, "Pushed %s\n  digest  %s\n  type    %s\n", out.Name, out.Digest, out.Type)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&p.Type, "type", "", "what the artifact is, as a media type; found in the file if absent")
	f.StringVar(&p.Subject, "subject", "", "digest of the image in the same repository that it is about")
	return c
}

func pullCommand(g *globals) *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "pull NAME[:TAG|@DIGEST]", Short: "Pull the files of an OCI artifact", Args: cobra.ExactArgs(1),
		Example: "  weir artifact pull shop/tools:1.2 --output tools",
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := g.registry().Pull(cmd.Context(), args[0], dir)
			if err != nil {
				return err
			}
			return g.print(cmd, files, func(w io.Writer) {
				for _, f := range files {
					fmt.Fprintln(w, f)
				}
			})
		},
	}
	c.Flags().StringVarP(&dir, "output", "o", ".", "folder that the files go to")
	return c
}
