package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"weir/internal/base/confine"
	"weir/internal/edge/api/client"
)

// project is a repository on a server under measurement, with somebody who may push to it.
type project struct {
	*server
	work, remote string
}

func (s *server) project(ctx context.Context, name string) (*project, error) {
	var tok client.Token
	for _, call := range []struct {
		path string
		body any
		out  any
	}{
		{"/users", map[string]any{"name": name, "roles": []string{"maintainer"}}, nil},
		{"/tokens", map[string]any{"user": name, "hours": 1}, &tok},
		{"/repositories", map[string]any{"name": name}, nil},
	} {
		if err := s.admin.Post(ctx, call.path, call.body, call.out); err != nil {
			return nil, err
		}
	}
	return &project{s, filepath.Join(s.dir, "work-"+name), strings.Replace(s.url, "http://", "http://"+name+":"+tok.Token+"@", 1) + "/git/" + name + ".git"}, nil
}

// run pushes a workflow to a fresh repository and waits for its run.
func (p *project) run(ctx context.Context, workflow string) (run client.Run, err error) {
	if err := os.MkdirAll(filepath.Join(p.work, ".github/workflows"), 0o755); err != nil {
		return run, err
	}
	if err := os.WriteFile(filepath.Join(p.work, ".github/workflows/ci.yml"), []byte(workflow), 0o644); err != nil {
		return run, err
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"-c", "user.name=bench", "-c", "user.email=bench@users.invalid", "commit", "-qm", "jobs"}, {"push", "-q", p.remote, "HEAD:refs/heads/main"}} {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = p.work
		if out, err := cmd.CombinedOutput(); err != nil {
			return run, fmt.Errorf("git %s: %w: %s", args[0], err, out)
		}
	}
	name := strings.TrimPrefix(filepath.Base(p.work), "work-")
	for run.Finished.IsZero() {
		var all []client.Run
		if err := p.admin.Get(ctx, "/runs?repository="+name, &all); err != nil {
			return run, err
		}
		if len(all) > 0 {
			run = all[0]
		}
		select {
		case <-ctx.Done():
			return run, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	if run.State != "success" {
		return run, fmt.Errorf("the run is %s: %s", run.State, run.Reason)
	}
	return run, nil
}

// spread is as many jobs as one run may have, from matrices of at most 256.
func spread(jobs int) string {
	var wf strings.Builder
	wf.WriteString("on: push\njobs:\n")
	for i := 0; jobs > 0; i++ {
		n := min(jobs, 250)
		jobs -= n
		fmt.Fprintf(&wf, "  m%d:\n    runs-on: any\n    strategy:\n      matrix:\n        n: [%s]\n    steps:\n      - run: \"true\"\n", i, numbers(n))
	}
	return wf.String()
}

func numbers(n int) string {
	var all []string
	for i := range n {
		all = append(all, strconv.Itoa(i))
	}
	return strings.Join(all, ",")
}

// jobs measures runs on a server with its database and logs, against the realistic floor of the same work in the same run
// (workspace, and the same confinement, two at a time), the bare one (fork and exec), and make -j2.
func jobs(ctx context.Context, weir string, t *table) error {
	if err := runsOn(ctx, weir, t, ""); err != nil {
		return err
	}
	if url := os.Getenv("WEIR_TEST_POSTGRES"); url != "" {
		return runsOn(ctx, weir, t, url)
	}
	return nil
}

func runsOn(ctx context.Context, weir string, t *table, database string) error {
	suffix := ""
	var more []string
	if database != "" {
		suffix, more = "_postgres", []string{"--database", database}
	}
	s, err := serve(ctx, weir, more...)
	if err != nil {
		return err
	}
	defer s.stop()
	for _, n := range []int{100, 1000} {
		p, err := s.project(ctx, fmt.Sprintf("jobs%d", n))
		if err != nil {
			return err
		}
		run, err := p.run(ctx, spread(n))
		if err != nil {
			return err
		}
		floor, err := twoAtATime(n, func(i int) error { return confined(ctx, filepath.Join(s.dir, fmt.Sprintf("floor%d", i))) })
		if err != nil {
			return err
		}
		bare, err := twoAtATime(n, func(int) error { return exec.Command("sh", "-c", "true").Run() })
		if err != nil {
			return err
		}
		took := run.Finished.Sub(run.Created)
		t.add(fmt.Sprintf("run_%d_jobs%s", n, suffix), ms(took), "ms", ms(floor))
		t.add(fmt.Sprintf("run_%d_jobs%s_to_fork_exec", n, suffix), ms(took), "ms", ms(bare))
		if database == "" {
			if made, err := makeFloor(ctx, s.dir, n); err == nil {
				t.add(fmt.Sprintf("run_%d_jobs_to_make_j2", n), ms(took), "ms", ms(made))
			}
		}
	}
	return steps(ctx, s, t, suffix)
}

// steps is one job of 100 steps, against the same in one sandbox.
func steps(ctx context.Context, s *server, t *table, suffix string) error {
	const n = 100
	p, err := s.project(ctx, "steps")
	if err != nil {
		return err
	}
	run, err := p.run(ctx, "on: push\njobs:\n  one:\n    runs-on: any\n    steps:\n"+strings.Repeat("      - run: \"true\"\n", n))
	if err != nil {
		return err
	}
	dir := filepath.Join(s.dir, "floor-steps")
	began := time.Now()
	if err := sequential(ctx, dir, n); err != nil {
		return err
	}
	t.add("run_1x100_steps"+suffix, ms(run.Finished.Sub(run.Created)), "ms", ms(time.Since(began)))
	return nil
}

// sequential is what any runner has to do for a job of n steps: a workspace, one sandbox, and for each step the files that steps
// talk through, a script and a shell.
func sequential(ctx context.Context, dir string, n int) error {
	if err := os.MkdirAll(filepath.Join(dir, "workspace"), 0o700); err != nil {
		return err
	}
	box, err := confine.Open(ctx, confine.Spec{Dir: dir, Network: confine.Egress})
	if err != nil {
		return err
	}
	defer box.Close()
	for i := range n {
		for _, name := range []string{"script", "env", "output", "path", "summary", "state"} {
			if err := os.WriteFile(filepath.Join(dir, name+strconv.Itoa(i)), []byte("true\n"), 0o700); err != nil {
				return err
			}
		}
		p, err := box.Start(confine.Cmd{Argv: []string{"bash", "-e", filepath.Join(dir, "script"+strconv.Itoa(i))}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: filepath.Join(dir, "workspace")})
		if err != nil {
			return err
		}
		if _, err := p.Wait(); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// makeFloor is make -j2 with as many targets.
func makeFloor(ctx context.Context, dir string, n int) (time.Duration, error) {
	var b strings.Builder
	b.WriteString("all:")
	for i := range n {
		fmt.Fprintf(&b, " t%d", i)
	}
	for i := range n {
		fmt.Fprintf(&b, "\nt%d:\n\t@sh -c true\n", i)
	}
	file := filepath.Join(dir, "Makefile.floor")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return 0, err
	}
	began := time.Now()
	err := exec.CommandContext(ctx, "make", "-j2", "-s", "-f", file).Run()
	return time.Since(began), err
}

func twoAtATime(n int, do func(int) error) (time.Duration, error) {
	began := time.Now()
	errs := make(chan error, 2)
	for half := range 2 {
		go func() {
			for i := half; i < n; i += 2 {
				if err := do(i); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	err := errors.Join(<-errs, <-errs)
	return time.Since(began), err
}

// memory runs ten times a thousand jobs and compares what the server holds after the first and after the last.
func memory(ctx context.Context, weir string, t *table) error {
	s, err := serve(ctx, weir)
	if err != nil {
		return err
	}
	defer s.stop()
	var first float64
	for i := range 10 {
		p, err := s.project(ctx, fmt.Sprintf("memory%d", i))
		if err != nil {
			return err
		}
		if _, err := p.run(ctx, spread(1000)); err != nil {
			return err
		}
		rss, err := s.rss()
		if err != nil {
			return err
		}
		if i == 0 {
			first = rss
			t.add("rss_after_1000_jobs_mb", rss, "MB", 0)
		}
		if i == 9 {
			t.add("rss_after_10000_jobs_mb", rss, "MB", first)
		}
	}
	return nil
}
