// Package control turns signals into verdicts, and keeps what it saw: for each
// rollout the counts of canary and baseline, look by look, with what the judge
// made of them. deploy acts on a verdict; it asks for one through its own port,
// which engine implements.
//
// Numbers come from the traffic layer of the target, per role and group of
// processes. A group that is replaced, because a host was restarted, starts
// from zero; what was counted before stays part of the comparison.
package control

import (
	"context"
	"time"

	"weir/internal/deploy"
	"weir/internal/guard/identity"
)

// Arm is what one side of a comparison has seen since the rollout began.
type Arm struct {
	Requests int64   `json:"requests"`
	Errors   int64   `json:"errors"`
	Slow     []int64 `json:"slow"` // requests slower than each of deploy.LatencyBounds
}

// Metric is what one metric says at a look.
type Metric struct {
	Name     string  `json:"name"`     // errors | latency
	Evidence float64 `json:"evidence"` // of what is needed to stop; 1 stops
	LogE     float64 `json:"log_e"`
	Limit    float64 `json:"limit"`
	Canary   float64 `json:"canary"`   // rate, 0..1
	Baseline float64 `json:"baseline"` // rate, 0..1
	Boundary float64 `json:"boundary"` // the canary's rate that would stop now, 0..1
	Bound    int64   `json:"bound,omitempty"`
}

// Sample is one look at a rollout.
type Sample struct {
	RolloutID deploy.RolloutID `json:"rollout_id"`
	Time      time.Time        `json:"time"`
	Share     float64          `json:"share"` // of requests that the canary gets
	Canary    Arm              `json:"canary"`
	Baseline  Arm              `json:"baseline"`
	Outcome   string           `json:"outcome"` // worse | no worse | too few | no data
	Words     string           `json:"words"`
	Have      int64            `json:"have"` // canary requests
	Need      int64            `json:"need"` // that would have shown the fault to detect; -1 if never
	Metrics   []Metric         `json:"metrics"`
}

// Store keeps samples and, for each group of processes, its last counts.
type Store interface {
	// Groups returns the last counts of each group of a rollout, by role.
	Groups(ctx context.Context, id deploy.RolloutID) (map[deploy.Role]map[string]deploy.Counters, error)
	// Keep stores a sample and the counts that it was made from.
	Keep(ctx context.Context, s Sample, counters []deploy.Counters) error
	// Samples returns the samples of a rollout after a time, in the order of time; all, if it is zero.
	Samples(ctx context.Context, id deploy.RolloutID, since time.Time) ([]Sample, error)
}

// Service is what pages and the API ask of this layer.
type Service struct{ Store Store }

// Samples returns the looks at a rollout after a time, in the order of time; all, if it is zero. They are never changed, so that who
// has some asks only for what came since.
func (s Service) Samples(ctx context.Context, id deploy.RolloutID, since time.Time) ([]Sample, error) {
	if err := identity.Check(ctx, "rollout.read", "default"); err != nil {
		return nil, err
	}
	return s.Store.Samples(ctx, id, since)
}
