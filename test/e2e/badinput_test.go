package e2e

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/db/sqlite"
)

// refuses checks that a command failed with a status, and said why.
func refuses(t testing.TB, what, said string, status, wantStatus int, want ...string) {
	t.Helper()
	if status != wantStatus {
		t.Errorf("%s: exit status %d; want %d\n%s", what, status, wantStatus, said)
	}
	for _, w := range want {
		if !strings.Contains(said, w) {
			t.Errorf("%s: %q; want %q", what, said, w)
		}
	}
	if strings.Contains(said, "panic") || strings.Contains(said, "goroutine ") {
		t.Errorf("%s: a stack trace: %s", what, said)
	}
}

// ends launches a server that should refuse to start.
func (s *server) ends(what string, status int, want ...string) {
	s.t.Helper()
	s.log.reset()
	s.launch()
	select {
	case <-s.exited:
	case <-time.After(20 * time.Second):
		s.kill()
		s.t.Errorf("%s: the server goes on", what)
		return
	}
	refuses(s.t, what, s.log.String(), s.cmd.ProcessState.ExitCode(), status, want...)
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	w := copyOf(t)
	w.start()

	second := &server{t: t, dir: w.dir + "/second", data: w.data, out: &buffer{}, log: &buffer{}}
	w.must(os.Mkdir(second.dir, 0o700))
	second.place()
	second.configure("")
	second.ends("a second server on the same data", 4, "Another Weir server is using the data folder "+w.data)

	other := newServer(t, "")
	other.listen = w.listen
	other.configure("")
	other.ends("a port that is taken", 4, w.listen, "in use")
	if _, err := os.Stat(filepath.Join(other.data, "host", "host.sock")); err == nil {
		t.Error("a server that could not listen started a host process")
	}
	w.stop()

	other = newServer(t, "")
	for _, bad := range []struct {
		what, conf string
		status     int
		want       []string
	}{
		{"an unknown key", "lisen: x\n", 5, []string{"weir.conf.yaml", `unknown key "lisen"`, `did you mean "listen"`}},
		{"an unknown database", "database: mysql://localhost/weir\n", 5, []string{`"mysql"`, "Use postgres://", "sqlite://"}},
		{"a database that does not answer", "database: postgres://weir:hunter2@127.0.0.1:1/weir?sslmode=disable\n", 7, []string{"127.0.0.1:1", "does not answer"}},
		{"a database that is no address", "database: '::x'\n", 5, []string{"is not a URL"}},
		{"YAML that is none", "listen: [\n", 5, []string{"weir.conf.yaml"}},
	} {
		other.configure(bad.conf)
		other.ends(bad.what, bad.status, bad.want...)
		if strings.Contains(other.log.String(), "hunter2") {
			t.Errorf("%s: the password is printed: %s", bad.what, other.log)
		}
	}
	if pg := os.Getenv("WEIR_TEST_POSTGRES"); pg != "" {
		other.configure("database: " + strings.Replace(pg, "weir@", "nobody:hunter2@", 1) + "\n")
		other.ends("a database user that is not there", 7, "nobody")
	}

	// An older copy of the database cannot go on signing.
	copied := filepath.Join(w.dir, "copied")
	w.must(os.Mkdir(copied, 0o700))
	for _, f := range databaseFiles(w.data) {
		w.must(exec.Command("cp", f, copied).Run())
	}
	w.start()
	w.commit("docs: more", map[string]string{"README.md": "more"})
	w.propose("more")
	w.stop()
	for _, f := range databaseFiles(w.data) {
		w.must(os.Remove(f))
	}
	for _, f := range databaseFiles(copied) {
		w.must(exec.Command("cp", f, w.data).Run())
	}
	w.ends("an older copy of the database", 4, "older")
}

func databaseFiles(dir string) []string {
	all, _ := filepath.Glob(filepath.Join(dir, "weir.db*"))
	return all
}

