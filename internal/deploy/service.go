package deploy

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/fault"
	"weir/internal/base/id"
	"weir/internal/guard/identity"
)

const org = "default"

// Service is what people, pages and the engine ask of this layer.
type Service struct {
	store   Store
	catalog Catalog
	gate    Gate
	clock   func() time.Time
}

// NewService puts the layer together. A nil clock is the machine's.
func NewService(store Store, catalog Catalog, gate Gate, clock func() time.Time) *Service {
	if clock == nil {
		clock = func() time.Time { return time.Now().UTC() }
	}
	return &Service{store, catalog, gate, clock}
}

// Admit makes a release of an admitted artifact, and a promotion for each environment. A second call with
// the same bytes and configuration makes nothing.
func (s *Service) Admit(ctx context.Context, a artifact.AdmittedFact) error {
	declared, err := s.catalog.Declared(ctx, a.ServiceID)
	if fault.Is(err, fault.NotFound) {
		slog.WarnContext(ctx, "artifact of a service that is no longer declared", "service", a.Service, "version", a.Version)
		return nil
	}
	if err != nil {
		return err
	}
	now := s.clock()
	rel := Release{
		ID: ReleaseID(id.New("rel")), Org: org, ServiceID: a.ServiceID, Service: a.Service, RepositoryID: a.RepositoryID, Revision: a.Revision,
		Version: a.Version, ConfigDigest: a.ConfigDigest, RunID: a.RunID, Author: a.Author, CommitTime: a.CommitTime, Created: now,
		Artifacts: []Artifact{{Digest: a.Digest, Image: a.Image, RepositoryID: a.RepositoryID, Revision: a.Revision}},
	}
	var promotions []Promotion
	for _, name := range declared.Order {
		promotions = append(promotions, Promotion{
			ID: PromotionID(id.New("prm")), Org: org, ServiceID: a.ServiceID, Service: a.Service, Environment: name, ReleaseID: rel.ID,
			Version: rel.Version, Digest: a.Digest, ConfigDigest: a.ConfigDigest, State: Waiting, Created: now, Updated: now,
		})
	}
	return s.store.Write(ctx, nil, func(tx Tx) error {
		if _, added, err := tx.AddRelease(ctx, rel); err != nil || !added {
			return err
		}
		if err := tx.Announce(ctx, FactReleaseCreated, org, string(rel.ID), rel.fact(), now); err != nil {
			return err
		}
		if err := tx.Record(ctx, "release.created", string(rel.ID), rel); err != nil {
			return err
		}
		for _, p := range promotions {
			if err := tx.PutPromotion(ctx, p); err != nil {
				return err
			}
			f := rel.fact()
			f.Environment = p.Environment
			if err := tx.Announce(ctx, FactPromotionWaiting, org, string(p.ID), f, now); err != nil {
				return err
			}
		}
		return nil
	})
}

