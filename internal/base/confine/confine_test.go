package confine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/internal/base/confine"
	"weir/internal/base/fault"
)

func TestMain(m *testing.M) {
	confine.Main()
	if name := os.Getenv("HOSTILE"); name != "" {
		hostile(name, os.Args[1:])
		return
	}
	os.Exit(m.Run())
}

// self is the folder that holds this test binary, which is also the hostile program.
func self(t testing.TB) (path, dir string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe, filepath.Dir(exe)
}

func open(t testing.TB, spec confine.Spec) *confine.Sandbox {
	t.Helper()
	_, dir := self(t)
	spec.ReadOnly = append(spec.ReadOnly, dir)
	s, err := confine.Open(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// attack runs a hostile program in the sandbox and returns what it says; it says "safe: ..." when it failed.
func attack(t testing.TB, s *confine.Sandbox, name string, args ...string) string {
	t.Helper()
	exe, _ := self(t)
	var out bytes.Buffer
	p, err := s.Start(confine.Cmd{Argv: append([]string{exe}, args...), Env: append(s.Env(), "HOSTILE="+name, "GORACE=atexit_sleep_ms=0"), Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

func wantSafe(t testing.TB, s *confine.Sandbox, name string, args ...string) {
	t.Helper()
	if got := attack(t, s, name, args...); !strings.HasPrefix(got, "safe") {
		t.Errorf("%s %v: %s; want it to fail", name, args, got)
	}
}

func sh(t testing.TB, s *confine.Sandbox, script string) (string, confine.Exit) {
	t.Helper()
	var out bytes.Buffer
	p, err := s.Start(confine.Cmd{Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	exit, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), exit
}

func TestCommandSeesExactlyItsEnvironmentFilesAndFolders(t *testing.T) {
	t.Setenv("HOST_SECRET", "s3cret")
	dir := t.TempDir()
	s := open(t, confine.Spec{Dir: dir})
	p, err := s.Start(confine.Cmd{Argv: []string{"env"}, Env: []string{"PATH=/usr/bin:/bin", "A=1"}, Stdout: new(bytes.Buffer)})
	if err != nil {
		t.Fatal(err)
	}
	p.Wait()
	var out bytes.Buffer
	p, err = s.Start(confine.Cmd{Argv: []string{"env"}, Env: []string{"PATH=/usr/bin:/bin", "A=1"}, Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Wait(); err != nil || !exit.Success() {
		t.Fatal(exit, err)
	}
	if got, want := out.String(), "PATH=/usr/bin:/bin\nA=1\n"; got != want {
		t.Errorf("environment = %q; want %q", got, want)
	}
	got, _ := sh(t, s, "echo $(ls /proc/self/fd); pwd; id -u; echo hello > made; cat made; echo t > /tmp/x; cat /tmp/x; echo e >/dev/stderr")
	uid := os.Getuid()
	if uid == 0 {
		uid = 1000
	}
	want := fmt.Sprintf("0 1 2 3\n%s\n%d\nhello\nt\ne\n", dir, uid) // 3 is ls reading the folder
	if got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "made")); err != nil || string(b) != "hello\n" {
		t.Errorf("file made inside = %q, %v", b, err)
	}
	if got, _ := sh(t, s, "echo $(ls /)"); strings.Contains(got, "home") || strings.Contains(got, "root") || strings.Contains(got, "sys") {
		t.Errorf("ls / = %q; want only the sandbox's roots", got)
	}
}

func TestExitTellsCodeAndSignal(t *testing.T) {
	s := open(t, confine.Spec{})
	if _, e := sh(t, s, "exit 7"); e.Code != 7 || e.Signal != "" {
		t.Errorf("exit = %+v; want code 7", e)
	}
	if _, e := sh(t, s, "kill -9 $$"); e.Code != 137 || e.Signal != "SIGKILL" {
		t.Errorf("exit = %+v; want 137 by SIGKILL", e)
	}
	p, err := s.Start(confine.Cmd{Argv: []string{"/bin/sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGTERM)
	if e, _ := p.Wait(); e.Signal != "SIGTERM" {
		t.Errorf("exit = %+v; want SIGTERM", e)
	}
	if _, err := s.Start(confine.Cmd{Argv: []string{"no-such-program"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("start of a missing program = %v; want fs.ErrNotExist", err)
	}
}

func TestOutputOfLeftBehindProcessDoesNotHoldWait(t *testing.T) {
	s := open(t, confine.Spec{})
	done := make(chan string, 1)
	go func() {
		out, _ := sh(t, s, "sleep 1000 & echo started")
		done <- out
	}()
	select {
	case got := <-done:
		if got != "started\n" {
			t.Errorf("output = %q", got)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Wait still waits for a process in the background")
	}
}

func TestStdinIsCopiedAndBothOutputsMayBeOneWriter(t *testing.T) {
	s := open(t, confine.Spec{})
	var out bytes.Buffer
	in := strings.Repeat("0123456789abcdef", 1<<14)
	p, err := s.Start(confine.Cmd{Argv: []string{"/bin/sh", "-c", "cat; echo err >&2"}, Stdin: strings.NewReader(in), Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	if e, err := p.Wait(); err != nil || !e.Success() {
		t.Fatal(e, err)
	}
	if got := out.String(); got != in+"err\n" {
		t.Errorf("got %d bytes, want %d", len(got), len(in)+4)
	}
}

func TestHostileProgramCannotReadOrWriteOutside(t *testing.T) {
	data := t.TempDir()
	secret := filepath.Join(data, "key")
	if err := os.WriteFile(secret, []byte("private"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, network := range []confine.Network{confine.None, confine.Host} {
		s := open(t, confine.Spec{Dir: t.TempDir(), Network: network})
		wantSafe(t, s, "read", secret)
		wantSafe(t, s, "read", "/proc/1/root"+secret)
		wantSafe(t, s, "read", "/proc/1/environ")
		wantSafe(t, s, "read", "/etc/shadow")
		wantSafe(t, s, "write", filepath.Join(data, "new"))
		wantSafe(t, s, "write", "/usr/weir-was-here")
		wantSafe(t, s, "write", "/etc/weir-was-here")
		wantSafe(t, s, "write", "/weir-was-here")
		wantSafe(t, s, "write", "/proc/sys/kernel/hostname")
		wantSafe(t, s, "list", data)
	}
}

func TestHostileProgramCannotTouchTheParent(t *testing.T) {
	s := open(t, confine.Spec{Network: confine.Host})
	pid := strconv.Itoa(os.Getpid())
	wantSafe(t, s, "signal", pid)
	wantSafe(t, s, "signal", "1")
	wantSafe(t, s, "ptrace", pid)
	wantSafe(t, s, "ptrace", "1")
	wantSafe(t, s, "environ", pid)
	select {
	case <-s.Gone():
		t.Error("the sandbox's init was killed from inside")
	default:
	}
}

func TestHostileProgramCannotRegainCapabilities(t *testing.T) {
	s := open(t, confine.Spec{})
	for _, name := range []string{"caps", "userns", "mount", "setuid"} {
		wantSafe(t, s, name)
	}
}

// listenBelow listens on a port that nobody is given by chance: the sandbox's own proxy may have the same number as one that is.
func listenBelow(t *testing.T, host string) net.Listener {
	t.Helper()
	for {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(20000+rand.IntN(10000))))
		if err == nil {
			return l
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}

func TestHostileProgramCannotReachThisMachine(t *testing.T) {
	one, all := listenBelow(t, "127.0.0.1"), listenBelow(t, "")
	go http.Serve(one, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "reached") }))
	defer one.Close()
	_, port, _ := net.SplitHostPort(one.Addr().String())
	go http.Serve(all, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "reached") }))
	defer all.Close()
	_, allPort, _ := net.SplitHostPort(all.Addr().String())
	name, _ := os.Hostname()

	dir := t.TempDir()
	pathSocket := filepath.Join(dir, "host.sock")
	ul, err := net.Listen("unix", pathSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer ul.Close()
	abstract, err := net.Listen("unix", fmt.Sprintf("@weir-confine-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()

	for _, network := range []confine.Network{confine.None, confine.Egress} {
		s := open(t, confine.Spec{Dir: t.TempDir(), Network: network})
		for _, to := range []string{"127.0.0.1:" + port, "[::1]:" + allPort, "127.0.0.1:" + allPort, "localhost:" + port} {
			wantSafe(t, s, "dial", "tcp", to)
			wantSafe(t, s, "get", "http://"+to)
		}
		addrs, _ := net.InterfaceAddrs()
		for _, a := range addrs {
			ip := a.(*net.IPNet).IP
			wantSafe(t, s, "dial", "tcp", net.JoinHostPort(ip.String(), allPort))
			wantSafe(t, s, "get", "http://"+net.JoinHostPort(ip.String(), allPort))
			wantSafe(t, s, "connect", net.JoinHostPort(ip.String(), allPort))
		}
		for _, host := range []string{"127.0.0.1", "localhost", "LOCALHOST.", name, "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "127.1.2.3", "169.254.169.254", "[64:ff9b::7f00:1]", "[::127.0.0.1]"} {
			wantSafe(t, s, "connect", host+":"+port)
			wantSafe(t, s, "connect", host+":"+allPort)
		}
		wantSafe(t, s, "dial", "unix", pathSocket)
		wantSafe(t, s, "dial", "unix", abstract.Addr().String())
	}
	s := open(t, confine.Spec{Dir: t.TempDir(), Network: confine.Host})
	wantSafe(t, s, "dial", "unix", pathSocket)
	if confine.Probe().Scoped {
		wantSafe(t, s, "dial", "unix", abstract.Addr().String())
	}
}

func TestEgressReportsAndCanRefuse(t *testing.T) {
	var asked []string
	s := open(t, confine.Spec{Network: confine.Egress, OnEgress: func(to string) error {
		asked = append(asked, to)
		return errors.New("not on the list")
	}})
	got := attack(t, s, "connect", "192.0.2.1:443")
	if !strings.Contains(got, "403") || !strings.Contains(got, "a sandboxed program may not reach 192.0.2.1:443: not on the list") {
		t.Errorf("connect = %q; want the refusal", got)
	}
	if len(asked) != 1 || asked[0] != "192.0.2.1:443" {
		t.Errorf("reported %v; want the one destination", asked)
	}
}

func TestServiceInsideIsReachedByDialAndListensForUs(t *testing.T) {
	s := open(t, confine.Spec{})
	exe, _ := self(t)
	p, err := s.Start(confine.Cmd{Argv: []string{exe}, Env: []string{"HOSTILE=serve", "PORT=80"}, Stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		for {
			c, err := s.Dial(ctx, 80)
			if err == nil || ctx.Err() != nil || !errors.Is(err, syscall.ECONNREFUSED) {
				return c, err
			}
		}
	}}}
	for range 3 {
		r, err := client.Get("http://inside/")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if string(b) != "from inside" {
			t.Errorf("got %q", b)
		}
	}
	p.Kill()
	p.Wait()

	l, err := s.Listen(8080)
	if err != nil {
		t.Fatal(err)
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "from outside") }))
	if got := attack(t, s, "get", "http://127.0.0.1:8080"); got != "REACHED 200 from outside" {
		t.Errorf("got %q", got)
	}
}

func TestCloseEndsEverythingInside(t *testing.T) {
	for _, unconfined := range []bool{false, true} {
		t.Run(fmt.Sprintf("unconfined=%v", unconfined), func(t *testing.T) {
			mark := fmt.Sprintf("%d.%d", 100000+os.Getpid(), time.Now().UnixNano()%1e9)
			s := open(t, confine.Spec{Unconfined: unconfined})
			p, err := s.Start(confine.Cmd{Argv: []string{"/bin/sh", "-c", "(setsid sleep " + mark + " &) ; sleep " + mark + " & echo up; wait"}, Stdout: io.Discard})
			if err != nil {
				t.Fatal(err)
			}
			waitFor(t, "two sleepers", func() bool { return count(mark) >= 2 })
			s.Close()
			if n := count(mark); n != 0 {
				t.Errorf("%d processes are left after Close", n)
			}
			if _, err := p.Wait(); err == nil && !unconfined {
				t.Error("Wait of a command whose sandbox went away gives no error")
			}
			if _, err := s.Start(confine.Cmd{Argv: []string{"true"}}); err == nil {
				t.Error("Start after Close gives no error")
			}
		})
	}
}

func TestKilledParentTakesTheSandboxWithIt(t *testing.T) {
	exe, _ := self(t)
	for _, unconfined := range []string{"", "yes"} {
		mark := fmt.Sprintf("%d.%d", 200000+os.Getpid(), time.Now().UnixNano()%1e9)
		cmd := exec.Command(exe, mark, unconfined)
		cmd.Env = append(os.Environ(), "HOSTILE=parent")
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "a sleeper", func() bool { return count(mark) >= 2 }) // it, and the shell that names it
		cmd.Process.Kill()
		cmd.Wait()
		waitFor(t, "everything to be gone", func() bool { return count(mark) == 0 })
	}
}

func TestUnconfinedStillGivesExactEnvironment(t *testing.T) {
	s := open(t, confine.Spec{Dir: t.TempDir(), Unconfined: true})
	got, _ := sh(t, s, "env | grep -v -e ^PWD -e ^_ -e ^SHLVL -e ^OLDPWD")
	if got != "PATH=/usr/bin:/bin\n" {
		t.Errorf("environment = %q", got)
	}
}

func TestMissingRootIsNamed(t *testing.T) {
	_, err := confine.Open(t.Context(), confine.Spec{Dir: "/no/such/folder"})
	if got, want := fault.Sentence(err), "cannot open a sandbox: open /no/such/folder for the sandbox: no such file or directory"; got != want {
		t.Errorf("error = %q; want %q", got, want)
	}
}

func TestOpeningStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := confine.Open(ctx, confine.Spec{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Open = %v; want context.Canceled", err)
	}
}

// TestSameAsUnprivilegedUser runs all of the above again as a user who is not root.
func TestSameAsUnprivilegedUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: the other tests are this one")
	}
	exe, _ := self(t)
	dir, err := os.MkdirTemp("/tmp", "confine")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"bin", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o777); err != nil {
			t.Fatal(err)
		}
		os.Chmod(filepath.Join(dir, d), 0o777)
	}
	copied := filepath.Join(dir, "bin", "confine.test")
	if err := os.WriteFile(copied, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied, "-test.count=1")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "TMPDIR=" + filepath.Join(dir, "tmp"), "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("as nobody: %v\n%s", err, out)
	}
}

func count(mark string) (n int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range all {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), mark) && !strings.Contains(f, fmt.Sprint("/", os.Getpid(), "/")) && !strings.Contains(string(b), "confine.test") {
			n++
		}
	}
	return n
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if ok() {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Fatalf("waited 20 s for %s", what)
}

func BenchmarkOpenStartClose(b *testing.B) {
	for _, n := range []confine.Network{confine.None, confine.Egress, confine.Host} {
		b.Run(string(n), func(b *testing.B) {
			for b.Loop() {
				s, err := confine.Open(b.Context(), confine.Spec{Network: n})
				if err != nil {
					b.Fatal(err)
				}
				p, err := s.Start(confine.Cmd{Argv: []string{"/bin/true"}})
				if err != nil {
					b.Fatal(err)
				}
				p.Wait()
				s.Close()
			}
		})
	}
}

func BenchmarkStartInOpenSandbox(b *testing.B) {
	s, err := confine.Open(b.Context(), confine.Spec{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		p, err := s.Start(confine.Cmd{Argv: []string{"/bin/true"}})
		if err != nil {
			b.Fatal(err)
		}
		p.Wait()
	}
}

func BenchmarkPlainForkExec(b *testing.B) {
	for b.Loop() {
		if err := exec.Command("/bin/true").Run(); err != nil {
			b.Fatal(err)
		}
	}
}
