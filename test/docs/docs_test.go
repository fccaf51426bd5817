// Package docs runs the commands of the documentation, as they stand there.
package docs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// weir is the binary under test: WEIR_TEST_BINARY, or one built here.
var weir = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("WEIR_TEST_BINARY"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "weir-docs-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "weir")
	out, err := exec.Command("go", "build", "-o", path, "weir/cmd/weir").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return path, nil
})

// blocks returns the shell blocks of a Markdown file.
func blocks(t *testing.T, path string) []string {
	t.Helper()
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(src), -1) {
		out = append(out, m[1])
	}
	return out
}

// TestGettingStartedGetsAServiceToProduction runs every command of
// docs/getting-started.md in its order. What a reader does between two commands,
// waiting and sending requests, is done here; so is what differs from machine
// to machine: the address, the sign-in link, the digest.
func TestGettingStartedGetsAServiceToProduction(t *testing.T) {
	bin, err := weir()
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{t: t, bin: bin, home: t.TempDir()}
	r.serve()
	all := blocks(t, "../../docs/getting-started.md")
	if len(all) < 8 {
		t.Fatalf("%d blocks; the guide has changed its form", len(all))
	}
	for _, block := range all {
		switch {
		case strings.Contains(block, "weir serve"):
			continue // It runs already.
		case strings.Contains(block, "weir change approve"):
			// The reader reviews once the checks are there, and lands once they have passed.
			before, after, _ := strings.Cut(block, "weir change approve")
			r.run(before)
			r.await("the checks", func() bool { return strings.Contains(r.run("weir change show hello#1"), "success    ci.yml/test") })
			r.run("weir change approve" + after)
			r.await("release 0.2.0", func() bool { return strings.Contains(r.run("weir release list hello"), "hello 0.2.0") })
			r.run("weir release approve hello 0.2.0 production")
			r.browse(func() bool { return strings.Contains(r.rollouts(), "production|0.1.0 -> 0.2.0|completed") })
			continue
		case strings.Contains(block, "weir release approve"):
			r.run(block)
			r.await("production", func() bool { return strings.Contains(r.rollouts(), "production|- -> 0.1.0|completed") })
			continue
		case strings.Contains(block, "weir rollback"):
			if got := r.run(block); !strings.Contains(got, "is back on 0.1.0") || !strings.Contains(got, "ok  Nothing was edited") {
				t.Errorf("the last block printed:\n%s", got)
			}
			if got := r.get("/"); !strings.Contains(got, "hello from 0.1.0") {
				t.Errorf("production answers %q after the rollback", got)
			}
			continue
		}
		r.run(block)
		if strings.Contains(block, "git add --all") {
			r.await("release 0.1.0", func() bool { return strings.Contains(r.run("weir release list hello"), "hello 0.1.0") })
		}
	}
}

// reader is somebody who follows the guide: one shell, kept between blocks.
type reader struct {
	t             *testing.T
	bin, home     string
	address, link string
	dir           string   // where the shell is
	env           []string // what it has exported
}

