// Package engine drives rollouts to an end, across restarts.
//
// It has three parts: one watcher per target waits for what changes there; and under a lease, on one
// replica, facts are turned into releases, and the drive compares what is stored with what is seen and moves
// each rollout on. The drive keeps nothing: after a crash the next pass finds everything in the
// rows and at the targets, which refuse whoever has lost the lease.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
	"weir/internal/deploy"
	"weir/internal/guard/evidence"
	"weir/internal/guard/identity"
)

// Config puts an engine together.
type Config struct {
	DB      *db.DB
	Journal *journal.Journal
	Store   deploy.Store
	Service *deploy.Service
	Targets map[string]deploy.Target
	Judge   deploy.Judge
	Holder  string
	// Topics are further wake-ups after which a waiting promotion may be let in, such as "approval".
	Topics []string
	// Attest signs a statement and keeps it beside what it is about; nil signs nothing.
	Attest func(ctx context.Context, st evidence.Statement) error
	// Decided are the statements about the decision that let a release into an environment; nil signs none.
	Decided func(ctx context.Context, r deploy.ReleaseFact) ([]evidence.Statement, error)
	// Copy brings a release, with its evidence, to another registry and verifies it there; nil cannot.
	Copy func(ctx context.Context, r deploy.Release, to string) error
	Look time.Duration // between looks at a canary; default 500 ms
}

// Engine is a part of the process.
type Engine struct {
	Config
	wake chan struct{} // a wake-up
	mu   sync.Mutex
	seen map[string]*sight                // by target
	asks int64                            // counts requests to evaluate all again
	due  map[deploy.PromotionID]time.Time // when one is evaluated again at the latest

	copying map[deploy.PromotionID]bool // under way now
}

// sight is the last that a target said; nil Observed: it does not answer.
type sight struct {
	observed *deploy.Observed
	problem  string
}

// New returns an engine.
func New(c Config) *Engine {
	if c.Look == 0 {
		c.Look = 500 * time.Millisecond
	}
	return &Engine{Config: c, wake: make(chan struct{}, 1), seen: map[string]*sight{}, copying: map[deploy.PromotionID]bool{}}
}

// Name makes the engine a part of the process.
func (e *Engine) Name() string { return "deploy/engine" }

// Run works until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	ctx = identity.With(ctx, identity.System("deploy"))
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	for name, t := range e.Targets {
		parts.Go(func() { e.watch(ctx, name, t) })
	}
	return lease.Hold(ctx, e.DB, "deploy/engine", e.Holder, e.drive)
}

// Handle takes a fact in. It may see one twice.
func (e *Engine) Handle(ctx context.Context, f journal.Fact) error {
	switch {
	case f.Type == artifact.FactAdmitted:
		var a artifact.AdmittedFact
		if err := json.Unmarshal(f.Body, &a); err != nil {
			slog.ErrorContext(ctx, "fact not understood", "fact", f.ID, "type", f.Type, "error", err)
			return nil
		}
		if err := e.Service.Admit(identity.With(ctx, identity.System("deploy")), a); err != nil {
			return fmt.Errorf("make a release of %s: %w", a.Image, err)
		}
	case strings.HasPrefix(f.Type, "source."), strings.HasPrefix(f.Type, "deploy."), f.Type == artifact.FactAdvisories:
		// Rules may have changed on the trunk, or another environment, or what is known of vulnerabilities.
	default:
		return nil
	}
	e.ask()
	return nil
}

// ask makes every waiting promotion be evaluated again.
func (e *Engine) ask() {
	e.mu.Lock()
	e.asks++
	e.due = nil
	e.mu.Unlock()
	e.poke()
}

func (e *Engine) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// watch keeps the newest sight of a target.
func (e *Engine) watch(ctx context.Context, name string, t deploy.Target) {
	after := int64(-1)
	for pause := 100 * time.Millisecond; ctx.Err() == nil; {
		o, err := t.Observe(ctx, after, 20*time.Second)
		s := &sight{}
		if err != nil {
			s.problem, after = fault.Sentence(err), -1
		} else {
			s.observed, after = &o, o.Sequence
		}
		e.mu.Lock()
		old := e.seen[name]
		e.seen[name] = s
		e.mu.Unlock()
		if s.problem != "" && ctx.Err() == nil && (old == nil || old.problem != s.problem) {
			slog.WarnContext(ctx, "target does not answer", "target", name, "error", err)
		}
		if err == nil || old == nil || old.observed != nil {
			e.poke()
		}
		if err == nil {
			pause = 100 * time.Millisecond
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// drive runs on the one replica that holds the lease. Facts are followed there,
// too: they say what the drive has to look at again.
func (e *Engine) drive(ctx context.Context, l lease.Lease) error {
	ctx, stop := context.WithCancel(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer stop()
	following.Go(func() {
		if err := e.Journal.Follow(ctx, "deploy", e.Handle); err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, "facts not followed", "error", err)
		}
	})
	if e.Attest != nil {
		following.Go(func() {
			if err := e.Journal.Follow(ctx, "deploy/evidence", e.attest); err != nil && ctx.Err() == nil {
				slog.ErrorContext(ctx, "rollouts not attested", "error", err)
			}
		})
	}
	following.Go(func() { e.copies(ctx, l) })
	following.Go(func() { e.examine(ctx, l) })
	woken, cancel := e.Store.Subscribe()
	defer cancel()
	asked := make(chan struct{}, 1)
	for _, topic := range e.Topics {
		ch, cancel := e.DB.Subscribe(topic)
		defer cancel()
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-ch:
					select {
					case asked <- struct{}{}:
					default:
					}
				}
			}
		}()
	}
	e.ask()
	for {
		next, err := e.Pass(ctx, l)
		switch {
		case errors.Is(err, lease.ErrFenced):
			return err
		case err != nil && ctx.Err() == nil:
			slog.ErrorContext(ctx, "rollouts not driven", "error", err)
			next = time.Second
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-woken:
		case <-e.wake:
		case <-asked:
			e.ask()
		case <-time.After(next):
		}
	}
}