// Evaluate asks policy whether a waiting promotion may go on, and starts its rollout if so. again is when
// time alone could change the answer, zero if it cannot.
func (s *Service) Evaluate(ctx context.Context, fence Fence, pid PromotionID) (again time.Time, err error) {
	p, err := s.store.Promotion(ctx, pid)
	if err != nil || p.State != Waiting {
		return again, err
	}
	rel, err := s.store.Release(ctx, p.ReleaseID)
	if err != nil {
		return again, err
	}
	env, err := s.store.Environment(ctx, p.ServiceID, p.Environment)
	if err != nil {
		return again, err
	}
	now := s.clock()
	if env.Current >= rel.ID {
		// What runs there is this release, or a newer one.
		p.State, p.Updated, p.Blocks = Superseded, now, nil
		return again, s.store.Write(ctx, fence, func(tx Tx) error { return tx.PutPromotion(ctx, p) })
	}
	wait := func(blocks ...Block) error {
		if sameBlocks(p.Blocks, blocks) {
			return nil
		}
		p.Blocks, p.Updated = since(p.Blocks, blocks, now), now
		return s.store.Write(ctx, fence, func(tx Tx) error { return tx.PutPromotion(ctx, p) })
	}
	if env.Rollout != "" {
		return again, wait(Block{Rule: "one-rollout", Message: fmt.Sprintf("Another rollout is under way in %s.", p.Environment), Source: "weir"})
	}
	declared, err := s.catalog.Declared(ctx, p.ServiceID)
	if err != nil {
		if k := fault.KindOf(err); k != "" {
			return again, wait(Block{Rule: "declared", Message: fault.Sentence(err), Source: "weir.yaml"})
		}
		return again, err
	}
	rules, ok := declared.Environments[p.Environment]
	if !ok {
		return again, wait(Block{Rule: "declared", Message: fmt.Sprintf("The trunk's weir.yaml declares no environment %s for %s.", p.Environment, p.Service), Source: "weir.yaml"})
	}
	spec, err := s.pinned(ctx, rel, p.Environment)
	if err != nil {
		if k := fault.KindOf(err); k != "" {
			return again, wait(Block{Rule: "declared", Message: fault.Sentence(err), Source: "weir.yaml"})
		}
		return again, err
	}
	var after []After
	for _, name := range declared.Order {
		need, ok := rules.After[name]
		if !ok {
			continue
		}
		earlier, err := s.store.Environment(ctx, p.ServiceID, name)
		if err != nil {
			return again, err
		}
		a := After{Environment: name, Need: time.Duration(need.HealthyFor)}
		if earlier.Current == rel.ID && earlier.Rollout == "" && !earlier.HealthySince.IsZero() {
			a.Healthy, a.Since = true, earlier.HealthySince
			if due := a.Since.Add(a.Need); due.After(now) && (again.IsZero() || due.Before(again)) {
				again = due
			}
		}
		after = append(after, a)
	}
	d, err := s.gate.Decide(ctx, GateRequest{
		Action: ActionPromote, Org: org, ServiceID: p.ServiceID, Service: p.Service, Environment: p.Environment, Declared: rules, Release: rel, After: after,
		RememberedBad: env.Bad[spec.Digest], Actor: identity.From(ctx), Time: now,
	})
	if err != nil {
		return again, fmt.Errorf("ask policy about %s to %s: %w", rel.Version, p.Environment, err)
	}
	p.DecisionID = d.DecisionID
	if !d.Allow {
		return again, wait(d.Blocks...)
	}
	copied, there := p.Copy.asks(rules.Registry, now)
	if !there {
		if p.Copy != copied {
			p.Copy, p.Blocks = copied, nil // stored with the block, which is new
		}
		if copied.Next.After(now) {
			again = copied.Next
		}
		return again, wait(copied.block(p.Environment))
	}
	targets := rules.Targets
	if len(targets) == 0 {
		targets = []string{rules.Target}
	}
	if targets[0] == "" {
		targets = []string{"local"}
	}
	r := newRollout(now, rel, spec, p.Environment)
	r.DecisionID, r.Targets, r.Intent, r.By = d.DecisionID, targets, Planned, identity.From(ctx).Name
	return time.Time{}, s.store.Write(ctx, fence, func(tx Tx) error {
		p, err := tx.Promotion(ctx, pid)
		if err != nil || p.State != Waiting {
			return err
		}
		env, err := tx.Environment(ctx, p.ServiceID, p.Environment)
		if err != nil || env.Rollout != "" {
			return err
		}
		env.Org, env.ServiceID, env.Service, env.Environment, env.Targets = org, p.ServiceID, p.Service, p.Environment, targets
		r.Plan = planOf(rules, env.Current == "")
		if env.Current != "" {
			from, err := tx.Spec(ctx, p.ServiceID, p.Environment, env.Current)
			if err != nil {
				return err
			}
			r.From, r.FromReleaseID, r.FromVersion = &from, env.Current, env.Version
		}
		env.Rollout = r.ID
		p.State, p.Blocks, p.RolloutID, p.DecisionID, p.Updated = Allowed, nil, r.ID, d.DecisionID, now
		if _, there := p.Copy.asks(rules.Registry, now); !there {
			return nil // asked for elsewhere meanwhile
		}
		if err := tx.AddSpec(ctx, p.ServiceID, p.Environment, spec); err != nil {
			return err
		}
		if err := tx.PutPromotion(ctx, p); err != nil {
			return err
		}
		if err := tx.PutRollout(ctx, r); err != nil {
			return err
		}
		if err := tx.PutEnvironment(ctx, env); err != nil {
			return err
		}
		if err := s.supersede(ctx, tx, p, now); err != nil {
			return err
		}
		f := rel.fact()
		f.Environment, f.DecisionID = p.Environment, d.DecisionID
		if err := tx.Announce(ctx, FactPromotionAllowed, org, string(p.ID), f, now); err != nil {
			return err
		}
		said := map[string]string{"environment": p.Environment, "version": rel.Version, "rollout": string(r.ID), "decision": d.DecisionID}
		if p.Copy != nil {
			said["copied_to"] = p.Copy.To
		}
		return tx.Record(ctx, "release.promoted", string(rel.ID), said)
	})
}

