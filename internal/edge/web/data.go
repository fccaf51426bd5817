package web

import (
	"context"
	"io"
	"strings"
	"time"

	"weir/internal/guard/identity"
	"weir/internal/pipeline"
)

// Data is everything the pages ask for. The actor is in ctx; what they may not
// see comes back as a fault.
type Data interface {
	Sessions
	Actions
	Shell(ctx context.Context) (Shell, error)
	Overview(ctx context.Context) (Overview, error)
	Runs(ctx context.Context, f RunFilter) (Runs, error)
	Run(ctx context.Context, id string) (Run, error)
	// RunLog returns the log of an attempt in the form of pipeline/logs; attempt 0 is the latest.
	RunLog(ctx context.Context, run, job string, attempt int, offset int64, follow bool) (io.ReadCloser, error)
	// LogOutline, LogLines and SearchLog read the same log by line.
	LogOutline(ctx context.Context, run, job string, attempt int) (pipeline.LogOutline, error)
	LogLines(ctx context.Context, run, job string, attempt int, from int64, limit int) ([]pipeline.LogLine, error)
	SearchLog(ctx context.Context, run, job string, attempt int, q pipeline.LogQuery) (pipeline.LogMatches, error)
	// RunTests lists tests of a run, failures first, with the last outcomes of those that did not just pass.
	RunTests(ctx context.Context, run string, f pipeline.TestFilter) (Tests, error)
	TestHistory(ctx context.Context, key string) (pipeline.Test, []pipeline.TestResult, error)
	// RunArtifacts lists what the jobs of a run have kept; OpenArtifact opens one, a tar or a zip.
	RunArtifacts(ctx context.Context, run string) ([]RunArtifact, error)
	OpenArtifact(ctx context.Context, run, name string) (io.ReadCloser, int64, error)
	Rollouts(ctx context.Context) ([]RolloutRow, error)
	Rollout(ctx context.Context, id string) (Rollout, error)
	Changes(ctx context.Context, state string) ([]ChangeRow, error)
	Change(ctx context.Context, id string) (Change, error)
	Artifacts(ctx context.Context, query string) (ArtifactList, error)
	Artifact(ctx context.Context, id string) (Artifact, error)
	// Notes are what an artifact brings that the one before it has not.
	Notes(ctx context.Context, id string) (ReleaseNotes, error)
	// SBOM is the CycloneDX document of an artifact and a name for its file.
	SBOM(ctx context.Context, id string) (raw []byte, name string, err error)
	Audit(ctx context.Context, f AuditFilter) (Audit, error)
	// Find returns what has words in its id, name or title.
	Find(ctx context.Context, words string) ([]Hit, error)
	// Watch wakes the reader when one of the topics moved. Wake-ups may be lost.
	Watch(topics ...string) (<-chan struct{}, func())
}

// Sessions says who is there.
type Sessions interface {
	// SignIn trades a one-time link for a session.
	SignIn(ctx context.Context, link string) (session string, err error)
	Session(ctx context.Context, session string) (identity.Actor, error)
	SignOut(ctx context.Context, session string) error
}

// Actions are the buttons.
type Actions interface {
	Pause(ctx context.Context, rollout string) error
	Resume(ctx context.Context, rollout string) error
	Promote(ctx context.Context, rollout, reason string) error
	// RollBack takes the rollout's environment back and returns the page to look at.
	RollBack(ctx context.Context, rollout string) (next string, err error)
	ApproveRelease(ctx context.Context, promotion, verdict, reason string) error
	ReviewChange(ctx context.Context, change, verdict, comment string) error
	LandChange(ctx context.Context, change string) error
	CancelRun(ctx context.Context, run string) error
	RerunRun(ctx context.Context, run string) error
}

// Status is a state as a shape, a word and a colour. Kind is one of ok, run,
// wait, warn, drift, flaky, bad, block, skip, off.
type Status struct {
	Kind string
	Word string
}

// Link is a word with a place to go, or without one.
type Link struct {
	Text string
	Href string
}

// Shell is what surrounds every page.
type Shell struct {
	Organisation string
	Counts       map[string]Count // by page: changes, runs, rollouts, services
	Pins         []Pin
	Ledger       Ledger
	Version      string
}

// Count stands beside a page's name.
type Count struct {
	Text string
	Live bool
}

// Pin is a service in the side bar.
type Pin struct {
	Name  string
	Href  string
	State Status
}

