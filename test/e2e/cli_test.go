package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestCommandLineShowsDecidesAndProves walks a delivery with the command line
// alone, and sees every exit status that `weir --help` names.
func TestCommandLineShowsDecidesAndProves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	files := tiny("first", guardedRules)
	files[".github/workflows/ci.yml"] = strings.Replace(tinyWorkflow, `- run: "true"`, "- run: echo hello from the job", 1)
	revision := w.bootstrap(files)
	run := w.ended(revision, "landed")
	release := w.released(revision)
	ok := func(who string, args ...string) string {
		t.Helper()
		out, errs, code := w.cli(who, args...)
		if code != 0 {
			t.Errorf("weir %s: exit status %d\n%s%s", strings.Join(args, " "), code, out, errs)
		}
		return out
	}
	says := func(out string, want ...string) {
		t.Helper()
		for _, s := range want {
			if !strings.Contains(out, s) {
				t.Errorf("%q does not say %q", out, s)
			}
		}
	}

	// Who can release what waits.
	w.serves("staging", "1.0.0")
	await(t, 20*time.Second, "production to wait for a person", func() bool {
		out, _, _ := w.cli("author", "release", "list")
		return strings.Contains(out, "release-managers")
	})
	says(ok("author", "release", "list", "tiny"), "1.0.0", "production", "reviewer")
	_, errs, code := w.cli("author", "release", "approve", "tiny", "1.0.0", "production")
	refuses(t, "approving without the role", errs, code, 6, "author")
	ok("reviewer", "release", "approve", "tiny", "1.0.0", "production")
	w.serves("production", "1.0.0")

	// Logs end when the job has, with -f too.
	says(ok("author", "logs", run.ID, "test"), "hello from the job")
	says(ok("author", "logs", "-f", run.ID, "test"), "hello from the job")
	says(ok("author", "runs", "why", run.ID), "finished")

	// Everything that lists or shows has JSON, too.
	change := w.commit("feat: second", map[string]string{"main.go": strings.Replace(tinyMain, "FLAVOUR", "second", 1)})
	c := w.propose("second")
	says(ok("author", "change", "show", c.Change.ID), "review")
	digest := release.Digest
	for _, args := range [][]string{
		{"runs", "list"}, {"runs", "show", run.ID}, {"runs", "why", run.ID}, {"release", "list"}, {"rollout", "list"}, {"rollout", "show", w.rollouts()[0].ID},
		{"change", "list"}, {"change", "show", c.Change.ID}, {"artifact", "list"}, {"artifact", "show", "tiny@" + digest}, {"repo", "list"},
		{"audit", "list"}, {"host", "status", "--dir", w.hostDir()}, {"user", "list"},
	} {
		out := ok("admin", append(args, "--json")...)
		var v any
		if err := json.Unmarshal([]byte(out), &v); err != nil || len(out) < 10 {
			t.Errorf("weir %s --json: %v: %q", strings.Join(args, " "), err, out)
		}
	}

	// Each exit status.
	for _, x := range []struct {
		who    string
		args   []string
		status int
		want   []string
	}{
		{"author", []string{"nosuch"}, 2, []string{"nosuch", "Usage: weir"}},
		{"author", []string{"runs", "show", "run_nosuch"}, 3, []string{"run_nosuch"}},
		{"author", []string{"change", "land", c.Change.ID}, 4, []string{"cannot land yet", "0 of 1 reviews"}},
		{"author", []string{"rollback", "tiny", "production"}, 6, []string{"author", "rollback"}},
		{"maintainer", []string{"rollback", "tiny", "production"}, 3, []string{"no earlier good release"}},
		{"maintainer", []string{"rollback", "tiny", "moon"}, 3, []string{"moon"}},
		{"author", []string{"--server", "http://127.0.0.1:1", "runs", "list"}, 7, []string{"No server answers at http://127.0.0.1:1", "weir serve"}},
		{"author", []string{"lint", w.dir}, 5, []string{"weir.yaml"}},
	} {
		out, errs, code := w.cli(x.who, x.args...)
		refuses(t, "weir "+strings.Join(x.args, " "), out+errs, code, x.status, x.want...)
	}

	// Proof, and what is none.
	root := filepath.Join(w.dir, "trusted_root.json")
	w.must(os.WriteFile(root, []byte(ok("maintainer", "audit", "trusted-root")), 0o600))
	image := w.listen + "/tiny@" + digest
	says(ok("author", "verify", image, "--trusted-root", root), revision[:12])
	says(ok("author", "verify", image, "--trusted-root", root, "--ref", "refs/heads/main", "--confined"), "refs/heads/main")
	_, errs, code = w.cli("author", "verify", image, "--trusted-root", root, "--ref", "refs/heads/other")
	refuses(t, "verify against another branch", errs, code, 6, "refs/heads/other")
	other := newServer(t, "")
	other.start()
	wrong, _, _ := weir(t, []string{"WEIR_SERVER=" + other.url, "WEIR_TOKEN=" + other.admin().Token}, "audit", "trusted-root")
	foreign := filepath.Join(w.dir, "foreign.json")
	w.must(os.WriteFile(foreign, []byte(wrong), 0o600))
	_, errs, code = w.cli("author", "verify", image, "--trusted-root", foreign)
	refuses(t, "verify with another server's keys", errs, code, 6, "does not")
	_, errs, code = w.cli("author", "verify", image, "--trusted-root", filepath.Join(w.dir, "absent.json"))
	refuses(t, "verify without keys", errs, code, 5, "absent.json")
	_, errs, code = w.cli("author", "verify", w.listen+"/tiny@sha256:"+strings.Repeat("0", 64), "--trusted-root", root)
	refuses(t, "verify what is not there", errs, code, 3, strings.Repeat("0", 12))

	// The same from a file: image, evidence and what became of it.
	archive := filepath.Join(w.dir, "tiny.tar")
	await(t, 20*time.Second, "the rollouts to be attested", func() bool {
		_ = os.Remove(archive)
		ok("author", "evidence", "tiny", "1.0.0", "--output", archive)
		out, _, _ := w.cli("author", "evidence", "verify", archive, "--trusted-root", root)
		return strings.Count(out, "ok  rollout") == 2
	})
	says(ok("author", "evidence", "verify", archive, "--trusted-root", root, "--confined"), "admission", "completed in staging", "completed in production", revision)
	_, errs, code = w.cli("author", "evidence", "verify", archive, "--trusted-root", foreign)
	refuses(t, "an archive with another server's keys", errs, code, 6, "does not")
	_, errs, code = w.cli("author", "evidence", "verify", root, "--trusted-root", root)
	refuses(t, "a file that is no archive", errs, code, 5, "is not an archive of evidence")
	_, errs, code = w.cli("author", "evidence", "tiny", "9.9.9")
	refuses(t, "a release that is not there", errs, code, 3, "There is no release 9.9.9 of tiny")
	_, errs, code = w.cli("author", "evidence", "tiny", "1.0.0", "--output", archive)
	refuses(t, "a file that is there", errs, code, 5, "cannot be written")

	// Another registry does not get to see the token that was kept for this server.
	told := &buffer{}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
		_, _ = told.Write([]byte(q.Header.Get("Authorization")))
		rw.Header().Set("WWW-Authenticate", `Basic realm="elsewhere"`)
		http.Error(rw, "who are you?", http.StatusUnauthorized)
	}))
	defer elsewhere.Close()
	_, errs, code = w.cli("author", "evidence", strings.TrimPrefix(elsewhere.URL, "http://")+"/tiny@"+digest, "--output", archive+"2")
	refuses(t, "a registry that asks who it is", errs, code, 6, "does not let you read")
	if told.String() != "" {
		t.Errorf("another registry was told %q", told)
	}

	// What it is made of, and how two differ.
	says(ok("author", "artifact", "components", digest), "std", "library")
	says(ok("author", "artifact", "diff", digest, "tiny@"+digest), "Both are made of the same components")
	_, errs, code = w.cli("author", "artifact", "diff", digest)
	refuses(t, "the first artifact against the one before", errs, code, 3, "there is none before it")
	_, errs, code = w.cli("author", "artifact", "components", "tiny@sha256:"+strings.Repeat("0", 64))
	refuses(t, "components of nothing", errs, code, 3, "There is no artifact")

	// A layer that was changed in the registry's store.
	blobs := filepath.Join(w.data, "blobs")
	n := 0
	w.must(filepath.WalkDir(blobs, func(p string, _ os.DirEntry, err error) error {
		st, statErr := os.Stat(p)
		if err != nil || statErr != nil || !st.Mode().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(p)
		if err != nil || len(raw) < 100_000 || raw[0] != 0x1f || raw[1] != 0x8b {
			return err
		}
		n++
		raw[len(raw)/2] ^= 1
		if err := os.Chmod(p, 0o600); err != nil {
			return err
		}
		return os.WriteFile(p, raw, 0o600)
	}))
	if n == 0 {
		t.Fatal("no layer was found in the store")
	}
	_, errs, code = w.cli("author", "verify", image, "--trusted-root", root)
	refuses(t, "verify a changed layer", errs, code, 6, "digest")

	// The ledger against a checkpoint, with the server stopped.
	checkpoint := filepath.Join(w.dir, "checkpoint.txt")
	w.must(os.WriteFile(checkpoint, []byte(ok("maintainer", "audit", "checkpoint")), 0o600))
	w.stop()
	database := "sqlite://" + filepath.Join(w.data, "weir.db")
	says(ok("author", "audit", "verify", "--checkpoint", checkpoint, "--trusted-root", root, "--database", database), "Nothing was edited, removed, cut off or rewritten")
	_, errs, code = w.cli("author", "audit", "verify", "--checkpoint", root, "--trusted-root", root, "--database", database)
	refuses(t, "a checkpoint that is none", errs, code, 5, "is not signed by the log")
	if change == "" || !regexp.MustCompile(`^[0-9a-f]{40}$`).MatchString(change) {
		t.Errorf("revision %q", change)
	}
}
