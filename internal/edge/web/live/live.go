// Package live answers the pages from the services: it asks, in the reader's
// name, and puts what it gets into the pages' words. It keeps nothing and decides
// nothing; a button is shown if the reader may press it, and the service says the
// last word when they do.
package live

import (
	"context"
	"io"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/catalog"
	"weir/internal/control"
	"weir/internal/deploy"
	"weir/internal/edge/web"
	"weir/internal/guard/approval"
	"weir/internal/guard/evidence"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
	"weir/internal/guard/policy"
	"weir/internal/pipeline"
	"weir/internal/source"
)

const org = "default"

// Config names the services.
type Config struct {
	DB        *db.DB
	Accounts  *identity.Accounts
	Catalog   *catalog.Catalog
	Source    *source.Service
	Git       Git
	LandRules []policy.Rule
	Pipeline  *pipeline.Service
	Artifact  *artifact.Service
	Ledger    *ledger.Log
	Policy    *policy.Policy
	Deploy    *deploy.Service
	Control   control.Service
	// Custodian knows what the registry keeps; nil is not asked.
	Custodian artifact.Custodian
	// Against holds findings against each limit of their service.
	Against func(ctx context.Context, serviceID string, f artifact.Findings) ([]policy.Against, error)
	// Notes are what an artifact brings.
	Notes func(ctx context.Context, artifactID string) (web.ReleaseNotes, error)
	// Trust is the trusted root as it is now.
	Trust func() evidence.TrustedRoot
	// Running is what a target reports of an environment now; nil if it does not answer.
	Running func(ctx context.Context, serviceID, environment string) *deploy.Running
	// Approve records the actor's consent, or refusal, for one environment.
	Approve func(ctx context.Context, release deploy.ReleaseID, environment, verdict, reason string) error
	// Anchor says where the ledger was anchored last; "" means nowhere but on this machine.
	Anchor       func(ctx context.Context) string
	URL          string
	Organisation string // "default" if empty
	Version      string // of this binary
}

// Git is what a change's page shows of its revisions.
type Git interface {
	Diff(ctx context.Context, repositoryID, from, to string, w io.Writer, limit int64) error
	Log(ctx context.Context, repositoryID, from, to string, limit int) ([]source.Commit, error)
}

// Data implements web.Data.
type Data struct {
	Config
	host string
	now  func() time.Time
	// repositories of changes that were looked at, by change: what to watch.
	repositories sync.Map
	// subjects of revisions, which never change; known counts them.
	subjects sync.Map
	known    atomic.Int64
	seen     seen
}

var _ web.Data = (*Data)(nil)

// New returns the pages' data.
func New(c Config) *Data {
	if c.Organisation == "" {
		c.Organisation = org
	}
	d := &Data{Config: c, now: func() time.Time { return time.Now().UTC() }}
	if u, err := url.Parse(c.URL); err == nil {
		d.host = u.Host
	}
	return d
}

// may reports whether the reader may do something. The service asks again.
func may(ctx context.Context, action string) bool { return identity.Check(ctx, action, org) == nil }

// SignIn implements web.Sessions.
func (d *Data) SignIn(ctx context.Context, link string) (string, error) {
	session, _, err := d.Accounts.SignIn(ctx, link)
	return session, err
}

// Session implements web.Sessions. Only people use pages.
func (d *Data) Session(ctx context.Context, session string) (identity.Actor, error) {
	a, err := d.Accounts.Authenticate(ctx, session)
	if err == nil && a.Kind != identity.User {
		return identity.Anonymous, fault.New(fault.Denied, "Pages are for people. Use the API with this token.")
	}
	return a, err
}

// SignOut implements web.Sessions.
func (d *Data) SignOut(ctx context.Context, session string) error {
	return d.Accounts.SignOut(ctx, session)
}