// Ledger is the state of the ledger in two lines.
type Ledger struct {
	State   Status
	Entries int64
	Note    string // its last anchor
}

// Hit is something that Find found.
type Hit struct {
	Kind  string // run, change, rollout, artifact, service
	Title string
	Note  string
	Href  string
}

// Overview answers how fast production could recover.
type Overview struct {
	Now          time.Time
	Services     []Readiness
	Flow         Flow
	Needs        []Need
	Delivery     *Delivery // nil: nothing to measure yet
	Environments []string  // in the order that a release passes them
	Matrix       []MatrixRow
}

// Readiness is one service's ability to go back in its last environment.
type Readiness struct {
	Service     string
	Href        string
	Environment string
	State       Status
	Objective   time.Duration // 0: none declared
	Drills      []Measured    // of production, oldest first
	Rollbacks   []Measured    // real ones, oldest first
	Blocks      string        // what would block a rollback now
	BlocksMore  Link
	Note        string // what a rollback would do, if nothing blocks
	Unknown     bool   // whether something blocks could not be found out
	Oldest      bool   // there is nothing to go back to, and nothing wrong
}

// Measured is a rollback or a drill that happened.
type Measured struct {
	At   time.Time
	Took time.Duration
}

// Flow counts changes on their way.
type Flow struct {
	InReview, Building, Waiting, RollingOut int
}

// Need is something that waits for the reader.
type Need struct {
	State     Status
	Title     string
	Href      string
	Detail    string
	Since     time.Time
	Promotion string // set if the reader can approve it
	Version   string
	To        string // service and environment
}

// Delivery are the figures of the last days.
type Delivery struct {
	Days  int
	Tiles []Tile
}

// Tile is one figure.
type Tile struct {
	Name, Value, Unit string
	Of                string // the count behind it: "1 of 3"
	Note              string
}

// MatrixRow is one service across environments.
type MatrixRow struct {
	Service string
	Tier    int
	Cells   []Cell // one for each environment of the overview
}

// Cell is what runs in one environment.
type Cell struct {
	State   Status
	Version string // "" if nothing runs there
	Href    string
	Since   time.Time
	Note    *Status
	To      string // "same": the digest moved on; "held": a gate holds it
	Split   *Split
}

// Split is live traffic on two releases.
type Split struct {
	Old, New string
	Percent  float64 // on the new one
	Href     string
	State    Status
	Detail   string
}

// RunFilter selects runs.
type RunFilter struct {
	Repository, Workflow, Branch, State, Actor, Before string
}

// Any reports whether something is filtered by.
func (f RunFilter) Any() bool {
	return f.Repository+f.Workflow+f.Branch+f.State+f.Actor != ""
}

// Runs is a page of runs.
type Runs struct {
	Rows         []RunRow
	Repositories []string // to choose from
}

// Tests are tests of a run.
type Tests struct {
	Count    pipeline.TestCount
	Results  []pipeline.TestResult
	Slowest  []pipeline.TestResult
	History  map[string][]pipeline.TestResult // by key, the newest first
	Sources  []string
	Problems []string
}

// RunArtifact is a named set of files that a job kept.
type RunArtifact struct {
	Name, Job, Digest string
	Size              int64
	Created           time.Time
}

// RunRow is a run in a list.
type RunRow struct {
	ID, Title, Workflow, Repository string
	State                           Status
	Ref, Revision, Actor            string
	Created                         time.Time
	Took                            time.Duration
}

// Run is one run with its jobs.
type Run struct {
	RunRow
	Now               time.Time
	Live              bool
	Event             string
	Attempt           int
	Reason            string
	Change            Link
	Started, Finished time.Time
	Jobs              []Job
	Waits             []Wait
	Diagnostics       []Annotation
	CanCancel         bool
	CanRerun          bool
	Tests             pipeline.TestCount
	Failures          []Failure     // the first tests that failed
	Typical           time.Duration // median of the runs before it that passed; 0 if there were none
	TypicalOf         int           // how many
}

// Failure is a test that failed, with what is known of it from before.
type Failure struct {
	Result  pipeline.TestResult
	History []pipeline.TestResult // before this one, the newest first
}

// Job is one job. Group is what it is called in the file, shared by the jobs of a matrix; Needs are groups.
type Job struct {
	ID, Key, Name     string
	Group             string
	Needs             []string
	State             Status
	Done              bool
	Reason            string
	Since             time.Time // in its state
	Started, Finished time.Time
	Queued            time.Duration
	Attempt           int
	Attempts          int
	Confined          bool
	Network           string
	Unenforced        []string // limits that its machine could not hold it to
	Images            []string // that its containers were made of, by digest
	Caches            []CacheUse
	Release           bool
	Annotations       []Annotation
	Summary           string
	Used              time.Duration // of a runner, over all attempts
}

