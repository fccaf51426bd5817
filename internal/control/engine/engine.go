// Package engine judges live rollouts: it puts the counts of canary and baseline
// together, asks the judge, keeps what it saw, and answers deploy. Without data
// it says hold, never stop.
package engine

import (
	"context"
	"encoding/json"
	"math"
	"sync"
	"time"

	"weir/internal/control"
	"weir/internal/control/judge"
	"weir/internal/deploy"
)

// every is how often a look is stored; verdicts are given at every look.
const every = time.Second

// Judge implements deploy.Judge.
type Judge struct {
	store control.Store

	mu   sync.Mutex
	seen map[deploy.RolloutID]*memory
}

// memory is what is known of a rollout between looks. Its store is the truth
// after a restart.
type memory struct {
	groups map[deploy.Role]map[string]deploy.Counters
	kept   time.Time
	said   judge.Outcome

	// Seconds in which the canary was slower, by boundary. They start anew
	// after a restart, which can only put a stop off.
	slower []int
	second time.Time
	before [2][]int64 // slow requests of canary and baseline when the second began
}

// count closes a second if one is over.
func (m *memory) count(c judge.Config, canary, baseline control.Arm, now time.Time) {
	if now.Sub(m.second) < time.Second && !m.second.IsZero() {
		return
	}
	if !m.second.IsZero() {
		since := func(slow, before []int64) []int64 {
			out := make([]int64, min(len(slow), len(before)))
			for i := range out {
				out[i] = slow[i] - before[i]
			}
			return out
		}
		for i, is := range c.Slower(since(canary.Slow, m.before[0]), since(baseline.Slow, m.before[1])) {
			if is {
				m.slower[i]++
			}
		}
	} else {
		m.slower = make([]int, len(canary.Slow))
	}
	m.second, m.before = now, [2][]int64{canary.Slow, baseline.Slow}
}

// New returns a judge that keeps what it sees in store.
func New(store control.Store) *Judge {
	return &Judge{store: store, seen: map[deploy.RolloutID]*memory{}}
}

// Look implements deploy.Judge.
func (j *Judge) Look(ctx context.Context, r deploy.Rollout, counters []deploy.Counters, now time.Time) (deploy.Verdict, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := j.seen[r.ID]
	if m == nil {
		groups, err := j.store.Groups(ctx, r.ID)
		if err != nil {
			return deploy.Verdict{}, err
		}
		m = &memory{groups: groups}
		j.seen[r.ID] = m
		j.forget(r.ID)
	}
	var mine []deploy.Counters
	for _, c := range counters {
		if belongs(r, c) {
			mine = append(mine, c)
			if m.groups[c.Role] == nil {
				m.groups[c.Role] = map[string]deploy.Counters{}
			}
			m.groups[c.Role][c.Group] = c
		}
	}
	canary, baseline := sum(m.groups[deploy.Canary]), sum(m.groups[deploy.Baseline])
	config := judge.Default()
	if r.Plan.Detect > 0 {
		config.Detect = r.Plan.Detect
	}
	m.count(config, canary, baseline, now)
	reading := judge.Look(config, judge.Arm(canary), judge.Arm(baseline), deploy.LatencyBounds).Lasting(deploy.LatencyBounds, m.slower)
	sample := sampleOf(r, canary, baseline, reading, now)
	if now.Sub(m.kept) >= every || reading.Outcome != m.said {
		if err := j.store.Keep(ctx, sample, mine); err != nil {
			return deploy.Verdict{}, err
		}
		m.kept, m.said = now, reading.Outcome
	}
	figures, err := json.Marshal(sample)
	if err != nil {
		return deploy.Verdict{}, err
	}
	outcome := map[judge.Outcome]deploy.Outcome{judge.Worse: deploy.Stop, judge.NoWorse: deploy.Pass}[reading.Outcome]
	if outcome == "" {
		outcome = deploy.Hold
	}
	return deploy.Verdict{Outcome: outcome, Words: reading.Words, Figures: figures}, nil
}

// forget keeps the memory small: what is left out is read again when needed.
func (j *Judge) forget(but deploy.RolloutID) {
	for id := range j.seen {
		if len(j.seen) > 64 && id != but {
			delete(j.seen, id)
		}
	}
}

// belongs reports whether counts are of this rollout's canary or baseline.
func belongs(r deploy.Rollout, c deploy.Counters) bool {
	if c.ServiceID != r.ServiceID || c.Environment != r.Environment || c.Since.Before(r.Created.Add(-time.Second)) {
		return false
	}
	return c.Role == deploy.Canary && c.ReleaseID == r.ReleaseID || c.Role == deploy.Baseline && c.ReleaseID == r.FromReleaseID
}

// sum adds up the groups that have been one side of the comparison.
func sum(groups map[string]deploy.Counters) control.Arm {
	a := control.Arm{Slow: make([]int64, len(deploy.LatencyBounds))}
	for _, c := range groups {
		a.Requests += c.Requests
		a.Errors += c.Errors
		for i := range a.Slow {
			a.Slow[i] += c.Slow(i)
		}
	}
	return a
}

func sampleOf(r deploy.Rollout, canary, baseline control.Arm, reading judge.Reading, now time.Time) control.Sample {
	s := control.Sample{RolloutID: r.ID, Time: now.UTC(), Share: r.Share(), Canary: canary, Baseline: baseline,
		Outcome: string(reading.Outcome), Words: reading.Words, Have: reading.Have, Need: reading.Need}
	for _, m := range reading.Metrics {
		if math.IsInf(m.LogE, 0) {
			m.LogE = -50 // JSON has no infinity; this is as good as no evidence.
		}
		s.Metrics = append(s.Metrics, control.Metric(m))
	}
	return s
}
