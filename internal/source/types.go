package source

import (
	"regexp"
	"strings"
	"time"
)

// States of a change.
const (
	Open      = "open"
	Landed    = "landed"
	Abandoned = "abandoned"
)

// ZeroRevision stands for "no revision" on the wire.
const ZeroRevision = "0000000000000000000000000000000000000000"

// Change is a proposed merge ("pull request" to GitHub).
type Change struct {
	ID           string    `json:"id"`
	Org          string    `json:"org"`
	RepositoryID string    `json:"repository_id"`
	Number       int64     `json:"number"`
	Title        string    `json:"title"`
	Target       string    `json:"target"` // branch
	Branch       string    `json:"branch"`
	State        string    `json:"state"`
	Author       string    `json:"author"`
	Patchset     int       `json:"patchset"`
	Revision     string    `json:"revision"` // of the newest patchset
	Base         string    `json:"base"`     // target's head when that was pushed
	Created      time.Time `json:"created"`
	Ended        time.Time `json:"ended,omitzero"`
}

// Patchset is one pushed version of a change; it never changes.
type Patchset struct {
	N        int       `json:"n"`
	Revision string    `json:"revision"`
	Base     string    `json:"base"`
	Pusher   string    `json:"pusher"`
	Time     time.Time `json:"time"`
}

// Review is one person's word on one revision.
type Review struct {
	ID       string    `json:"id"`
	Revision string    `json:"revision"`
	By       string    `json:"by"`
	Verdict  string    `json:"verdict"`
	Comment  string    `json:"comment"`
	Time     time.Time `json:"time"`
}

// Check is a named result on a revision.
type Check struct {
	RepositoryID string    `json:"repository_id"`
	Revision     string    `json:"revision"`
	Name         string    `json:"name"` // "ci.yml/test"
	Base         string    `json:"base"` // whose workflows it ran under, for a change; "" for a landed revision
	State        string    `json:"state"`
	RunID        string    `json:"run_id"`
	JobID        string    `json:"job_id"`
	Summary      string    `json:"summary"`
	Time         time.Time `json:"time"`
}

// Ref is a name for a revision.
type Ref struct {
	Name     string    `json:"name"` // "refs/heads/main"
	Revision string    `json:"revision"`
	Time     time.Time `json:"time"`
}

// RefUpdate is one move of a ref.
type RefUpdate struct {
	Name     string    `json:"name"`
	Old      string    `json:"old"`
	New      string    `json:"new"`
	Actor    string    `json:"actor"`
	Landed   bool      `json:"landed"` // the trunk moved, by a landing or the bootstrap
	ChangeID string    `json:"change_id"`
	Time     time.Time `json:"time"`
}

// Pack is a set of git objects in the blob store.
type Pack struct {
	Digest string
	Size   int64
}

var (
	revisionRe = regexp.MustCompile(`^[0-9a-f]{40}$`)
	branchRe   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$`)
)

// maxName bounds the name of a ref; each part of it becomes a file name.
const maxName = 200

// validName reports whether a branch or tag may have this name. Whatever git
// itself would not write to disk must be refused here: rows are written first.
func validName(name string) bool {
	if len(name) > maxName || !branchRe.MatchString(name) || strings.Contains(name, "..") {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasSuffix(part, ".") || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return true
}

// ValidRevision reports whether s is a full revision.
func ValidRevision(s string) bool { return revisionRe.MatchString(s) }
