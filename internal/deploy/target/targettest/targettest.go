// Package targettest says what a deploy target must do, and has one in memory that does it.
package targettest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/base/fault"
	"weir/internal/deploy"
)

// Memory is a target that only remembers. Releases become ready at once, unless they are told to fail.
type Memory struct {
	mu       sync.Mutex
	seq      int64
	epoch    int64
	change   chan struct{}
	envs     map[string]*env
	fail     map[string]string // version to reason
	counters []deploy.Counters
	events   []deploy.Event
	lastID   int64
	down     bool
	Applied  []deploy.Desired // every call that changed something
}

type env struct {
	desired deploy.Desired
	applied int64
	inForce []deploy.Slot
	reason  string
	pending bool
}

// New returns an empty one.
func New() *Memory {
	return &Memory{change: make(chan struct{}), envs: map[string]*env{}, fail: map[string]string{}}
}

var _ deploy.Target = (*Memory)(nil)

func (m *Memory) changed() {
	m.seq++
	close(m.change)
	m.change = make(chan struct{})
}

// Fail makes a version not start, for a reason.
func (m *Memory) Fail(version, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail[version] = reason
}

// Down makes the target not answer.
func (m *Memory) Down(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
	m.changed()
}

// Count sets what Counters returns.
func (m *Memory) Count(c ...deploy.Counters) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counters = c
}

var errDown = fault.New(fault.Unavailable, "The target is down.")

// Apply implements deploy.Target.
func (m *Memory) Apply(_ context.Context, epoch int64, d deploy.Desired) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return errDown
	}
	key := d.ServiceID + "/" + d.Environment
	e := m.envs[key]
	if e == nil {
		e = &env{}
		m.envs[key] = e
	}
	switch {
	case epoch < m.epoch:
		return fault.New(fault.Conflict, "epoch %d is older than %d", epoch, m.epoch)
	case e.pending:
		return fault.New(fault.Conflict, "events first")
	case d.Generation < e.desired.Generation:
		return fault.New(fault.Conflict, "generation %d is older than %d", d.Generation, e.desired.Generation)
	}
	m.epoch = epoch
	if d.Generation == e.desired.Generation {
		return nil
	}
	e.desired, e.reason = d, ""
	m.Applied = append(m.Applied, d)
	for _, s := range d.Slots {
		if why := m.fail[s.Release.Version]; why != "" {
			e.reason = why
		}
	}
	if e.reason == "" {
		e.applied, e.inForce = d.Generation, d.Slots
	}
	m.changed()
	return nil
}

// Operator rolls back as somebody on the machine would.
func (m *Memory) Operator(serviceID, environment string, from, to deploy.Spec) deploy.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.envs[serviceID+"/"+environment]
	e.inForce = []deploy.Slot{{Role: deploy.Stable, Replicas: 1, Weight: 10000, Release: to}}
	e.pending = true
	m.lastID++
	ev := deploy.Event{
		ID: m.lastID, Time: time.Now().UTC(), Kind: "rollback", ServiceID: serviceID, Environment: environment, From: from.ReleaseID, To: to.ReleaseID,
		FromVersion: from.Version, ToVersion: to.Version, By: "root", Took: 40 * time.Millisecond,
	}
	m.events = append(m.events, ev)
	m.changed()
	return ev
}

// Observe implements deploy.Target.
func (m *Memory) Observe(ctx context.Context, after int64, wait time.Duration) (deploy.Observed, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		m.mu.Lock()
		if m.down {
			m.mu.Unlock()
			return deploy.Observed{}, errDown
		}
		if m.seq > after || ctx.Err() != nil {
			defer m.mu.Unlock()
			return m.observed(), nil
		}
		change := m.change
		m.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
		}
	}
}

func (m *Memory) observed() deploy.Observed {
	o := deploy.Observed{Sequence: m.seq, Instance: "memory"}
	for key, e := range m.envs {
		service, name, _ := strings.Cut(key, "/")
		r := deploy.Running{ServiceID: service, Environment: name, Generation: e.desired.Generation, Applied: e.applied, Confined: true, Pending: e.pending}
		for _, s := range e.inForce {
			r.Slots = append(r.Slots, deploy.SlotState{Role: s.Role, ReleaseID: s.Release.ReleaseID, Version: s.Release.Version, Group: fmt.Sprintf("%s-%s", s.Role, s.Release.Version), Weight: s.Weight, Replicas: 1, Ready: 1})
		}
		if e.reason != "" {
			for _, s := range e.desired.Slots {
				if m.fail[s.Release.Version] != "" {
					r.Slots = append(r.Slots, deploy.SlotState{Role: s.Role, ReleaseID: s.Release.ReleaseID, Version: s.Release.Version, Replicas: 1, Failed: true, Reason: e.reason})
				}
			}
		}
		o.Environments = append(o.Environments, r)
	}
	return o
}

