package e2e

import (
	"context"
	"strings"
	"testing"

	"weir/internal/edge/api/client"
)

// TestAJobWaitsForTheApprovalThatPolicyAsksFor: who started it cannot give it, and each answer of policy is kept with its reasons.
func TestAJobWaitsForTheApprovalThatPolicyAsksFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	files := tiny("first", guardedRules)
	files[".github/workflows/move.yml"] = "name: move\non: workflow_dispatch\njobs:\n  move:\n    runs-on: x\n    environment: production\n    steps: [{run: echo moved}]\n"
	w.bootstrap(files)
	var run client.Run
	w.must(w.as("author").Post(context.Background(), "/repositories/tiny/runs", map[string]any{"workflow": "move.yml"}, &run))
	var said string
	w.eventually("the job waits", func() bool {
		said, _, _ = w.cli("author", "runs", "why", run.ID)
		return strings.Contains(said, "1 of 1 approvals of release-managers to enter production")
	})
	if !strings.Contains(said, "weir runs approve "+run.ID+" --environment production") {
		t.Error(said)
	}
	if _, stderr, status := w.cli("author", "runs", "approve", run.ID, "--environment", "production"); status == 0 {
		t.Errorf("its author approved it: %s", stderr)
	}
	if _, stderr, status := w.cli("reviewer", "runs", "approve", run.ID, "--environment", "production"); status != 0 {
		t.Fatal(stderr)
	}
	w.eventually("the job has run", func() bool {
		return w.as("maintainer").Get(context.Background(), "/runs/"+run.ID, &run) == nil && run.State == "success"
	})
	var decisions []struct {
		Action, Scope string
		Allow         bool
		Rules         []struct{ Rule, Message string }
	}
	w.must(w.as("reviewer").Get(context.Background(), "/decisions?subject="+run.ID, &decisions))
	if len(decisions) != 2 || !decisions[0].Allow || decisions[1].Allow || decisions[1].Action != "job.enter" || decisions[1].Scope != "production" ||
		!strings.Contains(decisions[0].Rules[0].Message, "Approved by ") || !strings.Contains(decisions[1].Rules[0].Message, "It waits for 1 of 1 approvals of release-managers") {
		t.Errorf("decisions: %+v", decisions)
	}
}
