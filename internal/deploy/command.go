package deploy

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

// What people do to rollouts. Each starts with the actor.

// Pause stops the clock of a rollout.
func (s *Service) Pause(ctx context.Context, rid RolloutID) (Rollout, error) {
	return s.command(ctx, "rollout.pause", rid, func(r Rollout) (Move, error) {
		switch {
		case r.State == Paused:
			return Move{Rollout: r}, nil
		case r.State != Baking:
			return Move{}, fault.New(fault.Conflict, "The rollout of %s is %s; only one that bakes can be paused.", r.Version, words(r.State))
		}
		return r.Pause(s.clock()), nil
	})
}

// Resume lets a paused rollout go on.
func (s *Service) Resume(ctx context.Context, rid RolloutID) (Rollout, error) {
	return s.command(ctx, "rollout.pause", rid, func(r Rollout) (Move, error) {
		if r.State != Paused {
			return Move{}, fault.New(fault.Conflict, "The rollout of %s is %s, not paused.", r.Version, words(r.State))
		}
		return r.Continue(s.clock()), nil
	})
}

// Promote goes on to the next step before the judge and the clock would. The reason is recorded.
func (s *Service) Promote(ctx context.Context, rid RolloutID, reason string) (Rollout, error) {
	reason = strings.TrimSpace(reason)
	if err := identity.Check(ctx, "rollout.promote", org); err != nil {
		return Rollout{}, err
	}
	r, err := s.store.Rollout(ctx, rid)
	if err != nil {
		return r, err
	}
	d, err := s.nextStep(ctx, r)
	if err != nil {
		return r, err
	}
	return s.command(ctx, "rollout.promote", rid, func(r Rollout) (Move, error) {
		switch {
		case reason == "":
			return Move{}, fault.New(fault.Invalid, "Say why %s may go on before its time. The reason is recorded.", r.Version)
		case utf8.RuneCountInString(reason) > 1000:
			return Move{}, fault.New(fault.Invalid, "The reason is longer than 1000 characters. Say it shorter.")
		case r.State != Baking && r.State != Paused:
			return Move{}, fault.New(fault.Conflict, "The rollout of %s is %s; there is no step to go on to.", r.Version, words(r.State))
		case !d.Allow:
			return Move{}, fault.New(fault.Conflict, "Policy does not let %s go on: %s", r.Version, d.why())
		}
		return r.Enter(s.clock(), "promoted", reason, nil), nil
	})
}

func words(s State) string {
	switch s {
	case RollingBack:
		return "going back"
	case RolledBack:
		return "rolled back"
	}
	return string(s)
}

func (s *Service) command(ctx context.Context, action string, rid RolloutID, decide func(Rollout) (Move, error)) (r Rollout, err error) {
	if err := identity.Check(ctx, action, org); err != nil {
		return r, err
	}
	err = s.change(ctx, nil, rid, func(r Rollout, _ Environment) (Move, error) { return decide(r) }, &r)
	return r, err
}

// Rollback takes an environment back. service is a name or an id. With an empty to, that is to what ran
// before the rollout under way, or else to the newest good release before the current one. It needs no
// build and no approval; policy looks only at integrity and at what is remembered.
func (s *Service) Rollback(ctx context.Context, service, environment, to string) (Rollout, error) {
	if err := identity.Check(ctx, "rollout.rollback", org); err != nil {
		return Rollout{}, err
	}
	env, err := s.environment(ctx, service, environment)
	if err != nil {
		return Rollout{}, err
	}
	now := s.clock()
	by := identity.From(ctx).Name
	if env.Rollout != "" {
		live, err := s.store.Rollout(ctx, env.Rollout)
		if err != nil {
			return Rollout{}, err
		}
		forward := live.Intent != Rollback && live.State != RollingBack
		if forward && (to == "" || to == live.FromVersion || to == string(live.FromReleaseID)) && live.From != nil {
			// What runs beside it is what to go back to; nothing has to be chosen or asked.
			return s.command(ctx, "rollout.rollback", live.ID, func(r Rollout) (Move, error) {
				if !r.State.Live() || r.State == RollingBack {
					return Move{Rollout: r}, nil
				}
				return r.Back(now, fmt.Sprintf("%s took it back.", by)), nil
			})
		}
		if to == "" && !forward {
			return live, nil // it is on its way already
		}
	}
	spec, ok := env.previous()
	if to != "" {
		spec, ok = env.ranHere(to)
	}
	switch {
	case !ok && to == "":
		return Rollout{}, fault.New(fault.NotFound, "There is no earlier good release of %s in %s to go back to.", env.Service, environment)
	case !ok:
		return Rollout{}, fault.New(fault.NotFound, "%s %s was never complete in %s, so a rollback cannot go there. These were: %s.", env.Service, to, environment, strings.Join(env.versions(), ", "))
	case spec.ReleaseID == env.Current && env.Rollout == "":
		return Rollout{}, fault.New(fault.Conflict, "%s %s is what runs in %s already.", env.Service, spec.Version, environment)
	}
	rel, err := s.store.Release(ctx, spec.ReleaseID)
	if err != nil {
		return Rollout{}, err
	}
	req := GateRequest{
		Action: ActionRollback, Org: org, ServiceID: env.ServiceID, Service: env.Service, Environment: environment, Release: rel,
		AdmittedHere: true, RememberedBad: env.Bad[spec.Digest], Actor: identity.From(ctx), Time: now,
	}
	d, err := s.gate.Decide(ctx, req)
	if err != nil {
		return Rollout{}, fmt.Errorf("ask policy about a rollback of %s: %w", env.Service, err)
	}
	if !d.Allow {
		why := "Policy does not allow it."
		if len(d.Blocks) > 0 {
			why = d.Blocks[0].Message
		}
		return Rollout{}, fault.New(fault.Denied, "%s cannot go back to %s in %s: %s", env.Service, spec.Version, environment, why)
	}
	r := newRollout(now, rel, spec, environment)
	r.Intent, r.Plan, r.DecisionID, r.By, r.Targets = Rollback, Plan{Strategy: Direct}, d.DecisionID, by, env.Targets
	err = s.store.Write(ctx, nil, func(tx Tx) error {
		env, err := tx.Environment(ctx, env.ServiceID, environment)
		if err != nil {
			return err
		}
		if env.Rollout != "" {
			if env, err = s.displace(ctx, tx, env, now, fmt.Sprintf("%s went back to %s instead.", by, spec.Version)); err != nil {
				return err
			}
		}
		from, err := tx.Spec(ctx, env.ServiceID, environment, env.Current)
		if err != nil {
			return err
		}
		r := r
		r.From, r.FromReleaseID, r.FromVersion = &from, env.Current, env.Version
		env.Rollout = r.ID
		// Pending is not stored first: the decision and what should be are one transaction, and fast.
		_, err = s.apply(ctx, tx, env, r, r.start(now))
		return err
	})
	if err != nil {
		return Rollout{}, err
	}
	return s.store.Rollout(ctx, r.ID)
}

