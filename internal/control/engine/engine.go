// Package engine judges canaries: it implements deploy.Judge over the sequential test of package judge.
package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"weir/internal/control"
	"weir/internal/control/judge"
	"weir/internal/deploy"
)

// sampleEvery is the distance of points on the chart.
const sampleEvery = 2 * time.Second

// Engine keeps nothing but when it last drew a point.
type Engine struct {
	store control.Store

	mu    sync.Mutex
	drawn map[deploy.RolloutID]drawing
}

type drawing struct {
	at  time.Time
	sum int64 // requests of both arms, to tell whether anything is new
}

// New returns the judge of a store.
func New(store control.Store) *Engine {
	return &Engine{store: store, drawn: map[deploy.RolloutID]drawing{}}
}

var _ deploy.Judge = (*Engine)(nil)

// Look takes in what the targets have counted and says what is known of the canary.
func (e *Engine) Look(ctx context.Context, r deploy.Rollout, counters []deploy.Counters, now time.Time) (deploy.Verdict, error) {
	kept, err := e.store.Arms(ctx, r.ID)
	if err != nil {
		return deploy.Verdict{}, fmt.Errorf("counters of %s: %w", r.ID, err)
	}
	arms, fresh := merge(kept, r, counters)
	s := Judge(r, arms, now)
	figures, err := json.Marshal(s)
	if err != nil {
		return deploy.Verdict{}, err
	}
	e.mu.Lock()
	last := e.drawn[r.ID]
	sample := now.Sub(last.at) >= sampleEvery || s.Outcome == deploy.Stop
	sum := s.Canary.Requests + s.Baseline.Requests
	save := sample || sum != last.sum
	if sample {
		last.at = now
	}
	last.sum = sum
	if !r.State.Live() || s.Outcome == deploy.Stop {
		delete(e.drawn, r.ID)
	} else {
		e.drawn[r.ID] = last
	}
	e.mu.Unlock()
	if save {
		// Stored before it is acted on: what a page shows afterwards is what decided.
		if err := e.store.Save(ctx, fresh, s, sample); err != nil {
			return deploy.Verdict{}, fmt.Errorf("keep counters of %s: %w", r.ID, err)
		}
	}
	return deploy.Verdict{Outcome: s.Outcome, Words: s.Words, Figures: figures}, nil
}

// merge replaces what is kept of a group by its newest counters, and keeps groups that are gone. Counters
// never shrink: a group that is seen with less than before is an old answer.
func merge(kept []control.Arm, r deploy.Rollout, counters []deploy.Counters) (all, fresh []control.Arm) {
	all = kept
	for _, c := range counters {
		ours := c.Role == deploy.Canary && c.ReleaseID == r.ReleaseID || c.Role == deploy.Baseline && c.ReleaseID == r.FromReleaseID
		if !ours {
			continue
		}
		a := control.Arm{Group: c.Group, Role: c.Role, Requests: c.Requests, Errors: c.Errors, Buckets: c.Buckets}
		found := false
		for i := range all {
			if all[i].Group == a.Group {
				found = true
				if a.Requests > all[i].Requests || a.Requests == all[i].Requests && a.Errors > all[i].Errors {
					all[i] = a
					fresh = append(fresh, a)
				}
			}
		}
		if !found {
			all, fresh = append(all, a), append(fresh, a)
		}
	}
	return all, fresh
}

// Judge is the pure part: what the counted arms say.
func Judge(r deploy.Rollout, arms []control.Arm, now time.Time) control.State {
	c, b := control.Total(arms, deploy.Canary), control.Total(arms, deploy.Baseline)
	config := judge.Default()
	if r.Plan.Detect > 0 {
		config.Detect = r.Plan.Detect
	}
	reading := judge.Look(config,
		judge.Arm{Requests: c.Requests, Errors: c.Errors, Slow: c.Slow()},
		judge.Arm{Requests: b.Requests, Errors: b.Errors, Slow: b.Slow()}, deploy.LatencyBounds)
	s := control.State{Rollout: r.ID, At: now, Words: reading.Words, Have: reading.Have, Need: reading.Need, Canary: c, Baseline: b, Share: r.Share(), Outcome: deploy.Hold, Metrics: []control.Metric{}}
	switch reading.Outcome {
	case judge.Worse:
		s.Outcome = deploy.Stop
	case judge.NoWorse:
		s.Outcome = deploy.Pass
	}
	for _, m := range reading.Metrics {
		s.Metrics = append(s.Metrics, control.Metric{Name: m.Name, Evidence: m.Evidence, Canary: m.Canary, Baseline: m.Baseline, Boundary: m.Boundary, Bound: m.Bound})
	}
	return s
}
