package main

import (
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"weir/internal/edge/api/client"
)

// maxSetting bounds what is read as a value; the server has the exact limit.
const maxSetting = 1 << 20

// settingCommand is `weir secret` and `weir variable`.
func settingCommand(g *globals, noun, path string) *cobra.Command {
	var repository, environment string
	at := func(name string) string {
		if name != "" {
			name = "/" + client.Escape(name)
		}
		return path + name + "?" + url.Values{"repository": {repository}, "environment": {environment}}.Encode()
	}
	placed := func(c *cobra.Command) *cobra.Command {
		c.Flags().StringVar(&repository, "repository", "", "only for this repository (default: all)")
		if c.Name() != "list" {
			c.Flags().StringVar(&environment, "environment", "", "only for jobs with this environment (default: all)")
		}
		return c
	}
	list := placed(&cobra.Command{Use: "list", Short: "List " + noun + "s", Args: cobra.NoArgs, Example: "  weir " + noun + " list --repository checkout",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []struct {
				Name, Environment, Value, By string
				Version                      int
			}
			if err := g.client().Get(cmd.Context(), at(""), &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				var rows [][]string
				for _, s := range all {
					row := []string{s.Name, first(s.Environment, "-"), strconv.Itoa(s.Version), s.By}
					if noun == "variable" {
						row = append(row, s.Value)
					}
					rows = append(rows, row)
				}
				table(w, "NAME\tENVIRONMENT\tVERSION\tBY"+map[bool]string{true: "\tVALUE"}[noun == "variable"], rows)
			})
		}})
	set := placed(&cobra.Command{Use: "set NAME", Short: "Set a " + noun + "; the value comes from standard input", Args: cobra.ExactArgs(1),
		Example: "  weir " + noun + " set REGION --repository checkout < region.txt\n  printf %s \"$TOKEN\" | weir " + noun + " set TOKEN --environment production",
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxSetting+1))
			if err != nil {
				return err
			}
			if len(raw) > maxSetting {
				return usageError{fmt.Errorf("the value is larger than %d bytes", maxSetting)}
			}
			value := strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
			return g.client().Do(cmd.Context(), "PUT", at(args[0]), map[string]string{"value": value}, nil)
		}})
	remove := placed(&cobra.Command{Use: "delete NAME", Short: "Delete a " + noun, Args: cobra.ExactArgs(1), Example: "  weir " + noun + " delete TOKEN --environment production",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client().Do(cmd.Context(), "DELETE", at(args[0]), nil, nil)
		}})
	return parent(noun, "Manage "+noun+"s of runs", list, set, remove)
}

// startCommand is `weir runs start`.
func startCommand(g *globals) *cobra.Command {
	var ref string
	var inputs []string
	c := &cobra.Command{Use: "start REPOSITORY WORKFLOW", Short: "Start a run of a workflow that has on: workflow_dispatch", Args: cobra.ExactArgs(2),
		Example: "  weir runs start checkout nightly.yml --input level=high\n  weir runs start checkout publish --ref v1.2.0",
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := pairs("--input", inputs)
			if err != nil {
				return err
			}
			var r client.Run
			body := map[string]any{"workflow": args[1], "ref": ref, "inputs": in}
			if err := g.client().Post(cmd.Context(), "/repositories/"+client.Escape(args[0])+"/runs", body, &r); err != nil {
				return err
			}
			return g.print(cmd, r, func(w io.Writer) {
				fmt.Fprintf(w, "Started %s: %s of %s at %s.\n", r.ID, r.Workflow, r.Repository, short(r.Revision))
			})
		}}
	c.Flags().StringVar(&ref, "ref", "", "a tag (default: the trunk)")
	c.Flags().StringArrayVar(&inputs, "input", nil, "NAME=VALUE; may be repeated")
	return c
}

// approveRunCommand is `weir runs approve`.
func approveRunCommand(g *globals) *cobra.Command {
	var environment, reason string
	var reject bool
	c := &cobra.Command{Use: "approve RUN", Short: "Let the jobs of a run into an environment", Args: cobra.ExactArgs(1),
		Example: "  weir runs approve run_01... --environment production\n  weir runs approve run_01... --environment production --reject --reason 'not on a Friday'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if environment == "" {
				return usageError{fmt.Errorf("say which environment: --environment NAME")}
			}
			verdict := "approve"
			if reject {
				verdict = "reject"
			}
			return g.client().Post(cmd.Context(), "/runs/"+client.Escape(args[0])+"/approvals", map[string]string{"environment": environment, "verdict": verdict, "reason": reason}, nil)
		}}
	c.Flags().StringVar(&environment, "environment", "", "the environment")
	c.Flags().BoolVar(&reject, "reject", false, "refuse instead; the jobs fail")
	c.Flags().StringVar(&reason, "reason", "", "why")
	return c
}

// pairs reads NAME=VALUE flags.
func pairs(flag string, given []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range given {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return nil, usageError{fmt.Errorf("%s %q is not NAME=VALUE", flag, s)}
		}
		out[k] = v
	}
	return out, nil
}
