package deploy

import (
	"context"
	"fmt"
	"time"

	"weir/internal/guard/identity"
)

// What pages and the API read.

// Releases lists releases, newest first.
func (s *Service) Releases(ctx context.Context, f Filter) ([]Release, error) {
	if err := identity.Check(ctx, "release.read", org); err != nil {
		return nil, err
	}
	return s.store.Releases(ctx, f)
}

// Release returns one.
func (s *Service) Release(ctx context.Context, id ReleaseID) (Release, error) {
	if err := identity.Check(ctx, "release.read", org); err != nil {
		return Release{}, err
	}
	return s.store.Release(ctx, id)
}

// Environments lists what runs where.
func (s *Service) Environments(ctx context.Context) ([]Environment, error) {
	if err := identity.Check(ctx, "release.read", org); err != nil {
		return nil, err
	}
	return s.store.Environments(ctx, org)
}

// Environment returns one, by the service's name or id.
func (s *Service) Environment(ctx context.Context, service, name string) (Environment, error) {
	if err := identity.Check(ctx, "release.read", org); err != nil {
		return Environment{}, err
	}
	return s.environment(ctx, service, name)
}

// Promotions lists releases that want an environment, newest first; with Live those that wait.
func (s *Service) Promotions(ctx context.Context, f Filter) ([]Promotion, error) {
	if err := identity.Check(ctx, "release.read", org); err != nil {
		return nil, err
	}
	return s.store.Promotions(ctx, f)
}

// Promotion returns one.
func (s *Service) Promotion(ctx context.Context, id PromotionID) (Promotion, error) {
	if err := identity.Check(ctx, "release.read", org); err != nil {
		return Promotion{}, err
	}
	return s.store.Promotion(ctx, id)
}

// Rollouts lists rollouts, newest first.
func (s *Service) Rollouts(ctx context.Context, f Filter) ([]Rollout, error) {
	if err := identity.Check(ctx, "rollout.read", org); err != nil {
		return nil, err
	}
	return s.store.Rollouts(ctx, f)
}

// Rollout returns one with its log of decisions.
func (s *Service) Rollout(ctx context.Context, id RolloutID) (Rollout, []Decision, error) {
	if err := identity.Check(ctx, "rollout.read", org); err != nil {
		return Rollout{}, nil, err
	}
	r, err := s.store.Rollout(ctx, id)
	if err != nil {
		return Rollout{}, nil, err
	}
	ds, err := s.store.Decisions(ctx, id)
	return r, ds, err
}

// Why lists what keeps a rollout from going on, since when, and who can release it. Nothing: it is moving,
// or over.
func (s *Service) Why(ctx context.Context, id RolloutID) ([]Block, error) {
	r, ds, err := s.Rollout(ctx, id)
	if err != nil {
		return nil, err
	}
	switch r.State {
	case Paused:
		b := Block{Rule: "paused", Message: "The rollout is paused.", Source: "a person", Who: []string{"maintainer", "admin"}}
		for _, d := range ds {
			if d.Kind == "paused" {
				b.Since, b.Message = d.At, fmt.Sprintf("%s paused the rollout.", d.By)
			}
		}
		return []Block{b}, nil
	case Starting, Promoting, RollingBack:
		return []Block{{Rule: "target", Message: "Processes are being made ready.", Source: "weir", Since: r.StepSince, Who: []string{"time"}}}, nil
	case Baking:
		if until := r.StepSince.Add(r.Plan.Bake); s.clock().Before(until) {
			return []Block{{Rule: "bake", Message: fmt.Sprintf("The step bakes until %s.", until.UTC().Format(time.RFC3339)), Source: "weir.yaml", Since: r.StepSince, Who: []string{"time", "maintainer, by promoting"}}}, nil
		}
		for i := len(ds) - 1; i >= 0; i-- {
			if ds[i].Kind == "held" {
				return []Block{{Rule: "judge", Message: ds[i].Reason, Source: "weir.yaml", Since: ds[i].At, Who: []string{"more requests", "maintainer, by promoting"}}}, nil
			}
		}
	}
	return nil, nil
}