// Pass does everything that can be done now and says when to look again at the latest.
func (e *Engine) Pass(ctx context.Context, l lease.Lease) (time.Duration, error) {
	var problems []error
	problems = append(problems, e.note(ctx, l))
	next := 10 * time.Second
	envs, err := e.Store.Environments(ctx, "default")
	if err != nil {
		return next, err
	}
	for _, env := range envs {
		soon, err := e.environment(ctx, l, env)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s in %s: %w", env.Service, env.Environment, err))
		}
		if soon > 0 {
			next = min(next, soon)
		}
	}
	due, err := e.promotions(ctx, l)
	problems = append(problems, err)
	return max(min(next, due), 10*time.Millisecond), errors.Join(problems...)
}

// note takes over what operators did at the targets while nobody drove.
func (e *Engine) note(ctx context.Context, l lease.Lease) error {
	for name, t := range e.Targets {
		s := e.sight(name)
		if s == nil || s.observed == nil {
			continue
		}
		pending := false
		for _, r := range s.observed.Environments {
			pending = pending || r.Pending
		}
		if !pending {
			continue
		}
		events, err := t.Events(ctx)
		if err != nil {
			return fmt.Errorf("read events of %s: %w", name, err)
		}
		for _, ev := range events {
			if err := e.Service.Note(ctx, l.Check, name, ev); err != nil {
				return fmt.Errorf("record event %d of %s: %w", ev.ID, name, err)
			}
			if err := t.Acknowledge(ctx, l.Epoch, ev.ID); err != nil {
				return fmt.Errorf("acknowledge event %d of %s: %w", ev.ID, name, err)
			}
		}
		e.refresh(ctx, name, t)
	}
	return nil
}

func (e *Engine) sight(name string) *sight {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen[name]
}

// refresh looks at a target now, after it was told something.
func (e *Engine) refresh(ctx context.Context, name string, t deploy.Target) {
	o, err := t.Observe(ctx, -1, 0)
	if err != nil {
		return
	}
	e.mu.Lock()
	if old := e.seen[name]; old == nil || old.observed == nil || old.observed.Instance != o.Instance || old.observed.Sequence < o.Sequence {
		e.seen[name] = &sight{observed: &o}
	}
	e.mu.Unlock()
}

// environment moves its rollout on and tells the targets what should be.
func (e *Engine) environment(ctx context.Context, l lease.Lease, env deploy.Environment) (soon time.Duration, err error) {
	if env.Rollout != "" {
		if soon, err = e.rollout(ctx, l, env); err != nil {
			return soon, err
		}
		if env, err = e.Store.Environment(ctx, env.ServiceID, env.Environment); err != nil {
			return soon, err
		}
	}
	if env.Generation == 0 {
		return soon, nil
	}
	for _, name := range env.Targets {
		running, known := e.running(name, env)
		if !known || running.Pending || running.Generation >= env.Generation {
			continue
		}
		t := e.Targets[name]
		err := t.Apply(ctx, l.Epoch, deploy.Desired{ServiceID: env.ServiceID, Service: env.Service, Environment: env.Environment, Generation: env.Generation, Slots: env.Slots, Bad: env.Bad})
		if err != nil {
			return time.Second, fmt.Errorf("tell %s: %w", name, err)
		}
		e.refresh(ctx, name, t)
		soon = time.Millisecond // the answer may already be there
	}
	if env.Rollout == "" && env.Current != "" {
		if s := e.seeing(env, ""); s.Known && s.Ready == env.HealthySince.IsZero() {
			err = e.Service.Health(ctx, l.Check, env.ServiceID, env.Environment, s.Ready)
		}
	}
	return soon, err
}

// running finds an environment at a target. known says that the target answers.
func (e *Engine) running(target string, env deploy.Environment) (r deploy.Running, known bool) {
	s := e.sight(target)
	if s == nil || s.observed == nil {
		return r, false
	}
	for _, r := range s.observed.Environments {
		if r.ServiceID == env.ServiceID && r.Environment == env.Environment {
			return r, true
		}
	}
	return r, true
}

