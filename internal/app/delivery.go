package app

import (
	"context"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/control"
	"weir/internal/control/controldb"
	controlengine "weir/internal/control/engine"
	"weir/internal/deploy"
	"weir/internal/deploy/deploydb"
	deployengine "weir/internal/deploy/engine"
	hosttarget "weir/internal/deploy/target/host"
	"weir/internal/edge/api"
	"weir/internal/guard/approval"
	"weir/internal/guard/evidence"
	"weir/internal/guard/identity"
	"weir/internal/guard/policy"
)

// delivery is the deploy and control layers of a system.
type delivery struct {
	deployRows *deploydb.Store
	deploy     *deploy.Service
	control    control.Service
	host       *hosttarget.Target
}

func (s *System) openDelivery(ctx context.Context) error {
	for _, migrate := range []func(context.Context, *db.DB) error{deploydb.Migrate, controldb.Migrate} {
		if err := migrate(ctx, s.db); err != nil {
			return err
		}
	}
	s.deployRows = deploydb.New(s.db, s.journal, s.record)
	s.deploy = deploy.NewService(s.deployRows, s.catalog, gate{s}, nil)
	samples := controldb.New(s.db)
	s.control = control.Service{Store: samples}
	s.host = target(s.Config.Host.Dir)
	s.add(deployengine.New(deployengine.Config{DB: s.db, Journal: s.journal, Store: s.deployRows, Service: s.deploy,
		Targets: map[string]deploy.Target{"local": s.host}, Judge: controlengine.New(samples), Holder: s.data.holder(), Topics: []string{approval.Topic}, Attest: s.attest, Decided: s.decided, Copy: copies{s}.promoted}))
	return nil
}

// runningImages lists what runs in any environment, as repository@digest.
func (s *System) runningImages(ctx context.Context) (all []string, err error) {
	envs, err := s.deployRows.Environments(ctx, "default")
	for _, e := range envs {
		for _, r := range e.Ran {
			if image := r.Spec.Image + "@" + r.Spec.Digest; r.Spec.ReleaseID == e.Current && !slices.Contains(all, image) {
				all = append(all, image)
			}
		}
	}
	return all, err
}

// decided are the statements about a decision that let a release into an
// environment: the decision itself, and what it let pass by exception.
func (s *System) decided(ctx context.Context, r deploy.ReleaseFact) ([]evidence.Statement, error) {
	d, err := s.policy.Decision(ctx, r.DecisionID)
	if err != nil {
		return nil, err
	}
	type rule struct {
		Rule    string `json:"rule"`
		Allow   bool   `json:"allow"`
		Message string `json:"message"`
	}
	rules := []rule{}
	for _, r := range d.Rules {
		rules = append(rules, rule{r.Rule, r.Allow, r.Message})
	}
	about := []evidence.Subject{evidence.SHA256(r.Service, r.Digest)}
	all := []evidence.Statement{{Key: d.ID, PredicateType: evidence.Decision, Subjects: about, Predicate: map[string]any{
		"decision_id": d.ID, "action": d.Action, "environment": d.Scope, "allow": d.Allow, "input_digest": d.InputDigest, "time": d.Time.UTC(), "rules": rules}}}
	var facts policy.Promote
	if err := s.policy.Facts(ctx, d, &facts); err != nil {
		return nil, err
	}
	if facts.Vulnerable != nil {
		issuer := s.evidence.Issuer()
		product := "pkg:oci/" + r.Service + "@" + url.QueryEscape(r.Digest)
		if vex := facts.Vulnerable.Exceptions(issuer+"/decisions/"+d.ID+"/vex", issuer+"/control-plane", product, d.Time); vex != nil {
			all = append(all, evidence.Statement{Key: d.ID, PredicateType: evidence.VEX, Subjects: about, Predicate: vex})
		}
	}
	return all, nil
}

// attest signs a statement about an image and pushes it beside the image.
func (s *System) attest(ctx context.Context, st evidence.Statement) error {
	ev, err := s.evidence.Sign(ctx, st)
	if err != nil {
		return err
	}
	digest := "sha256:" + st.Subjects[0].Digest["sha256"]
	a, err := s.artifact.Get(identity.With(ctx, identity.System("deploy")), artifact.ID(digest))
	if err != nil {
		return err
	}
	return s.artifact.Attach(ctx, a.Repository, digest, ev)
}

