package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/edge/api/client"
)

// chatty writes about 30 MB in some seconds, as numbered lines, and a test that fails.
const chatty = `name: ci
on:
  push:
    branches: [main]
  pull_request:
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - name: Talk
        run: |
          echo "::add-mask::hunter2222"
          for i in $(seq 1 30); do
            seq -f "line $i.%.0f hunter2222 and some text to make it long enough, and a little longer still, to fill the file" 1 10000
            sleep 0.05
          done
          printf -- '--- FAIL: TestThing (0.25s)\n    thing_test.go:7: got 1, want 2\nFAIL\nFAIL\texample.com/thing\t0.3s\n'
          printf '## Result\n' >> $GITHUB_STEP_SUMMARY
`

func (w *world) rawLog(run, job string, attempt int) []byte {
	in, err := w.as("maintainer").Stream(context.Background(), fmt.Sprintf("/runs/%s/jobs/%s/log?attempt=%d", run, job, attempt))
	if err != nil {
		w.t.Fatal(err)
	}
	defer in.Close()
	raw, err := io.ReadAll(in)
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}

// TestNoLineThatWasSeenIsLostWhenTheServerIsKilled follows a log, kills the server in the middle of it, while parts of it are being
// sealed, and compares what was seen with what is there afterwards.
func TestNoLineThatWasSeenIsLostWhenTheServerIsKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	files := tiny("first", "")
	files[".github/workflows/ci.yml"] = chatty
	revision := w.bootstrap(files)
	var run client.Run
	await(t, 30*time.Second, "the job to begin", func() bool {
		runs := w.runs(revision)
		if len(runs) == 1 {
			run = runs[0]
		}
		return len(runs) == 1 && w.logNow(run.ID, "test") != ""
	})
	in, err := w.as("maintainer").Stream(t.Context(), "/runs/"+run.ID+"/jobs/test/log?follow=true&attempt=1")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	seen := make([]byte, 0, 64<<20)
	buf := make([]byte, 64<<10)
	for len(seen) < 12<<20 { // past the first part that is sealed
		n, err := in.Read(buf)
		seen = append(seen, buf[:n]...)
		if err != nil {
			t.Fatalf("the log broke off after %d bytes: %v", len(seen), err)
		}
	}
	w.kill()
	for {
		n, err := in.Read(buf)
		seen = append(seen, buf[:n]...)
		if err != nil {
			break
		}
	}
	w.start()
	stored := w.rawLog(run.ID, "test", 1)
	if !bytes.HasPrefix(stored, seen) {
		t.Fatalf("%d bytes were seen, %d are stored, and they differ", len(seen), len(stored))
	}
	if bytes.Contains(stored, []byte("hunter2222")) {
		t.Error("the log shows the secret")
	}
	w.ended(revision, "landed")

	await(t, 30*time.Second, "all logs to be sealed", func() bool {
		left, err := filepath.Glob(filepath.Join(w.data, "logs", "*", "*.log"))
		return err == nil && len(left) == 0
	})
	if again := w.rawLog(run.ID, "test", 1); !bytes.Equal(again, stored) {
		t.Errorf("sealing changed the log: %d bytes, before %d", len(again), len(stored))
	}
	whole := w.rawLog(run.ID, "test", 2)
	if n := bytes.Count(whole, []byte(" and some text to make it long enough")); n != 300_000 {
		t.Errorf("the second attempt wrote %d of its lines; want 300000", n)
	}
	if used := size(t, filepath.Join(w.data, "blobs", "logs")); used > int64(len(stored)+len(whole))/5 {
		t.Errorf("%d bytes of log take %d", len(stored)+len(whole), used)
	}

	// Random access, search and test results.
	out, _, _ := w.cli("maintainer", "logs", run.ID, "--grep", `^line 17\.4321 `)
	if !strings.HasPrefix(out, "test:") || !strings.Contains(out, "line 17.4321 *** and some text") || strings.Count(out, "\n") != 1 {
		t.Errorf("weir logs --grep prints %q", out)
	}
	if out, _, status := w.cli("maintainer", "logs", run.ID, "--grep", "nothing like this"); status != 3 || out != "" {
		t.Errorf("a search that finds nothing prints %q and exits with %d; want 3", out, status)
	}
	await(t, 20*time.Second, "test results", func() bool {
		out, _, _ := w.cli("maintainer", "tests", run.ID)
		return strings.Contains(out, "1 failed") && strings.Contains(out, "TestThing") && strings.Contains(out, "thing_test.go:7") && strings.Contains(out, "log of test, line 3000")
	})
}

func size(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
