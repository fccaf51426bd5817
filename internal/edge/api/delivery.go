package api

import (
	"context"
	"encoding/json"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/control"
	"weir/internal/deploy"
)

// Delivery is what the API calls of the deploy and control layers.
type Delivery interface {
	Environments(ctx context.Context) ([]deploy.Environment, error)
	// Running is what the targets of an environment report now; nil if none answers.
	Running(ctx context.Context, serviceID, environment string) *deploy.Running
	Releases(ctx context.Context, serviceID string) ([]deploy.Release, error)
	Promotions(ctx context.Context, serviceID string) ([]deploy.Promotion, error)
	// Approve records the actor's consent, or refusal, for one environment.
	Approve(ctx context.Context, release deploy.ReleaseID, environment, verdict, reason string) error
	Rollouts(ctx context.Context, serviceID string) ([]deploy.Rollout, error)
	Rollout(ctx context.Context, id deploy.RolloutID) (deploy.Rollout, []deploy.Decision, error)
	Samples(ctx context.Context, id deploy.RolloutID, since time.Time) ([]control.Sample, error)
	Pause(ctx context.Context, id deploy.RolloutID) error
	Resume(ctx context.Context, id deploy.RolloutID) error
	Promote(ctx context.Context, id deploy.RolloutID, reason string) error
	// Rollback sends all requests of an environment to an earlier release; to
	// "" is the newest good one before.
	Rollback(ctx context.Context, serviceID, environment, to, reason string) (deploy.Rollout, error)
}

// Environment is one service in one environment.
type Environment struct {
	Service      string            `json:"service"`
	Environment  string            `json:"environment"`
	Version      string            `json:"version" doc:"What all requests go to, apart from a canary; empty before the first release."`
	Digest       string            `json:"digest"`
	Since        time.Time         `json:"since,omitzero"`
	HealthySince time.Time         `json:"healthy_since,omitzero"`
	Rollout      string            `json:"rollout,omitempty" doc:"The live rollout."`
	Address      string            `json:"address,omitempty" doc:"Where the proxy listens; empty if the target does not answer."`
	Confined     bool              `json:"confined"`
	Slots        []Slot            `json:"slots,omitempty"`
	Ran          []string          `json:"ran,omitempty" doc:"Versions that all requests went to, newest last."`
	Bad          map[string]string `json:"bad,omitempty" doc:"Digests remembered as bad, with the reason."`
	Exposed      string            `json:"exposed,omitempty" doc:"Vulnerabilities of what runs that are over the limit now."`
	ExposedSince time.Time         `json:"exposed_since,omitzero"`
}

// Slot is a release in a role, with its share of the requests.
type Slot struct {
	Role     string  `json:"role"`
	Version  string  `json:"version"`
	Share    float64 `json:"share" doc:"Of requests, 0 to 1."`
	Replicas int     `json:"replicas"`
	Ready    int     `json:"ready"`
	Reason   string  `json:"reason,omitempty"`
}

// Release is what is promoted.
type Release struct {
	ID           string      `json:"id"`
	Service      string      `json:"service"`
	Version      string      `json:"version"`
	Revision     string      `json:"revision"`
	Digest       string      `json:"digest"`
	ConfigDigest string      `json:"config_digest"`
	Author       string      `json:"author"`
	Created      time.Time   `json:"created"`
	Promotions   []Promotion `json:"promotions"`
}

// Promotion is a release that wants one environment.
type Promotion struct {
	ID          string         `json:"id"`
	Environment string         `json:"environment"`
	State       string         `json:"state"`
	Blocks      []deploy.Block `json:"blocks,omitempty" doc:"What it waits for, since when, and who can release it."`
	DecisionID  string         `json:"decision_id,omitempty"`
	Rollout     string         `json:"rollout,omitempty"`
	Created     time.Time      `json:"created"`
}