// CacheUse is one time that a job asked for a cache entry, or kept one.
type CacheUse struct {
	Key, Found      string // Found is the key that it got; "" is a miss
	Kept            bool
	Restored, Saved int64 // bytes
}

// Wait is one thing that something waits for.
type Wait struct {
	What, For, Who string
	Since          time.Time
}

// Annotation is a message about a place in a file.
type Annotation struct {
	Level, Title, Message, File string
	Line                        int
}

// RolloutRow is a rollout in a list.
type RolloutRow struct {
	ID, Service, Environment string
	From, To                 string // versions; From is "" for the first
	Intent                   string
	State                    Status
	Started, Ended           time.Time
	By                       string
}

// Rollout is one rollout.
type Rollout struct {
	RolloutRow
	Now       time.Time
	Live      bool
	Strategy  string // canary, rolling, first
	Digest    string
	Revision  string
	Artifact  Link
	Change    Link
	Say       string // the verdict as a sentence
	Next      string // what happens by itself, and when
	Hint      string // what a rollback would do
	Weight    float64
	Steps     []Step
	Metrics   []Metric
	NoMetrics string // why there are none
	Baseline  string // what the canary is compared with
	Decisions []Said
	Address   string

	CanPause, CanResume, CanPromote, CanRollBack bool
	PromoteTo                                    string // "50%"
	BackTo                                       string // version
	Locked                                       string // why nothing can be done
}

// Step is one step of a rollout.
type Step struct {
	Percent       float64
	State         Status
	Entered, Left time.Time
	Bake          time.Duration
	Note          string
}

// Metric is one comparison of canary and baseline.
type Metric struct {
	Name             string
	Unit             string // "%" or "ms"
	State            Status
	Canary, Baseline *float64 // nil: not measured
	CanaryOf         string   // the count behind it
	BaselineOf       string
	Points           []Point
	Marks            []Mark
	Evidence         float64 // of what rolls back; 1 is all
	HasEvidence      bool
	Seen, Needed     int64 // requests to have seen the declared fault
}

// Point is a moment of a chart. A nil value was not measured.
type Point struct {
	At                    time.Time
	Canary, Baseline, Bad *float64 // Bad is the decision boundary
}

// Mark is a vertical line.
type Mark struct {
	At   time.Time
	Text string
}

// Said is one decision of a log.
type Said struct {
	At    time.Time
	State Status
	Bold  string
	Text  string
	By    string
}

// ChangeRow is a change in a list.
type ChangeRow struct {
	ID, Repository, Title string
	Number                int64
	State                 Status
	Author, Branch        string
	Target                string
	Revision              string
	Created               time.Time
}

// Change is one change.
type Change struct {
	ChangeRow
	Open      bool
	Patchset  int
	Rules     []Rule
	Checks    []Check
	Reviews   []Review
	Commits   []Commit
	Diff      string // unified; "" if not given
	DiffCut   bool
	CanReview bool
	CanLand   bool
	Why       string // why not
}

// Rule is what one rule says.
type Rule struct {
	Name, Message, Source string
	Allow                 bool
	Missing, Who          []string
}

// Check is a check on a revision.
type Check struct {
	Name    string
	State   Status
	Href    string
	Summary string
}

// Review is one person's word.
type Review struct {
	By, Comment string
	State       Status
	Current     bool // about the newest patchset
	At          time.Time
}

// Commit is one revision of a change.
type Commit struct {
	Revision, Subject, Author string
	At                        time.Time
}

// ArtifactRow is an artifact in a list.
type ArtifactRow struct {
	ID, Service, Version, Tag, Digest, Revision string
	Size                                        int64
	Created                                     time.Time
}

// ArtifactList is what a search found, or the newest artifacts.
type ArtifactList struct {
	Query          string
	Rows           []ArtifactRow
	More, MoreUses bool
	Uses           []ComponentUse // of the components that match Query
	Advisory       *Advisory      // if Query names one; Uses are then what it affects
}

// ComponentUse is an artifact that contains a component.
type ComponentUse struct {
	Name, Version, ArtifactID, Service, Tag string
	Runs                                    []string // environments that run it now
	Admitted                                time.Time
}

