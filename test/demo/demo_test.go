// Package demo runs the demo as a newcomer does: as an unprivileged user, with
// the built binary and nothing else.
package demo

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nobody is Debian's unprivileged user.
const nobody = 65534

// command runs the binary as an unprivileged user, in folders of its own.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	built := os.Getenv("WEIR_TEST_BINARY")
	if built == "" {
		t.Skip("WEIR_TEST_BINARY is not set; `make test` builds the binary and sets it")
	}
	// Below /tmp, since the folders of the test's own user may be closed to others.
	home, err := os.MkdirTemp("/tmp", "weir-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	weir := filepath.Join(home, "weir")
	if out, err := exec.Command("cp", built, weir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cache := filepath.Join(home, "cache")
	if seed := os.Getenv("WEIR_TEST_CACHE_SEED"); seed != "" {
		if err := os.MkdirAll(filepath.Join(cache, "weir"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(seed, filepath.Join(cache, "weir", "demo-cache")); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), weir, args...)
	cmd.Dir = home
	cmd.Env = []string{"HOME=" + home, "XDG_CACHE_HOME=" + cache, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + home, "LC_ALL=C"}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"} {
		if v := os.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	if os.Getuid() == 0 {
		if out, err := exec.Command("chown", "-R", "65534:65534", home).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return cmd
}

func TestDemoRunsAsAnUnprivilegedUserAndEverythingIsAsItShouldBe(t *testing.T) {
	cmd := command(t, "demo", "--exit")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	type outcome struct {
		OK  bool             `json:"ok"`
		MS  map[string]int64 `json:"ms"`
		Why string           `json:"why"`
	}
	var r struct {
		First, Good, Bad, Rollback, Verify outcome
		Load                               struct {
			OK       bool  `json:"ok"`
			Requests int64 `json:"requests"`
			Other    int64 `json:"failed_otherwise"`
			Injected int64 `json:"failed_by_injected_fault"`
		}
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("the last line is not the report: %v\n%s", err, out.String())
	}
	for name, o := range map[string]outcome{"first": r.First, "good": r.Good, "bad": r.Bad, "rollback": r.Rollback, "verify": r.Verify} {
		if !o.OK {
			t.Errorf("%s is not as it should be", name)
		}
	}
	if r.Load.Other != 0 || r.Load.Injected == 0 || r.Load.Requests < 1000 {
		t.Errorf("load: %+v", r.Load)
	}
	for _, name := range []string{"push_accepted", "run_started", "run_finished", "artifact_signed", "staging_live", "first_canary_request", "production_complete"} {
		if _, ok := r.Good.MS[name]; !ok {
			t.Errorf("the good release has no time for %s", name)
		}
	}
	for _, name := range []string{"bad_change_detected", "rolled_back"} {
		if r.Bad.MS[name] <= r.Bad.MS["first_canary_request"] {
			t.Errorf("%s at %d ms, the first canary request at %d ms", name, r.Bad.MS[name], r.Bad.MS["first_canary_request"])
		}
	}
	if !strings.Contains(r.Bad.Why, "the limit was") {
		t.Errorf("why it was stopped: %q; want a figure against its limit", r.Bad.Why)
	}
	text := out.String()
	for _, want := range []string{"It takes about two minutes", "main is protected", "Try             weir rollback checkout production", "weir verify ", "weir audit verify --checkpoint"} {
		if !strings.Contains(text, want) {
			t.Errorf("the demo does not say %q", want)
		}
	}
}

func TestDemoNamesAMissingToolWithItsInstallLine(t *testing.T) {
	cmd := command(t, "demo", "--exit")
	bin := t.TempDir()
	for i, kv := range cmd.Env {
		if strings.HasPrefix(kv, "PATH=") {
			cmd.Env[i] = "PATH=" + bin
		}
	}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "git is not installed") || !strings.Contains(string(out), "apt-get install -y git") {
		t.Errorf("%v: %s", err, out)
	}
}
