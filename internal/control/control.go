package control

import (
	"context"
	"time"

	"weir/internal/deploy"
	"weir/internal/guard/identity"
)

const org = "default"

// Arm is one side of a comparison, as one group of processes counted it.
type Arm struct {
	Group    string      `json:"group"`
	Role     deploy.Role `json:"role"`
	Requests int64       `json:"requests"`
	Errors   int64       `json:"errors"`
	Buckets  []int64     `json:"buckets"` // by deploy.LatencyBounds
}

// Total adds up the groups of a role.
func Total(arms []Arm, role deploy.Role) Arm {
	t := Arm{Role: role, Buckets: make([]int64, len(deploy.LatencyBounds)+1)}
	for _, a := range arms {
		if a.Role != role {
			continue
		}
		t.Requests += a.Requests
		t.Errors += a.Errors
		for i := range min(len(t.Buckets), len(a.Buckets)) {
			t.Buckets[i] += a.Buckets[i]
		}
	}
	return t
}

// Slow counts, for each latency bound, the requests that took longer.
func (a Arm) Slow() []int64 {
	c := deploy.Counters{Buckets: a.Buckets}
	slow := make([]int64, len(deploy.LatencyBounds))
	for i := range slow {
		slow[i] = c.Slow(i)
	}
	return slow
}

// Metric is what one metric says at a moment.
type Metric struct {
	Name     string  `json:"name"`     // errors, latency
	Evidence float64 `json:"evidence"` // of what it takes to stop: 1 stops
	Canary   float64 `json:"canary"`   // share of requests, 0..1
	Baseline float64 `json:"baseline"`
	Boundary float64 `json:"boundary"`        // the canary's share at which it would stop now
	Bound    int64   `json:"bound,omitempty"` // latency: milliseconds, the bound that speaks loudest
}

// State is what the judge knows of a rollout.
type State struct {
	Rollout  deploy.RolloutID `json:"rollout"`
	At       time.Time        `json:"at"`
	Outcome  deploy.Outcome   `json:"outcome"`
	Words    string           `json:"words"`
	Have     int64            `json:"have"` // canary requests so far
	Need     int64            `json:"need"` // at which a fault of the declared size is noticed with the declared chance; -1: never
	Metrics  []Metric         `json:"metrics"`
	Canary   Arm              `json:"canary"`
	Baseline Arm              `json:"baseline"`
	Share    float64          `json:"share"` // of requests on the canary
}

// Store keeps what was counted. Its adapter is controldb.
type Store interface {
	// Save stores the newest counters of groups and the state that came of them, and a point of the chart if sample.
	Save(ctx context.Context, arms []Arm, s State, sample bool) error
	Arms(ctx context.Context, id deploy.RolloutID) ([]Arm, error)
	// State is the newest one; false if the rollout was never looked at.
	State(ctx context.Context, id deploy.RolloutID) (State, bool, error)
	// Samples are the points of the chart, oldest first.
	Samples(ctx context.Context, id deploy.RolloutID) ([]State, error)
}

// Service is what pages and the API ask of this layer.
type Service struct{ store Store }

// NewService puts the layer together.
func NewService(store Store) *Service { return &Service{store} }

// Rollout returns what the judge knows now and how it got there. Looked is false for a rollout without a canary.
func (s *Service) Rollout(ctx context.Context, id deploy.RolloutID) (now State, samples []State, looked bool, err error) {
	if err := identity.Check(ctx, "rollout.read", org); err != nil {
		return now, nil, false, err
	}
	if now, looked, err = s.store.State(ctx, id); err != nil || !looked {
		return now, nil, false, err
	}
	samples, err = s.store.Samples(ctx, id)
	return now, samples, true, err
}
