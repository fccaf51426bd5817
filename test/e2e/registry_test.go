package e2e

import (
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// pushy pushes a blob to the registry as the job sees it, to its own repository and to another one.
const pushy = `name: ci
on:
  push:
    branches: [main]
  pull_request:
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - run: |
          push() { curl --noproxy '*' -s -w " status %{http_code}\n" --data-binary hello "http://$WEIR_REGISTRY/v2/$1/blobs/uploads/?digest=sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"; }
          echo "own: $(push tiny)"
          echo "other: $(push other)"
          echo "pull: $(curl --noproxy '*' -s "http://$WEIR_REGISTRY/v2/tiny/blobs/sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")"
`

// TestJobsPushToTheirOwnRepositoryOnceTheyHaveLanded runs a job as a change and as a landed revision, and asks the registry what came of it.
func TestJobsPushToTheirOwnRepositoryOnceTheyHaveLanded(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	w := newWorld(t, "")
	files := tiny("first", "")
	files[".github/workflows/ci.yml"] = pushy
	landed := w.jobLog(w.ended(w.bootstrap(files), "landed").ID, "test")
	for _, want := range []string{"own:  status 201", "other: ", "a job may push only to the repositories of its own services (tiny), not to other", "status 403", "pull: hello"} {
		if !strings.Contains(landed, want) {
			t.Errorf("the landed job's log has no %q:\n%s", want, landed)
		}
	}
	w.mustGit("checkout", "--quiet", "-b", "topic")
	revision := w.commit("a change", map[string]string{"README.md": "x"})
	w.propose("topic")
	change := w.jobLog(w.ended(revision, "change").ID, "test")
	for _, want := range []string{"only the run of a landed revision may push", "the run of a change may pull only what the server's registry.readable names, not tiny"} {
		if !strings.Contains(change, want) {
			t.Errorf("the change's log has no %q:\n%s", want, change)
		}
	}
	// Nobody reads without a token.
	res, err := http.Get(w.url + "/v2/tiny/tags/list")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusUnauthorized || !strings.Contains(string(b), "sign in with a token") {
		t.Errorf("without a token: %d %s", res.StatusCode, b)
	}
}

// TestRetentionKnowsWhatRuns delivers a release and asks why its image stays, and removes what nothing needs.
func TestRetentionKnowsWhatRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "registry: {keep: {untagged_days: 1}}\n")
	r := w.released(w.bootstrap(tiny("first", "")))
	w.serves("production", r.Version)
	out, errs, code := w.cli("author", "registry", "show", "tiny")
	for _, want := range []string{"it is number 1 of the 10 newest releases", "it was released less than 400 days ago", "it runs in staging of tiny", "it runs in production of tiny", "which is kept"} {
		if !strings.Contains(out, want) {
			t.Errorf("registry show (%d) has no %q:\n%s%s", code, want, out, errs)
		}
	}
	if strings.Contains(out, "GOES") {
		t.Errorf("something of a release that runs would go:\n%s", out)
	}
	for _, c := range []struct {
		who  string
		args []string
		code int
		say  string
	}{
		{"author", []string{"registry", "list"}, 0, "tiny"},
		{"author", []string{"registry", "gc", "--dry-run"}, 0, "Nothing in the registry is past its time"},
		{"author", []string{"registry", "gc", "--remove"}, 6, "garbage.collect is not among the permissions"},
		{"admin", []string{"registry", "gc", "--remove"}, 0, "Nothing in the registry is past its time"},
		{"admin", []string{"gc"}, 0, "Nothing in the registry is past its time"},
		{"author", []string{"registry", "hold", "tiny", "1.0.0", "--reason", "x"}, 6, "registry.hold is not among the permissions"},
		{"reviewer", []string{"registry", "hold", "tiny", "nope", "--reason", "case 1"}, 3, "has no manifest nope"},
		{"reviewer", []string{"registry", "hold", "tiny", r.Digest, "--reason", "case 1"}, 0, "stays until somebody ends the hold"},
		{"reviewer", []string{"registry", "release-hold", "tiny", r.Digest, "--reason", "case 1 is closed"}, 0, "is held no longer"},
		{"admin", []string{"registry", "quota", "tiny", "--set", "1Ki"}, 0, "of its quota of 1 KiB"},
		{"admin", []string{"registry", "quota", "tiny", "--set", "much"}, 5, "is not a size"},
		{"admin", []string{"registry", "scrub", "--now"}, 0, "0 damaged"},
	} {
		out, errs, code := w.cli(c.who, c.args...)
		if code != c.code || !strings.Contains(out+errs, c.say) {
			t.Errorf("weir %s: status %d\n%s%s; want %d and %q", strings.Join(c.args, " "), code, out, errs, c.code, c.say)
		}
	}
}