// pinned is how a release runs in an environment, as its own revision declares it.
func (s *Service) pinned(ctx context.Context, r Release, environment string) (Spec, error) {
	f, err := s.catalog.At(ctx, r.RepositoryID, r.Revision)
	if err != nil {
		return Spec{}, fmt.Errorf("read the declaration of %s: %w", r.ID, err)
	}
	if f != nil {
		for _, d := range f.Services {
			if d.Name == r.Service {
				return specOf(r, d, environment)
			}
		}
	}
	return Spec{}, fault.New(fault.NotFound, "The revision of %s %s declares no such service, so it cannot be run.", r.Service, r.Version)
}

// supersede ends the waiting promotions of older releases.
func (s *Service) supersede(ctx context.Context, tx Tx, p Promotion, now time.Time) error {
	waiting, err := tx.Promotions(ctx, Filter{ServiceID: p.ServiceID, Environment: p.Environment, Live: true, Limit: 500})
	for _, o := range waiting {
		if o.ReleaseID < p.ReleaseID {
			o.State, o.Updated, o.Blocks = Superseded, now, nil
			if err := tx.PutPromotion(ctx, o); err != nil {
				return err
			}
		}
	}
	return err
}

func newRollout(now time.Time, rel Release, spec Spec, environment string) Rollout {
	return Rollout{
		ID: RolloutID(id.New("rol")), Org: org, ServiceID: rel.ServiceID, Service: rel.Service, Environment: environment, ReleaseID: rel.ID,
		Version: rel.Version, Digest: spec.Digest, Revision: rel.Revision, CommitTime: rel.CommitTime, State: Pending, Created: now, To: spec,
	}
}

// Advance looks at a rollout once and stores what came of it. ask is set when the next step is due and
// policy wants to be asked; see Enter.
func (s *Service) Advance(ctx context.Context, fence Fence, rid RolloutID, sight Sight, v Verdict) (r Rollout, ask bool, err error) {
	before, err := s.store.Rollout(ctx, rid)
	if err != nil {
		return r, false, err
	}
	now := s.clock()
	if m := before.Next(now, sight, v); !m.Changed(before) {
		return before, m.Ask, nil
	}
	err = s.change(ctx, fence, rid, func(r Rollout, env Environment) (Move, error) {
		m := r.Next(now, sight, v)
		ask = m.Ask
		return m, nil
	}, &r)
	return r, ask, err
}

// Enter asks policy whether the next step may begin, and begins it. A no is said once, and holds.
func (s *Service) Enter(ctx context.Context, fence Fence, rid RolloutID, v Verdict) error {
	r, err := s.store.Rollout(ctx, rid)
	if err != nil || r.State != Baking {
		return err
	}
	d, err := s.nextStep(ctx, r)
	if err != nil {
		return err
	}
	return s.change(ctx, fence, rid, func(r Rollout, env Environment) (Move, error) {
		now := s.clock()
		switch {
		case r.State != Baking:
			return Move{Rollout: r}, nil
		case d.Allow:
			return r.Enter(now, "promoted", v.Words, v.Figures), nil
		case r.Held:
			return Move{Rollout: r}, nil
		}
		m := Move{Rollout: r}
		m.Rollout.Held = true
		m.say(now, "held", "Held", d.why(), v.Figures)
		return m, nil
	}, nil)
}

