package host

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"weir/internal/base/id"
	"weir/internal/deploy"
	"weir/internal/deploy/protocol"
)

// environment is one service in one environment on this machine.
type environment struct {
	host          *Host
	key           string
	service, name string
	wake          chan struct{} // a wake-up: something changed
	routing       atomic.Pointer[routing]
	listener      net.Listener
	server        *http.Server

	mu      sync.Mutex // of what follows, which the run loop changes
	record  envRecord
	target  int64 // counts changes of record.Desired; planned is made of the planned-th
	planned int64
	next    []*group // of the target, nil once it is in force
	inForce []*group
	pools   []*pool // all that are not stopped yet
	warm    *group
	warmEnd time.Time
	closing sync.WaitGroup // pools that are being stopped
}

// group is a pool in a role. Requests are counted by group.
type group struct {
	id    string
	slot  protocol.Slot
	pool  *pool
	since time.Time
	count *counters
}

func newEnvironment(h *Host, key string, rec envRecord) *environment {
	e := &environment{host: h, key: key, service: rec.Desired.Service, name: rec.Desired.Environment, wake: make(chan struct{}, 1), record: rec, target: 1}
	e.routing.Store(&routing{})
	return e
}

func (e *environment) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
	e.host.changed()
}

// run is the loop. It returns when nothing of the environment is left.
func (e *environment) run(ctx context.Context) {
	e.restore(ctx)
	for {
		e.step(ctx)
		var expiry <-chan time.Time
		e.mu.Lock()
		if e.warm != nil {
			expiry = time.After(time.Until(e.warmEnd))
		}
		e.mu.Unlock()
		select {
		case <-ctx.Done():
			e.end()
			return
		case <-e.wake:
		case <-expiry:
		}
	}
}

// restore brings back what was in force when the host ended, before anything newer.
func (e *environment) restore(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.record.InForce) == 0 {
		return
	}
	for _, s := range e.record.InForce {
		e.inForce = append(e.inForce, e.newGroup(s, e.newPool(ctx, s, true)))
	}
	// Requests are answered as soon as the first process is ready.
	e.routing.Store(newRouting(e.inForce))
}

func (e *environment) newGroup(s protocol.Slot, p *pool) *group {
	return &group{id: id.New("grp"), slot: s, pool: p, since: e.host.config.Clock(), count: newCounters()}
}

func (e *environment) newPool(ctx context.Context, s protocol.Slot, known bool) *pool {
	p := newPool(ctx, e, s.Release, s.Replicas, known)
	e.pools = append(e.pools, p)
	return p
}

// step compares what is with what should be, and does what can be done now.
func (e *environment) step(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer e.host.changed()
	if e.warm != nil && !time.Now().Before(e.warmEnd) {
		e.warm = nil
	}
	if e.planned != e.target {
		e.plan(ctx)
		e.planned = e.target
	}
	if e.next != nil && !slices.ContainsFunc(e.next, func(g *group) bool { return !e.canTake(g) }) {
		e.enforce()
	}
	e.release()
}

// plan finds or makes a group for every desired slot.
func (e *environment) plan(ctx context.Context) {
	old := slices.Concat(e.inForce, e.next)
	e.next = []*group{}
	for _, s := range e.record.Desired.Slots {
		e.next = append(e.next, e.groupFor(ctx, s, old))
	}
}

func (e *environment) groupFor(ctx context.Context, s protocol.Slot, old []*group) *group {
	usable := func(g *group) bool {
		state, _, _, _ := g.pool.status()
		return state != protocol.Failed && same(g.slot.Release, s.Release) && g.pool.replicas == max(s.Replicas, 1)
	}
	for _, g := range old {
		if g.slot.Role == s.Role && usable(g) {
			// The same processes and counters, perhaps another weight.
			c := *g
			c.slot = s
			return &c
		}
	}
	// A baseline is fresh by definition; any other role may take over running processes.
	if s.Role != deploy.Baseline {
		candidates := old
		if e.warm != nil {
			candidates = append(slices.Clone(old), e.warm)
		}
		for _, g := range candidates {
			if g.slot.Role != deploy.Baseline && usable(g) {
				return e.newGroup(s, g.pool)
			}
		}
	}
	return e.newGroup(s, e.newPool(ctx, s, false))
}

func same(a, b protocol.Release) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// canTake reports whether a group can have its share of requests. One that has it already keeps it while
// any of its processes is ready: going back must not wait for the last of them.
func (e *environment) canTake(g *group) bool {
	_, _, ready, _ := g.pool.status()
	if slices.ContainsFunc(e.inForce, func(o *group) bool { return o.pool == g.pool }) {
		return ready > 0
	}
	return ready == g.pool.replicas
}

