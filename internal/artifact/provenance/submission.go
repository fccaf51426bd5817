package provenance

import (
	"strings"
	"time"

	"weir/internal/artifact"
)

// SubmissionType names the provenance of an image that Weir did not build. It
// says who says so, and nothing that Weir has not seen.
const SubmissionType = "https://weir.dev/build/submission/v1"

// Submitter is the identity that speaks for what somebody submitted.
func Submitter(issuer, repository, by string) string {
	return issuer + "/" + repository + "/submissions/" + by
}

// OfSubmission is the provenance of a submitted image. Its builder is the one that
// signed, if that was observed, and whoever submitted it if not.
func OfSubmission(issuer, repository, service, version, revision string, s artifact.Submission, at time.Time) Predicate {
	var p Predicate
	d := &p.BuildDefinition
	d.BuildType = SubmissionType
	d.ExternalParameters = External{Workflow: Workflow{Repository: repository}, Service: service, Version: version, Image: s.Image, SubmittedBy: s.By, Origin: string(s.Origin), Signer: s.Signer}
	d.InternalParameters = Internal{Network: "unknown"}
	_, digest, _ := strings.Cut(s.Image, "@sha256:")
	d.ResolvedDependencies = []Dependency{{URI: "git+" + repository, Digest: map[string]string{"gitCommit": revision}}, {URI: "oci://" + s.Image, Digest: map[string]string{"sha256": digest}}}
	if s.Commit != "" && s.Commit != revision {
		d.ResolvedDependencies = append(d.ResolvedDependencies, Dependency{Name: "source, as the builder says", Digest: map[string]string{"gitCommit": s.Commit}})
	}
	p.RunDetails.Builder.ID = s.Builder
	if s.Origin != artifact.Observed {
		p.RunDetails.Builder.ID = issuer + "/asserted-by/" + s.By
	}
	p.RunDetails.Metadata.FinishedOn = at.UTC().Truncate(time.Second)
	return p
}

// Origin says where what a provenance says comes from, and who vouches for it.
func (p Predicate) Origin() (artifact.Origin, string) {
	e := p.BuildDefinition.ExternalParameters
	switch {
	case p.BuildDefinition.BuildType != SubmissionType:
		return artifact.Built, ""
	case e.Origin == string(artifact.Observed):
		return artifact.Observed, p.RunDetails.Builder.ID
	}
	return artifact.Asserted, e.SubmittedBy
}
