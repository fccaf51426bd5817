package deploy

import (
	"context"
	"fmt"
	"time"

	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

// Exposure is what policy said last of the published vulnerabilities of what
// runs in an environment. A no stops nothing that runs; it is told.
type Exposure struct {
	DecisionID string    `json:"decision_id"`
	Allow      bool      `json:"allow"`
	Says       string    `json:"says,omitempty"` // what is over the limit
	Since      time.Time `json:"since"`          // the answer is yes, or no, since then
}

// Exposed says what is over the limit in what runs, or "".
func (e Environment) Exposed() string {
	if e.Exposure == nil || e.Exposure.Allow {
		return ""
	}
	return e.Exposure.Says
}

// Examine asks policy about what runs in an environment, because more is known
// of its vulnerabilities or the limit is another. What changed is announced.
func (s *Service) Examine(ctx context.Context, fence Fence, serviceID, name string) error {
	env, err := s.store.Environment(ctx, serviceID, name)
	if err != nil || env.Current == "" {
		return err
	}
	declared, err := s.catalog.Declared(ctx, serviceID)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) {
		return nil // nobody declares a limit
	}
	if err != nil {
		return err
	}
	if declared.Limit(name) == nil && env.Exposure == nil {
		return nil
	}
	rel, err := s.store.Release(ctx, env.Current)
	if err != nil {
		return err
	}
	now := s.clock()
	d, err := s.gate.Decide(ctx, GateRequest{Action: ActionRun, Org: env.Org, ServiceID: serviceID, Service: env.Service, Environment: name,
		Declared: declared.Environments[name], Release: rel, Actor: identity.From(ctx), Time: now})
	if err != nil {
		return fmt.Errorf("ask policy about what runs in %s: %w", name, err)
	}
	next := Exposure{DecisionID: d.DecisionID, Allow: d.Allow, Since: now}
	if !d.Allow {
		next.Says = d.why()
	}
	if env.Exposure != nil && env.Exposure.DecisionID == next.DecisionID {
		return nil
	}
	return s.store.Write(ctx, fence, func(tx Tx) error {
		env, err := tx.Environment(ctx, serviceID, name)
		if err != nil || env.Current != rel.ID {
			return err // asked again for what runs there now
		}
		was := env.Exposure
		if was != nil && was.DecisionID == next.DecisionID {
			return nil
		}
		if was != nil && was.Allow == next.Allow {
			next.Since = was.Since
		}
		env.Exposure = &next
		if err := tx.PutEnvironment(ctx, env); err != nil {
			return err
		}
		if next.Allow && (was == nil || was.Allow) {
			return nil
		}
		return tx.Announce(ctx, FactExposed, env.Org, string(rel.ID), ExposureFact{ServiceID: serviceID, Service: env.Service, Environment: name, ReleaseID: rel.ID, Version: rel.Version,
			Digest: rel.Digest(), DecisionID: next.DecisionID, Over: !next.Allow, Says: next.Says}, now)
	})
}