// Watch implements web.Data: it turns the pages' topics into the layers'.
func (d *Data) Watch(topics ...string) (<-chan struct{}, func()) {
	var of []string
	for _, t := range topics {
		kind, id, _ := strings.Cut(t, ":")
		switch kind {
		case "overview":
			of = append(of, deploy.Topic, approval.Topic)
		case "run":
			of = append(of, pipeline.Topic(pipeline.RunID(id)))
		case "runs":
			of = append(of, pipeline.RunsTopic)
		case "rollout":
			of = append(of, deploy.RolloutTopic(deploy.RolloutID(id)))
		case "change":
			if repo, ok := d.repositories.Load(id); ok {
				of = append(of, source.Topic(repo.(string)))
			}
		}
	}
	out := make(chan struct{}, 1)
	done := make(chan struct{})
	var wait sync.WaitGroup
	for _, t := range of {
		woken, cancel := d.DB.Subscribe(t)
		wait.Go(func() {
			defer cancel()
			for {
				select {
				case <-done:
					return
				case <-woken:
					select {
					case out <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	return out, func() {
		close(done)
		wait.Wait()
	}
}

// Shell implements web.Data.
func (d *Data) Shell(ctx context.Context) (web.Shell, error) {
	s := web.Shell{Organisation: d.Organisation, Version: d.Version, Counts: map[string]web.Count{}}
	services, err := d.Catalog.Services(ctx)
	if err != nil {
		return s, err
	}
	envs, err := d.Deploy.Environments(ctx)
	if err != nil {
		return s, err
	}
	live, err := d.Deploy.Rollouts(ctx, deploy.Filter{Live: true, Limit: 100})
	if err != nil {
		return s, err
	}
	if n := len(live); n > 0 {
		s.Counts["rollouts"] = web.Count{Text: number(n) + " live", Live: true}
	}
	changes, err := d.Source.List(ctx, "", source.Open)
	if err != nil {
		return s, err
	}
	if n := len(changes); n > 0 {
		s.Counts["changes"] = web.Count{Text: number(n)}
	}
	for _, ref := range services {
		if len(s.Pins) == 8 {
			break
		}
		pin := web.Pin{Name: ref.Name, Href: "/#matrix", State: web.Status{Kind: "off", Word: "nothing runs yet"}}
		for _, e := range envs {
			if e.ServiceID == ref.ID {
				pin.State = healthOf(e)
			}
		}
		for _, r := range live {
			if r.ServiceID == ref.ID {
				pin.State, pin.Href = web.Status{Kind: "run", Word: "rolling out"}, "/rollouts/"+string(r.ID)
			}
		}
		s.Pins = append(s.Pins, pin)
	}
	if may(ctx, "ledger.read") {
		head, err := d.Ledger.Head(ctx)
		if err != nil {
			return s, err
		}
		s.Ledger = web.Ledger{State: web.Status{Kind: "ok", Word: "Ledger signed"}, Entries: head.Size, Note: d.anchor(ctx)}
		if head.Size == 0 {
			s.Ledger.State = web.Status{Kind: "off", Word: "Ledger empty"}
		}
	}
	return s, nil
}

func (d *Data) anchor(ctx context.Context) string {
	if d.Anchor != nil {
		if a := d.Anchor(ctx); a != "" {
			return a
		}
	}
	return "not anchored off this machine"
}

// Pause implements web.Actions.
func (d *Data) Pause(ctx context.Context, rollout string) error {
	_, err := d.Deploy.Pause(ctx, deploy.RolloutID(rollout))
	return err
}

// Resume implements web.Actions.
func (d *Data) Resume(ctx context.Context, rollout string) error {
	_, err := d.Deploy.Resume(ctx, deploy.RolloutID(rollout))
	return err
}

// Promote implements web.Actions.
func (d *Data) Promote(ctx context.Context, rollout, reason string) error {
	_, err := d.Deploy.Promote(ctx, deploy.RolloutID(rollout), reason)
	return err
}

// RollBack implements web.Actions.
func (d *Data) RollBack(ctx context.Context, rollout string) (string, error) {
	r, _, err := d.Deploy.Rollout(ctx, deploy.RolloutID(rollout))
	if err != nil {
		return "", err
	}
	back, err := d.Deploy.Rollback(ctx, r.ServiceID, r.Environment, "")
	if err != nil {
		return "", err
	}
	return "/rollouts/" + url.PathEscape(string(back.ID)), nil
}

// ApproveRelease implements web.Actions.
func (d *Data) ApproveRelease(ctx context.Context, promotion, verdict, reason string) error {
	p, err := d.Deploy.Promotion(ctx, deploy.PromotionID(promotion))
	if err != nil {
		return err
	}
	if p.State != deploy.Waiting {
		return fault.New(fault.Conflict, "%s to %s waits for nobody any more: it is %s.", p.Version, p.Environment, p.State)
	}
	return d.Approve(ctx, p.ReleaseID, p.Environment, verdict, reason)
}

// ReviewChange implements web.Actions.
func (d *Data) ReviewChange(ctx context.Context, change, verdict, comment string) error {
	_, err := d.Source.Review(ctx, change, verdict, strings.TrimSpace(comment))
	return err
}

// LandChange implements web.Actions.
func (d *Data) LandChange(ctx context.Context, change string) error {
	_, err := d.Source.Land(ctx, change)
	return err
}

// CancelRun implements web.Actions.
func (d *Data) CancelRun(ctx context.Context, run string) error {
	return d.Pipeline.Cancel(ctx, pipeline.RunID(run), identity.From(ctx).Name, "")
}

// RerunRun implements web.Actions.
func (d *Data) RerunRun(ctx context.Context, run string) error {
	return d.Pipeline.Rerun(ctx, pipeline.RunID(run), identity.From(ctx).Name)
}

// RunLog implements web.Data.
func (d *Data) RunLog(ctx context.Context, run, job string, attempt int, offset int64, follow bool) (io.ReadCloser, error) {
	return d.Pipeline.Log(ctx, pipeline.RunID(run), job, attempt, offset, follow)
}