func TestBadPushesAndChangesAreRefusedWithASentence(t *testing.T) {
	t.Parallel()
	w := copyOf(t)
	w.configure("limits: {push: 200Ki}\n")
	w.start()
	head := w.mustGit("rev-parse", "HEAD")

	// Over the limit: incompressible, as an attacker would.
	noise := make([]byte, 1<<20)
	f, err := os.Open("/dev/urandom")
	w.must(err)
	_, err = f.Read(noise)
	w.must(err)
	f.Close()
	w.commit("feat: large", map[string]string{"large": string(noise)})
	_, err = w.git("push", "-o", "change", w.remote("author"), "HEAD:refs/heads/large")
	refuses(t, "a large push", said(err), status(err), 1, "larger than the limit of 200 KiB")
	if out := w.mustGit("ls-remote", w.remote("author"), "refs/heads/large"); out != "" {
		t.Errorf("the large push was kept: %s", out)
	}
	w.mustGit("reset", "--quiet", "--hard", head)

	// Straight to trunk.
	w.commit("feat: direct", map[string]string{"main.go": strings.Replace(tinyMain, "FLAVOUR", "direct", 1)})
	_, err = w.git("push", w.remote("author"), "HEAD:refs/heads/main")
	refuses(t, "a direct push", said(err), status(err), 1, "main is protected", "-o change")
	w.mustGit("reset", "--quiet", "--hard", head)

	// Declarations and workflows that are wrong: the change says so, and cannot land.
	for what, bad := range map[string]struct{ file, text, want string }{
		"YAML that is none":  {"weir.yaml", "weir: 1\nname: [\n", "weir.yaml:2"},
		"an unknown key":     {"weir.yaml", tinyRules + "enviroments: {}\n", `unknown key "enviroments"`},
		"an unknown feature": {".github/workflows/ci.yml", strings.Replace(tinyWorkflow, "    steps:", "    strateegy: {}\n    steps:", 1), "strateegy"},
		"a cycle":            {".github/workflows/ci.yml", strings.Replace(tinyWorkflow, "    runs-on", "    needs: [test]\n    runs-on", 1), "test"},
		"an unknown action":  {".github/workflows/ci.yml", strings.Replace(tinyWorkflow, `- run: "true"`, "- uses: nobody/nothing@v1", 1), "nobody/nothing"},
	} {
		branch := strings.ReplaceAll(what, " ", "-")
		w.commit("feat: "+what, map[string]string{bad.file: bad.text})
		w.mustGit("push", "--quiet", "-o", "change", w.remote("author"), "HEAD:refs/heads/"+branch)
		revision := w.mustGit("rev-parse", "HEAD")
		c, ok := w.openChange(revision)
		if !ok {
			t.Errorf("%s: no change", what)
			continue
		}
		w.must(w.review("reviewer", c.Change.ID, "approve"))
		shown := ""
		await(t, 30*time.Second, what+" to be named", func() bool {
			shown, _, _ = w.cli("author", "change", "show", c.Change.ID)
			return strings.Contains(shown, bad.want)
		})
		_, errs, code := w.cli("author", "change", "land", c.Change.ID)
		refuses(t, what, errs, code, 4, "cannot land yet", bad.want)
		w.mustGit("reset", "--quiet", "--hard", head)
	}
	if now := strings.Fields(w.mustGit("ls-remote", w.remote("author"), "refs/heads/main"))[0]; now != head {
		t.Errorf("main moved to %s", now)
	}
}

func said(err error) string {
	if err == nil {
		return "(success)"
	}
	return err.Error()
}

func status(err error) int {
	if err == nil {
		return 0
	}
	return 1
}

func TestFullDiskRefusesPushesAndRunsButNotRollbacks(t *testing.T) {
	t.Parallel()
	w := copyOf(t)
	w.start()
	w.second()
	w.stop()
	w.configure("limits: {free_disk: 4000000Gi}\n")
	w.start()
	head := w.mustGit("rev-parse", "HEAD")
	w.commit("feat: third", map[string]string{"main.go": strings.Replace(tinyMain, "FLAVOUR", "third", 1)})
	_, err := w.git("push", "-o", "change", w.remote("author"), "HEAD:refs/heads/third")
	refuses(t, "a push", said(err), status(err), 1, "free", "push")
	if out := w.mustGit("ls-remote", w.remote("author")); !strings.Contains(out, head) || strings.Contains(out, "third") {
		t.Errorf("refs: %s", out)
	}
	out, errs, code := w.cli("maintainer", "rollback", "tiny", "production")
	if code != 0 {
		t.Fatalf("rollback: exit status %d\n%s%s", code, out, errs)
	}
	w.serves("production", "1.0.0")
}

