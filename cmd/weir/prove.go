package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"weir/internal/app"
	"weir/internal/edge/api/client"
)

func artifactCommand(g *globals) *cobra.Command {
	list := &cobra.Command{Use: "list [SERVICE]", Short: "List admitted artifacts", Args: cobra.MaximumNArgs(1), Example: "  weir artifact list checkout",
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{}
			if len(args) > 0 {
				q.Set("service", args[0])
			}
			var all []client.Artifact
			if err := g.client().Get(cmd.Context(), "/artifacts?"+q.Encode(), &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				var rows [][]string
				for _, a := range all {
					rows = append(rows, []string{a.ID, a.Service, a.Tag, a.Image, ago(a.Created)})
				}
				table(w, "ARTIFACT\tSERVICE\tTAG\tIMAGE\tADMITTED", rows)
			})
		}}
	show := &cobra.Command{Use: "show ARTIFACT", Short: "Show an artifact with evidence and decisions", Args: cobra.ExactArgs(1), Example: "  weir artifact show checkout@sha256:...\n  weir artifact show 1.4.0-ab12cd3",
		RunE: func(cmd *cobra.Command, args []string) error {
			var a client.ArtifactDetails
			if err := g.client().Get(cmd.Context(), "/artifacts/"+client.Escape(args[0]), &a); err != nil {
				return err
			}
			return g.print(cmd, a, func(w io.Writer) {
				fmt.Fprintf(w, "%s %s\n  image     %s\n  revision  %s\n  run       %s\n", a.Service, a.Tag, a.Image, a.Revision, a.RunID)
				for _, e := range a.Evidence {
					fmt.Fprintf(w, "  evidence  %s  ledger entry %d\n            signed by %s\n", e.PredicateType, e.LedgerIndex, e.Signer)
				}
				for _, c := range a.Copies {
					state := "verified " + ago(c.Verified)
					if c.Failure != "" {
						state = "behind: " + c.Failure
					}
					fmt.Fprintf(w, "  copy      %s, with %d pieces of evidence, %s\n", c.To, c.Evidence, state)
				}
				for _, d := range a.Decisions {
					answer := "no"
					if d.Allow {
						answer = "yes"
					}
					fmt.Fprintf(w, "  decision  %s %s (%s)\n", d.Action, answer, d.ID)
				}
			})
		}}
	return parent("artifact", "Look at artifacts", list, show, componentsCommand(g), diffCommand(g), whereCommand(g), findingsCommand(g), rebuildCommand(g), pushCommand(g), pullCommand(g))
}

func verifyCommand(g *globals) *cobra.Command {
	var root, registry string
	var o app.VerifyOptions
	c := &cobra.Command{
		Use: "verify IMAGE@DIGEST", Short: "Prove where an image comes from, without trusting the server", Args: cobra.ExactArgs(1),
		Long: `Prove the chain from commit to image. It uses the registry, to fetch bytes and
evidence, and a trusted_root.json that you got earlier from somebody you trust. No
database and no other service is asked. A registry that lets nobody read without an
account gets the token of weir login or --token.

An image that was built elsewhere and submitted is proven as far as that goes: each link
says whether it was observed or is only asserted, and by whom. --built refuses such images.

Without --trusted-root, trusted_root.json in the current folder is used.`,
		Example: "  weir verify 127.0.0.1:7400/checkout@sha256:... --trusted-root trusted_root.json\n  weir verify --registry http://127.0.0.1:7400 checkout@sha256:... --trusted-root trusted_root.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			image := args[0]
			if registry != "" {
				u, err := url.Parse(registry)
				if err != nil || u.Host == "" {
					return usageError{fmt.Errorf("--registry must be an address such as http://127.0.0.1:7400")}
				}
				o.Insecure = o.Insecure || u.Scheme == "http"
				image = u.Host + "/" + image
			}
			raw, err := app.ReadTrustedRoot(root)
			if err != nil {
				return err
			}
			o.Token = g.tokenFor(image)
			rep, err := app.Verify(cmd.Context(), image, raw, o)
			if err != nil {
				return err
			}
			return g.print(cmd, rep, func(w io.Writer) { printChain(w, rep) })
		},
	}
	f := c.Flags()
	f.StringVar(&root, "trusted-root", "trusted_root.json", "file with the keys to trust")
	f.StringVar(&registry, "registry", "", "address of the registry, if the image does not name it")
	f.StringVar(&o.Repository, "repository", "", "source repository that the image must come from")
	f.StringVar(&o.Ref, "ref", "", "ref that the image must be built from, such as refs/heads/main")
	f.BoolVar(&o.Insecure, "insecure", false, "speak plain HTTP, also to another machine")
	f.BoolVar(&o.Built, "built", false, "refuse an image that was built elsewhere and submitted")
	f.BoolVar(&o.Confined, "confined", false, "refuse a build that was not confined")
	return c
}