// Rollout moves one environment to one release.
type Rollout struct {
	ID          string     `json:"id"`
	Service     string     `json:"service"`
	Environment string     `json:"environment"`
	Version     string     `json:"version"`
	FromVersion string     `json:"from_version,omitempty"`
	Digest      string     `json:"digest"`
	Intent      string     `json:"intent"`
	Strategy    string     `json:"strategy"`
	State       string     `json:"state"`
	Live        bool       `json:"live" doc:"Whether it still has something to do."`
	Serves      string     `json:"serves" doc:"Version that all requests go to if it ended now."`
	Share       float64    `json:"share" doc:"Of requests that the new release gets, 0 to 1."`
	Reason      string     `json:"reason,omitempty"`
	By          string     `json:"by"`
	Created     time.Time  `json:"created"`
	Decided     time.Time  `json:"decided,omitzero" doc:"When it was decided to go back."`
	Finished    time.Time  `json:"finished,omitzero"`
	Decisions   []Decision `json:"decisions,omitempty"`
	Samples     rawJSON    `json:"samples,omitempty" doc:"What the judge saw, look by look."`
}

// Decision is one line of a rollout's log.
type Decision struct {
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"`
	Bold    string    `json:"bold"`
	Reason  string    `json:"reason,omitempty"`
	By      string    `json:"by,omitempty"`
	Figures rawJSON   `json:"figures,omitempty"`
}

func rolloutOf(r deploy.Rollout, log []deploy.Decision) Rollout {
	out := Rollout{ID: string(r.ID), Service: r.Service, Environment: r.Environment, Version: r.Version, FromVersion: r.FromVersion, Digest: r.Digest, Intent: string(r.Intent),
		Strategy: string(r.Plan.Strategy), State: string(r.State), Live: r.State.Live(), Share: r.Share(), Reason: r.Reason, By: r.By, Created: r.Created, Decided: r.Decided, Finished: r.Finished, Serves: r.FromVersion}
	if r.State == deploy.Completed {
		out.Serves = r.Version
	}
	for _, d := range log {
		out.Decisions = append(out.Decisions, Decision{d.At, d.Kind, d.Bold, d.Reason, d.By, rawJSON(d.Figures)})
	}
	return out
}

func (s *server) environments(ctx context.Context) ([]Environment, error) {
	all, err := s.Delivery.Environments(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Environment, 0, len(all))
	for _, e := range all {
		w := Environment{Service: e.Service, Environment: e.Environment, Version: e.Version, Digest: e.Digest, Since: e.Since, HealthySince: e.HealthySince, Rollout: string(e.Rollout), Bad: e.Bad, Exposed: e.Exposed()}
		if w.Exposed != "" {
			w.ExposedSince = e.Exposure.Since
		}
		for _, r := range e.Ran {
			w.Ran = append(w.Ran, r.Spec.Version)
		}
		if run := s.Delivery.Running(ctx, e.ServiceID, e.Environment); run != nil {
			w.Address, w.Confined = run.Address, run.Confined
			for _, slot := range run.Slots {
				w.Slots = append(w.Slots, Slot{string(slot.Role), slot.Version, float64(slot.Weight) / 10000, slot.Replicas, slot.Ready, slot.Reason})
			}
		}
		out = append(out, w)
	}
	return out, nil
}

// serviceID finds a service by name; "" stays "".
func (s *server) serviceID(ctx context.Context, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	ref, err := s.Catalog.Service(ctx, name)
	return ref.ID, err
}

type byService struct {
	Service string `query:"service"`
}

// RolloutRef is the path of a rollout.
type RolloutRef struct {
	ID string `path:"id"`
}

