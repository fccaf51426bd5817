package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/internal/edge/api/client"
)

func userCommand(g *globals) *cobra.Command {
	var roles, teams []string
	var email string
	flags := func(c *cobra.Command) *cobra.Command {
		c.Flags().StringSliceVar(&roles, "role", nil, "role: admin, maintainer, developer, approver or auditor; may be repeated")
		c.Flags().StringSliceVar(&teams, "team", nil, "team; may be repeated")
		return c
	}
	create := flags(&cobra.Command{Use: "create NAME", Short: "Create a user", Args: cobra.ExactArgs(1), Example: "  weir user create mira --role developer --email mira@example.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			var out struct {
				ID, Name string
				Roles    []string
			}
			err := g.client().Post(cmd.Context(), "/users", map[string]any{"name": args[0], "email": email, "roles": roles, "teams": teams}, &out)
			if err != nil {
				return err
			}
			return g.print(cmd, out, func(w io.Writer) {
				fmt.Fprintf(w, "Created %s. Next: `weir user link %s` for the browser, `weir token create --user %s` for git and the command line.\n", out.Name, out.Name, out.Name)
			})
		}})
	create.Flags().StringVar(&email, "email", "", "address as it stands in commits")
	list := &cobra.Command{Use: "list", Short: "List users", Args: cobra.NoArgs, Example: "  weir user list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []struct {
				Name, Email, Kind string
				Roles, Teams      []string
			}
			if err := g.client().Get(cmd.Context(), "/users", &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				var rows [][]string
				for _, u := range all {
					rows = append(rows, []string{u.Name, u.Kind, strings.Join(u.Roles, ","), strings.Join(u.Teams, ","), u.Email})
				}
				table(w, "NAME\tKIND\tROLES\tTEAMS\tEMAIL", rows)
			})
		}}
	set := flags(&cobra.Command{Use: "roles NAME", Short: "Replace the roles and teams of a user", Args: cobra.ExactArgs(1), Example: "  weir user roles mira --role developer --role approver --team release-managers",
		RunE: func(cmd *cobra.Command, args []string) error {
			if roles == nil {
				roles = []string{}
			}
			return g.client().Do(cmd.Context(), "PUT", "/users/"+client.Escape(args[0])+"/roles", map[string]any{"roles": roles, "teams": teams}, nil)
		}})
	link := &cobra.Command{Use: "link NAME", Short: "Make a one-time sign-in link", Args: cobra.ExactArgs(1), Example: "  weir user link mira",
		RunE: func(cmd *cobra.Command, args []string) error {
			var t client.Token
			if err := g.client().Post(cmd.Context(), "/users/"+client.Escape(args[0])+"/link", nil, &t); err != nil {
				return err
			}
			return g.print(cmd, t, func(w io.Writer) { fmt.Fprintln(w, t.Token) })
		}}
	return parent("user", "Manage people", create, list, set, link)
}

func tokenCommand(g *globals) *cobra.Command {
	var user, name string
	var life time.Duration
	create := &cobra.Command{Use: "create", Short: "Make a token; it is shown once", Args: cobra.NoArgs, Example: "  weir token create --name laptop --for 720h\n  weir token create --user mira",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var t client.Token
			if err := g.client().Post(cmd.Context(), "/tokens", map[string]any{"user": user, "name": name, "hours": max(1, int(life.Hours()))}, &t); err != nil {
				return err
			}
			return g.print(cmd, t, func(w io.Writer) { fmt.Fprintln(w, t.Token) })
		}}
	create.Flags().StringVar(&user, "user", "", "whose token (default: your own)")
	create.Flags().StringVar(&name, "name", "", "what it is for")
	create.Flags().DurationVar(&life, "for", 30*24*time.Hour, "how long it lives")
	return parent("token", "Manage tokens", create)
}

func repoCommand(g *globals) *cobra.Command {
	create := &cobra.Command{Use: "create NAME", Short: "Create an empty repository", Args: cobra.ExactArgs(1), Example: "  weir repo create checkout",
		RunE: func(cmd *cobra.Command, args []string) error {
			var r client.Repository
			if err := g.client().Post(cmd.Context(), "/repositories", map[string]string{"name": args[0]}, &r); err != nil {
				return err
			}
			return g.print(cmd, r, func(w io.Writer) {
				fmt.Fprintf(w, "Created %s. Push to it with any user name and a token as password:\n  git remote add weir %s\n  git push weir main\n", r.Name, r.CloneURL)
			})
		}}
	list := &cobra.Command{Use: "list", Short: "List repositories", Args: cobra.NoArgs, Example: "  weir repo list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []client.Repository
			if err := g.client().Get(cmd.Context(), "/repositories", &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				var rows [][]string
				for _, r := range all {
					rows = append(rows, []string{r.Name, short(r.Head), r.CloneURL})
				}
				table(w, "NAME\tTRUNK\tCLONE URL", rows)
			})
		}}
	return parent("repo", "Manage repositories", create, list)
}
