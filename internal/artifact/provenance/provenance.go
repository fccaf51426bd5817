// Package provenance says how an artifact was made: the SLSA v1 predicate. All
// of it is filled in by the control plane; a job cannot write any of it.
package provenance

import (
	"strconv"
	"strings"
	"time"
)

// BuildType names the shape of the parameters below.
const BuildType = "https://weir.dev/build/workflow/v1"

// Level is the SLSA build level that a build reached. Provenance is written and
// signed by the control plane in either case. A confined job could reach
// neither its keys nor another job: a hosted build, level 2. It is not called 3
// because jobs share the kernel of the machine that signs. What ran unconfined
// could have reached everything, so it counts as level 1.
func Level(confined bool) string {
	if confined {
		return "SLSA_BUILD_LEVEL_2"
	}
	return "SLSA_BUILD_LEVEL_1"
}

// Input is what is known of a build.
type Input struct {
	Issuer            string // of this installation
	Repository        string // URL of the source
	Ref               string
	Revision          string
	Workflow          string // path of the file
	Service           string
	Version           string
	RunID             string
	JobID             string
	Attempt           int
	Confined          bool         // the job could not reach the control plane
	Network           string       // what the job could reach: egress, none or host
	Unenforced        []string     // limits that the machine could not hold the job to
	OutputDigest      string       // of the bytes the job handed in
	Materials         []Dependency // what went in besides the revision: base images
	Started, Finished time.Time
}

// Predicate is the SLSA v1 provenance.
type Predicate struct {
	BuildDefinition struct {
		BuildType            string       `json:"buildType"`
		ExternalParameters   External     `json:"externalParameters"`
		InternalParameters   Internal     `json:"internalParameters"`
		ResolvedDependencies []Dependency `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
		Metadata struct {
			InvocationID string    `json:"invocationId"`
			StartedOn    time.Time `json:"startedOn,omitzero"`
			FinishedOn   time.Time `json:"finishedOn,omitzero"`
		} `json:"metadata"`
		Byproducts []Dependency `json:"byproducts,omitempty"`
	} `json:"runDetails"`
}

// External is what a user could choose.
type External struct {
	Workflow Workflow `json:"workflow"`
	Service  string   `json:"service"`
	Version  string   `json:"version"`
	// Of a submission only.
	Image       string `json:"image,omitempty"`
	SubmittedBy string `json:"submittedBy,omitempty"`
	Origin      string `json:"origin,omitempty"` // observed, asserted
	Signer      string `json:"signer,omitempty"` // of the builder's own provenance
}

// Workflow is the file that ran.
type Workflow struct {
	Repository string `json:"repository"`
	Path       string `json:"path"`
	Ref        string `json:"ref"`
}

// Internal is how the builder kept the job apart.
type Internal struct {
	Confined bool   `json:"confined"`
	Network  string `json:"network"`
	Attempt  int    `json:"attempt"`
	// Unenforced are limits that the machine of the job could not hold it to: memory, cpu, processes.
	Unenforced []string `json:"unenforced,omitempty"`
}

// Dependency is something that went in, or came out beside the artifact.
type Dependency struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest"`
}

// BuilderID names the embedded builder of an installation.
func BuilderID(issuer string) string { return issuer + "/builders/embedded/v1" }

// Signer is the identity that speaks for a workflow on a ref.
func Signer(issuer, repository, workflow, ref string) string {
	return issuer + "/" + repository + "/" + workflow + "@" + ref
}

// Of fills in the predicate.
func Of(in Input) Predicate {
	var p Predicate
	d := &p.BuildDefinition
	d.BuildType = BuildType
	d.ExternalParameters = External{Workflow: Workflow{in.Repository, in.Workflow, in.Ref}, Service: in.Service, Version: in.Version}
	d.InternalParameters = Internal{in.Confined, in.Network, in.Attempt, in.Unenforced}
	d.ResolvedDependencies = []Dependency{{URI: "git+" + in.Repository + "@" + in.Ref, Digest: map[string]string{"gitCommit": in.Revision}}}
	d.ResolvedDependencies = append(d.ResolvedDependencies, in.Materials...)
	r := &p.RunDetails
	r.Builder.ID = BuilderID(in.Issuer)
	r.Metadata.InvocationID = in.Issuer + "/runs/" + in.RunID + "/jobs/" + in.JobID + "/attempts/" + strconv.Itoa(in.Attempt)
	r.Metadata.StartedOn, r.Metadata.FinishedOn = in.Started.UTC().Truncate(time.Second), in.Finished.UTC().Truncate(time.Second)
	if alg, hex, ok := strings.Cut(in.OutputDigest, ":"); ok {
		r.Byproducts = []Dependency{{Name: "output", Digest: map[string]string{alg: hex}}}
	}
	return p
}

// Commit is the git revision that went in, or "".
func (p Predicate) Commit() string {
	for _, d := range p.BuildDefinition.ResolvedDependencies {
		if c := d.Digest["gitCommit"]; c != "" {
			return c
		}
	}
	return ""
}
