package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"weir/internal/app"
	"weir/internal/edge/api/client"
)

// logsFlags are what `weir logs` was asked for.
type logsFlags struct {
	follow, raw bool
	attempt     int
	grep        string
}

func logsCommand(g *globals) *cobra.Command {
	var f logsFlags
	c := &cobra.Command{Use: "logs RUN [JOB]", Short: "Print what the jobs of a run wrote", Args: cobra.RangeArgs(1, 2),
		Long:    "Print what the jobs of a run wrote, or one of them. With --grep only the lines that match, each with its job and its number in the log:\n`weir logs RUN JOB` and the page of the run count them the same way.",
		Example: "  weir logs -f run_01...                 everything, as it comes\n  weir logs run_01... test               one job\n  weir logs run_01... --grep 'FAIL|panic'",
		RunE: func(cmd *cobra.Command, args []string) error {
			job := ""
			if len(args) == 2 {
				job = args[1]
			}
			if f.grep != "" && !f.follow {
				return g.grepLogs(cmd, args[0], job, f)
			}
			var keep func(string) bool
			if f.grep != "" {
				re, err := regexp.Compile(f.grep)
				if err != nil {
					return client.Invalid("The pattern %q cannot be read: %v.", f.grep, err)
				}
				keep = re.MatchString
			}
			if job != "" {
				return g.printLog(cmd.Context(), cmd.OutOrStdout(), args[0], job, "", f, keep)
			}
			return g.printLogs(cmd, args[0], f, keep)
		}}
	c.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on until the job, or the run, ends")
	c.Flags().BoolVar(&f.raw, "raw", false, "print the log as it is stored, with times and markers")
	c.Flags().IntVar(&f.attempt, "attempt", 0, "which attempt (default: the last)")
	c.Flags().StringVar(&f.grep, "grep", "", "print only lines that match this regular expression (RE2)")
	return c
}

func jobPath(run, job string) string {
	return "/runs/" + client.Escape(run) + "/jobs/" + client.Escape(job) + "/log"
}

func (g *globals) printLog(ctx context.Context, w io.Writer, run, job, prefix string, f logsFlags, keep func(string) bool) error {
	q := url.Values{"follow": {strconv.FormatBool(f.follow)}, "attempt": {strconv.Itoa(f.attempt)}}
	in, err := g.client().Stream(ctx, jobPath(run, job)+"?"+q.Encode())
	if err != nil {
		return err
	}
	defer in.Close()
	if f.raw {
		_, err = io.Copy(w, in)
		return err
	}
	return app.PrintLog(w, in, prefix, keep)
}

// printLogs prints all jobs: one after the other, or, following, each as it comes.
func (g *globals) printLogs(cmd *cobra.Command, id string, f logsFlags, keep func(string) bool) error {
	ctx, out := cmd.Context(), &lockedWriter{w: cmd.OutOrStdout()}
	var wg sync.WaitGroup
	defer wg.Wait()
	errs := make(chan error, 1)
	begun := map[string]bool{}
	for {
		var r client.Run
		if err := g.client().Get(ctx, "/runs/"+client.Escape(id), &r); err != nil {
			return err
		}
		for _, j := range r.Jobs {
			if begun[j.ID] || len(j.Attempts) == 0 {
				continue
			}
			begun[j.ID] = true
			read := func() error {
				return g.printLog(ctx, out, id, j.ID, j.Key+" | ", f, keep)
			}
			if !f.follow {
				if err := read(); err != nil {
					return err
				}
				continue
			}
			wg.Go(func() {
				if err := read(); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			})
		}
		if !f.follow || !r.Finished.IsZero() {
			wg.Wait()
			select {
			case err := <-errs:
				return err
			default:
			}
			if len(begun) == 0 {
				return client.NotFound("No job of run %s has run: it is %s. %s", id, r.State, r.Reason)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-errs:
			return err
		case <-time.After(time.Second):
		}
	}
}

// lockedWriter lets several jobs write whole lines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// found is a line that --grep found.
type found struct {
	Job    string    `json:"job"`
	Number int64     `json:"number"`
	At     time.Time `json:"at"`
	Text   string    `json:"text"`
}

func (g *globals) grepLogs(cmd *cobra.Command, id, job string, f logsFlags) error {
	var r client.Run
	if err := g.client().Get(cmd.Context(), "/runs/"+client.Escape(id), &r); err != nil {
		return err
	}
	all := []found{}
	known := false
	for _, j := range r.Jobs {
		if job != "" && job != j.ID && job != j.Key {
			continue
		}
		known = true
		if len(j.Attempts) == 0 {
			continue
		}
		for from := int64(1); from > 0; {
			q := url.Values{"q": {f.grep}, "regexp": {"true"}, "from": {strconv.FormatInt(from, 10)}, "limit": {"1000"}, "attempt": {strconv.Itoa(f.attempt)}}
			var m client.LogMatches
			if err := g.client().Get(cmd.Context(), jobPath(id, j.ID)+"/search?"+q.Encode(), &m); err != nil {
				return err
			}
			for _, l := range m.Matches {
				text := l.Text
				if l.Kind == "annotation" {
					text = app.AnnotationLine(text)
				}
				all = append(all, found{j.Key, l.Number, l.At, text})
			}
			from = m.Next
		}
	}
	if !known {
		return client.NotFound("Run %s has no job %q.", id, job)
	}
	err := g.print(cmd, all, func(w io.Writer) {
		for _, l := range all {
			fmt.Fprintf(w, "%s:%d: %s\n", l.Job, l.Number, l.Text)
		}
	})
	if err == nil && len(all) == 0 {
		return client.NotFound("No line of run %s matches %q.", id, f.grep)
	}
	return err
}