// nextStep asks policy whether a rollout may go on: a freeze or a release that turned out bad stops the
// clock and a person alike.
func (s *Service) nextStep(ctx context.Context, r Rollout) (d GateDecision, err error) {
	rel, err := s.store.Release(ctx, r.ReleaseID)
	if err != nil {
		return d, err
	}
	req := GateRequest{Action: ActionStep, Org: r.Org, ServiceID: r.ServiceID, Service: r.Service, Environment: r.Environment, Release: rel, Rollout: &r, Actor: identity.From(ctx), Time: s.clock()}
	if declared, err := s.catalog.Declared(ctx, r.ServiceID); err == nil {
		req.Declared = declared.Environments[r.Environment]
	}
	if d, err = s.gate.Decide(ctx, req); err != nil {
		return d, fmt.Errorf("ask policy about the next step of %s: %w", r.ID, err)
	}
	return d, nil
}

// change loads a rollout and its environment, lets decide move it, and stores the move with its facts,
// ledger entries and the environment's new desired state: all or nothing, before anything is done.
func (s *Service) change(ctx context.Context, fence Fence, rid RolloutID, decide func(Rollout, Environment) (Move, error), out *Rollout) error {
	return s.store.Write(ctx, fence, func(tx Tx) error {
		r, err := tx.Rollout(ctx, rid)
		if err != nil {
			return err
		}
		env, err := tx.Environment(ctx, r.ServiceID, r.Environment)
		if err != nil {
			return err
		}
		m, err := decide(r, env)
		if err != nil {
			return err
		}
		if out != nil {
			*out = r
		}
		if !m.Changed(r) {
			return nil
		}
		done, err := s.apply(ctx, tx, env, r, m)
		if out != nil {
			*out = done
		}
		return err
	})
}

func (s *Service) apply(ctx context.Context, tx Tx, env Environment, old Rollout, m Move) (Rollout, error) {
	r, now := m.Rollout, s.clock()
	if m.Slots != nil {
		env.Generation++
		env.Slots, r.Generation = m.Slots, env.Generation
	}
	if m.Bad != "" {
		bad := map[string]string{r.Digest: m.Bad}
		for d, why := range env.Bad {
			bad[d] = why
		}
		env.Bad = bad
	}
	var facts []string
	if r.State != old.State {
		switch r.State {
		case Starting:
			if old.State == Pending {
				facts = append(facts, FactRolloutStarted)
			}
		case Baking:
			if old.State == Starting {
				facts = append(facts, FactStepEntered)
			}
		case RollingBack:
			if m.Bad != "" {
				facts = append(facts, FactVerdict)
			}
		case Completed:
			env = env.now(r.To, now)
			facts = append(facts, FactRolloutFinished)
			if r.Intent == Rollback {
				facts = append(facts, FactRolledBack)
			}
		case RolledBack, Failed:
			facts = append(facts, FactRolloutFinished, FactRolledBack)
		}
		if !r.State.Live() && env.Rollout == r.ID {
			env.Rollout, env.Last = "", r.ID
		}
	}
	by := identity.From(ctx).Name
	for i := range m.Decisions {
		m.Decisions[i].By = by
	}
	if err := tx.PutEnvironment(ctx, env); err != nil {
		return r, err
	}
	if err := tx.PutRollout(ctx, r); err != nil {
		return r, err
	}
	if err := tx.AddDecisions(ctx, m.Decisions); err != nil {
		return r, err
	}
	for _, d := range m.Decisions {
		if err := tx.Record(ctx, "rollout."+d.Kind, string(r.ID), d); err != nil {
			return r, err
		}
	}
	for _, f := range facts {
		if err := tx.Announce(ctx, f, r.Org, string(r.ID), r.fact(), now); err != nil {
			return r, err
		}
	}
	return r, nil
}
