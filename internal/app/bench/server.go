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
func serve(ctx context.Context, weir string, more ...string) (*server, error) {
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
	s.cmd.Args = append(s.cmd.Args, more...)
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
	rss, err := s.rss()
	if err != nil {
		return errors.Join(err, s.stop())
	}
	t.add("idle_rss_mb", rss, "MB", 120)
	return s.stop()
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

// rss is the memory of the server's process, in MB.
func (s *server) rss() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kb, err := strconv.ParseFloat(f[1], 64)
			return kb / 1024, err
		}
	}
	return 0, errors.New("the system tells no memory of the server")
}

// cpu is the processor time that the server's process has used.
func (s *server) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}