func (s *server) delivery(a huma.API) {
	route(a, "GET", "/environments", "list-environments", "What runs where", func(ctx context.Context, _ *struct{}) ([]Environment, error) {
		return s.environments(ctx)
	})
	route(a, "GET", "/releases", "list-releases", "List releases, newest first, with what they wait for", func(ctx context.Context, in *byService) ([]Release, error) {
		id, err := s.serviceID(ctx, in.Service)
		if err != nil {
			return nil, err
		}
		all, err := s.Delivery.Releases(ctx, id)
		if err != nil {
			return nil, err
		}
		promotions, err := s.Delivery.Promotions(ctx, id)
		out := make([]Release, 0, len(all))
		for _, r := range all {
			w := Release{string(r.ID), r.Service, r.Version, r.Revision, r.Digest(), r.ConfigDigest, r.Author, r.Created, []Promotion{}}
			for _, p := range promotions {
				if p.ReleaseID == r.ID {
					w.Promotions = append(w.Promotions, Promotion{string(p.ID), p.Environment, string(p.State), p.Blocks, p.DecisionID, string(p.RolloutID), p.Created})
				}
			}
			out = append(out, w)
		}
		return out, err
	})
	route(a, "POST", "/releases/{id}/approvals", "approve-release", "Agree, or refuse, that a release goes to an environment", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body struct {
			Environment string `json:"environment"`
			Verdict     string `json:"verdict" enum:"approve,reject"`
			Reason      string `json:"reason,omitempty"`
		}
	}) (none, error) {
		return none{true}, s.Delivery.Approve(ctx, deploy.ReleaseID(in.ID), in.Body.Environment, in.Body.Verdict, in.Body.Reason)
	})
	route(a, "GET", "/rollouts", "list-rollouts", "List rollouts, newest first", func(ctx context.Context, in *byService) ([]Rollout, error) {
		id, err := s.serviceID(ctx, in.Service)
		if err != nil {
			return nil, err
		}
		all, err := s.Delivery.Rollouts(ctx, id)
		out := make([]Rollout, 0, len(all))
		for _, r := range all {
			out = append(out, rolloutOf(r, nil))
		}
		return out, err
	})
	route(a, "GET", "/rollouts/{id}", "get-rollout", "A rollout with decisions and what the judge saw", func(ctx context.Context, in *struct {
		RolloutRef
		Since time.Time `query:"samples_since" doc:"Only what the judge saw after this time."`
	}) (Rollout, error) {
		r, log, err := s.Delivery.Rollout(ctx, deploy.RolloutID(in.ID))
		if err != nil {
			return Rollout{}, err
		}
		out := rolloutOf(r, log)
		samples, err := s.Delivery.Samples(ctx, r.ID, in.Since)
		if err != nil {
			return Rollout{}, err
		}
		raw, err := json.Marshal(samples)
		out.Samples = raw
		return out, err
	})
	for verb, act := range map[string]func(ctx context.Context, id deploy.RolloutID, reason string) error{
		"pause":   func(ctx context.Context, id deploy.RolloutID, _ string) error { return s.Delivery.Pause(ctx, id) },
		"resume":  func(ctx context.Context, id deploy.RolloutID, _ string) error { return s.Delivery.Resume(ctx, id) },
		"promote": s.Delivery.Promote,
	} {
		route(a, "POST", "/rollouts/{id}/"+verb, verb+"-rollout", map[string]string{"pause": "Stop the clock of a rollout", "resume": "Let a paused rollout go on", "promote": "Go on to the next step now"}[verb],
			func(ctx context.Context, in *struct {
				RolloutRef
				Body struct {
					Reason string `json:"reason,omitempty"`
				}
			}) (none, error) {
				return none{true}, act(ctx, deploy.RolloutID(in.ID), in.Body.Reason)
			})
	}
	route(a, "POST", "/services/{service}/environments/{environment}/rollback", "rollback", "Go back to an earlier release, now", func(ctx context.Context, in *struct {
		Service     string `path:"service"`
		Environment string `path:"environment"`
		Body        struct {
			To     string `json:"to,omitempty" doc:"Version or release; the newest good one before if absent."`
			Reason string `json:"reason,omitempty"`
		}
	}) (Rollout, error) {
		id, err := s.serviceID(ctx, in.Service)
		if err != nil {
			return Rollout{}, err
		}
		r, err := s.Delivery.Rollback(ctx, id, in.Environment, in.Body.To, in.Body.Reason)
		return rolloutOf(r, nil), err
	})
}
