package local

import (
	"os"
	"testing"
	"time"

	"weir/internal/pipeline"
	"weir/internal/pipeline/runner/runnertest"
)

func TestAJobSaysHowLongItMayCleanUp(t *testing.T) {
	cancel := make(chan struct{})
	j := runnertest.Steps("touch begun; sleep 1000", "echo tidying; sleep 1000", "echo never")
	j.Plan.Steps[1].If, j.Plan.Steps[2].If = "always()", "always()"
	j.Plan.CancelTimeoutMinutes = 0.01
	j.Cancel = cancel
	r := open(t)
	r.stages = []stage{{2, 50 * time.Millisecond}}
	go func() {
		for {
			if _, err := os.Stat(r.cfg.Data + "/work/job_1.1/workspace/begun"); err == nil || t.Context().Err() != nil {
				close(cancel)
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	res, log := runnertest.Attempt(t, r, &runnertest.Host{}, j)
	want(t, res, log, pipeline.Cancelled, "|tidying")
	if res.Steps[2].State == pipeline.Success {
		t.Errorf("steps %+v; want the last one not to run", res.Steps)
	}
}
