package main

import (
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"weir/internal/app"
	"weir/internal/edge/api/client"
)

func rebuildCommand(g *globals) *cobra.Command {
	var digest string
	var o app.Rebuild
	c := &cobra.Command{
		Use: "rebuild --compare DIGEST", Short: "Build an artifact once more and say whether it is the same", Args: cobra.NoArgs,
		Long: `Build the revision that an artifact's provenance names, in a clean folder of this machine,
by the release job that the server would run, and compare the image with the one in the
registry. The exit status is 1 if the digest is another one; each difference is then named:
layer, file, and bytes, mode, time, owner or link; or the field of the configuration.

The revision comes from a clone, the current folder if --dir names no other.`,
		Example: "  weir artifact rebuild --compare sha256:4f2a...\n  weir artifact rebuild --compare sha256:4f2a... --dir ../shop --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var found []client.Artifact
			if err := g.client().Get(cmd.Context(), "/artifacts?"+url.Values{"digest": {digest}}.Encode(), &found); err != nil {
				return err
			}
			if len(found) == 0 {
				return fmt.Errorf("there is no artifact %s; weir artifact list shows what there is", digest)
			}
			var a client.ArtifactDetails
			if err := g.client().Get(cmd.Context(), "/artifacts/"+client.Escape(found[0].ID), &a); err != nil {
				return err
			}
			known := false
			for _, e := range a.Evidence {
				if e.PredicateType == "https://slsa.dev/provenance/v1" && !known {
					if err := o.From(e.Bundle); err != nil {
						return err
					}
					known = true
				}
			}
			if !known {
				return fmt.Errorf("the artifact %s has no provenance, so nobody knows what to build", digest)
			}
			o.Image, o.Server, o.Token = a.Image, g.client().Server, g.client().Token
			rep, err := app.RunRebuild(cmd.Context(), o, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			err = g.print(cmd, rep, func(w io.Writer) {
				if rep.Same {
					fmt.Fprintf(w, "The same: %s builds %s again.\n", rep.Revision[:12], rep.Digest)
					return
				}
				fmt.Fprintf(w, "Not the same: %s now builds %s.\n", rep.Revision[:12], rep.Digest)
				for _, d := range rep.Differences {
					fmt.Fprintf(w, "  %s\n", d)
				}
			})
			if err == nil && !rep.Same {
				err = fmt.Errorf("%s is not what %s builds now", digest, rep.Revision[:12])
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&digest, "compare", "", "digest of the artifact")
	f.StringVar(&o.Dir, "dir", ".", "a clone that has the revision")
	f.StringVar(&o.Network, "network", "egress", "what the build may reach: egress or none")
	f.BoolVar(&o.Unconfined, "unconfined", false, "build without confinement")
	f.StringVar(&o.BuildKit, "buildkit", "", "BuildKit daemon that builds Dockerfiles, as the server's runner.buildkit; buildah on this machine if absent")
	if err := c.MarkFlagRequired("compare"); err != nil {
		panic(err) // the flag is there
	}
	return c
}
