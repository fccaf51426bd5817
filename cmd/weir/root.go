package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"weir/internal/app"
	"weir/internal/edge/api/client"
)

const exits = `Exit status: 0 done, 1 internal error, 2 wrong usage, 3 not found, 4 conflict (not now),
5 invalid input, 6 denied, 7 unavailable (no server, full disk), 130 interrupted.`

// globals are the flags that every command has.
type globals struct {
	server, token string
	json          bool
}

// credentials is what `weir login` remembers.
type credentials struct {
	Server string `json:"server"`
	Token  string `json:"token"`
}

func credentialsPath() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		dir = "."
	}
	return filepath.Join(dir, "weir", "credentials.json")
}

// client returns a client of the server that flags, environment or login name,
// in this order.
func (g *globals) client() *client.Client {
	var saved credentials
	if raw, err := os.ReadFile(credentialsPath()); err == nil {
		_ = json.Unmarshal(raw, &saved) // A damaged file is as good as none: the server will say who is missing.
	}
	server, token := first(g.server, os.Getenv("WEIR_SERVER"), saved.Server, "http://127.0.0.1:7400"), first(g.token, os.Getenv("WEIR_TOKEN"))
	if token == "" && (saved.Server == server || saved.Server == "") {
		token = saved.Token // A token is never sent to another server than it was saved for.
	}
	return client.New(server, token)
}

// tokenFor is the token for the registry that an image names: one that was kept for a server is no other registry's business.
func (g *globals) tokenFor(image string) string {
	cl := g.client()
	if u, err := url.Parse(cl.Server); err == nil && strings.HasPrefix(image, u.Host+"/") {
		return cl.Token
	}
	return g.token
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// print writes v as JSON, or lets text write it for people.
func (g *globals) print(cmd *cobra.Command, v any, text func(w io.Writer)) error {
	if g.json {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	text(cmd.OutOrStdout())
	return nil
}

func command() *cobra.Command {
	g := &globals{}
	root := &cobra.Command{
		Use:   "weir",
		Short: "The control point between a commit and production",
		Long: `Weir takes a change from git push to production with evidence at every step, and
takes it back by itself when the evidence says so.

` + exits,
		Example: `  weir demo                                  see all of it in two minutes
  weir serve                                 run a server on this machine
  weir init                                  describe a repository's services
  weir rollback checkout production          go back, now`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       app.Release,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nSee `%s --help`", err, cmd.CommandPath())}
	})
	p := root.PersistentFlags()
	p.StringVar(&g.server, "server", "", "address of the server (WEIR_SERVER; default: as logged in, else http://127.0.0.1:7400)")
	p.StringVar(&g.token, "token", "", "token to use (WEIR_TOKEN; default: as logged in)")
	p.BoolVar(&g.json, "json", false, "print JSON")
	root.AddGroup(&cobra.Group{ID: "run", Title: "Run Weir:"}, &cobra.Group{ID: "repo", Title: "In a repository:"}, &cobra.Group{ID: "deliver", Title: "Deliver:"},
		&cobra.Group{ID: "prove", Title: "Prove:"}, &cobra.Group{ID: "admin", Title: "Administer:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("run", serveCommand(), agentCommand(g), hostCommand(g), demoCommand())
	add("repo", initCommand(g), lintCommand(g), schemaCommand(), configCommand())
	add("deliver", loginCommand(g), changeCommand(g), runsCommand(g), logsCommand(g), testsCommand(g), releaseCommand(g), rolloutCommand(g), rollbackCommand(g))
	add("repo", runCommand(g), exprCommand())
	add("admin", settingCommand(g, "secret", "/secrets"), settingCommand(g, "variable", "/variables"), mirrorCommand(g))
	add("prove", artifactCommand(g), verifyCommand(g), evidenceCommand(g), policyCommand(g), vulnerabilityCommand(g), auditCommand(g))
	add("admin", userCommand(g), tokenCommand(g), repoCommand(g), keysCommand(g), gcCommand(g))
	add("admin", registryCommand(g))
	wrapArgs(root)
	return root
}

// wrapArgs makes a wrong number of arguments a usage error, everywhere.
func wrapArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{fmt.Errorf("%w\nUsage: %s", err, strings.TrimSpace(cmd.UseLine()))}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		wrapArgs(sub)
	}
}

// parent is a command that only has others.
func parent(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(subs...)
	return c
}
