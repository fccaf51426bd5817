package deploy

import (
	"context"
	"time"

	"weir/internal/base/db"
	"weir/internal/catalog"
	"weir/internal/guard/identity"
)

// Catalog reads declarations. It is catalog.Catalog.
type Catalog interface {
	// Declared is a service as its current trunk declares it: the rules of its environments.
	Declared(ctx context.Context, serviceID string) (catalog.Declared, error)
	// At is what a revision declares, nil if nothing: how its releases run.
	At(ctx context.Context, repositoryID, revision string) (*catalog.File, error)
}

// Gate is policy at the edges of this layer.
type Gate interface {
	Decide(ctx context.Context, r GateRequest) (GateDecision, error)
}

// GateAction is what policy is asked.
type GateAction string

const (
	ActionPromote  GateAction = "promote"
	ActionStep     GateAction = "step"
	ActionRollback GateAction = "rollback"
	ActionRun      GateAction = "run" // of what runs already; a no stops nothing
)

// GateRequest is everything that this layer knows about what it wants to do.
type GateRequest struct {
	Action      GateAction
	Org         string
	ServiceID   string
	Service     string
	Environment string
	Declared    catalog.Environment // of the current trunk
	Release     Release
	Rollout     *Rollout // the live one, for steps and rollbacks
	After       []After
	// AdmittedHere says that the release was complete in this environment before.
	AdmittedHere  bool
	RememberedBad string // reason, or ""
	Actor         identity.Actor
	Time          time.Time
}

// After is the state of an environment in which the release must have been healthy first.
type After struct {
	Environment string
	Need        time.Duration
	Healthy     bool
	Since       time.Time // healthy without a break
}

// GateDecision is what policy said.
type GateDecision struct {
	DecisionID string
	Allow      bool
	Blocks     []Block
}

// why is the first reason of a no.
func (d GateDecision) why() string {
	if len(d.Blocks) == 0 {
		return "Policy does not let it go on."
	}
	return d.Blocks[0].Message
}

// Target is a place where environments live.
type Target interface {
	// Apply makes an environment what it should be, in a while. It returns before that, may be called
	// again with the same, and refuses an epoch or a generation older than the newest it has seen.
	Apply(ctx context.Context, epoch int64, d Desired) error
	// Observe returns what is, once anything changed after the sequence number, or the wait is over.
	Observe(ctx context.Context, after int64, wait time.Duration) (Observed, error)
	// Counters are what the traffic layer has seen.
	Counters(ctx context.Context) ([]Counters, error)
	// Events lists what was done at the target itself, and Acknowledge forgets those up to an id.
	Events(ctx context.Context) ([]Event, error)
	Acknowledge(ctx context.Context, epoch, upTo int64) error
}

// Desired is what an environment should be.
type Desired struct {
	ServiceID   string
	Service     string
	Environment string
	Generation  int64
	Slots       []Slot
	Bad         map[string]string
}

// Observed is what is at a target.
type Observed struct {
	Sequence     int64
	Instance     string // of the target; another one has forgotten counters
	Environments []Running
}

// Running is an environment as it is at a target.
type Running struct {
	ServiceID   string
	Environment string
	Generation  int64 // the last desired
	Applied     int64 // the last whose traffic is in force
	Address     string
	Confined    bool
	Pending     bool // events wait to be acknowledged
	Slots       []SlotState
	Warm        []ReleaseID // running without requests
	Kept        []ReleaseID // can be gone back to at once
}

// SlotState is a slot as it is.
type SlotState struct {
	Role       Role      `json:"role"`
	ReleaseID  ReleaseID `json:"release_id"`
	Version    string    `json:"version"`
	Group      string    `json:"group"`
	Weight     int       `json:"weight"` // in force, in 1/10000
	Replicas   int       `json:"replicas"`
	Ready      int       `json:"ready"`
	Restarts   int       `json:"restarts"`
	Failed     bool      `json:"failed"`
	Reason     string    `json:"reason,omitempty"`
	Unenforced []string  `json:"unenforced,omitempty"` // limits that the machine cannot hold the processes to
}

// Event is something that was done at a target itself.
type Event struct {
	ID          int64
	Time        time.Time
	Kind        string // rollback
	ServiceID   string
	Environment string
	From, To    ReleaseID
	FromVersion string
	ToVersion   string
	By          string
	Took        time.Duration
}

// Judge compares a canary with its baseline. It is implemented by control.
type Judge interface {
	// Look says what is known now. No data are Hold, never Stop.
	Look(ctx context.Context, r Rollout, counters []Counters, now time.Time) (Verdict, error)
}

// Fence refuses, inside a transaction, once this engine is no longer the one.
type Fence func(ctx context.Context, tx *db.Tx) error

// Filter selects rows, newest first. Empty fields select all.
type Filter struct {
	Org         string
	ServiceID   string
	Environment string
	ReleaseID   ReleaseID
	Live        bool // rollouts that are not over, promotions that wait
	Before      string
	Limit       int // 0 means 50
}

// Rows are what is stored.
type Rows interface {
	Release(ctx context.Context, id ReleaseID) (Release, error)
	Releases(ctx context.Context, f Filter) ([]Release, error)
	Promotion(ctx context.Context, id PromotionID) (Promotion, error)
	Promotions(ctx context.Context, f Filter) ([]Promotion, error)
	Rollout(ctx context.Context, id RolloutID) (Rollout, error)
	Rollouts(ctx context.Context, f Filter) ([]Rollout, error)
	Decisions(ctx context.Context, id RolloutID) ([]Decision, error)
	// Environment is the zero value if nothing was ever there.
	Environment(ctx context.Context, serviceID, name string) (Environment, error)
	Environments(ctx context.Context, org string) ([]Environment, error)
	// Spec is how a release first ran in an environment, or a NotFound fault.
	Spec(ctx context.Context, serviceID, environment string, id ReleaseID) (Spec, error)
}

// Tx is a transaction. Facts and ledger entries belong to it.
type Tx interface {
	Rows
	// AddRelease returns the stored release and false if its service has one of the same bytes and configuration.
	AddRelease(ctx context.Context, r Release) (Release, bool, error)
	PutPromotion(ctx context.Context, p Promotion) error
	PutRollout(ctx context.Context, r Rollout) error
	AddDecisions(ctx context.Context, ds []Decision) error
	PutEnvironment(ctx context.Context, e Environment) error
	AddSpec(ctx context.Context, serviceID, environment string, s Spec) error
	Announce(ctx context.Context, kind, org, subject string, body any, at time.Time) error
	Record(ctx context.Context, action, subject string, data any) error
}

// Store keeps the layer's rows. Its adapter is deploydb.
type Store interface {
	Rows
	// Write runs fn in a transaction, which may happen more than once: fn has no effect but its rows.
	Write(ctx context.Context, fence Fence, fn func(Tx) error) error
	// Subscribe wakes whoever waits for something to do.
	Subscribe() (<-chan struct{}, func())
}

// Topic is woken when anything of the layer changes; RolloutTopic when one rollout does.
const Topic = "deploy"

// RolloutTopic wakes followers of one rollout.
func RolloutTopic(id RolloutID) string { return "rollout:" + string(id) }
