package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"weir/internal/edge/api/client"
)

func table(w io.Writer, header string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, header)
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	t.Flush()
}

func short(revision string) string { return revision[:min(len(revision), 12)] }

func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func loginCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "login SERVER", Short: "Remember a server and a token, or use a one-time sign-in link", Args: cobra.ExactArgs(1),
		Long: `Remember which server to use and with which token. Give the one-time sign-in link
that ` + "`weir serve`" + ` prints (it makes a token that lives 12 hours), or the server's
address together with --token, or with the token on standard input.`,
		Example: "  weir login 'http://127.0.0.1:7400/signin?link=weir_...'\n  weir login https://weir.example.com --token weir_...",
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := url.Parse(args[0])
			if err != nil || u.Host == "" {
				return usageError{fmt.Errorf("%q is not an address such as http://127.0.0.1:7400", args[0])}
			}
			c := client.New(u.Scheme+"://"+u.Host, g.token)
			if link := u.Query().Get("link"); link != "" {
				var t client.Token
				if err := c.Post(cmd.Context(), "/sign-in", map[string]string{"link": link}, &t); err != nil {
					return err
				}
				c.Token = t.Token
			}
			if c.Token == "" {
				fmt.Fprint(cmd.ErrOrStderr(), "Token: ")
				line, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
				c.Token = strings.TrimSpace(line)
			}
			var who struct{ Name string }
			if err := c.Get(cmd.Context(), "/me", &who); err != nil {
				return err
			}
			raw, err := json.Marshal(credentials{c.Server, c.Token})
			if err != nil {
				return err
			}
			path := credentialsPath()
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Signed in to %s as %s.\n", c.Server, who.Name)
			return nil
		},
	}
}

// findChange reads "42" or "repo#42" or an id.
func findChange(cmd *cobra.Command, g *globals, repo, arg string) (client.Change, error) {
	var c client.Change
	if name, number, ok := strings.Cut(arg, "#"); ok {
		repo, arg = first(name, repo), number
	}
	if _, err := strconv.Atoi(arg); err != nil {
		return c, g.client().Get(cmd.Context(), "/changes/"+client.Escape(arg), &c)
	}
	if repo == "" {
		return c, usageError{fmt.Errorf("say which repository: REPOSITORY#%s", arg)}
	}
	return c, g.client().Get(cmd.Context(), "/repositories/"+client.Escape(repo)+"/changes/"+arg, &c)
}

