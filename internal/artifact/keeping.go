package artifact

import (
	"context"
	"time"
)

// RepositoryUse is a repository of the registry and what it takes.
type RepositoryUse struct {
	Name      string
	Manifests int
	Tags      int
	Releases  int
	Bytes     int64
	Quota     int64 // 0 is no limit
	Own       bool  // the quota was set for this repository
	Holds     int
	Damaged   int
	Changed   time.Time // when a manifest was last pushed
}

// Kept is a manifest with what retention says of it.
type Kept struct {
	Stored
	Verdict
	Hold    string // why somebody holds it, "" if nobody does
	Damaged []string
}

// Collected is what retention has removed, or with Dry would.
type Collected struct {
	Dry     bool
	Kept    int
	Gone    []Removed
	Changed []Removed // were wanted again before they could go
	// Blobs that no manifest names any more, and their bytes. They are freed within hours of going.
	Blobs int
	Bytes int64
}

// Removed is a manifest that retention removes.
type Removed struct {
	Repository string
	Digest     string
	Kind       string
	Tags       []string
	Release    string
	Size       int64
	Why        string
	With       string // the manifest that it goes with, "" if it stands for itself
}

// Damage is stored bytes that are not what they were.
type Damage struct {
	Stored       string
	Why          string
	Found        time.Time
	Images       []DamagedImage
	Environments []string // in which one of the images runs or could run again: "it runs in production of checkout"
}

// DamagedImage is an image, or something about one, that has damaged bytes.
type DamagedImage struct {
	Repository string
	Digest     string
	Tags       []string
	Release    string
}

// ScrubState is how far the reading of all bytes is.
type ScrubState struct {
	Running  bool
	Started  time.Time
	Checked  int64 // blobs
	Bytes    int64
	Total    int64     // blobs there are now
	Finished time.Time // of the last whole one
	Last     ScrubSummary
	Asked    time.Time
	Damage   []Damage
}

// ScrubSummary is what a whole reading has found.
type ScrubSummary struct {
	Checked int64 `json:"checked"`
	Bytes   int64 `json:"bytes"`
	Damaged int64 `json:"damaged"`
	Seconds int64 `json:"seconds"`
}

// Custodian looks after what the registry holds. Each method asks whether the actor in ctx may.
type Custodian interface {
	Repositories(ctx context.Context) ([]RepositoryUse, error)
	// Contents says of every manifest of a repository whether it stays, and why.
	Contents(ctx context.Context, repository string) ([]Kept, error)
	// Collect removes from a repository, from all if it is "", what no rule and no pin keeps; with dry it only says what would go.
	Collect(ctx context.Context, repository string, dry bool) (Collected, error)
	// Hold keeps a manifest, named by tag or digest, whatever the rules say, until Release.
	Hold(ctx context.Context, repository, reference, reason string) (digest string, err error)
	ReleaseHold(ctx context.Context, repository, reference, reason string) (digest string, err error)
	// SetQuota limits a repository; 0 gives it the server's default again.
	SetQuota(ctx context.Context, repository string, bytes int64) (RepositoryUse, error)
	// Scrub tells how the reading of all bytes goes; with start one begins now.
	Scrub(ctx context.Context, start bool) (ScrubState, error)
}
