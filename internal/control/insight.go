package control

import (
	"slices"
	"time"

	"weir/internal/deploy"
)

// Delivery are the figures of deliveries over some time: measured, each with the count behind it.
type Delivery struct {
	Over     time.Duration
	Complete int    // deployments that ended as planned
	Failed   int    // that were taken back, or did not start
	Lead     Median // from the time of the commit to the end of its deployment
	Recovery Median // from the beginning of a failed deployment to the end of its rollback
}

// Median is the middle of some times. Of is 0 if there were none.
type Median struct {
	Time time.Duration
	Of   int
}

// Deliveries folds what happened to the last environments of services into figures: planned deployments that ended within the time
// before now. A rollback or a drill is no deployment.
func Deliveries(rollouts []deploy.Rollout, over time.Duration, now time.Time) Delivery {
	d := Delivery{Over: over}
	var lead, recovery []time.Duration
	for _, r := range rollouts {
		if r.State.Live() || r.Intent == deploy.Rollback || r.Intent == deploy.Drill || now.Sub(r.Created) > over {
			continue
		}
		if r.State == deploy.Completed {
			d.Complete++
			if !r.CommitTime.IsZero() && r.Finished.After(r.CommitTime) {
				lead = append(lead, r.Finished.Sub(r.CommitTime))
			}
			continue
		}
		d.Failed++
		if !r.Decided.IsZero() && r.Finished.After(r.Created) {
			recovery = append(recovery, r.Finished.Sub(r.Created))
		}
	}
	d.Lead, d.Recovery = median(lead), median(recovery)
	return d
}

// Begun is how many deployments there were.
func (d Delivery) Begun() int { return d.Complete + d.Failed }

func median(times []time.Duration) Median {
	if len(times) == 0 {
		return Median{}
	}
	slices.Sort(times)
	return Median{times[len(times)/2], len(times)}
}
