package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"weir/internal/edge/api/client"
)

func submitCommand(g *globals) *cobra.Command {
	var commit, service string
	submit := &cobra.Command{
		Use: "submit IMAGE@DIGEST --commit SHA --service SERVICE", Short: "Submit an image that was built elsewhere", Args: cobra.ExactArgs(1),
		Long: `Hand an image to Weir that something else has built, for a revision that has landed. Weir
pulls it by its digest with everything that refers to it, lists what it is made of, and
signs what is known: that you say so (asserted), or that the provenance of its builder
verified (observed). The service's weir.yaml must say that its images come from that
repository (artifact: {build: {external: ...}}), and an environment takes it only if it
says so too (accept: [asserted]).`,
		Example: "  weir release submit ghcr.io/acme/shop@sha256:4f2a... --commit 0f3e1c2... --service shop",
		RunE: func(cmd *cobra.Command, args []string) error {
			var in client.Intake
			if err := g.client().Post(cmd.Context(), "/submissions", map[string]string{"image": args[0], "commit": commit, "service": service}, &in); err != nil {
				return err
			}
			return g.print(cmd, in, func(w io.Writer) {
				fmt.Fprintf(w, "Submitted %s as %s %s. `weir artifact list %s` shows it once policy has admitted it.\n", in.Digest, in.Service, in.Version, in.Service)
			})
		},
	}
	f := submit.Flags()
	f.StringVar(&commit, "commit", "", "full id of the landed revision that it was built from")
	f.StringVar(&service, "service", "", "service that it is an image of")
	for _, name := range []string{"commit", "service"} {
		if err := submit.MarkFlagRequired(name); err != nil {
			panic(err) // the flags are there
		}
	}
	return submit
}
