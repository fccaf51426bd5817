package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAgentChecksOutFromACopyThatItKeeps runs three revisions on one agent, the last after the agent was killed.
func TestAgentChecksOutFromACopyThatItKeeps(t *testing.T) {
	t.Parallel()
	w := agents(t, `      - uses: actions/checkout@v4
      - run: echo "file is $(cat file.txt), $(git rev-list --count HEAD) deep at $(git rev-parse HEAD)"
      - run: git fetch --quiet --deepen=5 origin && echo "now $(git rev-list --count HEAD) deep"
      - uses: actions/checkout@v4
        with: {fetch-depth: 0, path: all}
      - run: cd all && echo "whole $(git rev-list --count HEAD)"
`)
	a := w.agent("one", "big")
	w.connected("one", true)
	revision := w.push()
	run, job := w.far(revision, "success")
	w.logHas(run.ID, job.ID, "file is checked out, 1 deep at "+revision)
	copies, err := filepath.Glob(filepath.Join(a.dir, "git", "repo_*.git"))
	if err != nil || len(copies) != 1 {
		t.Fatalf("copies on the agent: %v", copies)
	}
	if strings.Contains(a.log.String(), "does not come from the copy") {
		t.Error(tail(a.log.String(), 2000))
	}
	next := w.commit("next", map[string]string{"file.txt": "second\n"})
	c := w.propose("next")
	run, job = w.far(next, "success")
	w.logHas(run.ID, job.ID, "file is second, 1 deep at "+next)
	w.logHas(run.ID, job.ID, "now 2 deep")
	w.logHas(run.ID, job.ID, "whole 2")
	_ = c

	// What a killed agent leaves does no harm.
	a.kill()
	for _, junk := range []string{"shallow.lock", "weir-fetching"} {
		w.must(os.WriteFile(filepath.Join(copies[0], junk), nil, 0o600))
	}
	a.start()
	w.connected("one", true)
	w.commit("third", map[string]string{"file.txt": "third\n"})
	third := w.propose("third")
	run, job = w.far(third.Change.Revision, "success")
	w.logHas(run.ID, job.ID, "file is third")
	if strings.Contains(a.log.String(), "does not come from the copy") {
		t.Error(tail(a.log.String(), 2000))
	}
}

// TestCheckoutOfALargeRepository tells how long a checkout takes on an agent that keeps a copy, and on one that does not.
func TestCheckoutOfALargeRepository(t *testing.T) {
	if !long {
		t.Skip("set WEIR_TEST_LONG=1")
	}
	w := agents(t, "      - uses: actions/checkout@v4\n")
	random := rand.New(rand.NewPCG(1, 2))
	files := map[string]string{}
	for i := range 20_000 {
		b := make([]byte, 4000)
		for k := range b {
			b[k] = "abcdefghijklmnopqrstuvwxyz \n"[random.IntN(28)]
		}
		files[fmt.Sprintf("dir%d/file%d.txt", i%200, i)] = string(b)
	}
	w.commit("large", files)
	revision := w.push()
	took := func() time.Duration {
		run, _ := w.far(revision, "success")
		s := run.Jobs[0].Attempts[0].Steps[0]
		return s.Finished.Sub(s.Started).Round(10 * time.Millisecond)
	}
	next := func(i int) {
		revision = w.commit("next", map[string]string{"file.txt": fmt.Sprint(i)})
		w.propose(fmt.Sprintf("next-%d", i))
	}
	for _, kept := range []string{"0", "8589934592"} {
		a := w.agent("keeps-"+kept, "big")
		a.kill()
		a.flags = []string{"--repositories", kept}
		a.start()
		w.connected("keeps-"+kept, true)
		var all []time.Duration
		for i := range 3 {
			if i > 0 || kept != "0" {
				next(i + len(kept)*10)
			}
			all = append(all, took())
		}
		t.Logf("%s bytes of copies: first %s, then %s and %s", kept, all[0], all[1], all[2])
		a.kill()
		w.connected("keeps-"+kept, false)
	}
}
