package e2e

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"weir/internal/edge/api/client"
)

// tokens is a workflow whose jobs use their tokens in every way that people know.
const tokens = `name: ci
on:
  push:
    branches: [main]
    tags: ['v9*']
  pull_request:
jobs:
  test:
    runs-on: ubuntu-latest
    env: {TOKEN: "${{ secrets.GITHUB_TOKEN }}"}
    steps:
      - uses: actions/checkout@v4
        with: {persist-credentials: false}
      - run: |
          export GIT_TERMINAL_PROMPT=0
          host=${GITHUB_SERVER_URL#http://}
          test "$TOKEN" = "${{ github.token }}" && echo "same: yes"
          echo "leak: $TOKEN"; printf 'x-access-token:%s' "$TOKEN" | base64 -w0; echo
          git ls-remote "http://x-access-token:$TOKEN@$host/git/tiny.git" refs/heads/main | sed 's/^/public: /'
          git ls-remote "$GITHUB_SERVER_URL/$GITHUB_REPOSITORY" refs/heads/main 2>&1 | sed 's/^/unsigned: /'
          git ls-remote "http://x-access-token:$TOKEN@$host/git/other.git" 2>&1 | sed 's/^/other: /'
          git push "http://x-access-token:$TOKEN@$host/git/tiny.git" HEAD:refs/heads/by-a-reader 2>&1 | sed 's/^/push: /'
          api() { curl --noproxy '*' -s -X "$1" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d "$3" "$GITHUB_API_URL$2"; echo; }
          echo "runs: $(api GET /runs)"
          echo "secrets: $(api GET /secrets)"
      - if: always()
        run: echo "after"
  writes:
    if: github.ref == 'refs/heads/main'
    permissions: {contents: write, actions: read, pull-requests: write}
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: |
          echo "$GITHUB_RUN_ID" > made.txt
          git add made.txt
          git -c user.name=bot -c user.email=bot@example.com commit -qm "made by a job"
          git push origin HEAD:refs/heads/made 2>&1 | sed 's/^/branch: /'
          git push origin HEAD:refs/heads/main 2>&1 | sed 's/^/trunk: /'
          git tag v9 ${{ github.sha }} && git push origin v9 2>&1 | sed 's/^/tag: /'
          curl --noproxy '*' -s -H "Authorization: Bearer ${{ github.token }}" $GITHUB_API_URL/runs | grep -o '"workflow":"[^"]*"' | head -1 | sed 's/^/runs: /'
          curl --noproxy '*' -s -H "Authorization: Bearer ${{ github.token }}" -H 'Content-Type: application/json' -d '{"branch":"made","title":"By a job"}' $GITHUB_API_URL/repositories/tiny/changes | grep -o '"title":"[^"]*"' | head -1 | sed 's/^/change: /'
          curl --noproxy '*' -s -H "Authorization: Bearer ${{ github.token }}" -X POST $GITHUB_API_URL/changes/x/land | sed 's/^/land: /'
`

