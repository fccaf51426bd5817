package deploy

import "time"

// The facts of this layer, all of version 1.
const (
	FactReleaseCreated   = "deploy.release_created"   // subject: release
	FactPromotionWaiting = "deploy.promotion_waiting" // subject: promotion
	FactPromotionAllowed = "deploy.promotion_allowed"
	FactRolloutStarted   = "deploy.rollout_started" // subject: rollout
	FactStepEntered      = "deploy.step_entered"
	FactVerdict          = "deploy.verdict"
	FactRolloutFinished  = "deploy.rollout_finished"
	FactRolledBack       = "deploy.rolled_back"
	FactExposed          = "deploy.exposed" // subject: release that runs
)

// ExposureFact says that what runs in an environment is over the limit of
// published vulnerabilities, by what it says, or is no more.
type ExposureFact struct {
	ServiceID   string    `json:"service_id"`
	Service     string    `json:"service"`
	Environment string    `json:"environment"`
	ReleaseID   ReleaseID `json:"release_id"`
	Version     string    `json:"version"`
	Digest      string    `json:"digest"`
	DecisionID  string    `json:"decision_id"`
	Over        bool      `json:"over"`
	Says        string    `json:"says,omitempty"`
}

// ReleaseFact is the body of facts about a release or its promotion.
type ReleaseFact struct {
	ReleaseID    ReleaseID `json:"release_id"`
	ServiceID    string    `json:"service_id"`
	Service      string    `json:"service"`
	RepositoryID string    `json:"repository_id"`
	Revision     string    `json:"revision"`
	Version      string    `json:"version"`
	Digest       string    `json:"digest"`
	Author       string    `json:"author"`
	CommitTime   time.Time `json:"commit_time"`
	Environment  string    `json:"environment,omitempty"`
	DecisionID   string    `json:"decision_id,omitempty"`
	Blocks       []Block   `json:"blocks,omitempty"`
}

// RolloutFact is the body of facts about a rollout.
type RolloutFact struct {
	RolloutID     RolloutID     `json:"rollout_id"`
	ServiceID     string        `json:"service_id"`
	Service       string        `json:"service"`
	Environment   string        `json:"environment"`
	ReleaseID     ReleaseID     `json:"release_id"`
	Version       string        `json:"version"`
	Digest        string        `json:"digest"`
	Revision      string        `json:"revision"`
	CommitTime    time.Time     `json:"commit_time"`
	FromReleaseID ReleaseID     `json:"from_release_id"`
	FromVersion   string        `json:"from_version"`
	Intent        Intent        `json:"intent"`
	Strategy      Strategy      `json:"strategy"`
	State         State         `json:"state"`
	Share         float64       `json:"share"`
	Reason        string        `json:"reason,omitempty"`
	By            string        `json:"by"`
	Created       time.Time     `json:"created"`
	Finished      time.Time     `json:"finished,omitzero"`
	Took          time.Duration `json:"took,omitempty"` // of a rollback: decision to the last request of what was left
}

func (r Rollout) fact() RolloutFact {
	f := RolloutFact{
		RolloutID: r.ID, ServiceID: r.ServiceID, Service: r.Service, Environment: r.Environment, ReleaseID: r.ReleaseID, Version: r.Version,
		Digest: r.Digest, Revision: r.Revision, CommitTime: r.CommitTime, FromReleaseID: r.FromReleaseID, FromVersion: r.FromVersion,
		Intent: r.Intent, Strategy: r.Plan.Strategy, State: r.State, Share: r.Share(), Reason: r.Reason, By: r.By, Created: r.Created, Finished: r.Finished,
	}
	if !r.Decided.IsZero() && !r.Finished.IsZero() {
		f.Took = r.Finished.Sub(r.Decided)
	}
	return f
}

func (r Release) fact() ReleaseFact {
	return ReleaseFact{
		ReleaseID: r.ID, ServiceID: r.ServiceID, Service: r.Service, RepositoryID: r.RepositoryID, Revision: r.Revision, Version: r.Version,
		Digest: r.Digest(), Author: r.Author, CommitTime: r.CommitTime,
	}
}