// displace ends a live rollout because something else takes its place at once.
func (s *Service) displace(ctx context.Context, tx Tx, env Environment, now time.Time, reason string) (Environment, error) {
	live, err := tx.Rollout(ctx, env.Rollout)
	if err != nil {
		return env, err
	}
	m := Move{Rollout: live}
	m.Rollout.State, m.Rollout.Reason, m.Rollout.Finished = RolledBack, reason, now
	if m.Rollout.Decided.IsZero() {
		m.Rollout.Decided = now
	}
	m.say(now, "rolled_back", "Rolled back", reason, nil)
	if _, err := s.apply(ctx, tx, env, live, m); err != nil {
		return env, err
	}
	return tx.Environment(ctx, env.ServiceID, env.Environment)
}

// Note records what was done at a target itself, once, and makes it what should be.
func (s *Service) Note(ctx context.Context, fence Fence, target string, ev Event) error {
	mark := fmt.Sprintf("%d@%d", ev.ID, ev.Time.UnixMicro())
	return s.store.Write(ctx, fence, func(tx Tx) error {
		env, err := tx.Environment(ctx, ev.ServiceID, ev.Environment)
		if err != nil || env.ServiceID == "" || env.Noted[target] == mark {
			return err
		}
		noted := map[string]string{target: mark}
		for t, m := range env.Noted {
			if t != target {
				noted[t] = m
			}
		}
		env.Noted = noted
		now := s.clock()
		who := "the operator of " + target
		if ev.By != "" {
			who += " (" + ev.By + ")"
		}
		if env.Rollout != "" {
			if env, err = s.displace(ctx, tx, env, now, fmt.Sprintf("%s took it back on the machine.", who)); err != nil {
				return err
			}
			env.Noted = noted
		}
		spec, err := tx.Spec(ctx, ev.ServiceID, ev.Environment, ev.To)
		if err != nil {
			return err
		}
		rel, err := tx.Release(ctx, ev.To)
		if err != nil {
			return err
		}
		r := newRollout(ev.Time, rel, spec, ev.Environment)
		r.Intent, r.Plan, r.By, r.Targets, r.Decided = Rollback, Plan{Strategy: Direct}, who, env.Targets, ev.Time
		r.FromReleaseID, r.FromVersion = ev.From, ev.FromVersion
		m := Move{Rollout: r, Slots: all(spec)}
		m.Rollout.State, m.Rollout.Finished = Completed, ev.Time.Add(ev.Took)
		m.say(ev.Time, "rolled_back", "Rollback on the machine", fmt.Sprintf("%s went from %s to %s, in %s.", who, ev.FromVersion, ev.ToVersion, ev.Took.Round(time.Millisecond)), nil)
		_, err = s.apply(ctx, tx, env, r, m)
		return err
	})
}

// Health records since when what runs in an environment is healthy.
func (s *Service) Health(ctx context.Context, fence Fence, serviceID, environment string, healthy bool) error {
	return s.store.Write(ctx, fence, func(tx Tx) error {
		env, err := tx.Environment(ctx, serviceID, environment)
		if err != nil || env.Current == "" || healthy != env.HealthySince.IsZero() {
			return err
		}
		env.HealthySince = time.Time{}
		if healthy {
			env.HealthySince = s.clock()
		}
		return tx.PutEnvironment(ctx, env)
	})
}

// environment finds one that exists, by the service's name or id.
func (s *Service) environment(ctx context.Context, service, name string) (Environment, error) {
	envs, err := s.store.Environments(ctx, org)
	if err != nil {
		return Environment{}, err
	}
	for _, e := range envs {
		if (e.ServiceID == service || e.Service == service) && e.Environment == name {
			return e, nil
		}
	}
	return Environment{}, fault.New(fault.NotFound, "Nothing of %s runs in %s.", service, name)
}

func (e Environment) versions() (v []string) {
	for i := len(e.Ran) - 1; i >= 0; i-- {
		v = append(v, e.Ran[i].Spec.Version)
	}
	return v
}
