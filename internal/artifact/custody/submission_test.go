package custody

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"weir/internal/artifact"
	"weir/internal/artifact/provenance"
	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
)

func TestASubmissionSaysWhoseWordItIsAndNothingElseHolds(t *testing.T) {
	const issuer = "https://weir.test"
	digest, commit := "sha256:"+strings.Repeat("a", 64), strings.Repeat("b", 40)
	submitted := func(s artifact.Submission) provenance.Predicate {
		return provenance.OfSubmission(issuer, issuer+"/shop", "shop", "1.0.0", commit, s, time.Unix(0, 0))
	}
	asserted := artifact.Submission{Image: "ghcr.io/acme/shop@" + digest, By: "mia", Origin: artifact.Asserted}
	observed := artifact.Submission{Image: "ghcr.io/acme/shop@" + digest, By: "mia", Origin: artifact.Observed, Builder: "https://builder", Signer: "https://builder/ci", Commit: strings.Repeat("c", 40)}
	for _, c := range []struct {
		name    string
		of      artifact.Submission
		change  func(*provenance.Predicate)
		signer  string
		options Options
		want    string // of the link, or of the refusal
		holds   bool
	}{
		{"asserted", asserted, nil, "", Options{}, "mia says that ghcr.io/acme/shop@" + digest + " is commit " + commit + " of https://weir.test/shop; nobody here saw how it was built", true},
		{"observed", observed, nil, "", Options{}, "a provenance of the builder https://builder, signed by https://builder/ci, verified when mia submitted ghcr.io/acme/shop@" + digest, true},
		{"signed by another", asserted, nil, issuer + "/shop/submissions/eve", Options{}, "that was signed by https://weir.test/shop/submissions/eve", false},
		{"of another installation", asserted, func(p *provenance.Predicate) {
			p.BuildDefinition.ExternalParameters.Workflow.Repository = "https://other/shop"
		}, "", Options{}, "but that was signed by", false},
		{"of other bytes", asserted, func(p *provenance.Predicate) { p.BuildDefinition.ExternalParameters.Image = "x@sha256:0" }, "", Options{}, "what was submitted is x@sha256:0", false},
		{"without a commit", asserted, func(p *provenance.Predicate) { p.BuildDefinition.ResolvedDependencies = nil }, "", Options{}, "the submission names no commit", false},
		{"with a builder that nobody saw", asserted, func(p *provenance.Predicate) { p.RunDetails.Builder.ID = "https://builder" }, "", Options{}, `it is asserted by mia, but names the builder "https://builder"`, false},
		{"built is asked for", observed, nil, "", Options{Built: true}, "Weir did not build it: the provenance of the builder https://builder was observed", false},
		{"confined is asked for", observed, nil, "", Options{Confined: true}, "nobody here knows whether its build was confined", false},
		{"a ref is asked for", observed, nil, "", Options{Ref: "refs/heads/main"}, "no ref of this installation built it", false},
		{"another repository is asked for", observed, nil, "", Options{Repository: "other"}, "it was submitted for the repository shop, not other", false},
	} {
		ref, err := name.NewDigest("localhost/shop@" + digest)
		if err != nil {
			t.Fatal(err)
		}
		v := &verifier{ref: ref, trust: evidence.TrustedRoot{Issuer: issuer}, options: c.options, report: Report{Digest: digest}, label: "another"}
		v.link("image", "the bytes", evidence.Verified{})
		p := submitted(c.of)
		if c.change != nil {
			c.change(&p)
		}
		signer := provenance.Submitter(issuer, "shop", "mia")
		if c.signer != "" {
			signer = c.signer
		}
		err = v.submission(evidence.Verified{Statement: evidence.Statement{Identity: signer}}, p)
		if !c.holds {
			if !fault.Is(err, fault.Denied) || !strings.Contains(fault.Sentence(err), c.want) {
				t.Errorf("%s: %v; want %q", c.name, err, c.want)
			}
			continue
		}
		last := v.report.Links[len(v.report.Links)-1]
		if err != nil || !strings.Contains(last.Says, c.want) || last.Basis != string(c.of.Origin) || v.report.Links[0].Basis != "observed" || v.signer != signer || v.report.Revision != commit {
			t.Errorf("%s: %v, %+v", c.name, err, v.report)
		}
		if len(v.report.Warnings) != 1 || !strings.Contains(v.report.Warnings[0], "built from another, which nothing that is signed here repeats") {
			t.Errorf("%s: warnings %v", c.name, v.report.Warnings)
		}
	}
}