func TestImageThatWasChangedOnTheHostIsNotStarted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.bootstrap(tiny("first", guardedRules))
	first := w.released(w.mustGit("rev-parse", "HEAD"))
	await(t, 30*time.Second, "the first approval", func() bool { return w.approve("maintainer", first, "production") == nil })
	w.serves("production", "1.0.0")
	revision := w.commit("feat: second", tiny("second", guardedRules))
	w.landed(w.propose("second"))
	r := w.released(revision)
	w.serves("staging", "1.1.0")
	program, changed := filepath.Join(w.hostDir(), "images", strings.TrimPrefix(r.Digest, "sha256:"), "root"), false
	w.must(filepath.WalkDir(program, func(p string, _ os.DirEntry, err error) error {
		st, statErr := os.Lstat(p)
		if err != nil || statErr != nil || !st.Mode().IsRegular() || st.Size() < 100_000 {
			return err
		}
		raw, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		raw[len(raw)/2] ^= 1
		if err := os.Remove(p); err != nil { // it is running
			return err
		}
		err = os.WriteFile(p, raw, st.Mode())
		changed = true
		return err
	}))
	if !changed {
		t.Fatalf("no program in %v", program)
	}
	w.must(w.approve("maintainer", r, "production"))
	await(t, 60*time.Second, "the rollout to fail", func() bool {
		for _, o := range w.rollouts() {
			if o.Environment == "production" && o.Version == "1.1.0" && o.State == "failed" {
				if !strings.Contains(o.Reason, "is corrupt") || !strings.Contains(o.Reason, "was not started") {
					t.Errorf("the rollout failed: %s", o.Reason)
				}
				return true
			}
		}
		return false
	})
	w.serves("production", "1.0.0")
	if got := w.says("production"); !strings.Contains(got, "first") {
		t.Errorf("production says %q", got)
	}
}

func TestToolThatIsNotThereIsNamedInTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.stop()
	path := filepath.Join(w.dir, "bin")
	w.must(os.Mkdir(path, 0o755))
	for _, tool := range []string{"git", "sh", "bash", "env", "true"} {
		at, err := exec.LookPath(tool)
		w.must(err)
		w.must(os.Symlink(at, filepath.Join(path, tool)))
	}
	w.start("PATH=" + path)
	files := tiny("first", "")
	files[".github/workflows/ci.yml"] = strings.Replace(tinyWorkflow, `- run: "true"`, "- run: make-coffee --black", 1) +
		"  setup:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/setup-go@v5\n        with: {go-version: '1.99'}\n"
	run := w.ended(w.bootstrap(files), "landed")
	if log := w.jobLog(run.ID, "test"); run.State != "failure" || !strings.Contains(log, "make-coffee") || !strings.Contains(log, "not found") {
		t.Errorf("the run is %s, and its log does not name the tool:\n%s", run.State, log)
	}
	if log := w.jobLog(run.ID, "setup"); !strings.Contains(log, "Go") || !strings.Contains(log, "Install") {
		t.Errorf("the log does not say what to install:\n%s", log)
	}
}

func TestTokenThatExpiredIsRefusedAndSaysWhen(t *testing.T) {
	t.Parallel()
	w := copyOf(t)
	d, err := sqlite.Open(context.Background(), &url.URL{Scheme: "sqlite", Path: filepath.Join(w.data, "weir.db")})
	w.must(err)
	w.must(d.Write(context.Background(), func(tx *db.Tx) error {
		_, err := tx.Exec(context.Background(), "update token set expires = 1700000000000000 where account_id = (select id from account where name = 'author')")
		return err
	}))
	w.must(d.Close())
	w.start()
	_, errs, code := w.cli("author", "runs", "list")
	refuses(t, "the command line", errs, code, 6, "This token expired on 14 November 2023", "weir token create")
	_, err = w.git("ls-remote", w.remote("author"))
	refuses(t, "git", said(err), status(err), 1)
	w.tokens["nobody"] = "weir_0000000000000000"
	_, errs, code = w.cli("nobody", "runs", "list")
	refuses(t, "a token that never was", errs, code, 6, "token")
}
