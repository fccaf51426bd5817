package policy

import "time"

// Actions that have gates.
const (
	ActionLand     = "change.land"
	ActionAdmit    = "artifact.admit"
	ActionPromote  = "release.promote"
	ActionStep     = "release.step"
	ActionRollback = "release.rollback"
)

// Land is what the gate of a merge looks at. Rules come from the target
// branch: RulesFrom is its revision.
type Land struct {
	Repository     string   `json:"repository"`
	Change         string   `json:"change"`
	Target         string   `json:"target"`
	TargetRevision string   `json:"target_revision"`
	Revision       string   `json:"revision"`
	RulesFrom      string   `json:"rules_from"`
	Author         string   `json:"author"`
	Pushers        []string `json:"pushers"` // everybody who pushed a patchset
	FastForward    bool     `json:"fast_forward"`
	Reviews        []Review `json:"reviews"`
	NeedReviews    int      `json:"need_reviews"`
	OwnersOf       []Owned  `json:"owners_of"` // code owners needed, empty if not asked for
	Checks         []Check  `json:"checks"`    // on Revision
	NeedChecks     []string `json:"need_checks"`
	// Declaration says what is wrong with the weir.yaml that would land: a
	// trunk whose file cannot be read would have no rules.
	Declaration string `json:"declaration,omitempty"`
	// Workflows says what is wrong with a workflow that would land: it guards
	// every change that follows, and could not run.
	Workflows string `json:"workflows,omitempty"`
}

// Review is one person's word on one revision.
type Review struct {
	By       string    `json:"by"`
	Verdict  string    `json:"verdict"` // approve | reject
	Revision string    `json:"revision"`
	Time     time.Time `json:"time"`
}

// Owned is a set of paths and who must have approved.
type Owned struct {
	Path   string   `json:"path"`
	Owners []string `json:"owners"` // user names; empty fails closed
}

// Check is the result of one check on the revision.
type Check struct {
	Name  string `json:"name"`
	State string `json:"state"`
	RunID string `json:"run_id"`
}

// Admit is what the gate of the artifact layer looks at.
type Admit struct {
	Service          string   `json:"service"`
	Version          string   `json:"version"`
	Digest           string   `json:"digest"`
	Revision         string   `json:"revision"`
	Landed           bool     `json:"landed"` // Revision is on the trunk, through its gate or the bootstrap
	RunID            string   `json:"run_id"`
	RunSucceeded     bool     `json:"run_succeeded"`
	Confined         bool     `json:"confined"`
	AllowUnconfined  bool     `json:"allow_unconfined"`
	Verified         []string `json:"verified"` // predicate types with a verified signature on Digest
	ProvenanceCommit string   `json:"provenance_commit"`
	Problems         []string `json:"problems"` // what did not verify, in words
	// Origin is where the evidence about the build comes from: built (by Weir; also ""), observed, asserted. VouchedBy is the
	// builder that was observed, or who asserts.
	Origin    string `json:"origin,omitempty"`
	VouchedBy string `json:"vouched_by,omitempty"`
	// Vulnerable is nil if no limit is set.
	Vulnerable *Vulnerable `json:"vulnerable,omitempty"`
}

// Promote is what the gate of an environment looks at.
type Promote struct {
	Service       string     `json:"service"`
	Environment   string     `json:"environment"`
	Release       string     `json:"release"`
	Version       string     `json:"version"`
	Digest        string     `json:"digest"`
	ConfigDigest  string     `json:"config_digest"`
	Revision      string     `json:"revision"`
	RulesFrom     string     `json:"rules_from"` // revision of the trunk whose weir.yaml holds these rules
	Admitted      bool       `json:"admitted"`
	Verified      bool       `json:"verified"` // the digest's evidence was verified now
	Problem       string     `json:"problem"`
	Authors       []string   `json:"authors"`
	After         []Before   `json:"after"`
	NeedApprovals int        `json:"need_approvals"`
	Group         string     `json:"group"`
	Eligible      []string   `json:"eligible"` // who could approve
	Approvals     []Approval `json:"approvals"`
	RememberedBad string     `json:"remembered_bad"` // reason, or empty
	// Origin and VouchedBy are those of Admit; Accept is what the environment takes besides what Weir built.
	Origin    string   `json:"origin,omitempty"`
	VouchedBy string   `json:"vouched_by,omitempty"`
	Accept    []string `json:"accept,omitempty"`
	// Vulnerable is nil if no limit is set.
	Vulnerable *Vulnerable `json:"vulnerable,omitempty"`
}

// Before is an environment that a release must have been healthy in.
type Before struct {
	Environment string    `json:"environment"`
	NeedSeconds int64     `json:"need_seconds"`
	Healthy     bool      `json:"healthy"`
	Since       time.Time `json:"since"`
}

// Approval is one person's consent, bound to what it was given for.
type Approval struct {
	ID           string    `json:"id"`
	By           string    `json:"by"`
	Digest       string    `json:"digest"`
	Environment  string    `json:"environment"`
	ConfigDigest string    `json:"config_digest"`
	Time         time.Time `json:"time"`
	Expires      time.Time `json:"expires"`
}

// Rollback is what the gate of a rollback looks at. It asks for no build, no
// approval and no newer finding.
type Rollback struct {
	Service       string   `json:"service"`
	Environment   string   `json:"environment"`
	Release       string   `json:"release"`
	Version       string   `json:"version"`
	Digest        string   `json:"digest"`
	AdmittedHere  bool     `json:"admitted_here"`
	RememberedBad string   `json:"remembered_bad"`
	Intact        bool     `json:"intact"` // bytes and evidence verified, at the time they were signed
	Problem       string   `json:"problem"`
	Warnings      []string `json:"warnings"`
}