func changeCommand(g *globals) *cobra.Command {
	show := func(cmd *cobra.Command, c client.Change) error {
		return g.print(cmd, c, func(w io.Writer) {
			fmt.Fprintf(w, "#%d %s\n%s, %s -> %s, patchset %d at %s, by %s\n", c.Change.Number, c.Change.Title, c.Change.State, c.Change.Branch, c.Change.Target, c.Change.Patchset, short(c.Change.Revision), c.Change.Author)
			for _, k := range c.Checks {
				fmt.Fprintf(w, "  check   %-10s %s\n", k.State, k.Name)
			}
			for _, r := range c.Reviews {
				fmt.Fprintf(w, "  review  %-10s %s on %s\n", r.Verdict, r.By, short(r.Revision))
			}
			for _, r := range c.Gate {
				mark := "no"
				if r.Allow {
					mark = "yes"
				}
				fmt.Fprintf(w, "  gate    %-10s %s: %s\n", mark, r.Rule, r.Message)
				if len(r.Who) > 0 && !r.Allow {
					fmt.Fprintf(w, "          who can help: %s\n", strings.Join(r.Who, ", "))
				}
			}
		})
	}
	var title, comment, state string
	open := &cobra.Command{Use: "open REPOSITORY BRANCH", Short: "Propose to merge a pushed branch", Args: cobra.ExactArgs(2), Example: "  weir change open checkout my-change --title 'feat: faster totals'",
		RunE: func(cmd *cobra.Command, args []string) error {
			var c client.Change
			if err := g.client().Post(cmd.Context(), "/repositories/"+client.Escape(args[0])+"/changes", map[string]string{"branch": args[1], "title": title}, &c); err != nil {
				return err
			}
			return show(cmd, c)
		}}
	open.Flags().StringVar(&title, "title", "", "title (default: the branch)")
	list := &cobra.Command{Use: "list [REPOSITORY]", Short: "List changes", Args: cobra.MaximumNArgs(1), Example: "  weir change list checkout --state open",
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{}
			if len(args) > 0 {
				q.Set("repository", args[0])
			}
			if state != "" {
				q.Set("state", state)
			}
			var all []struct {
				ID                   string
				Number               int64
				Title, State, Author string
				Revision             string
				Created              time.Time
			}
			if err := g.client().Get(cmd.Context(), "/changes?"+q.Encode(), &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				var rows [][]string
				for _, c := range all {
					rows = append(rows, []string{fmt.Sprintf("#%d", c.Number), c.State, c.Author, short(c.Revision), ago(c.Created), c.Title})
				}
				table(w, "NUMBER\tSTATE\tAUTHOR\tREVISION\tOPENED\tTITLE", rows)
			})
		}}
	list.Flags().StringVar(&state, "state", "", "open, landed or abandoned")
	one := func(use, short, example string, do func(cmd *cobra.Command, c client.Change) error) *cobra.Command {
		return &cobra.Command{Use: use + " REPOSITORY#NUMBER", Short: short, Args: cobra.ExactArgs(1), Example: "  weir change " + use + " " + example,
			RunE: func(cmd *cobra.Command, args []string) error {
				c, err := findChange(cmd, g, "", args[0])
				if err != nil {
					return err
				}
				return do(cmd, c)
			}}
	}
	say := func(verdict string) func(cmd *cobra.Command, c client.Change) error {
		return func(cmd *cobra.Command, c client.Change) error {
			if err := g.client().Post(cmd.Context(), "/changes/"+c.Change.ID+"/reviews", map[string]string{"verdict": verdict, "comment": comment}, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s #%d at %s\n", verdict, c.Change.Title, c.Change.Number, short(c.Change.Revision))
			return nil
		}
	}
	approve := one("approve", "Say yes to the newest patchset", "checkout#2", say("approve"))
	reject := one("reject", "Say no to the newest patchset", "checkout#2 --comment 'breaks the total'", say("reject"))
	for _, c := range []*cobra.Command{approve, reject} {
		c.Flags().StringVar(&comment, "comment", "", "what to say")
	}
	return parent("change", "Open, review and land changes", open, list,
		one("show", "Show a change and what stops it", "checkout#2", show), approve, reject,
		one("land", "Land a change, if its gate says yes", "checkout#2", func(cmd *cobra.Command, c client.Change) error {
			if err := g.client().Post(cmd.Context(), "/changes/"+c.Change.ID+"/land", nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Landed #%d: %s is now %s.\n", c.Change.Number, c.Change.Target, short(c.Change.Revision))
			return nil
		}),
		one("abandon", "End a change without landing it", "checkout#2", func(cmd *cobra.Command, c client.Change) error {
			return g.client().Post(cmd.Context(), "/changes/"+c.Change.ID+"/abandon", nil, nil)
		}))
}

func runsCommand(g *globals) *cobra.Command {
	var repository string
	list := &cobra.Command{Use: "list", Short: "List runs", Args: cobra.NoArgs, Example: "  weir runs list --repository checkout",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []client.Run
			if err := g.client().Get(cmd.Context(), "/runs?"+url.Values{"repository": {repository}}.Encode(), &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				var rows [][]string
				for _, r := range all {
					rows = append(rows, []string{r.ID, r.State, r.Repository, r.Workflow, r.Trust, short(r.Revision), ago(r.Created)})
				}
				table(w, "RUN\tSTATE\tREPOSITORY\tWORKFLOW\tTRUST\tREVISION\tCREATED", rows)
			})
		}}
	list.Flags().StringVar(&repository, "repository", "", "only of this repository")
	show := &cobra.Command{Use: "show RUN", Short: "Show a run with jobs and steps", Args: cobra.ExactArgs(1), Example: "  weir runs show run_01...",
		RunE: func(cmd *cobra.Command, args []string) error {
			var r client.Run
			if err := g.client().Get(cmd.Context(), "/runs/"+client.Escape(args[0]), &r); err != nil {
				return err
			}
			return g.print(cmd, r, func(w io.Writer) { printRun(w, r) })
		}}
	why := &cobra.Command{Use: "why RUN", Short: "Say what a run waits for, since when, and who can release it", Args: cobra.ExactArgs(1), Example: "  weir runs why run_01...",
		RunE: func(cmd *cobra.Command, args []string) error {
			var out client.Wait
			if err := g.client().Get(cmd.Context(), "/runs/"+client.Escape(args[0])+"/why", &out); err != nil {
				return err
			}
			return g.print(cmd, out, func(w io.Writer) {
				if len(out.Waits) == 0 {
					fmt.Fprintf(w, "It waits for nothing, it has finished: %s. %s\n", out.Run.State, out.Run.Reason)
				}
				for _, x := range out.Waits {
					fmt.Fprintf(w, "%s waits for %s, since %s.\n  Who can release it: %s\n", first(x.Job, "The run"), x.For, ago(x.Since), x.Who)
				}
			})
		}}
	var reason string
	cancel := &cobra.Command{Use: "cancel RUN", Short: "Stop a run", Args: cobra.ExactArgs(1), Example: "  weir runs cancel run_01... --reason 'wrong branch'",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client().Post(cmd.Context(), "/runs/"+client.Escape(args[0])+"/cancel", map[string]string{"reason": reason}, nil)
		}}
	cancel.Flags().StringVar(&reason, "reason", "", "why")
	rerun := &cobra.Command{Use: "rerun RUN", Short: "Run again what did not succeed", Args: cobra.ExactArgs(1), Example: "  weir runs rerun run_01...",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client().Post(cmd.Context(), "/runs/"+client.Escape(args[0])+"/rerun", nil, nil)
		}}
	return parent("runs", "Look at runs and start them", list, startCommand(g), approveRunCommand(g), show, why, cancel, rerun)
}

func printRun(w io.Writer, r client.Run) {
	fmt.Fprintf(w, "%s  %s of %s at %s (%s): %s\n", r.ID, r.Workflow, r.Repository, short(r.Revision), r.Trust, r.State)
	if r.Reason != "" {
		fmt.Fprintln(w, "  "+r.Reason)
	}
	for _, d := range r.Diagnostics {
		fmt.Fprintf(w, "  %s:%d:%d: %s\n", d.File, d.Line, d.Col, d.Message)
	}
	for _, j := range r.Jobs {
		fmt.Fprintf(w, "  %-10s %s\n", j.State, j.Key)
		if len(j.Attempts) == 0 {
			continue
		}
		for _, a := range j.Attempts[:len(j.Attempts)-1] {
			fmt.Fprintf(w, "    attempt %d was %s: %s\n", a.Number, a.State, a.Reason)
		}
		for _, s := range j.Attempts[len(j.Attempts)-1].Steps {
			took := ""
			if !s.Finished.IsZero() {
				took = s.Finished.Sub(s.Started).Round(time.Millisecond).String()
			}
			fmt.Fprintf(w, "    %-10s %s  %s\n", s.State, s.Name, took)
		}
	}
}
