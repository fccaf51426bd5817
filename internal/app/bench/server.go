package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"weir/internal/base/confine"
	"weir/internal/edge/api/client"
)

// server is a Weir under measurement.
type server struct {
	cmd     *exec.Cmd
	url     string
	dir     string
	admin   *client.Client
	started time.Duration
}

// serve starts the binary on a free port and a fresh folder.
func serve(ctx context.Context, weir string) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	l.Close()
	s := &server{url: "http://" + address}
	if s.dir, err = os.MkdirTemp("", "weir-bench-"); err != nil {
		return nil, err
	}
	s.cmd = exec.CommandContext(ctx, weir, "serve", "--listen", address, "--data", filepath.Join(s.dir, "data"))
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	link := make(chan string, 1)
	go func() {
		sc := bufio.NewScanner(out)
		for sc.Scan() {
			if u, err := url.Parse(strings.TrimSpace(sc.Text())); err == nil && u.Query().Get("link") != "" {
				link <- u.Query().Get("link")
			}
		}
	}()
	for {
		res, err := http.Get(s.url + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Since(began) > 30*time.Second {
			return nil, errors.Join(errors.New("the server is not ready after 30 s"), s.stop())
		}
		time.Sleep(time.Millisecond)
	}
	s.started = time.Since(began)
	s.admin = client.New(s.url, "")
	var t client.Token
	if err := s.admin.Post(ctx, "/sign-in", map[string]string{"link": <-link}, &t); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	s.admin.Token = t.Token
	return s, nil
}

// stop ends the server and the host process that it started.
func (s *server) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
	out, _ := exec.Command("pgrep", "-f", "host run --dir "+filepath.Join(s.dir, "data")).Output()
	for pid := range strings.FieldsSeq(string(out)) {
		if n, err := strconv.Atoi(pid); err == nil {
			_ = syscall.Kill(n, syscall.SIGTERM)
		}
	}
	return os.RemoveAll(s.dir)
}

// start measures an idle server.
func start(ctx context.Context, weir string, t *table) error {
	st, err := os.Stat(weir)
	if err != nil {
		return err
	}
	t.add("binary_mb", float64(st.Size())/1e6, "MB", 0)
	s, err := serve(ctx, weir)
	if err != nil {
		return err
	}
	t.add("start_ms", ms(s.started), "ms to /readyz", 500)
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Second):
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return errors.Join(err, s.stop())
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kb, _ := strconv.ParseFloat(f[1], 64)
			t.add("idle_rss_mb", kb/1024, "MB", 120)
		}
	}
	return s.stop()
}

const jobCount = 100

// jobs runs 100 one-step jobs through a server, database and logs included,
// against the realistic floor (workspace, and the same confinement, two at a
// time) and the bare one (fork and exec).
func jobs(ctx context.Context, weir string, t *table) error {
	s, err := serve(ctx, weir)
	if err != nil {
		return err
	}
	defer s.stop()
	var tok client.Token
	for _, call := range []struct {
		path string
		body any
		out  any
	}{
		{"/users", map[string]any{"name": "bench", "roles": []string{"maintainer"}}, nil},
		{"/tokens", map[string]any{"user": "bench", "hours": 1}, &tok},
		{"/repositories", map[string]any{"name": "bench"}, nil},
	} {
		if err := s.admin.Post(ctx, call.path, call.body, call.out); err != nil {
			return err
		}
	}
	var wf strings.Builder
	wf.WriteString("on: push\njobs:\n")
	for i := range jobCount {
		fmt.Fprintf(&wf, "  j%d:\n    runs-on: any\n    steps:\n      - run: \"true\"\n", i)
	}
	work := filepath.Join(s.dir, "work")
	if err := os.MkdirAll(filepath.Join(work, ".github/workflows"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(work, ".github/workflows/ci.yml"), []byte(wf.String()), 0o644); err != nil {
		return err
	}
	remote := strings.Replace(s.url, "http://", "http://bench:"+tok.Token+"@", 1) + "/git/bench.git"
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"-c", "user.name=bench", "-c", "user.email=bench@users.invalid", "commit", "-qm", "jobs"}, {"push", "-q", remote, "HEAD:refs/heads/main"}} {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = work
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w: %s", args[0], err, out)
		}
	}
	var run client.Run
	for run.Finished.IsZero() {
		var all []client.Run
		if err := s.admin.Get(ctx, "/runs", &all); err != nil {
			return err
		}
		if len(all) > 0 {
			run = all[0]
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	if run.State != "success" {
		return fmt.Errorf("the run is %s: %s", run.State, run.Reason)
	}
	floor, err := twoAtATime(func(i int) error { return confined(ctx, filepath.Join(s.dir, fmt.Sprintf("floor%d", i))) })
	if err != nil {
		return err
	}
	bare, err := twoAtATime(func(int) error { return exec.Command("sh", "-c", "true").Run() })
	if err != nil {
		return err
	}
	took := run.Finished.Sub(run.Created)
	t.add("run_100_jobs", ms(took), "ms", ms(floor))
	t.add("run_100_jobs_to_fork_exec", ms(took), "ms", ms(bare))
	return nil
}

func twoAtATime(do func(int) error) (time.Duration, error) {
	began := time.Now()
	errs := make(chan error, 2)
	for half := range 2 {
		go func() {
			for i := half; i < jobCount; i += 2 {
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

// confined is what any runner has to do for a job: a workspace with a script
// and the files that steps talk through, a sandbox, a command, and the end.
func confined(ctx context.Context, dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "workspace"), 0o700); err != nil {
		return err
	}
	for _, name := range []string{"script", "env", "output", "path", "summary"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("true\n"), 0o600); err != nil {
			return err
		}
	}
	box, err := confine.Open(ctx, confine.Spec{Dir: dir, Network: confine.Egress})
	if err != nil {
		return err
	}
	defer box.Close()
	p, err := box.Start(confine.Cmd{Argv: []string{"/bin/sh", "-e", filepath.Join(dir, "script")}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: filepath.Join(dir, "workspace")})
	if err != nil {
		return err
	}
	if _, err := p.Wait(); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
