package custody

import (
	"fmt"
	"strings"

	"weir/internal/artifact"
	"weir/internal/artifact/provenance"
	"weir/internal/guard/evidence"
)

// submitted reports an image that Weir did not build.
func (v *verifier) submitted() bool { return v.report.Origin != "" }

// Word says on whose word the origin of a submitted image rests; "" of what Weir built.
func (r Report) Word() string {
	switch r.Origin {
	case "":
		return ""
	case string(artifact.Observed):
		return "the provenance of the builder " + r.VouchedBy + " was observed"
	}
	return "it is asserted by " + r.VouchedBy
}

// submission proves who submitted an image that was built elsewhere, and says
// whose word it is: nothing here saw how it was built.
func (v *verifier) submission(got evidence.Verified, p provenance.Predicate) error {
	e, deps := p.BuildDefinition.ExternalParameters, p.BuildDefinition.ResolvedDependencies
	origin, by := p.Origin()
	repository, ours := strings.CutPrefix(e.Workflow.Repository, v.trust.Issuer+"/")
	switch {
	case !ours || e.SubmittedBy == "" || got.Identity != provenance.Submitter(v.trust.Issuer, repository, e.SubmittedBy):
		return v.no("it says that %s submitted it for %s, but that was signed by %s", e.SubmittedBy, e.Workflow.Repository, got.Identity)
	case !strings.HasSuffix(e.Image, "@"+v.report.Digest):
		return v.no("what was submitted is %s", e.Image)
	case len(deps) == 0 || deps[0].Digest["gitCommit"] == "":
		return v.no("the submission names no commit")
	case origin == artifact.Asserted && p.RunDetails.Builder.ID != v.trust.Issuer+"/asserted-by/"+e.SubmittedBy:
		return v.no("it is asserted by %s, but names the builder %q", e.SubmittedBy, p.RunDetails.Builder.ID)
	case v.options.Built:
		return v.no("Weir did not build it: %s", Report{Origin: string(origin), VouchedBy: by}.Word())
	case v.options.Confined:
		return v.no("Weir did not build it, so nobody here knows whether its build was confined")
	case v.options.Ref != "":
		return v.no("it was submitted, so no ref of this installation built it")
	case v.options.Repository != "" && v.options.Repository != repository:
		return v.no("it was submitted for the repository %s, not %s", repository, v.options.Repository)
	}
	r := &v.report
	r.Origin, r.VouchedBy, r.SubmittedBy, r.SubmittedFrom = string(origin), by, e.SubmittedBy, e.Image
	r.Source, r.Revision, r.Version, r.Builder, r.Network = e.Workflow.Repository, deps[0].Digest["gitCommit"], e.Version, p.RunDetails.Builder.ID, p.BuildDefinition.InternalParameters.Network
	v.signer = got.Identity
	for i := range r.Links { // those before this one
		r.Links[i].Basis = v.basis(r.Links[i].Name)
	}
	if v.label != "" && v.label != r.Revision && v.label != p.Commit() && !names(deps, v.label) {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the image says of itself that it was built from %s, which nothing that is signed here repeats", v.label))
	}
	says := fmt.Sprintf("%s says that %s is commit %s of %s; nobody here saw how it was built", e.SubmittedBy, e.Image, r.Revision, r.Source)
	if origin == artifact.Observed {
		says = fmt.Sprintf("a provenance of the builder %s, signed by %s, verified when %s submitted %s for commit %s of %s", by, e.Signer, e.SubmittedBy, e.Image, r.Revision, r.Source)
		for _, d := range deps[1:] {
			if c := d.Digest["gitCommit"]; c != "" {
				says += "; it names the commit " + c
			}
		}
	}
	v.link("provenance", says, got)
	return nil
}

// names reports whether a dependency is a commit.
func names(deps []provenance.Dependency, commit string) bool {
	for _, d := range deps {
		if d.Digest["gitCommit"] == commit {
			return true
		}
	}
	return false
}

// basis says on what a link of a submitted image rests: what Weir saw itself
// (observed), or what is only said to belong to it. Of what Weir built nothing
// needs to be said.
func (v *verifier) basis(link string) string {
	if !v.submitted() {
		return ""
	}
	switch link {
	case "image", "SBOM", "scan", "admission", "decision", "exception", "rollout":
		return string(artifact.Observed) // Weir looked at these very bytes
	}
	return v.report.Origin // that the commit and its tests belong to these bytes
}