// TestJobTokenOpensWhatThePermissionsSay runs the jobs of a landed revision and of a change, and looks at what came of it from outside.
func TestJobTokenOpensWhatThePermissionsSay(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	w := newWorld(t, "")
	w.must(w.as("admin").Post(context.Background(), "/repositories", map[string]string{"name": "other"}, nil))
	files := tiny("first", "")
	files[".github/workflows/ci.yml"] = tokens
	revision := w.bootstrap(files)
	run := w.ended(revision, "landed")
	logs := map[string]string{}
	for _, j := range run.Jobs {
		logs[j.Key] = w.jobLog(run.ID, j.ID)
	}
	has := func(log string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(log, want) {
				t.Errorf("the log has no %q", want)
			}
		}
		if strings.Contains(log, "weirjob_") || strings.Contains(log, "eC1hY2Nlc3MtdG9rZW46d2Vpcmpv") {
			t.Error("the log has a token")
		}
	}
	has(logs["test"], "same: yes", "leak: ***", "public: "+revision, "unsigned: ", "other: ", "opens the job's own repository alone", "The token of this job does not open this (repository.push)",
		"The token of this job does not open this (run.read): its permissions are contents:read, metadata:read, packages:read, packages:write",
		"The token of a job does not open GET /api/v1/secrets, whatever its permissions.", "after")
	if strings.Contains(logs["test"], "unsigned: "+revision) {
		t.Error("git went on without a token after persist-credentials: false")
	}
	has(logs["writes"], "branch: ", "[new branch]", "trunk: ", "main is protected: nobody pushes to it, changes land on it", "tag: ", "[new tag]", `runs: "workflow":".github/workflows/ci.yml"`,
		`change: "title":"By a job"`, "land: ", "The token of a job does not open POST /api/v1/changes/x/land")
	if t.Failed() {
		t.Log(logs["test"], logs["writes"])
	}
	if w.mustGit("ls-remote", w.remote("maintainer"), "refs/heads/main")[:40] != revision {
		t.Error("a job moved the trunk")
	}
	if n := len(w.runs(revision)); n != 1 {
		t.Errorf("%d runs of %s; what a job pushes starts none", n, revision)
	}
	stdout, _, status := w.cli("maintainer", "runs", "show", run.ID, "--json")
	if status != 0 || strings.Contains(stdout, "weirjob_") {
		t.Errorf("the run shows a token: %d", status)
	}

	var patchset string
	w.eventually("the change of the job", func() bool {
		var all []struct{ Title, Revision string }
		_ = w.as("maintainer").Get(context.Background(), "/changes", &all)
		for _, c := range all {
			if c.Title == "By a job" {
				patchset = c.Revision
			}
		}
		return patchset != ""
	})
	proposed := w.ended(patchset, "change")
	for _, j := range proposed.Jobs {
		if j.Key == "test" {
			has(w.jobLog(proposed.ID, j.ID), "same: yes", "leak: ***", "public: ", "The token of this job does not open this (repository.push): its permissions are contents:read, metadata:read, packages:read.")
		}
	}
	w.nowhere("weirjob_", "eC1hY2Nlc3MtdG9rZW46d2Vpcmpv")
}

// nowhere looks for texts in everything that the server keeps: rows, logs, blobs, ledger.
func (w *world) nowhere(texts ...string) {
	w.t.Helper()
	w.must(filepath.WalkDir(w.data, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "work" { // of jobs: what is being removed
			return fs.SkipDir
		}
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return nil // gone meanwhile
		}
		for _, text := range texts {
			if bytes.Contains(b, []byte(text)) {
				w.t.Errorf("%s has %s", p, text)
			}
		}
		return nil
	}))
}

// TestJobTokenDiesWithItsJob takes a token out of its job, in a form that no masking knows, and shows it to the server while the job
// runs and afterwards.
func TestJobTokenDiesWithItsJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	files := tiny("first", "")
	files[".github/workflows/ci.yml"] = "on: {push: {branches: [main]}}\npermissions: {actions: write, contents: write}\njobs:\n  test:\n    runs-on: x\n    steps:\n" +
		"      - run: echo \"out ${{ github.token }}\" | rev; sleep 600\n"
	revision := w.bootstrap(files)
	run, job := w.far(revision, "running")
	var token string
	w.eventually("the token is out", func() bool {
		for line := range strings.Lines(w.logNow(run.ID, job.ID)) {
			if line = strings.TrimSpace(line); strings.HasSuffix(line, " tuo") {
				line = line[strings.LastIndexByte(strings.TrimSuffix(line, " tuo"), ' ')+1:]
				b := []byte(strings.TrimSuffix(line, " tuo"))
				slices.Reverse(b)
				token = string(b)
			}
		}
		return strings.HasPrefix(token, "weirjob_")
	})
	mine := client.New(w.url, token)
	clone := "http://x-access-token:" + token + "@" + w.listen + "/git/tiny.git"
	if err := mine.Get(context.Background(), "/runs/"+run.ID, nil); err != nil {
		t.Errorf("while the job runs: %v", err)
	}
	if out, err := w.git("ls-remote", clone); err != nil {
		t.Errorf("while the job runs: %v %s", err, out)
	}
	if err := mine.Get(context.Background(), "/users", nil); err == nil || !strings.Contains(err.Error(), "The token of a job does not open GET /api/v1/users, whatever its permissions") {
		t.Errorf("users: %v", err)
	}
	// It may stop its own run.
	w.must(mine.Post(context.Background(), "/runs/"+run.ID+"/cancel", map[string]string{}, nil))
	w.far(revision, "cancelled")
	if err := mine.Get(context.Background(), "/runs/"+run.ID, nil); err == nil || !strings.Contains(err.Error(), "The job that this token was made for has ended.") {
		t.Errorf("afterwards: %v", err)
	}
	if out, err := w.git("ls-remote", clone); err == nil {
		t.Errorf("git afterwards: %s", out)
	}
}
