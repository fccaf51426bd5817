package artifact

import (
	"time"

	"weir/internal/base/blob"
	"weir/internal/pipeline"
)

// ID names an artifact.
type ID string

// Artifact is an image that policy has admitted. Nothing of it changes.
type Artifact struct {
	ID           ID
	Org          string
	ServiceID    string
	Service      string
	RepositoryID string // of the source
	Revision     string
	Version      string // "1.4.0"
	Tag          string // "1.4.0-ab12cd3"
	Repository   string // in the registry
	Digest       string // of the image manifest
	Size         int64  // bytes of config and layers
	RunID        string
	DecisionID   string // of the policy that admitted it
	Author       string
	CommitTime   time.Time
	ConfigDigest string // of the service's environments at the revision
	Created      time.Time
}

// Image names the artifact inside the registry, by digest.
func (a Artifact) Image() string { return a.Repository + "@" + a.Digest }

// IntakeID names one hand-in.
type IntakeID string

// State is how far an intake has come.
type State string

// The states. The diagram is in the package comment.
const (
	Received State = "received"
	Pushed   State = "pushed"
	Signed   State = "signed"
	Judged   State = "judged"
	Tagged   State = "tagged"
	Admitted State = "admitted"
	Rejected State = "rejected"
	Refused  State = "refused"
)

// Done reports whether s is an end.
func (s State) Done() bool { return s == Admitted || s == Rejected || s == Refused }

// moves is every legal step; each state may also be refused or stay.
var moves = map[State][]State{
	Received: {Pushed, Refused},
	Pushed:   {Signed, Refused},
	Signed:   {Judged, Rejected},
	Judged:   {Tagged},
	Tagged:   {Admitted},
}

// Intake is what a job handed in and what has become of it.
type Intake struct {
	ID       IntakeID
	Org      string
	Stored   blob.Digest // the bytes
	Size     int64
	Output   pipeline.Output
	State    State
	Progress Progress
	Attempts int       // of the present state
	Failure  string    // sentence of the last attempt, "" if none
	Next     time.Time // not to be touched before
	Created  time.Time
	Updated  time.Time
}

// Progress is what the states so far have decided. It is stored with the state,
// so that a later state never computes it again.
type Progress struct {
	Repository   string     `json:"repository,omitempty"` // in the registry
	Digest       string     `json:"digest,omitempty"`
	MediaType    string     `json:"media_type,omitempty"` // of the manifest; "" is an image
	ImageSize    int64      `json:"image_size,omitempty"`
	ManifestSize int64      `json:"manifest_size,omitempty"`
	ConfigDigest string     `json:"config_digest,omitempty"`
	Signer       string     `json:"signer,omitempty"`
	Evidence     []Attached `json:"evidence,omitempty"`
	DecisionID   string     `json:"decision_id,omitempty"`
	// Submission says who vouches for an image that was built elsewhere; nil if Weir built it.
	Submission *Submission `json:"submission,omitempty"`
	Blocks     []Block     `json:"blocks,omitempty"` // why policy does not admit it yet
	Author     string      `json:"author,omitempty"`
	CommitTime time.Time   `json:"commit_time,omitzero"`
}

// Attached is evidence that was pushed beside the image.
type Attached struct {
	EvidenceID    string `json:"evidence_id"`
	PredicateType string `json:"predicate_type"`
	Digest        string `json:"digest"` // of the referrer manifest
	LedgerIndex   int64  `json:"ledger_index"`
}

// Block is a rule that does not admit the artifact, and what would satisfy it.
type Block struct {
	Rule    string   `json:"rule"`
	Message string   `json:"message"`
	Missing []string `json:"missing,omitempty"`
	Who     []string `json:"who,omitempty"`
}

// To returns i one state further. An illegal step is a broken promise of ours.
func (i Intake) To(next State, now time.Time) Intake {
	ok := false
	for _, s := range moves[i.State] {
		ok = ok || s == next
	}
	if !ok {
		panic("artifact: intake " + string(i.ID) + " cannot go from " + string(i.State) + " to " + string(next))
	}
	i.State, i.Attempts, i.Failure, i.Next, i.Updated = next, 0, "", now, now
	return i
}

// Waits returns i in its state after an attempt that did not lead on. Waiting
// grows from a quarter of a second to half a minute.
func (i Intake) Waits(sentence string, now time.Time) Intake {
	pause := min(250*time.Millisecond<<min(i.Attempts, 10), 30*time.Second)
	i.Attempts++
	i.Failure, i.Next, i.Updated = sentence, now.Add(pause), now
	return i
}

// Tag is the release tag: version and the first seven digits of the revision.
func (i Intake) Tag() string { return TagFor(i.Output.Version, i.Output.Revision) }

// TagFor joins a version and a revision to a release tag.
func TagFor(version, revision string) string {
	return version + "-" + revision[:min(7, len(revision))]
}
