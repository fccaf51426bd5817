package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"weir/internal/edge/api/client"
)

type generation struct {
	Generation                int
	KeyID                     string `json:"key_id"`
	KMS, Reason               string
	Created, Retired, Revoked time.Time
}

func keysCommand(g *globals) *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List the generations of signing keys", Args: cobra.NoArgs, Example: "  weir keys list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []generation
			if err := g.client().Get(cmd.Context(), "/keys", &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				var rows [][]string
				for i, k := range all {
					state := "signs"
					switch {
					case !k.Revoked.IsZero():
						state = "revoked since " + k.Revoked.Format(time.RFC3339)
					case i < len(all)-1:
						state = "trusted for what it signed"
					}
					where := "file"
					if k.KMS != "" {
						where = k.KMS
					}
					rows = append(rows, []string{strconv.Itoa(k.Generation), state, ago(k.Created), where, k.KeyID, k.Reason})
				}
				table(w, "GENERATION\tSTATE\tMADE\tKEY IN\tKEY\tWHY", rows)
			})
		}}
	var kms, reason string
	rotate := &cobra.Command{Use: "rotate --reason TEXT", Short: "Make new signing keys and sign with them from now on", Args: cobra.NoArgs,
		Long: `Make new keys for the certificate, timestamp and certificate-timestamp authorities
and sign with them from now on. What was signed before goes on to verify. The old keys
sign the new trusted root, so that hosts and verifiers can follow, and are then removed.`,
		Example: "  weir keys rotate --reason 'yearly rotation'\n  weir keys rotate --kms awskms://alias/weir --reason 'the key moves to hardware'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var k generation
			if err := g.client().Post(cmd.Context(), "/keys", map[string]string{"kms": kms, "reason": reason}, &k); err != nil {
				return err
			}
			return g.print(cmd, k, func(w io.Writer) {
				fmt.Fprintf(w, "Generation %d signs now, with %s. Who verifies elsewhere follows with `weir audit trusted-root --follow trusted_root.json`.\n", k.Generation, k.KeyID)
			})
		}}
	rotate.Flags().StringVar(&kms, "kms", "", "new issuing key as NAME://KEY, through the program sigstore-kms-NAME on the server")
	rotate.Flags().StringVar(&reason, "reason", "", "why; kept in the ledger")
	var since string
	revoke := &cobra.Command{Use: "revoke GENERATION --since TIME --reason TEXT", Short: "Distrust what former keys signed from a time on", Args: cobra.ExactArgs(1),
		Long: `Distrust what a former generation of keys signed from a time on. What it signed
before stays trusted. Rotate first, if it is the one that signs now.`,
		Example: "  weir keys revoke 1 --since 2026-11-20T08:00:00Z --reason 'a backup was stolen'",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[0])
			if err != nil {
				return usageError{fmt.Errorf("%q is not a generation; `weir keys list` shows their numbers", args[0])}
			}
			at, err := time.Parse(time.RFC3339, since)
			if err != nil {
				return usageError{fmt.Errorf("--since must be a time such as 2026-11-20T08:00:00Z, not %q", since)}
			}
			var k generation
			if err := g.client().Post(cmd.Context(), "/keys/"+client.Escape(args[0])+"/revoke", map[string]any{"since": at, "reason": reason}, &k); err != nil {
				return err
			}
			return g.print(cmd, k, func(w io.Writer) {
				fmt.Fprintf(w, "What generation %d signed since %s is not trusted any more.\n", n, k.Revoked.Format(time.RFC3339))
			})
		}}
	revoke.Flags().StringVar(&since, "since", "", "time from which its signatures are refused")
	revoke.Flags().StringVar(&reason, "reason", "", "why; kept in the ledger")
	image := &cobra.Command{Use: "image", Short: "Print the public key that signs images beside their certificates", Args: cobra.NoArgs,
		Long: `Print the public key that signs images beside their certificates, for verifiers that take
a key and no certificates. There is one if the server's configuration sets identity.image_key.`,
		Example: "  weir keys image > cosign.pub\n  cosign verify --key cosign.pub --trusted-root trusted_root.json weir.example.com/checkout@sha256:...",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var k struct{ PEM string }
			if err := g.client().Get(cmd.Context(), "/keys/image", &k); err != nil {
				return err
			}
			return g.print(cmd, k, func(w io.Writer) { fmt.Fprint(w, k.PEM) })
		}}
	return parent("keys", "Rotate and revoke the keys that sign evidence", list, rotate, revoke, image)
}
