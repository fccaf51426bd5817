package deploy

import "time"

// ReleaseID names a release.
type ReleaseID string

// Release is what is promoted: artifacts and configuration of one revision. It never changes.
type Release struct {
	ID           ReleaseID  `json:"id"`
	Org          string     `json:"org"`
	ServiceID    string     `json:"service_id"`
	Service      string     `json:"service"`
	RepositoryID string     `json:"repository_id"`
	Revision     string     `json:"revision"`
	Version      string     `json:"version"`
	ConfigDigest string     `json:"config_digest"`
	Artifacts    []Artifact `json:"artifacts"`
	RunID        string     `json:"run_id"`
	Author       string     `json:"author"`
	CommitTime   time.Time  `json:"commit_time"`
	Created      time.Time  `json:"created"`
}

// Artifact is one image of a release, with where it came from.
type Artifact struct {
	Digest       string `json:"digest"`
	Image        string `json:"image"` // repository@digest
	RepositoryID string `json:"repository_id"`
	Revision     string `json:"revision"`
}

// Digest is the first artifact's, which names the release to people.
func (r Release) Digest() string {
	if len(r.Artifacts) == 0 {
		return ""
	}
	return r.Artifacts[0].Digest
}
