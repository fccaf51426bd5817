package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"weir/internal/edge/api/client"
)

var (
	binary string // the program under test
	seed   string // Go build cache that every repository's own begins with
	long   = os.Getenv("WEIR_TEST_LONG") != ""
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "weir-e2e-")
	if err == nil {
		err = prepare(dir)
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	for _, clean := range atExit {
		clean()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// prepare finds or builds the binary, and compiles once what the repositories
// of the tests are made of.
func prepare(dir string) error {
	if binary = os.Getenv("WEIR_TEST_BINARY"); binary == "" {
		binary = filepath.Join(dir, "weir")
		build := exec.Command("go", "build", "-o", binary, "weir/cmd/weir")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build weir: %w\n%s", err, out)
		}
	}
	if _, err := os.Stat(binary); err != nil {
		return err
	}
	seed = filepath.Join(dir, "seed")
	src := filepath.Join(dir, "src")
	for name, text := range tiny("first", "") {
		if err := writeTo(filepath.Join(src, name), text); err != nil {
			return err
		}
	}
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid= -X main.version=0.0.0", "-o", filepath.Join(dir, "tiny"), ".")
	build.Dir = src
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOTOOLCHAIN=local", "GOFLAGS=", "GOWORK=off", "GOCACHE="+filepath.Join(seed, "go-build"))
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the example: %w\n%s", err, out)
	}
	return nil
}

func writeTo(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// buffer is written by a process and read by a test.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *buffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.Reset()
}

// server is one data folder with the process that serves it, which may come
// and go.
type server struct {
	t        testing.TB
	dir      string // holds the data folder and the configuration
	data     string
	listen   string
	url      string
	out, log *buffer
	binary   string   // instead of the binary under test, for an upgrade
	env      []string // further environment of the process
	cmd      *exec.Cmd
	exited   chan struct{} // closed once cmd has ended
	exit     error
}

// newServer makes a folder and a configuration; conf is added to it.
func newServer(t testing.TB, conf string) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "we")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, dir: dir, data: filepath.Join(dir, "data"), out: &buffer{}, log: &buffer{}}
	s.place()
	s.configure(conf)
	t.Cleanup(s.clear)
	return s
}

// place gives the server a free port below those that the system hands out, so
// that nobody else gets it while the server is down.
func (s *server) place() {
	for range 100 {
		s.listen = "127.0.0.1:" + strconv.Itoa(10000+rand.IntN(20000))
		if l, err := net.Listen("tcp", s.listen); err == nil {
			l.Close()
			s.url = "http://" + s.listen
			return
		}
	}
	s.t.Fatal("no free port")
}

func (s *server) configPath() string { return filepath.Join(s.dir, "weir.conf.yaml") }

func (s *server) configure(more string) {
	s.t.Helper()
	if !strings.Contains(more, "runner:") {
		more += fmt.Sprintf("\nrunner: {slots: 2, cache_seed: %q}\n", seed)
	}
	text := fmt.Sprintf("listen: %q\ndata: %q\nlog: {level: warn}\n%s\n", s.listen, s.data, more)
	if err := os.WriteFile(s.configPath(), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// launch starts the process and does not wait.
func (s *server) launch(env ...string) {
	s.t.Helper()
	program := binary
	if s.binary != "" {
		program = s.binary
	}
	s.cmd = exec.Command(program, "serve", "--config", s.configPath())
	s.cmd.Dir = s.dir
	s.cmd.Env = append(append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + os.TempDir(), "USER=tester"}, s.env...), env...)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, exited := s.cmd, make(chan struct{})
	s.exited = exited
	go func() {
		s.exit = cmd.Wait()
		close(exited)
	}()
}

var errEnded = errors.New("the server ended")

// ready waits until the server answers, or has ended.
func (s *server) ready() error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if res, err := http.Get(s.url + "/readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.exited:
			return fmt.Errorf("%w: %v\n%s%s", errEnded, s.exit, s.out, s.log)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("the server was not ready within 30 s\n%s%s", s.out, s.log)
}

// start launches the server and waits until it is ready.
func (s *server) start(env ...string) {
	s.t.Helper()
	s.launch(env...)
	if err := s.ready(); err != nil {
		s.t.Fatal(err)
	}
}

// kill ends the server as a power failure would.
func (s *server) kill() {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Fatal(err)
	}
	<-s.exited
}

// stop ends the server gracefully.
func (s *server) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Fatal(err)
	}
	select {
	case <-s.exited:
	case <-time.After(15 * time.Second):
		_ = s.cmd.Process.Kill()
		s.t.Fatalf("the server did not stop within 15 s\n%s", s.log)
	}
}

// clear ends what this test started, and removes its folder.
func (s *server) clear() {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.exited:
		case <-time.After(10 * time.Second):
			_ = s.cmd.Process.Kill()
			<-s.exited
		}
	}
	if s.t.Failed() {
		s.t.Logf("server %s\n%s%s", s.dir, s.out, tail(s.log.String(), 6000))
		if raw, err := os.ReadFile(filepath.Join(s.data, "host", "host.log")); err == nil {
			s.t.Logf("host\n%s", tail(string(raw), 3000))
		}
	}
	s.stopHost()
	_ = exec.Command("chmod", "-R", "u+w", s.dir).Run()
	if os.Getenv("WEIR_TEST_KEEP") == "" {
		_ = os.RemoveAll(s.dir)
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func (s *server) hostDir() string { return filepath.Join(s.data, "host") }

// hostPID finds the host process of this data folder, or 0.
func (s *server) hostPID() int {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		args := strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
		if len(args) > 4 && args[1] == "host" && args[2] == "run" && args[4] == s.hostDir() {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if state, err := os.ReadFile(filepath.Join(filepath.Dir(path), "stat")); err == nil && !strings.Contains(string(state), ") Z ") {
				return pid
			}
		}
	}
	return 0
}

func (s *server) stopHost() {
	pid := s.hostPID()
	if pid == 0 {
		return
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	for range 500 {
		if s.hostPID() != pid {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

var linkRe = regexp.MustCompile(`/signin\?link=(\S+)`)

// admin signs in as the first admin with the link that the server printed.
func (s *server) admin() *client.Client {
	s.t.Helper()
	var m []string // what a process has printed arrives here a moment later
	await(s.t, 5*time.Second, "the sign-in link", func() bool { m = linkRe.FindStringSubmatch(s.out.String()); return m != nil })
	var tok client.Token
	if err := client.New(s.url, "").Post(context.Background(), "/sign-in", map[string]string{"link": m[1]}, &tok); err != nil {
		s.t.Fatal(err)
	}
	return client.New(s.url, tok.Token)
}

// weir runs a command of the program and returns what it printed, on standard
// output and on standard error, and its exit status.
func weir(t testing.TB, env []string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "USER=tester"}, env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// await asks until something is so.
func await(t testing.TB, limit time.Duration, what string, so func() bool) {
	t.Helper()
	if err := tryAwait(limit, what, so); err != nil {
		t.Fatal(err)
	}
}

func tryAwait(limit time.Duration, what string, so func() bool) error {
	for deadline := time.Now().Add(limit); !so(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %s for %s", limit, what)
		}
		time.Sleep(25 * time.Millisecond)
	}
	return nil
}

// get reads a page of plain text.
func get(url string) (string, error) {
	res, err := (&http.Client{Timeout: 10 * time.Second}).Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, raw)
	}
	return string(raw), err
}
