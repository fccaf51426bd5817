package control

import (
	"testing"
	"time"

	"weir/internal/deploy"
)

func TestDeliveriesCountPlannedDeploymentsAndTheirFailures(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	ok := deploy.Rollout{State: deploy.Completed, Created: now.Add(-time.Hour), Finished: now, CommitTime: now.Add(-3 * time.Hour)}
	bad := deploy.Rollout{State: deploy.RolledBack, Created: now.Add(-time.Hour), Decided: now.Add(-time.Minute), Finished: now}
	old, back, drill := ok, ok, ok
	old.Created = now.Add(-40 * 24 * time.Hour)
	back.Intent, drill.Intent = deploy.Rollback, deploy.Drill
	d := Deliveries([]deploy.Rollout{ok, bad, old, back, drill}, 30*24*time.Hour, now)
	if d.Complete != 1 || d.Failed != 1 || d.Begun() != 2 || d.Lead != (Median{3 * time.Hour, 1}) || d.Recovery != (Median{time.Hour, 1}) {
		t.Errorf("Deliveries() = %+v", d)
	}
	if d := Deliveries(nil, time.Hour, now); d.Begun() != 0 || d.Lead.Of != 0 {
		t.Errorf("of nothing: %+v", d)
	}
}