// serve starts the server in the background, on a port of its own.
func (r *reader) serve() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.address = l.Addr().String()
	l.Close()
	r.dir = r.home
	r.env = []string{"HOME=" + r.home, "PATH=" + filepath.Dir(r.bin) + ":" + os.Getenv("PATH"), "WEIR_SERVER=http://" + r.address, "LC_ALL=C",
		"GIT_AUTHOR_NAME=dana", "GIT_AUTHOR_EMAIL=dana@example.com", "GIT_COMMITTER_NAME=dana", "GIT_COMMITTER_EMAIL=dana@example.com", "GIT_CONFIG_NOSYSTEM=1"}
	args := []string{"serve", "--data", filepath.Join(r.home, "weir-data"), "--listen", r.address}
	if seed := os.Getenv("WEIR_TEST_CACHE_SEED"); seed != "" {
		// Only so that Go's own packages are not compiled cold once more.
		config := filepath.Join(r.home, "weir-server.yaml")
		if err := os.WriteFile(config, fmt.Appendf(nil, "runner: {cache_seed: %q}\n", seed), 0o600); err != nil {
			r.t.Fatal(err)
		}
		args = append(args, "--config", config)
	}
	cmd := exec.Command(r.bin, args...)
	cmd.Env = append(os.Environ(), "HOME="+r.home)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		host, _ := exec.Command("pgrep", "-f", "host run --dir "+r.home).Output()
		for pid := range strings.FieldsSeq(string(host)) {
			_ = exec.Command("kill", pid).Run()
		}
		r.await("the host to end", func() bool { return exec.Command("pgrep", "-f", "host run --dir "+r.home).Run() != nil })
		if r.t.Failed() {
			r.t.Logf("the server's log:\n%s", log.String())
		}
	})
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		if line := strings.TrimSpace(sc.Text()); strings.Contains(line, "/signin?link=") {
			r.link = line
			break
		}
	}
	if r.link == "" {
		r.t.Fatalf("the server printed no sign-in link; its log:\n%s", log.String())
	}
	go func() {
		for sc.Scan() { // So that the server never waits for its reader.
		}
	}()
	r.await("the server", func() bool {
		res, err := http.Get("http://" + r.address + "/readyz")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// run gives a block to bash, in the folder and with the exports that the last
// one left, and returns what it printed.
func (r *reader) run(block string) string {
	r.t.Helper()
	block = strings.ReplaceAll(block, "http://127.0.0.1:7400/signin?link=weir_...", r.link)
	block = strings.ReplaceAll(block, "127.0.0.1:7400", r.address)
	block = strings.ReplaceAll(block, "/home/you", r.home)
	if strings.Contains(block, "sha256:...") {
		block = strings.ReplaceAll(block, "sha256:...", r.digest())
	}
	state := filepath.Join(r.home, "state")
	script := "set -eo pipefail\n" + block + "\n{ pwd; export -p; } > " + state + "\n"
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir, cmd.Env = r.dir, r.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("this block of the guide failed: %v\n%s\nIt printed:\n%s", err, block, out)
	}
	r.restore(state)
	return string(out)
}

// restore reads where a block left the shell.
func (r *reader) restore(state string) {
	b, err := os.ReadFile(state)
	if err != nil {
		r.t.Fatal(err)
	}
	lines := strings.SplitN(string(b), "\n", 2)
	r.dir = lines[0]
	for _, m := range regexp.MustCompile(`(?m)^declare -x (WEIR_\w+)="(.*)"$`).FindAllStringSubmatch(lines[1], -1) {
		r.env = append(r.env, m[1]+"="+m[2])
	}
}

func (r *reader) digest() string {
	m := regexp.MustCompile(`hello@(sha256:[0-9a-f]{64})`).FindStringSubmatch(r.run("weir artifact list hello"))
	if m == nil {
		r.t.Fatal("no artifact")
	}
	return m[1]
}

// rollouts is "environment|from -> to|state" of each, on a line.
func (r *reader) rollouts() string {
	var all []struct {
		Environment string `json:"environment"`
		From        string `json:"from_version"`
		Version     string `json:"version"`
		State       string `json:"state"`
	}
	if err := json.Unmarshal([]byte(r.run("weir rollout list hello --json")), &all); err != nil {
		r.t.Fatal(err)
	}
	var b strings.Builder
	for _, x := range all {
		if x.From == "" {
			x.From = "-"
		}
		fmt.Fprintf(&b, "%s|%s -> %s|%s\n", x.Environment, x.From, x.Version, x.State)
	}
	return b.String()
}

// production is where its proxy listens, as `weir host status` says.
func (r *reader) production() string {
	m := regexp.MustCompile(`hello production +(http://\S+)`).FindStringSubmatch(r.run("weir host status --dir ~/weir-data/host"))
	if m == nil {
		r.t.Fatal("no address of production")
	}
	return m[1]
}

func (r *reader) get(path string) string {
	res, err := http.Get(r.production() + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	var b bytes.Buffer
	_, _ = b.ReadFrom(res.Body)
	return b.String()
}

// browse sends requests to production until something is so.
func (r *reader) browse(so func() bool) {
	url := r.production()
	ctx, stop := context.WithCancel(r.t.Context())
	var users sync.WaitGroup
	defer users.Wait()
	defer stop()
	for range 4 {
		users.Go(func() {
			// Bounded: a canary needs some thousands.
			for n := 0; ctx.Err() == nil && n < 20000; n++ {
				res, err := http.Get(url)
				if err != nil {
					continue
				}
				res.Body.Close()
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	r.await("the canary", so)
}

// await asks four times a second, for at most three minutes.
func (r *reader) await(what string, so func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !so(); time.Sleep(250 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited too long for %s", what)
		}
	}
}

// TestEveryCommandThatIsDocumentedExists looks at the first words of each
// command line in the documentation.
func TestEveryCommandThatIsDocumentedExists(t *testing.T) {
	bin, err := weir()
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile("(?m)(?:^|`)weir(?: --\\S+ (?:\"[^\"]*\"|\\S+))* ((?:[a-z-]+ ?){1,2})")
	seen := map[string]bool{}
	for _, pattern := range []string{"../../README.md", "../../CONTRIBUTING.md", "../../docs/*.md", "../../docs/*/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range command.FindAllStringSubmatch(string(src), -1) {
				words := strings.Fields(m[1])
				if seen[strings.Join(words, " ")] {
					continue
				}
				seen[strings.Join(words, " ")] = true
				if out, err := exec.Command(bin, append(words[:1:1], "--help")...).CombinedOutput(); err != nil {
					t.Errorf("%s speaks of `weir %s`: %s", file, m[1], out)
				}
			}
		}
	}
	if len(seen) < 10 {
		t.Errorf("only %d commands were found", len(seen))
	}
}

// TestAStaticSiteGetsToProduction is the guide for a folder of files.
func TestAStaticSiteGetsToProduction(t *testing.T) {
	bin, err := weir()
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{t: t, bin: bin, home: t.TempDir()}
	r.serve()
	r.run(`weir login 'http://127.0.0.1:7400/signin?link=weir_...'
weir user create dana --role maintainer
weir user create max --role approver
weir token create --user dana > dana.token
weir token create --user max > max.token
mkdir -p site/public/css && cd site && git init -q -b main
echo '<h1>hello</h1>' > public/index.html
echo 'h1 { color: teal }' > public/css/site.css
echo secret > public/.hidden
weir init
sed -i 's/owner: TODO.*/owner: team-site/; s/healthy_for: 10m/healthy_for: 1s/' weir.yaml
weir lint
weir --token "$(cat ../dana.token)" repo create site
git add --all && git commit -qm 'feat: a site'
git push "http://dana:$(cat ../dana.token)@127.0.0.1:7400/git/site.git" main`)
	r.await("the release", func() bool { return strings.Contains(r.run("weir release list site"), "site 0.1.0") })
	r.run(`weir --token "$(cat ../max.token)" release approve site 0.1.0 production`)
	var url string
	r.await("production", func() bool {
		m := regexp.MustCompile(`site production +(http://\S+)\n +stable`).FindStringSubmatch(r.run("weir host status --dir ~/weir-data/host"))
		if m != nil {
			url = m[1]
		}
		return m != nil
	})
	for path, want := range map[string]int{"/": 200, "/css/site.css": 200, "/.hidden": 404, "/.weir-serve": 404, "/nothing": 404} {
		r.await(path, func() bool {
			res, err := http.Get(url + path)
			if err != nil {
				return false
			}
			res.Body.Close()
			return res.StatusCode == want
		})
	}
}
