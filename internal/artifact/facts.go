package artifact

import (
	"encoding/json"
	"time"

	"weir/internal/base/journal"
)

// The facts of the artifact layer.
const (
	FactReceived = "artifact.received"
	FactAdmitted = "artifact.admitted"
	FactRejected = "artifact.rejected"
	// FactAdvisories says that more is known of published vulnerabilities.
	FactAdvisories = "vulnerability.imported"
)

// AdmittedFact is the body of artifact.admitted, version 1. Its subject is the artifact.
type AdmittedFact struct {
	ArtifactID   string    `json:"artifact_id"`
	ServiceID    string    `json:"service_id"`
	Service      string    `json:"service"`
	RepositoryID string    `json:"repository_id"`
	Revision     string    `json:"revision"`
	Version      string    `json:"version"`
	Tag          string    `json:"tag"`
	Image        string    `json:"image"` // repository@digest
	Digest       string    `json:"digest"`
	RunID        string    `json:"run_id"`
	Author       string    `json:"author"`
	CommitTime   time.Time `json:"commit_time"`
	ConfigDigest string    `json:"config_digest"`
	DecisionID   string    `json:"decision_id"`
}

// IntakeFact is the body of artifact.received and artifact.rejected, version 1.
// Its subject is the intake.
type IntakeFact struct {
	ServiceID    string `json:"service_id"`
	Service      string `json:"service"`
	RepositoryID string `json:"repository_id"`
	Revision     string `json:"revision"`
	Version      string `json:"version"`
	RunID        string `json:"run_id"`
	Reason       string `json:"reason,omitempty"`
}

func (a Artifact) fact() AdmittedFact {
	return AdmittedFact{string(a.ID), a.ServiceID, a.Service, a.RepositoryID, a.Revision, a.Version, a.Tag, a.Image(), a.Digest, a.RunID,
		a.Author, a.CommitTime, a.ConfigDigest, a.DecisionID}
}

// Announce is the fact that a exists.
func (a Artifact) Announce() journal.Fact {
	return fact(FactAdmitted, a.Org, string(a.ID), a.fact(), a.Created)
}

// Announce is a fact about i, with a reason when it ended badly.
func (i Intake) Announce(kind, reason string) journal.Fact {
	o := i.Output
	return fact(kind, i.Org, string(i.ID), IntakeFact{o.ServiceID, o.Service, o.RepositoryID, o.Revision, o.Version, string(o.RunID), reason}, i.Updated)
}

func fact(kind, org, subject string, body any, at time.Time) journal.Fact {
	raw, err := json.Marshal(body)
	if err != nil {
		panic(err) // plain structs of strings and times
	}
	return journal.Fact{Org: org, Type: kind, Version: 1, Subject: subject, Body: raw, Time: at}
}

// AdvisoriesFact is the body of vulnerability.imported, version 1. Its subject is
// the digest of what was imported.
type AdvisoriesFact struct {
	Source     string   `json:"source"`
	Ecosystems []string `json:"ecosystems"`
	Advisories int64    `json:"advisories"`
}

// AdvisoriesImported is the fact that advisories were imported.
func AdvisoriesImported(digest, source string, ecosystems []string, n int64, at time.Time) journal.Fact {
	return fact(FactAdvisories, "default", digest, AdvisoriesFact{source, ecosystems, n}, at)
}