// seeing is what all targets of an environment say, as one.
func (e *Engine) seeing(env deploy.Environment, release deploy.ReleaseID) deploy.Sight {
	s := deploy.Sight{Known: len(env.Targets) > 0, Ready: true, Applied: 1 << 62}
	for _, name := range env.Targets {
		r, known := e.running(name, env)
		s.Known = s.Known && known
		s.Applied = min(s.Applied, r.Applied)
		for _, slot := range r.Slots {
			if slot.Weight > 0 && slot.Ready < slot.Replicas {
				s.Ready = false
			}
			// Only of what is wanted now: an older attempt may have failed.
			if slot.Failed && slot.ReleaseID == release && r.Generation == env.Generation {
				s.Failed = slot.Reason
			}
		}
		if len(r.Slots) == 0 {
			s.Ready = false
		}
	}
	return s
}

// rollout moves one on until it has to wait.
func (e *Engine) rollout(ctx context.Context, l lease.Lease, env deploy.Environment) (time.Duration, error) {
	r, err := e.Store.Rollout(ctx, env.Rollout)
	if err != nil {
		return 0, err
	}
	soon := time.Duration(0)
	var v deploy.Verdict
	if r.Plan.Strategy == deploy.Steps && r.State != deploy.Pending && r.State != deploy.RollingBack && r.State != deploy.Promoting {
		soon = e.Look
		v = e.verdict(ctx, env, r)
	}
	for range 8 {
		if env, err = e.Store.Environment(ctx, env.ServiceID, env.Environment); err != nil {
			return soon, err
		}
		before := r
		var ask bool
		if r, ask, err = e.Service.Advance(ctx, l.Check, before.ID, e.seeing(env, before.ReleaseID), v); err != nil {
			return soon, err
		}
		if ask {
			if err := e.Service.Enter(ctx, l.Check, r.ID, v); err != nil {
				return soon, err
			}
			return time.Millisecond, nil
		}
		if r.State == before.State && r.Step == before.Step || !r.State.Live() || r.Generation != before.Generation {
			if !r.State.Live() {
				e.ask()
			}
			return soon, nil
		}
	}
	return soon, nil
}

// verdict asks the judge with what all targets have counted. Without data it is Hold.
func (e *Engine) verdict(ctx context.Context, env deploy.Environment, r deploy.Rollout) deploy.Verdict {
	hold := func(why string) deploy.Verdict { return deploy.Verdict{Outcome: deploy.Hold, Words: why} }
	if e.Judge == nil {
		return hold("There is no judge.")
	}
	var counters []deploy.Counters
	for _, name := range env.Targets {
		t := e.Targets[name]
		if t == nil {
			return hold(fmt.Sprintf("The target %s is not configured.", name))
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		all, err := t.Counters(ctx)
		cancel()
		if err != nil {
			return hold(fmt.Sprintf("No data: %s", fault.Sentence(err)))
		}
		for _, c := range all {
			if c.ServiceID == env.ServiceID && c.Environment == env.Environment {
				counters = append(counters, c)
			}
		}
	}
	v, err := e.Judge.Look(ctx, r, counters, time.Now().UTC())
	if err != nil {
		if ctx.Err() == nil {
			slog.ErrorContext(ctx, "canary not judged", "rollout", r.ID, "error", err)
		}
		return hold("The judge could not look: see the log.")
	}
	return v
}

// promotions asks policy about those that wait, where the answer may have changed.
func (e *Engine) promotions(ctx context.Context, l lease.Lease) (time.Duration, error) {
	next := time.Minute
	waiting, err := e.Store.Promotions(ctx, deploy.Filter{Live: true, Limit: 500})
	if err != nil {
		return next, err
	}
	var problems []error
	// Oldest first, so that releases enter an environment in order.
	for i := len(waiting) - 1; i >= 0; i-- {
		p := waiting[i]
		e.mu.Lock()
		due, asked := e.due[p.ID]
		asks := e.asks
		e.mu.Unlock()
		if asked && time.Now().Before(due) {
			next = min(next, time.Until(due))
			continue
		}
		again, err := e.Service.Evaluate(ctx, l.Check, p.ID)
		if err != nil {
			problems = append(problems, fmt.Errorf("promotion %s of %s to %s: %w", p.ID, p.Version, p.Environment, err))
			again = time.Now().Add(2 * time.Second)
		}
		if again.IsZero() {
			again = time.Now().Add(time.Minute)
		}
		e.mu.Lock()
		if e.asks != asks {
			again = time.Time{} // what changed meanwhile may not have been looked at
		} else {
			if e.due == nil {
				e.due = map[deploy.PromotionID]time.Time{}
			}
			e.due[p.ID] = again
		}
		e.mu.Unlock()
		next = min(next, max(time.Until(again), 0))
	}
	return next, errors.Join(problems...)
}