// enforce moves requests to the planned groups: stored, then done.
func (e *environment) enforce() {
	now := e.host.config.Clock()
	rec := e.record
	rec.InForce, rec.Applied, rec.Since = rec.Desired.Slots, rec.Desired.Generation, now
	for _, s := range rec.InForce {
		if s.Role == deploy.Stable {
			rec = rec.keep(s.Release, now)
		}
	}
	saved := true
	if err := e.host.store.env(e.key, func(r *envRecord) {
		r.InForce, r.Applied, r.Since, r.Kept = rec.InForce, rec.Applied, rec.Since, rec.Kept
	}); err != nil {
		// Requests matter more than the record of them: the desired state is stored, and leads here again.
		slog.Error("state of the host not saved", "service", e.service, "environment", e.name, "error", err)
		saved = false
	}
	e.record.InForce, e.record.Applied, e.record.Since, e.record.Kept = rec.InForce, rec.Applied, rec.Since, rec.Kept
	e.routing.Store(newRouting(e.next))
	previous := e.inForce
	e.inForce, e.next = e.next, nil
	for _, g := range previous {
		if g.slot.Role == deploy.Stable && !e.uses(g.pool) {
			e.setWarm(g)
		}
	}
	if e.warm != nil && e.uses(e.warm.pool) {
		e.warm = nil
	}
	slog.Info("requests moved", "service", e.service, "environment", e.name, "generation", rec.Applied, "slots", describe(rec.InForce))
	if saved {
		e.host.sweep()
	}
}

func describe(slots []protocol.Slot) (s []string) {
	for _, x := range slots {
		s = append(s, string(x.Role)+" "+x.Release.Version)
	}
	return s
}

// setWarm keeps the processes of the release that was just replaced, so that going back is a switch.
func (e *environment) setWarm(g *group) {
	if e.host.config.WarmFor > 0 {
		e.warm, e.warmEnd = g, time.Now().Add(e.host.config.WarmFor)
	}
}

func (e *environment) uses(p *pool) bool {
	return slices.ContainsFunc(slices.Concat(e.inForce, e.next), func(g *group) bool { return g.pool == p })
}

// release stops the pools that nothing refers to any more.
func (e *environment) release() {
	e.pools = slices.DeleteFunc(e.pools, func(p *pool) bool {
		if e.uses(p) || (e.warm != nil && e.warm.pool == p) {
			return false
		}
		e.stop(p)
		return true
	})
}

// stop drains a pool in the background.
func (e *environment) stop(p *pool) {
	e.closing.Go(func() {
		p.cancel()
		p.done.Wait()
	})
}

func (e *environment) end() {
	e.mu.Lock()
	for _, p := range e.pools {
		e.stop(p)
	}
	e.pools = nil
	e.mu.Unlock()
	e.closing.Wait()
}

// status is what the server and the operator see.
func (e *environment) status() protocol.Environment {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.record
	s := protocol.Environment{
		ServiceID: r.Desired.ServiceID, Service: e.service, Environment: e.name, Generation: r.Desired.Generation, Applied: r.Applied,
		Address: r.Address, Confined: !e.host.config.Unconfined, Pending: r.Pending, Since: r.Since,
	}
	add := func(g *group, weight int) {
		state, reason, ready, restarts := g.pool.status()
		s.Slots = append(s.Slots, protocol.SlotStatus{
			Role: g.slot.Role, ReleaseID: g.slot.Release.ReleaseID, Version: g.slot.Release.Version, Digest: g.slot.Release.Digest,
			Group: g.id, State: state, Reason: reason, Weight: weight, Replicas: g.pool.replicas, Ready: ready, Restarts: restarts, Since: g.since, Unenforced: g.pool.unenforced(),
		})
	}
	for _, g := range e.inForce {
		add(g, g.slot.Weight)
	}
	for _, g := range e.next {
		if !slices.ContainsFunc(e.inForce, func(o *group) bool { return o.id == g.id }) {
			add(g, 0)
		}
	}
	if e.warm != nil {
		s.Warm = append(s.Warm, string(e.warm.slot.Release.ReleaseID))
	}
	for _, k := range slices.Backward(r.Kept) {
		s.Kept = append(s.Kept, protocol.Kept{ReleaseID: k.ReleaseID, Version: k.Version, Digest: k.Digest, Time: k.Time, Bad: r.Bad[k.Digest]})
	}
	return s
}

func (e *environment) counters() (all []deploy.Counters) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, g := range e.inForce {
		c := deploy.Counters{ServiceID: e.record.Desired.ServiceID, Environment: e.name, Group: g.id, Role: g.slot.Role, ReleaseID: g.slot.Release.ReleaseID, Since: g.since}
		g.count.into(&c)
		all = append(all, c)
	}
	return all
}