func auditCommand(g *globals) *cobra.Command {
	var file, key, database string
	verify := &cobra.Command{
		Use: "verify", Short: "Hold the whole ledger against a checkpoint that was kept elsewhere", Args: cobra.NoArgs,
		Long: `Recompute the ledger's tree from every entry in the database and hold it against a
checkpoint that you kept elsewhere (` + "`weir audit checkpoint`" + `). Finds an entry that
was edited or removed, a ledger that was cut off, and one that was rewritten as a
whole. The database is opened directly and only read; the server may run or not.`,
		Example: "  weir audit verify --checkpoint checkpoint.txt --trusted-root trusted_root.json --database sqlite:///var/lib/weir/weir.db",
		RunE: func(cmd *cobra.Command, _ []string) error {
			rep, err := app.AuditVerify(cmd.Context(), database, file, key)
			if err != nil {
				return err
			}
			err = g.print(cmd, rep, func(w io.Writer) {
				fmt.Fprintf(w, "%d entries; the checkpoint covers %d, the newest signed one %d; %d wait for their place.\n", rep.Entries, rep.CheckpointSize, rep.HeadSize, rep.Pending)
				for _, f := range rep.Findings {
					fmt.Fprintf(w, "!!  %s: %s\n", f.Kind, f.Message)
				}
				if rep.OK() {
					fmt.Fprintln(w, "ok  Nothing was edited, removed, cut off or rewritten.")
				}
			})
			if err == nil {
				err = app.AuditOutcome(rep)
			}
			return err
		},
	}
	verify.Flags().StringVar(&file, "checkpoint", "", "file with the checkpoint that you kept (required)")
	verify.Flags().StringVar(&key, "trusted-root", "trusted_root.json", "file with the log's public key")
	verify.Flags().StringVar(&database, "database", "", "database URL (default: that of ./weir-data)")
	_ = verify.MarkFlagRequired("checkpoint")
	checkpoint := &cobra.Command{Use: "checkpoint", Short: "Print the newest signed checkpoint, to be kept elsewhere", Args: cobra.NoArgs, Example: "  weir audit checkpoint > checkpoint.txt",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var h client.Head
			if err := g.client().Get(cmd.Context(), "/ledger", &h); err != nil {
				return err
			}
			return g.print(cmd, h, func(w io.Writer) { fmt.Fprint(w, h.Checkpoint) })
		}}
	var follow string
	root := &cobra.Command{Use: "trusted-root", Short: "Print the keys that others need to verify this server's signatures", Args: cobra.NoArgs,
		Long: `Print the keys that others need to verify this server's signatures.

With --follow FILE, print what the trusted root in FILE leads to after the server's
keys were rotated or revoked. Each step is signed by keys that were trusted before it,
so the server is not believed: what cannot be proven from FILE is refused.`,
		Example: "  weir audit trusted-root > trusted_root.json\n  weir audit trusted-root --follow trusted_root.json > newer_root.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if follow != "" {
				var updates []json.RawMessage
				if err := g.client().Get(cmd.Context(), "/trusted-root/updates", &updates); err != nil {
					return err
				}
				raw, err := app.FollowTrustedRoot(follow, updates)
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(raw)
				return err
			}
			var raw map[string]any
			if err := g.client().Get(cmd.Context(), "/trusted-root", &raw); err != nil {
				return err
			}
			return (&globals{json: true}).print(cmd, raw, nil)
		}}
	root.Flags().StringVar(&follow, "follow", "", "trusted root that you have, to go on from")
	var actor, action, subject string
	list := &cobra.Command{Use: "list", Short: "List ledger entries, newest first", Args: cobra.NoArgs, Example: "  weir audit list --action change.landed",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []struct {
				ID, Kind, Actor, Action, Subject string
				Position                         int64
				Time                             string
			}
			if err := g.client().Get(cmd.Context(), "/ledger/entries?"+url.Values{"actor": {actor}, "action": {action}, "subject": {subject}, "limit": {"100"}}.Encode(), &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				var rows [][]string
				for _, e := range all {
					rows = append(rows, []string{fmt.Sprint(e.Position), strings.TrimSuffix(e.Time, "Z"), first(e.Action, e.Kind), first(e.Actor, "-"), e.Subject, e.ID})
				}
				table(w, "ENTRY\tTIME (UTC)\tACTION\tACTOR\tSUBJECT\tID", rows)
			})
		}}
	list.Flags().StringVar(&actor, "actor", "", "only by this actor")
	list.Flags().StringVar(&action, "action", "", "only this action")
	list.Flags().StringVar(&subject, "subject", "", "only about this id, digest or revision")
	prove := &cobra.Command{Use: "prove ENTRY", Short: "Print the inclusion proof of an entry", Args: cobra.ExactArgs(1), Example: "  weir audit prove entry_01...",
		RunE: func(cmd *cobra.Command, args []string) error {
			var p client.Proof
			if err := g.client().Get(cmd.Context(), "/ledger/entries/"+client.Escape(args[0])+"/proof", &p); err != nil {
				return err
			}
			return (&globals{json: true}).print(cmd, p, nil)
		}}
	return parent("audit", "Read and prove the ledger", list, checkpoint, verify, prove, root)
}