// Counters implements deploy.Target.
func (m *Memory) Counters(context.Context) ([]deploy.Counters, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return nil, errDown
	}
	return slices.Clone(m.counters), nil
}

// Events implements deploy.Target.
func (m *Memory) Events(context.Context) ([]deploy.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.events), nil
}

// Acknowledge implements deploy.Target.
func (m *Memory) Acknowledge(_ context.Context, epoch, upTo int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if epoch < m.epoch {
		return fault.New(fault.Conflict, "epoch %d is older than %d", epoch, m.epoch)
	}
	m.epoch = epoch
	m.events = slices.DeleteFunc(m.events, func(e deploy.Event) bool { return e.ID <= upTo })
	if len(m.events) == 0 {
		for _, e := range m.envs {
			e.pending = false
		}
	}
	m.changed()
	return nil
}

// InForce is who gets requests in an environment, as "role version weight".
func (m *Memory) InForce(serviceID, environment string) (s []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.envs[serviceID+"/"+environment]; e != nil {
		for _, slot := range e.inForce {
			s = append(s, fmt.Sprintf("%s %s %d", slot.Role, slot.Release.Version, slot.Weight))
		}
	}
	return s
}

// Run checks what every target promises. image is what it can run, in two versions.
func Run(t *testing.T, target deploy.Target, one, two deploy.Spec) {
	ctx := t.Context()
	settle := func(what string, ok func(deploy.Running) bool) deploy.Running {
		t.Helper()
		after := int64(-1)
		var last deploy.Running
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
			o, err := target.Observe(ctx, after, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			after = o.Sequence
			for _, r := range o.Environments {
				if last = r; r.ServiceID == "svc_test" && r.Environment == "production" && ok(r) {
					return r
				}
			}
		}
		t.Fatalf("waited 20 s for %s: %+v", what, last)
		return last
	}
	desired := func(gen int64, slots ...deploy.Slot) deploy.Desired {
		return deploy.Desired{ServiceID: "svc_test", Service: "test", Environment: "production", Generation: gen, Slots: slots}
	}
	if err := target.Apply(ctx, 3, desired(1, deploy.Slot{Role: deploy.Stable, Replicas: 1, Weight: 10000, Release: one})); err != nil {
		t.Fatal(err)
	}
	settle("the first release", func(r deploy.Running) bool {
		return r.Applied == 1 && len(r.Slots) == 1 && r.Slots[0].ReleaseID == one.ReleaseID
	})
	split := desired(2,
		deploy.Slot{Role: deploy.Stable, Replicas: 1, Weight: 5000, Release: one},
		deploy.Slot{Role: deploy.Canary, Replicas: 1, Weight: 2500, Release: two},
		deploy.Slot{Role: deploy.Baseline, Replicas: 1, Weight: 2500, Release: one})
	for range 2 { // the same again is the same
		if err := target.Apply(ctx, 3, split); err != nil {
			t.Fatal(err)
		}
	}
	r := settle("three slots", func(r deploy.Running) bool { return r.Applied == 2 && len(r.Slots) == 3 })
	groups := map[string]bool{}
	for _, s := range r.Slots {
		groups[s.Group] = true
	}
	if len(groups) != 3 {
		t.Errorf("slots %+v; want a group of counters each", r.Slots)
	}
	if err := target.Apply(ctx, 2, desired(9, split.Slots...)); !fault.Is(err, fault.Conflict) {
		t.Errorf("apply with an old epoch = %v; want a conflict", err)
	}
	if err := target.Apply(ctx, 3, desired(1, split.Slots...)); !fault.Is(err, fault.Conflict) {
		t.Errorf("apply of an old generation = %v; want a conflict", err)
	}
	if err := target.Acknowledge(ctx, 2, 0); !fault.Is(err, fault.Conflict) {
		t.Errorf("acknowledge with an old epoch = %v; want a conflict", err)
	}
	if _, err := target.Counters(ctx); err != nil {
		t.Error(err)
	}
	if events, err := target.Events(ctx); err != nil || len(events) != 0 {
		t.Errorf("events %v, %v; want none", events, err)
	}
}