// ChainLink is one step of the chain of custody. Index is its position in the
// ledger, -1 if there is no evidence of it.
type ChainLink struct {
	Kind, Title, Says, Signer, Href, Link string
	State                                 Status
	Verified                              bool
	Index                                 int64
}

// Artifact is one artifact with what speaks for it.
type Artifact struct {
	ArtifactRow
	Image     string // as a registry client names it
	Author    string
	RunID     string
	Chain     []ChainLink
	Evidence  []Evidence
	Referrers []Referrer
	Decisions []Decision
	Where     []Where
	Copies    []Copy // in other registries
	Kept      Keeping
	Vulns     Vulnerabilities
	Verify    string // the command
	// Components is what it is made of, by name, from its signed SBOM; Changes
	// is what differs from the artifact before it, whose tag is Since.
	Components []Component
	Changes    []ComponentChange
	Since      string
	// Query is what the page was asked to find among the components.
	Query string
}

// Copy is the same image in another registry.
type Copy struct {
	Place    string // repository there
	State    Status
	Note     string
	Verified time.Time
}

// Component is a library or a file inside an artifact.
type Component struct{ Kind, Name, Version, Licence string }

// ComponentChange is a component that was added (no From), removed (no To) or
// moved to another version.
type ComponentChange struct{ Kind, Name, From, To string }

// maxComponents is how many components a page shows.
const maxComponents = 100

// found are the components that the page was asked for, and how many more match.
func (a Artifact) found() (show []Component, more int) {
	for _, c := range a.Components {
		switch {
		case !strings.Contains(strings.ToLower(c.Name), strings.ToLower(a.Query)):
		case len(show) == maxComponents:
			more++
		default:
			show = append(show, c)
		}
	}
	return show, more
}

// Evidence is one signed statement.
type Evidence struct {
	ID, Kind, About, Signer string
	State                   Status // whether its signature holds
	Index                   int64
	At                      time.Time
}

// Referrer is a manifest that refers to the artifact.
type Referrer struct {
	Digest, Type string
	Size         int64
}

// Vulnerabilities is an artifact compared with what is known now.
type Vulnerabilities struct {
	Known                int64 // advisories; 0 if none were imported
	Imported             time.Time
	Compared, Uncompared int
	Findings             []Finding // the worst first
	Limits               []Limit
	Without              []string // ecosystems of components of which no vulnerabilities were imported
}

// Limit is how the findings stand against a limit that weir.yaml sets.
type Limit struct {
	Where, Words, Says string
	Allow              bool
	Counts             map[string]bool // severities that it is about
}

// Finding is a vulnerability of a component.
type Finding struct {
	Name, ID, Severity, Summary, URL, Component, Version, Fixed string
	Score                                                       float64
	Due                                                         Status // how it stands against the limit that is the hardest on it; none if it is below all
	DueNote                                                     string
}

// Advisory is a vulnerability that was searched for by its name.
type Advisory struct{ Name, ID, Severity, Summary, URL string }

// Keeping says whether an artifact's image stays in the registry.
type Keeping struct {
	Known   bool
	Stays   bool
	Why     []string // each reason to keep it, or the rules by which it goes
	Hold    string   // why somebody holds it
	Damaged int      // of its blobs
}

// Where is an environment that an artifact runs in.
type Where struct {
	Environment string
	State       Status
	Note        string
	Href        string
}

// Decision is one answer of policy.
type Decision struct {
	ID, Action string
	Allow      bool
	Rules      []Rule
	At         time.Time
}

// AuditFilter selects ledger entries.
type AuditFilter struct {
	Actor, Action, Subject string
	Before                 int64
	Open                   string // entry whose proof is shown
}

// Audit is a part of the ledger.
type Audit struct {
	Origin    string
	State     Status
	Size      int64
	Root      string
	Note      string // the signed checkpoint
	KeyID     string
	Anchor    string
	Entries   []Entry
	Filter    AuditFilter
	Older     int64 // position to go on before; 0 if there is no more
	Proof     *Proof
	ProofNote string // why there is none
}

// Entry is one leaf of the ledger.
type Entry struct {
	ID       string
	Position int64
	At       time.Time
	Actor    string
	System   bool
	Action   string
	Subject  string
	Href     string
	Kind     string
	Hash     string
}

// Proof is the inclusion proof of one entry.
type Proof struct {
	Entry    Entry
	Leaf     string // as it was hashed
	Index    int64
	TreeSize int64
	Root     string
	Hashes   []string
}
