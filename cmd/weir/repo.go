package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"weir/internal/app"
)

func initCommand(g *globals) *cobra.Command {
	var check, force bool
	c := &cobra.Command{
		Use: "init [FOLDER]", Short: "Describe a repository's services in a weir.yaml", Args: cobra.MaximumNArgs(1),
		Long: `Look at a repository and write a weir.yaml for it: services and their paths, version,
port, health path, workflows and what of them runs or is refused, names of secrets,
CODEOWNERS, tags. Each line of the report has value, source and certainty; what
could not be found stands as TODO in the file, which weir lint refuses.`,
		Example: "  weir init\n  weir init --check ../shop",
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			rep, err := app.Init(dir, check, force)
			if err != nil {
				return err
			}
			return g.print(cmd, rep, func(w io.Writer) {
				var rows [][]string
				for _, l := range rep.Lines {
					rows = append(rows, []string{l.What, l.Value, string(l.Certainty), l.Source})
				}
				table(w, "WHAT\tVALUE\tCERTAINTY\tSOURCE", rows)
				if rep.Written != "" && rep.Workflow != "" {
					fmt.Fprintf(w, "\nWrote %s, and a first workflow. Next: read both, then weir lint.\n", rep.Written)
				} else if rep.Written != "" {
					fmt.Fprintf(w, "\nWrote %s. Next: read it, then weir lint.\n", rep.Written)
				} else {
					fmt.Fprintf(w, "\nNothing was written. The file would be:\n\n%s", rep.YAML)
				}
			})
		},
	}
	c.Flags().BoolVar(&check, "check", false, "write nothing")
	c.Flags().BoolVar(&force, "force", false, "replace a weir.yaml that is there")
	return c
}

func lintCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "lint [FOLDER]", Short: "Check weir.yaml and workflows", Args: cobra.MaximumNArgs(1),
		Long:    "Check weir.yaml and every workflow as the server will, with line and column of what is wrong.",
		Example: "  weir lint\n  weir lint --json ../shop",
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			findings, err := app.Lint(dir)
			if err != nil {
				return err
			}
			err = g.print(cmd, findings, func(w io.Writer) {
				for _, f := range findings {
					fmt.Fprintln(w, f)
				}
				if len(findings) == 0 {
					fmt.Fprintln(w, "ok  Nothing is wrong.")
				}
			})
			if err == nil {
				err = app.LintOutcome(findings)
			}
			return err
		},
	}
}
