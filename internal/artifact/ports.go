package artifact

import (
	"context"
	"io"
	"time"

	"weir/internal/base/blob"
	"weir/internal/base/db"
	"weir/internal/base/journal"
	"weir/internal/guard/evidence"
	"weir/internal/pipeline"
)

// GitTag is a tag that can be reached from a revision.
type GitTag struct {
	Name     string
	Revision string
	Distance int // commits from the tag to the revision; 0 is the revision itself
}

// Commit is a revision with who wrote it and what it says.
type Commit struct {
	Revision    string
	Subject     string
	Body        string
	Author      string
	AuthorEmail string
	Time        time.Time
}

// Source is what is needed of the repositories.
type Source interface {
	// Tags lists the tags that reach rev, in any order.
	Tags(ctx context.Context, repositoryID, rev string) ([]GitTag, error)
	// Log lists the commits that to has and from ("" for none) has not, newest first.
	Log(ctx context.Context, repositoryID, fromExclusive, to string) ([]Commit, error)
	// Commit describes one revision.
	Commit(ctx context.Context, repositoryID, rev string) (Commit, error)
	// Tag makes name point at rev. Doing it again is no error; a name that
	// points elsewhere is a Conflict fault.
	Tag(ctx context.Context, repositoryID, name, rev string) error
}

// Spec is how the catalog declares that a service is built.
type Spec struct {
	ServiceID      string
	Service        string
	RepositoryName string   // of the source: "shop/checkout" or "checkout"
	Path           string   // of the service inside the repository; "" or "." is all of it
	Go             string   // package to build, relative to Path; or
	Static         string   // folder to serve, relative to Path; or
	Node           string   // file that Node runs, relative to Path; or
	Layout         string   // OCI image layout, a folder or a tar relative to Path
	Make           string   // command that makes the layout; "" if it is there
	From           string   // artifact of the run that holds the layout; "" if it is in the workspace
	Dockerfile     string   // file that an image is built from, relative to Path; or
	Context        string   // folder that it may copy from, relative to Path
	Target         string   // stage of it; "" is the last
	Network        string   // what its release job may reach: egress or none
	External       string   // repository of images that are built elsewhere
	Copies         []string // repositories in other registries that admitted images are copied to
	Command        []string // arguments after the binary
	ConfigDigest   string   // of what the environments give the service
}

// Built reports whether a release job here makes the service's image.
func (s Spec) Built() bool {
	return s.Go != "" || s.Static != "" || s.Node != "" || s.Layout != "" || s.Dockerfile != ""
}

// HandsImage reports whether a whole image is handed in, which is taken as it is.
func (s Spec) HandsImage() bool { return s.Layout != "" || s.Dockerfile != "" || s.External != "" }

// Catalog is what is needed of the declared services.
type Catalog interface {
	// Specs lists the services of a repository as declared at a revision.
	Specs(ctx context.Context, repositoryID, revision string) ([]Spec, error)
}

// Runs describes the run that built something.
type Runs interface {
	Run(ctx context.Context, id pipeline.RunID) (pipeline.Run, error)
}

// Checks tells what is known of a revision.
type Checks interface {
	Results(ctx context.Context, repositoryID, revision string) ([]pipeline.Check, error)
}

// Signer makes and finds evidence. It is evidence.Service.
type Signer interface {
	Issuer() string
	Sign(ctx context.Context, st evidence.Statement) (evidence.Evidence, error)
	// SignBare signs with the image key, and reports false if there is none.
	SignBare(ctx context.Context, st evidence.Statement) (evidence.Evidence, bool, error)
	About(ctx context.Context, digest string) ([]evidence.Evidence, error)
}

// AdmitRequest is what policy decides about.
type AdmitRequest struct {
	Org          string
	ServiceID    string
	Service      string
	RepositoryID string
	Revision     string
	Version      string
	Image        string // repository@digest
	Digest       string
	RunID        string
	Author       string
	Confined     bool
	Network      string
	Evidence     []Attached
	Submission   *Submission // nil if Weir built it
}

// Gate is policy. It looks at the evidence about the digest and the revision.
type Gate interface {
	Admit(ctx context.Context, r AdmitRequest) (decisionID string, allow bool, blocks []Block, err error)
}

// Copies brings images to other registries, with what refers to them, verifies
// that they arrived, and remembers where they are. Doing it again sends only
// what is new. An empty tag gives the copy none.
type Copies interface {
	Copy(ctx context.Context, repository, digest, tag string, to []string) error
}

// Images is the registry, as the engine uses it.
type Images interface {
	PutBlob(ctx context.Context, repository, digest string, body io.Reader) (Descriptor, error)
	PutManifest(ctx context.Context, repository, reference, mediaType string, raw []byte, tags ...string) (Manifest, error)
	Manifest(ctx context.Context, repository, reference string) (Manifest, error)
	Referrers(ctx context.Context, repository, digest, artifactType string) ([]Descriptor, error)
}

// Entry is what the ledger keeps of an intake.
type Entry struct {
	Actor   string
	Action  string // artifact.received, artifact.admitted, artifact.rejected
	Subject string
	Data    any
}

// Ledger appends an entry in the transaction of the action.
type Ledger func(ctx context.Context, tx *db.Tx, e Entry) error

// Fence refuses, inside a transaction, once this engine is no longer the one.
type Fence func(ctx context.Context, tx *db.Tx) error

// Filter selects artifacts, the newest first.
type Filter struct {
	Org          string
	ServiceID    string
	RepositoryID string
	Revision     string
	Digest       string
	Text         string // in the service's name, the tag, the digest or the revision
	Before       ID
	Limit        int // 0 means 50
}

// Store keeps intakes and artifacts. Its adapter is artifactdb.
type Store interface {
	// Add stores a new intake with a fact and a ledger entry. If the service
	// and revision were handed in before, it returns that intake and false.
	Add(ctx context.Context, i Intake, f journal.Fact, e Entry) (Intake, bool, error)
	// Save stores a step of an intake that is still in state from, with the
	// artifact, fact and entry that belong to it, if any.
	Save(ctx context.Context, fence Fence, from State, i Intake, admitted *Artifact, f *journal.Fact, e *Entry) error
	// Open lists the intakes that want attention at now, oldest first.
	Open(ctx context.Context, now time.Time, limit int) ([]Intake, error)
	Intake(ctx context.Context, id IntakeID) (Intake, error)
	Intakes(ctx context.Context, f Filter) ([]Intake, error)
	Get(ctx context.Context, id ID) (Artifact, error)
	List(ctx context.Context, f Filter) ([]Artifact, error)
	Subscribe() (<-chan struct{}, func())
}

// Bytes is the blob store of the artifact layer.
type Bytes = blob.Store
