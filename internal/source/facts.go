package source

import "time"

// Facts that this layer announces.
const (
	FactPushed        = "source.pushed"
	FactChangeUpdated = "source.change_updated"
	FactReviewed      = "source.reviewed"
	FactChangeEnded   = "source.change_ended"
)

// Pushed says that a ref has moved. Landed means that the trunk moved, by a
// landing or, if Bootstrap is set, by the first push to an empty repository.
type Pushed struct {
	RepositoryID string    `json:"repository_id"`
	Repository   string    `json:"repository"`
	Ref          string    `json:"ref"`
	Old          string    `json:"old"` // "" for a new ref
	New          string    `json:"new"` // "" for a deleted one
	Actor        string    `json:"actor"`
	Landed       bool      `json:"landed"`
	Bootstrap    bool      `json:"bootstrap"`
	ChangeID     string    `json:"change_id"`
	Time         time.Time `json:"time"`
}

// ChangeUpdated says that a change has a new patchset.
type ChangeUpdated struct {
	RepositoryID string    `json:"repository_id"`
	Repository   string    `json:"repository"`
	ChangeID     string    `json:"change_id"`
	Number       int64     `json:"number"`
	Target       string    `json:"target"` // branch
	Base         string    `json:"base"`   // revision of the target, whose rules and workflows guard the change
	Revision     string    `json:"revision"`
	Patchset     int       `json:"patchset"`
	Author       string    `json:"author"`
	Time         time.Time `json:"time"`
}

// Reviewed says that somebody has had their word.
type Reviewed struct {
	ChangeID string `json:"change_id"`
	Revision string `json:"revision"`
	By       string `json:"by"`
	Verdict  string `json:"verdict"`
}
