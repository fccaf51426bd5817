package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"weir/internal/app"
)

func runCommand(g *globals) *cobra.Command {
	var o app.LocalRun
	var inputs, matrix, secrets, vars []string
	c := &cobra.Command{
		Use: "run [FOLDER]", Short: "Run workflows on the working tree, without a server", Args: cobra.MaximumNArgs(1),
		Long: `Run the workflows of a folder here and now: planned, confined and executed as the
server would, on the files as they are, committed or not. What git ignores is left
out. Logs are shown as they come; nothing is kept.

A workflow that is named with -W runs whatever branches and paths it filters.
A secret's value is taken from the environment variable of its name, or given as
NAME=VALUE.

Containers of jobs are made by runc, of images in the registry of the server that
you are logged in to (or --server), or in a folder (--images). Actions and workflows of
other repositories come from clones on this machine (--mirror, --mirrors): nothing is fetched.

Exit status: 0 all runs succeeded, 5 one failed or a workflow is refused.`,
		Example: `  weir run
  weir run -W ci.yml -j test
  weir run -W ci.yml --matrix os:linux --secret NPM_TOKEN
  weir run -W ci.yml --images ./images
  weir run -W ci.yml --mirror acme/tools=../tools
  weir run -W release.yml --event workflow_dispatch --input level=patch`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.Dir = "."
			if len(args) > 0 {
				o.Dir = args[0]
			}
			if o.Inputs, err = pairs("--input", inputs); err != nil {
				return err
			}
			if o.Vars, err = pairs("--var", vars); err != nil {
				return err
			}
			for i, m := range matrix { // NAME:VALUE, as others write it
				matrix[i] = strings.Replace(m, ":", "=", 1)
			}
			if o.Matrix, err = pairs("--matrix", matrix); err != nil {
				return err
			}
			if o.Secrets, err = secretsOf(secrets); err != nil {
				return err
			}
			if cl := g.client(); cl.Token != "" || g.server != "" {
				o.Server, o.Token = cl.Server, cl.Token
			}
			slog.SetDefault(slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelError})))
			out := cmd.OutOrStdout()
			if g.json {
				out = cmd.ErrOrStderr()
			}
			all, err := app.RunLocal(cmd.Context(), o, out)
			if all == nil {
				return err
			}
			if perr := g.print(cmd, all, func(w io.Writer) { printOutcomes(w, all) }); perr != nil {
				return perr
			}
			if err != nil {
				return err
			}
			return app.OutcomeError(all)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.Workflow, "workflow", "W", "", "only this workflow: its path or the name of its file")
	f.StringVarP(&o.Job, "job", "j", "", "only this job and those it needs")
	f.StringVar(&o.Event, "event", "", "what happened: push, pull_request, workflow_dispatch or schedule")
	f.StringArrayVar(&inputs, "input", nil, "NAME=VALUE for workflow_dispatch; may be repeated")
	f.StringArrayVar(&matrix, "matrix", nil, "NAME:VALUE: only these combinations; may be repeated")
	f.StringArrayVar(&secrets, "secret", nil, "NAME, from the environment, or NAME=VALUE; may be repeated")
	f.StringArrayVar(&vars, "var", nil, "NAME=VALUE of a variable; may be repeated")
	f.IntVar(&o.Slots, "slots", 0, "jobs at a time (default: processors)")
	f.StringVar(&o.Network, "network", "egress", "what jobs may reach: egress or none")
	f.StringArrayVar(&o.Mirrors, "mirror", nil, "repository on this machine that actions and workflows of another come from: owner/name=PATH; may be repeated")
	f.StringVar(&o.MirrorDir, "mirrors", os.Getenv("WEIR_MIRRORS"), "folder that has such repositories as owner/name (default: $WEIR_MIRRORS)")
	f.StringVar(&o.Images, "images", "", "folder with images for containers, an OCI image layout (default: the server's registry)")
	f.BoolVar(&o.Unconfined, "unconfined", false, "run jobs without protection")
	f.BoolVarP(&o.Quiet, "quiet", "q", false, "only the outcome, no logs")
	return c
}

func secretsOf(given []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range given {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			if value, ok = os.LookupEnv(name); !ok {
				return nil, usageError{fmt.Errorf("--secret %s: there is no environment variable %s; set it, or write --secret %s=VALUE", name, name, name)}
			}
		}
		out[strings.ToUpper(name)] = value
	}
	return out, nil
}

func printOutcomes(w io.Writer, all []app.Outcome) {
	for _, o := range all {
		fmt.Fprintf(w, "\n%s: %s", o.Workflow, o.State)
		if o.Took != "" {
			fmt.Fprintf(w, " in %s", o.Took)
		}
		fmt.Fprintln(w)
		var rows [][]string
		for _, j := range o.Jobs {
			rows = append(rows, []string{"  " + j.State, j.Job, first(j.Took, "-"), j.Reason})
		}
		table(w, "  STATE\tJOB\tTOOK\tREASON", rows)
	}
}
