package main

import (
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"weir/internal/app"
)

func policyCommand(g *globals) *cobra.Command {
	var root string
	var o app.PolicyOptions
	export := &cobra.Command{Use: "export policy-controller|kyverno|tuf", Short: "Write a policy for a cluster's own admission controller", Args: cobra.ExactArgs(1),
		ValidArgs: []string{"policy-controller", "kyverno", "tuf"},
		Long: `Write a policy by which a Kubernetes cluster runs images of Weir's registry only if
Weir's policy admitted exactly that digest. It is checked by the cluster, from signatures,
without asking Weir.

policy-controller is sigstore's; its policy carries the keys to trust. Kyverno takes
them from a TUF repository: write one with "tuf --output DIR" and let any web server
serve it. After a rotation of keys, export again.`,
		Example: "  weir policy export policy-controller --registry weir.example.com > weir-policy.yaml\n  weir policy export tuf --output ./tuf\n  weir policy export kyverno --registry weir.example.com --mirror https://tuf.example.com > weir-policy.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			var raw []byte
			var err error
			if root != "" {
				raw, err = app.ReadTrustedRoot(root)
			} else {
				var got json.RawMessage
				err = g.client().Get(cmd.Context(), "/trusted-root", &got)
				raw = got
			}
			if err != nil {
				return err
			}
			if o.Registry == "" {
				if u, err := url.Parse(g.server); err == nil {
					o.Registry = u.Host
				}
			}
			out, err := app.ExportPolicy(args[0], raw, o)
			if err != nil {
				return err
			}
			if args[0] == "tuf" {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Wrote a TUF repository to %s. Serve it over HTTPS and export the policy with --mirror.\n", o.Output)
				return err
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		}}
	f := export.Flags()
	f.StringVar(&root, "trusted-root", "", "file with the keys to trust (default: asks the server)")
	f.StringVar(&o.Registry, "registry", "", "HOST[:PORT] of the registry as pods name it (default: the server's)")
	f.StringVar(&o.Mirror, "mirror", "", "URL of the TUF repository (Kyverno)")
	f.StringVar(&o.Output, "output", "", "folder to write a TUF repository to")
	return parent("policy", "Take Weir's policy to other places", export)
}