// keepHost sees to it that a host process answers, and starts another one if
// it is gone.
func (s *System) keepHost(ctx context.Context) error {
	for {
		if err := s.letHostPull(ctx); err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, "the host has no token to pull images with", "error", err)
		}
		if err := s.startHost(ctx); err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, "no host process", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// deliveryAPI is the deploy and control layers as the API calls them.
type deliveryAPI struct{ s *System }

var _ api.Delivery = deliveryAPI{}

func (a deliveryAPI) Environments(ctx context.Context) ([]deploy.Environment, error) {
	return a.s.deploy.Environments(ctx)
}

// Running asks the target now; a host that does not answer is no error of a
// reader.
func (a deliveryAPI) Running(ctx context.Context, serviceID, environment string) *deploy.Running {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	o, err := a.s.host.Observe(ctx, -1, 0)
	if err != nil {
		return nil
	}
	for _, e := range o.Environments {
		if e.ServiceID == serviceID && e.Environment == environment {
			return &e
		}
	}
	return nil
}

func (a deliveryAPI) Releases(ctx context.Context, serviceID string) ([]deploy.Release, error) {
	return a.s.deploy.Releases(ctx, deploy.Filter{ServiceID: serviceID, Limit: 100})
}

func (a deliveryAPI) Promotions(ctx context.Context, serviceID string) ([]deploy.Promotion, error) {
	return a.s.deploy.Promotions(ctx, deploy.Filter{ServiceID: serviceID, Limit: 500})
}

// Approve binds the actor's consent to the release's bytes, its configuration
// and one environment.
func (a deliveryAPI) Approve(ctx context.Context, id deploy.ReleaseID, environment, verdict, reason string) error {
	if err := identity.Check(ctx, "release.approve", "default"); err != nil {
		return err
	}
	r, err := a.s.deploy.Release(ctx, id)
	if err != nil {
		return err
	}
	declared, err := a.s.catalog.Declared(ctx, r.ServiceID)
	if err != nil {
		return err
	}
	rules, ok := declared.Environments[environment]
	if !ok {
		return fault.New(fault.NotFound, "%s has no environment %s; it has %s.", r.Service, environment, strings.Join(declared.Order, ", "))
	}
	eligible, err := a.s.accounts.Approvers(ctx, rules.Approvals.Group)
	if err != nil {
		return err
	}
	authors, err := a.s.authors(ctx, r, environment)
	if err != nil {
		return err
	}
	_, err = a.s.approval.Give(ctx, approval.Request{ReleaseID: string(r.ID), Version: r.Version, Digest: r.Digest(), Environment: environment, ConfigDigest: r.ConfigDigest,
		Authors: authors, Eligible: eligible, Verdict: verdict, Reason: reason})
	return err
}

func (a deliveryAPI) Rollouts(ctx context.Context, serviceID string) ([]deploy.Rollout, error) {
	return a.s.deploy.Rollouts(ctx, deploy.Filter{ServiceID: serviceID, Limit: 100})
}

func (a deliveryAPI) Rollout(ctx context.Context, id deploy.RolloutID) (deploy.Rollout, []deploy.Decision, error) {
	return a.s.deploy.Rollout(ctx, id)
}

func (a deliveryAPI) Samples(ctx context.Context, id deploy.RolloutID, since time.Time) ([]control.Sample, error) {
	return a.s.control.Samples(ctx, id, since)
}

func (a deliveryAPI) Pause(ctx context.Context, id deploy.RolloutID) error {
	_, err := a.s.deploy.Pause(ctx, id)
	return err
}

func (a deliveryAPI) Resume(ctx context.Context, id deploy.RolloutID) error {
	_, err := a.s.deploy.Resume(ctx, id)
	return err
}

func (a deliveryAPI) Promote(ctx context.Context, id deploy.RolloutID, reason string) error {
	_, err := a.s.deploy.Promote(ctx, id, reason)
	return err
}

func (a deliveryAPI) Rollback(ctx context.Context, serviceID, environment, to, _ string) (deploy.Rollout, error) {
	return a.s.deploy.Rollback(ctx, serviceID, environment, to)
}
