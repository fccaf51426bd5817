package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"weir/internal/edge/api/client"
)

// logGeneration is one generation of the ledger's key.
type logGeneration struct {
	Generation int       `json:"generation"`
	KeyID      string    `json:"key_id"`
	Created    time.Time `json:"created"`
	Start      int64     `json:"start"`
	Next       bool      `json:"next"`
	Reason     string    `json:"reason"`
}

// keyList is what signs here.
type keyList struct {
	Evidence []generation    `json:"evidence"`
	Ledger   []logGeneration `json:"ledger"`
}

type generation struct {
	Generation                int
	KeyID                     string `json:"key_id"`
	KMS, Reason               string
	TimestampKMS              string `json:"timestamp_kms"`
	Created, Retired, Revoked time.Time
}

func keysCommand(g *globals) *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List the generations of the keys that sign evidence and the ledger", Args: cobra.NoArgs, Example: "  weir keys list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all keyList
			if err := g.client().Get(cmd.Context(), "/keys", &all.Evidence); err != nil {
				return err
			}
			if err := g.client().Get(cmd.Context(), "/keys/ledger", &all.Ledger); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				var rows [][]string
				for i, k := range all.Evidence {
					state := "signs"
					switch {
					case !k.Revoked.IsZero():
						state = "revoked since " + k.Revoked.Format(time.RFC3339)
					case i < len(all.Evidence)-1:
						state = "trusted for what it signed"
					}
					where := "file"
					if k.KMS != "" {
						where = k.KMS
					}
					if k.TimestampKMS != "" {
						where += ", timestamps " + k.TimestampKMS
					}
					rows = append(rows, []string{"evidence", strconv.Itoa(k.Generation), state, ago(k.Created), where, k.KeyID, k.Reason})
				}
				for i, k := range all.Ledger {
					state, made := "signs", "at first start"
					switch {
					case k.Next:
						state = "known, does not sign yet"
					case i+1 < len(all.Ledger) && !all.Ledger[i+1].Next:
						state = fmt.Sprintf("trusted up to entry %d", all.Ledger[i+1].Start)
					}
					if !k.Created.IsZero() {
						made = ago(k.Created)
					}
					rows = append(rows, []string{"ledger", strconv.Itoa(k.Generation), state, made, "file", k.KeyID, k.Reason})
				}
				table(w, "KEYS OF\tGENERATION\tSTATE\tMADE\tKEY IN\tKEY\tWHY", rows)
			})
		}}
	var kms, timeKMS, reason string
	var ofLedger bool
	rotate := &cobra.Command{Use: "rotate --reason TEXT", Short: "Make new signing keys and sign with them from now on", Args: cobra.NoArgs,
		Long: `Make new keys for the certificate, timestamp and certificate-timestamp authorities
and sign with them from now on. What was signed before goes on to verify. The old keys
sign the new trusted root, so that hosts and verifiers can follow, and are then removed.

With --ledger the key that signs the ledger's checkpoints is replaced instead. The old key
signs the new one, every checkpoint that it signed stays good, and the trusted root has both.

Servers that share a PostgreSQL database get the new keys through it.`,
		Example: "  weir keys rotate --reason 'yearly rotation'\n  weir keys rotate --kms awskms://alias/weir --reason 'the key moves to hardware'\n  weir keys rotate --ledger --reason 'yearly rotation'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ofLedger {
				if kms != "" || timeKMS != "" {
					return usageError{fmt.Errorf("the ledger's key is a file on the server; --kms and --timestamp-kms are for the keys of evidence")}
				}
				var k logGeneration
				if err := g.client().Post(cmd.Context(), "/keys/ledger", map[string]string{"reason": reason}, &k); err != nil {
					return err
				}
				return g.print(cmd, k, func(w io.Writer) {
					fmt.Fprintf(w, "Generation %d of the ledger's key signs from entry %d on. Who verifies elsewhere follows with `weir audit trusted-root --follow trusted_root.json`.\n", k.Generation, k.Start)
				})
			}
			var k generation
			if err := g.client().Post(cmd.Context(), "/keys", map[string]string{"kms": kms, "timestamp_kms": timeKMS, "reason": reason}, &k); err != nil {
				return err
			}
			return g.print(cmd, k, func(w io.Writer) {
				fmt.Fprintf(w, "Generation %d signs now, with %s. Who verifies elsewhere follows with `weir audit trusted-root --follow trusted_root.json`.\n", k.Generation, k.KeyID)
			})
		}}
	rotate.Flags().StringVar(&kms, "kms", "", "new issuing key as NAME://KEY, through the program sigstore-kms-NAME on the server")
	rotate.Flags().StringVar(&timeKMS, "timestamp-kms", "", "new key of timestamps as NAME://KEY, as --kms")
	rotate.Flags().BoolVar(&ofLedger, "ledger", false, "replace the ledger's key instead")
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
	return parent("keys", "Rotate and revoke the keys that sign evidence and the ledger", list, rotate, revoke, image)
}
