package webtest

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"weir/internal/edge/web"
	"weir/internal/pipeline"
)

// The sizes of run_big.
const (
	BigJobs  = 10_000
	BigLines = 1_000_000
)

// bigRun is a run of many jobs in forty matrices.
func (d *Data) bigRun() web.Run {
	now := d.at()
	r := web.Run{RunRow: web.RunRow{ID: "run_big", Title: "Everything, everywhere", Workflow: ".github/workflows/all.yml", Repository: "checkout", State: st("bad", "Failing, 2 jobs still run"), Ref: "main", Revision: revision, Actor: "Maya Lindqvist", Created: Start},
		Now: now, Live: true, Event: "push", Attempt: 1, Started: Start, CanCancel: true}
	for i := range BigJobs {
		g := i / 250
		j := web.Job{ID: fmt.Sprintf("job_%d", i), Key: fmt.Sprintf("stage-%d (%d)", g, i%250), Group: fmt.Sprintf("stage-%d", g), State: st("ok", "Passed"), Done: true, Attempt: 1, Attempts: 1, Confined: true, Network: "egress",
			Started: Start.Add(time.Duration(g*15) * time.Second), Used: 14 * time.Second, Queued: time.Duration(i%250) * 20 * time.Millisecond}
		j.Finished = j.Started.Add(j.Used + time.Duration(i%97)*time.Millisecond)
		if g > 0 {
			j.Needs = []string{fmt.Sprintf("stage-%d", g-1)}
		}
		switch {
		case i%1999 == 7:
			j.State, j.Reason = st("bad", "Failed"), "step 2 (go test): exit code 1"
		case i >= BigJobs-2:
			j.State, j.Done, j.Finished = st("run", "Running"), false, time.Time{}
		}
		r.Jobs = append(r.Jobs, j)
	}
	return r
}

var bigLog sync.Mutex

// keepBig writes the long log once.
func (d *Data) keepBig(job string) (pipeline.LogRef, error) {
	bigLog.Lock()
	defer bigLog.Unlock()
	ref := pipeline.LogRef{Run: "run_big", Job: pipeline.JobID(job), Attempt: 1}
	path := filepath.Join(d.folder, "run_big", job+".1.log")
	if _, err := os.Stat(path); err == nil {
		return ref, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return ref, err
	}
	f, err := os.Create(path)
	if err != nil {
		return ref, err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	at := Start.UnixMicro()
	fmt.Fprintf(w, "%d + {\"number\":1,\"name\":\"go test ./...\"}\n", at)
	for i := 2; i < BigLines-1; i++ {
		switch {
		case i == 700_000:
			fmt.Fprintf(w, "%d | --- FAIL: TestNeedle (0.31s)\n", at+int64(i))
		case i%1000 == 0:
			fmt.Fprintf(w, "%d [ part %d\n", at+int64(i), i/1000)
		default:
			fmt.Fprintf(w, "%d | %07d ok   example.com/some/package/number%d  0.0%ds\n", at+int64(i), i, i%977, i%90+10)
		}
	}
	fmt.Fprintf(w, "%d - {\"number\":1,\"name\":\"go test ./...\",\"state\":\"failure\",\"reason\":\"exit code 1\",\"started\":\"2025-11-18T14:20:56Z\",\"finished\":\"2025-11-18T14:21:56Z\"}\n%d = failure\n", at+BigLines, at+BigLines)
	return ref, w.Flush()
}
