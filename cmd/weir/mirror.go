package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/internal/edge/api/client"
)

type mirrored struct {
	Name, URL, By string
	Size          int64
	Refs          map[string]string
	Fetched       time.Time
}

func mirrorCommand(g *globals) *cobra.Command {
	fetch := func(cmd *cobra.Command, name, from string) error {
		var m mirrored
		if err := g.client().Post(cmd.Context(), "/mirrors", map[string]string{"name": name, "from": from}, &m); err != nil {
			return err
		}
		return g.print(cmd, m, func(w io.Writer) {
			fmt.Fprintf(w, "Fetched %s from %s: %d branches and tags, %d KiB.\n", m.Name, m.URL, len(m.Refs), m.Size>>10)
		})
	}
	var name string
	add := &cobra.Command{Use: "add URL|PATH", Short: "Fetch a repository, so that runs may use its actions and workflows", Args: cobra.ExactArgs(1),
		Long: `Fetch a repository from a URL, or from a path on the server's machine. Runs may then
use its actions and workflows as owner/name@revision. Tags and branches stay what they
were when they were fetched, until weir mirror update.`,
		Example: "  weir mirror add https://github.com/golangci/golangci-lint-action\n  weir mirror add /srv/git/tools.git --name acme/tools",
		RunE: func(cmd *cobra.Command, args []string) error {
			from := args[0]
			if !strings.Contains(from, "://") {
				abs, err := filepath.Abs(from)
				if err != nil {
					return err
				}
				from = abs
			}
			return fetch(cmd, name, from)
		}}
	add.Flags().StringVar(&name, "name", "", "OWNER/NAME that workflows use (default: the end of the URL)")
	update := &cobra.Command{Use: "update OWNER/NAME", Short: "Fetch a mirror again", Args: cobra.ExactArgs(1), Example: "  weir mirror update golangci/golangci-lint-action",
		RunE: func(cmd *cobra.Command, args []string) error { return fetch(cmd, args[0], "") }}
	list := &cobra.Command{Use: "list", Short: "List mirrors", Args: cobra.NoArgs, Example: "  weir mirror list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []mirrored
			if err := g.client().Get(cmd.Context(), "/mirrors", &all); err != nil {
				return err
			}
			return g.print(cmd, all, func(w io.Writer) {
				var rows [][]string
				for _, m := range all {
					rows = append(rows, []string{m.Name, m.URL, strconv.Itoa(len(m.Refs)), ago(m.Fetched), m.By})
				}
				table(w, "NAME\tFROM\tREFS\tFETCHED\tBY", rows)
			})
		}}
	remove := &cobra.Command{Use: "remove OWNER/NAME", Short: "Forget a mirror", Args: cobra.ExactArgs(1), Example: "  weir mirror remove acme/tools",
		RunE: func(cmd *cobra.Command, args []string) error {
			owner, name, ok := strings.Cut(args[0], "/")
			if !ok {
				return usageError{fmt.Errorf("%q is not OWNER/NAME", args[0])}
			}
			return g.client().Do(cmd.Context(), "DELETE", "/mirrors/"+client.Escape(owner)+"/"+client.Escape(name), nil, nil)
		}}
	return parent("mirror", "Manage copies of repositories whose actions runs may use", add, update, list, remove)
}
