package main

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"weir/internal/app"
	"weir/internal/edge/api/client"
)

func evidenceCommand(g *globals) *cobra.Command {
	var o app.VerifyOptions
	var output, root string
	c := &cobra.Command{
		Use: "evidence SERVICE VERSION | IMAGE@DIGEST", Short: "Export a release with all evidence about it, to be verified anywhere", Args: cobra.RangeArgs(1, 2),
		Long: `Write the image of a release and everything that was signed about it to one file:
signature, provenance, SBOM, test results, reviews, the admission and every rollout so
far. The file is an OCI image layout, so stock tools read it as well. Verify it with
weir evidence verify, on any machine.`,
		Example: "  weir evidence checkout 1.4.0 --output checkout-1.4.0.tar\n  weir evidence 127.0.0.1:7400/checkout@sha256:...",
		RunE: func(cmd *cobra.Command, args []string) error {
			cl := g.client()
			image, name := args[0], "evidence.tar"
			server, err := url.Parse(cl.Server)
			if err != nil {
				return err
			}
			switch {
			case len(args) == 2:
				if image, err = imageOf(cmd, cl, args[0], args[1]); err != nil {
					return err
				}
				name = strings.ReplaceAll(args[0], "/", "-") + "-" + args[1] + ".tar"
			case !strings.Contains(image, "@"):
				return usageError{fmt.Errorf("name a release by SERVICE VERSION or as IMAGE@sha256:<digest>")}
			}
			if host, _, ok := strings.Cut(image, "/"); !ok || !strings.ContainsAny(host, ".:") {
				image = server.Host + "/" + image
				o.Insecure = o.Insecure || server.Scheme == "http"
			}
			if output == "" {
				output = name
			}
			o.Token = g.tokenFor(image)
			if err := app.ExportEvidence(cmd.Context(), image, output, o); err != nil {
				return err
			}
			st, err := os.Stat(output)
			if err != nil {
				return err
			}
			return g.print(cmd, map[string]any{"image": image, "file": output, "bytes": st.Size()}, func(w io.Writer) {
				fmt.Fprintf(w, "Wrote %s (%d bytes). Whoever has trusted_root.json can verify it without a server:\n  weir evidence verify %s --trusted-root trusted_root.json\n", output, st.Size(), output)
			})
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "file to write (default: SERVICE-VERSION.tar)")
	c.Flags().BoolVar(&o.Insecure, "insecure", false, "speak plain HTTP, also to another machine")
	verify := &cobra.Command{
		Use: "verify FILE", Short: "Prove the chain of the release in an archive, with no server", Args: cobra.ExactArgs(1),
		Example: "  weir evidence verify checkout-1.4.0.tar --trusted-root trusted_root.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := app.ReadTrustedRoot(root)
			if err != nil {
				return err
			}
			rep, err := app.VerifyEvidence(cmd.Context(), args[0], raw, o)
			if err != nil {
				return err
			}
			return g.print(cmd, rep, func(w io.Writer) { printChain(w, rep) })
		},
	}
	f := verify.Flags()
	f.StringVar(&root, "trusted-root", "trusted_root.json", "file with the keys to trust")
	f.StringVar(&o.Repository, "repository", "", "source repository that the image must come from")
	f.StringVar(&o.Ref, "ref", "", "ref that the image must be built from, such as refs/heads/main")
	f.BoolVar(&o.Built, "built", false, "refuse an image that was built elsewhere and submitted")
	f.BoolVar(&o.Confined, "confined", false, "refuse a build that was not confined")
	c.AddCommand(verify)
	return c
}

// imageOf finds the image of a release.
func imageOf(cmd *cobra.Command, cl *client.Client, service, version string) (string, error) {
	var all []client.Artifact
	if err := cl.Get(cmd.Context(), "/artifacts?"+url.Values{"service": {service}, "limit": {"200"}}.Encode(), &all); err != nil {
		return "", err
	}
	for _, a := range all {
		if a.Service == service && (a.Version == version || a.Tag == version) {
			return a.Image, nil
		}
	}
	return "", app.NoRelease(service, version)
}

func printChain(w io.Writer, rep app.Chain) {
	for _, l := range rep.Links {
		says := l.Says
		if l.Basis != "" {
			says = l.Basis + ": " + says
		}
		fmt.Fprintf(w, "ok  %-12s %s\n", l.Name, says)
	}
	for _, s := range rep.Warnings {
		fmt.Fprintln(w, "!!  "+s)
	}
	if rep.Origin != "" {
		fmt.Fprintf(w, "%s is %s, submitted by %s for revision %s. Weir did not build it: %s.\n", rep.Image, rep.Version, rep.SubmittedBy, rep.Revision, rep.Word())
		return
	}
	fmt.Fprintf(w, "%s is %s, built from revision %s.\n", rep.Image, rep.Version, rep.Revision)
}
