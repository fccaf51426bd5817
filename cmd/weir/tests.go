package main

import (
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/internal/edge/api/client"
)

func testsCommand(g *globals) *cobra.Command {
	var failed bool
	var text, job string
	var limit int
	c := &cobra.Command{Use: "tests RUN", Short: "List the tests of a run, failures first", Args: cobra.ExactArgs(1),
		Long:    "List the tests of a run, failures first, each with its place in the source and its line in the log. Results come from `go test` in the log\n(with or without -json) and from JUnit files that a job uploads with weir/test-results, or in any artifact named test-results or junit.",
		Example: "  weir tests run_01...\n  weir tests run_01... --failed\n  weir tests history 4f2a...",
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{"limit": {strconv.Itoa(limit)}, "q": {text}, "job": {job}}
			if failed {
				q.Set("outcome", "failed")
			}
			var t client.RunTests
			if err := g.client().Get(cmd.Context(), "/runs/"+client.Escape(args[0])+"/tests?"+q.Encode(), &t); err != nil {
				return err
			}
			return g.print(cmd, t, func(w io.Writer) { printTests(w, t) })
		}}
	c.Flags().BoolVar(&failed, "failed", false, "only those that failed")
	c.Flags().StringVar(&text, "match", "", "only those with this text in suite, package or name")
	c.Flags().StringVar(&job, "job", "", "only those of this job")
	c.Flags().IntVar(&limit, "limit", 100, "how many, at most 1000")
	history := &cobra.Command{Use: "history TEST", Short: "Show what became of one test over time", Args: cobra.ExactArgs(1), Example: "  weir tests history 4f2a...",
		RunE: func(cmd *cobra.Command, args []string) error {
			var h client.TestHistory
			if err := g.client().Get(cmd.Context(), "/tests/"+client.Escape(args[0]), &h); err != nil {
				return err
			}
			return g.print(cmd, h, func(w io.Writer) {
				fmt.Fprintln(w, testName(h.Test.Suite, h.Test.Package, h.Test.Name))
				for _, r := range h.Results {
					fmt.Fprintf(w, "%s  %-8s %8s  %s attempt %d at %s  %s\n", r.At.Format(time.RFC3339), outcome(r), r.Duration.Round(time.Millisecond), r.RunID, r.Attempt, short(r.Revision), firstLine(r.Message))
				}
			})
		}}
	c.AddCommand(history)
	return c
}

func printTests(w io.Writer, t client.RunTests) {
	if len(t.Reports) == 0 {
		fmt.Fprintln(w, "No test results. They are read from `go test` in the log, and from JUnit files that a step `uses: weir/test-results` uploads.")
		return
	}
	n := t.Count
	fmt.Fprintf(w, "%d tests: %d failed, %d passed, %d skipped", n.Total, n.Failed, n.Passed, n.Skipped)
	if n.Flaky > 0 {
		fmt.Fprintf(w, ", %d of them both failed and passed", n.Flaky)
	}
	fmt.Fprintln(w)
	for _, r := range t.Results {
		fmt.Fprintf(w, "%-8s %8s  %s  %s\n", outcome(r), r.Duration.Round(time.Millisecond), r.Job, testName(r.Suite, r.Package, r.Name))
		if r.Outcome != "failed" {
			continue
		}
		if r.File != "" {
			fmt.Fprintf(w, "  %s:%d\n", r.File, r.Line)
		}
		if r.Message != "" {
			fmt.Fprintf(w, "  %s\n", firstLine(r.Message))
		}
		if r.LogLine > 0 {
			fmt.Fprintf(w, "  log of %s, line %d\n", r.Job, r.LogLine)
		}
	}
	if rest := n.Total - len(t.Results); rest > 0 {
		fmt.Fprintf(w, "%d more are not listed\n", rest)
	}
	for _, r := range t.Reports {
		for _, p := range r.Problems {
			fmt.Fprintf(w, "not read, of %s: %s\n", r.Job, p)
		}
	}
}

func outcome(r client.TestResult) string {
	if r.Flaky {
		return "flaky"
	}
	return string(r.Outcome)
}

func testName(suite, pkg, name string) string {
	var parts []string
	for _, p := range []string{suite, pkg, name} {
		if p != "" && (len(parts) == 0 || parts[len(parts)-1] != p) {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, " › ")
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
