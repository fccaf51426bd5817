// Package custody proves where an image comes from. It needs the registry, the
// image's digest and a trusted root, and nothing of the installation that built
// it: no account, no database, no network but the registry's.
//
// The chain holds if
//
//   - manifest, configuration and layers are the bytes that the digest names;
//   - signature, provenance, SBOM and test results are there, each signed by the
//     same workflow, timestamped, in the log;
//   - the provenance comes from the installation's own builder, and names the
//     commit and the workflow that signed;
//   - the tests passed;
//   - evidence about the commit that travels with the image holds as well.
package custody

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"weir/internal/artifact"
	"weir/internal/artifact/provenance"
	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
	"weir/internal/guard/policy"
)

// maxReferrers bounds how much of a hostile registry is read.
const maxReferrers = 1000

// Options say how to reach the registry and what else to insist on.
type Options struct {
	Token      string            // password for the registry; "" means none
	Insecure   bool              // plain HTTP, also for a host that is not local
	Transport  http.RoundTripper // nil means the default
	Repository string            // of the source, that the image must come from; "" takes any
	Ref        string            // that the image must be built from; "" takes any
	Confined   bool              // refuse a build that was not confined
	Built      bool              // refuse an image that was built elsewhere and submitted
}

// Link is one proven step of the chain.
type Link struct {
	Name     string    `json:"name"`
	Basis    string    `json:"basis,omitempty"` // of a submitted image: observed by Weir, or asserted by somebody
	Says     string    `json:"says"`
	Signer   string    `json:"signer,omitempty"`
	SignedAt time.Time `json:"signed_at,omitzero"`
	Position int64     `json:"position,omitempty"` // in the log
}

// Report is a chain that holds.
type Report struct {
	Image    string `json:"image"`
	Digest   string `json:"digest"`
	Source   string `json:"source"`
	Revision string `json:"revision"`
	Ref      string `json:"ref"`
	Workflow string `json:"workflow"`
	Version  string `json:"version"`
	Builder  string `json:"builder"`
	Confined bool   `json:"confined"`
	Network  string `json:"network"`
	// Of an image that was built elsewhere: whose word its origin is.
	Origin        string   `json:"origin,omitempty"` // observed, asserted; empty is built
	VouchedBy     string   `json:"vouched_by,omitempty"`
	SubmittedBy   string   `json:"submitted_by,omitempty"`
	SubmittedFrom string   `json:"submitted_from,omitempty"`
	Links         []Link   `json:"links"`
	Warnings      []string `json:"warnings,omitempty"`
}

// VerifyChain proves the chain of image, which is REGISTRY/REPOSITORY@sha256:...
// The error of a chain that does not hold is a fault whose sentence names the
// first link that is missing or broken.
func VerifyChain(ctx context.Context, image string, trust evidence.TrustedRoot, o Options) (Report, error) {
	v, err := newVerifier(ctx, image, trust, o)
	if err != nil {
		return Report{}, err
	}
	for _, step := range []func() error{v.bytes, v.collect, v.provenance, v.signature, v.sbom, v.tests, v.revision} {
		if err := step(); err != nil {
			return v.report, err
		}
	}
	return v.report, nil
}

func newVerifier(ctx context.Context, image string, trust evidence.TrustedRoot, o Options) (*verifier, error) {
	v := &verifier{trust: trust, options: o}
	var opts []name.Option
	if o.Insecure {
		opts = append(opts, name.Insecure)
	}
	ref, err := name.NewDigest(strings.TrimPrefix(strings.TrimPrefix(image, "https://"), "http://"), opts...)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%q does not name an image by digest; write REGISTRY/REPOSITORY@sha256:... (a tag can move, so nothing can be proven about it)", image)
	}
	v.ref, v.report = ref, Report{Image: ref.String(), Digest: ref.DigestStr()}
	v.remote = []remote.Option{remote.WithContext(ctx)}
	if o.Token != "" {
		v.remote = append(v.remote, remote.WithAuth(&authn.Basic{Username: "weir", Password: o.Token}))
	}
	if o.Transport != nil {
		v.remote = append(v.remote, remote.WithTransport(o.Transport))
	}
	return v, nil
}

type verifier struct {
	ref     name.Digest
	trust   evidence.TrustedRoot
	options Options
	remote  []remote.Option

	bundles map[string][][]byte // by the predicate type that they claim
	broken  error               // the first referrer that could not be read
	label   string              // revision that the image's configuration claims
	signer  string
	report  Report
}

// bytes fetches everything that the digest names; the client compares digests.
func (v *verifier) bytes() error {
	img, err := remote.Image(v.ref, v.remote...)
	if err != nil {
		return v.unreachable(err, "manifest")
	}
	layers, err := img.Layers()
	if err != nil {
		return v.unreachable(err, "manifest")
	}
	config, err := img.ConfigFile()
	if err != nil {
		return v.unreachable(err, "configuration")
	}
	v.label = config.Config.Labels["org.opencontainers.image.revision"]
	total := int64(0)
	for _, l := range layers {
		n, err := drain(l)
		if err != nil {
			d, _ := l.Digest()
			return v.unreachable(err, "layer "+d.String())
		}
		total += n
	}
	v.link("image", fmt.Sprintf("manifest, configuration and %d layers (%d bytes) are what the digest names", len(layers), total), evidence.Verified{})
	return nil
}

func drain(l v1.Layer) (int64, error) {
	rc, err := l.Compressed()
	if err != nil {
		return 0, err
	}
	defer rc.Close()
	return io.Copy(io.Discard, rc)
}

// unreachable tells a missing image from a damaged one.
func (v *verifier) unreachable(err error, what string) error {
	var status *transport.Error
	switch {
	case errors.As(err, &status) && status.StatusCode == http.StatusNotFound:
		return fault.Wrap(fault.NotFound, err, "the registry %s has no %s of %s", v.ref.RegistryStr(), what, v.ref)
	case errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden):
		return fault.Wrap(fault.Denied, err, "the registry %s does not let you read %s; pass a token that may", v.ref.RegistryStr(), v.ref)
	case errors.As(err, &status) && status.StatusCode >= 500:
		return fault.Wrap(fault.Unavailable, err, "the registry %s could not send the %s of %s; try again, and look at its log if it stays so", v.ref.RegistryStr(), what, v.ref)
	case strings.Contains(err.Error(), "digest"), strings.Contains(err.Error(), "checksum"), strings.Contains(err.Error(), "size"):
		return fault.Wrap(fault.Denied, err, "the %s of %s is not the bytes that its digest names: it was tampered with or damaged; do not run it", what, v.ref)
	}
	return fault.Wrap(fault.Unavailable, err, "the %s of %s could not be read from %s; is the registry's address right?", what, v.ref, v.ref.RegistryStr())
}

// collect fetches the bundles beside the image. Anybody who may push can attach
// more, so one that cannot be read only counts if what it claims to be is needed.
func (v *verifier) collect() error {
	index, err := remote.Referrers(v.ref, v.remote...)
	if err != nil {
		return v.unreachable(err, "list of evidence")
	}
	m, err := index.IndexManifest()
	if err != nil {
		return v.unreachable(err, "list of evidence")
	}
	v.bundles = map[string][][]byte{}
	for n, d := range m.Manifests {
		if n == maxReferrers {
			break
		}
		if d.ArtifactType != "" && d.ArtifactType != evidence.BundleMediaType {
			continue
		}
		raw, err := v.bundle(d)
		kind := ""
		if err == nil {
			kind, err = evidence.Peek(raw)
		}
		if err != nil {
			if v.broken == nil {
				v.broken = err
			}
			continue
		}
		v.bundles[kind] = append(v.bundles[kind], raw)
	}
	return nil
}

func (v *verifier) bundle(d v1.Descriptor) ([]byte, error) {
	img, err := remote.Image(v.ref.Context().Digest(d.Digest.String()), v.remote...)
	if err != nil {
		return nil, v.unreachable(err, "evidence "+d.Digest.String())
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		return nil, fault.New(fault.Invalid, "the evidence %s has no bundle", d.Digest)
	}
	rc, err := layers[0].Compressed()
	if err != nil {
		return nil, v.unreachable(err, "evidence "+d.Digest.String())
	}
	defer rc.Close()
	raw, err := io.ReadAll(io.LimitReader(rc, evidence.MaxBundle+1))
	if err != nil {
		return nil, v.unreachable(err, "evidence "+d.Digest.String())
	}
	return raw, nil
}

// need returns the first evidence of a kind that holds.
func (v *verifier) need(kind, called, subject string) (evidence.Verified, error) {
	want := evidence.Want{PredicateType: kind, SubjectDigest: subject, Identity: v.signer}
	if v.signer == "" {
		want.IdentityPrefix = v.trust.Issuer + "/"
	}
	var why error
	for _, raw := range v.bundles[kind] {
		got, err := evidence.Verify(raw, v.trust, want)
		if err == nil {
			return got, nil
		}
		why = err
	}
	switch {
	case why != nil:
		return evidence.Verified{}, fault.Wrap(fault.KindOf(why), why, "the %s of %s does not hold: %s", called, v.ref, fault.Sentence(why))
	case v.broken != nil:
		return evidence.Verified{}, fault.Wrap(fault.Denied, v.broken, "%s has no readable %s, and evidence beside it is broken: %s", v.ref, called, fault.Sentence(v.broken))
	}
	has := "nothing is attached to it"
	if kinds := v.kinds(); kinds != "" {
		has = "attached are only " + kinds
	}
	return evidence.Verified{}, fault.New(fault.Denied, "%s has no %s (%s); %s", v.ref, called, kind, has)
}

func (v *verifier) kinds() string {
	var all []string
	for k := range v.bundles {
		all = append(all, k)
	}
	return strings.Join(all, ", ")
}

func (v *verifier) link(name, says string, e evidence.Verified) {
	v.report.Links = append(v.report.Links, Link{name, v.basis(name), says, e.Identity, e.SignedAt, e.Index})
}

// provenance tells who signs: the workflow that it names, on the ref it names.
func (v *verifier) provenance() error {
	if len(v.bundles[evidence.CosignSignature]) == 0 { // the plainest way to be unsigned gets the plainest sentence
		if _, err := v.need(evidence.CosignSignature, "signature", v.report.Digest); err != nil {
			return err
		}
	}
	got, err := v.need(evidence.Provenance, "provenance", v.report.Digest)
	if err != nil {
		return err
	}
	var p provenance.Predicate
	if err := got.Decode(&p); err != nil {
		return err
	}
	if p.BuildDefinition.BuildType == provenance.SubmissionType {
		return v.submission(got, p)
	}
	w, deps := p.BuildDefinition.ExternalParameters.Workflow, p.BuildDefinition.ResolvedDependencies
	repository, ours := strings.CutPrefix(w.Repository, v.trust.Issuer+"/")
	switch {
	case p.BuildDefinition.BuildType != provenance.BuildType || p.RunDetails.Builder.ID != provenance.BuilderID(v.trust.Issuer):
		return v.no("the provenance names the builder %q, not %q", p.RunDetails.Builder.ID, provenance.BuilderID(v.trust.Issuer))
	case len(deps) == 0 || deps[0].Digest["gitCommit"] == "":
		return v.no("the provenance names no commit")
	case !ours || got.Identity != provenance.Signer(v.trust.Issuer, repository, w.Path, w.Ref):
		return v.no("the provenance names the workflow %s of %s at %s, but was signed by %s", w.Path, w.Repository, w.Ref, got.Identity)
	case v.label != "" && v.label != deps[0].Digest["gitCommit"]:
		return v.no("the image says that it was built from %s, its provenance says %s", v.label, deps[0].Digest["gitCommit"])
	case v.options.Repository != "" && v.options.Repository != repository:
		return v.no("it was built from the repository %s, not %s", repository, v.options.Repository)
	case v.options.Ref != "" && v.options.Ref != w.Ref:
		return v.no("it was built from %s, not %s", w.Ref, v.options.Ref)
	}
	r, in := &v.report, p.BuildDefinition.InternalParameters
	r.Source, r.Revision, r.Ref, r.Workflow = w.Repository, deps[0].Digest["gitCommit"], w.Ref, w.Path
	r.Version, r.Builder, r.Confined, r.Network = p.BuildDefinition.ExternalParameters.Version, p.RunDetails.Builder.ID, in.Confined, in.Network
	if !in.Confined {
		if v.options.Confined {
			return v.no("its build was not confined, so it could have reached the control plane")
		}
		r.Warnings = append(r.Warnings, "the build was not confined: the machine allowed --unconfined")
	}
	v.signer = got.Identity
	v.link("provenance", fmt.Sprintf("built from commit %s of %s by %s at %s, %s", r.Revision, r.Source, w.Path, w.Ref, p.RunDetails.Metadata.InvocationID), got)
	return nil
}

func (v *verifier) no(sentence string, args ...any) error {
	return fault.New(fault.Denied, "%s is not what it should be: %s", v.ref, fmt.Sprintf(sentence, args...))
}

func (v *verifier) signature() error {
	got, err := v.need(evidence.CosignSignature, "signature", v.report.Digest)
	if err != nil {
		return err
	}
	says := "signed by the workflow that built it"
	if v.submitted() {
		says = "signed by the control plane for what " + v.report.SubmittedBy + " submitted"
	}
	v.link("signature", says, got)
	return nil
}

func (v *verifier) sbom() error {
	got, err := v.need(evidence.SBOM, "SBOM", v.report.Digest)
	if err != nil {
		return err
	}
	var bom struct {
		Components []json.RawMessage `json:"components"`
	}
	if err := got.Decode(&bom); err != nil {
		return err
	}
	v.link("SBOM", fmt.Sprintf("lists %d components", len(bom.Components)), got)
	return nil
}

func (v *verifier) tests() error {
	got, err := v.need(evidence.TestResult, "test result", v.report.Digest)
	if err != nil {
		return err
	}
	var r struct {
		Result string   `json:"result"`
		Passed []string `json:"passedTests"`
		Failed []string `json:"failedTests"`
	}
	if err := got.Decode(&r); err != nil {
		return err
	}
	if r.Result != "PASSED" {
		return v.no("its tests did not pass (%s): %s", r.Result, strings.Join(r.Failed, ", "))
	}
	says := "no checks were declared"
	if len(r.Passed) > 0 {
		says = "passed: " + strings.Join(r.Passed, ", ")
	}
	if v.submitted() {
		says += " (on the commit, not on these bytes)"
	}
	v.link("tests", says, got)
	return nil
}

// revision checks what travels with the image about its commit.
func (v *verifier) revision() error {
	v.signer = "" // the control plane speaks about commits, not the workflow
	for _, k := range []struct{ kind, called, says string }{
		{evidence.Review, "review", "the commit was reviewed"},
		{evidence.Landed, "landing", "the commit landed on a protected branch"},
		{evidence.SourceSummary, "source", "the commit obeys the rules of its repository"},
	} {
		if len(v.bundles[k.kind]) == 0 {
			continue
		}
		got, err := v.need(k.kind, k.called, "gitCommit:"+v.report.Revision)
		if err != nil && v.submitted() {
			continue // the builder's own words about its own commit
		}
		if err != nil {
			return err
		}
		v.link(k.called, k.says, got)
	}
	for _, step := range []func() error{v.scan, v.admission, v.decisions, v.exceptions, v.rollouts} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// scan tells of the newest scan for vulnerabilities that holds. What is known now
// may be more.
func (v *verifier) scan() error {
	if len(v.bundles[evidence.Scan]) == 0 {
		return nil
	}
	var last evidence.Verified
	var why error
	for _, raw := range v.bundles[evidence.Scan] {
		got, err := evidence.Verify(raw, v.trust, evidence.Want{PredicateType: evidence.Scan, SubjectDigest: v.report.Digest, Identity: v.trust.Issuer + "/control-plane"})
		if err != nil {
			why = err
		} else if last.SignedAt.IsZero() || got.Index > last.Index { // timestamps are of whole seconds
			last = got
		}
	}
	if last.SignedAt.IsZero() && v.submitted() {
		return nil // a builder's own, by keys that are none of this installation's
	}
	if last.SignedAt.IsZero() {
		return fault.Wrap(fault.KindOf(why), why, "the scan of %s does not hold: %s", v.ref, fault.Sentence(why))
	}
	var p artifact.ScanPredicate
	if err := last.Decode(&p); err != nil {
		return err
	}
	v.link("scan", p.Says(), last)
	return nil
}

// exceptions tells which vulnerabilities policy let pass, and why.
func (v *verifier) exceptions() error {
	for _, raw := range v.bundles[evidence.VEX] {
		got, err := evidence.Verify(raw, v.trust, evidence.Want{PredicateType: evidence.VEX, SubjectDigest: v.report.Digest, Identity: v.trust.Issuer + "/control-plane"})
		if err != nil {
			continue // anybody may say something of vulnerabilities, and it stays theirs
		}
		var doc policy.VEX
		if err := got.Decode(&doc); err != nil {
			return err
		}
		for _, s := range doc.Statements {
			v.link("exception", fmt.Sprintf("%s: %s, %s", s.Vulnerability.Name, strings.ReplaceAll(s.Status, "_", " "), s.Impact+s.Action), got)
		}
	}
	return nil
}

// decisions tells which environments policy let it into.
func (v *verifier) decisions() error {
	for _, raw := range v.bundles[evidence.Decision] {
		got, err := evidence.Verify(raw, v.trust, evidence.Want{PredicateType: evidence.Decision, SubjectDigest: v.report.Digest, Identity: v.trust.Issuer + "/control-plane"})
		if err != nil && v.submitted() {
			continue
		}
		if err != nil {
			return fault.Wrap(fault.KindOf(err), err, "the evidence of a decision about %s does not hold: %s", v.ref, fault.Sentence(err))
		}
		var d struct {
			ID          string `json:"decision_id"`
			Environment string `json:"environment"`
			Allow       bool   `json:"allow"`
		}
		if err := got.Decode(&d); err != nil {
			return err
		}
		word := "let it into"
		if !d.Allow {
			word = "kept it out of"
		}
		v.link("decision", fmt.Sprintf("policy %s %s by the decision %s", word, d.Environment, d.ID), got)
	}
	return nil
}

// admission checks that policy admitted the image, if it says so.
func (v *verifier) admission() error {
	if len(v.bundles[evidence.Summary]) == 0 {
		return nil // it is verified on its way there, too
	}
	got, err := v.need(evidence.Summary, "admission", v.report.Digest)
	if err != nil {
		return err
	}
	var s struct {
		Result string `json:"verificationResult"`
		Policy struct {
			URI string `json:"uri"`
		} `json:"policy"`
		Levels []string `json:"verifiedLevels"`
	}
	if err := got.Decode(&s); err != nil {
		return err
	}
	switch {
	case got.Identity != v.trust.Issuer+"/control-plane":
		return v.no("its admission was signed by %s, not by the control plane", got.Identity)
	case s.Result != "PASSED":
		return v.no("policy did not admit it (%s)", s.Result)
	}
	v.link("admission", fmt.Sprintf("admitted by the decision %s as %s", path.Base(s.Policy.URI), strings.Join(s.Levels, ", ")), got)
	return nil
}

// rollouts tells what became of it. Evidence of a rollout that does not hold
// breaks the chain: somebody changed the story.
func (v *verifier) rollouts() error {
	for _, raw := range v.bundles[evidence.Rollout] {
		got, err := evidence.Verify(raw, v.trust, evidence.Want{PredicateType: evidence.Rollout, SubjectDigest: v.report.Digest, Identity: v.trust.Issuer + "/control-plane"})
		if err != nil && v.submitted() {
			continue // its builder's, who rolled it out as well
		}
		if err != nil {
			return fault.Wrap(fault.KindOf(err), err, "the evidence of a rollout of %s does not hold: %s", v.ref, fault.Sentence(err))
		}
		var r struct {
			Environment string    `json:"environment"`
			State       string    `json:"state"`
			Strategy    string    `json:"strategy"`
			Intent      string    `json:"intent"`
			By          string    `json:"by"`
			Finished    time.Time `json:"finished"`
		}
		if err := got.Decode(&r); err != nil {
			return err
		}
		v.link("rollout", fmt.Sprintf("%s in %s at %s (%s, by %s)", strings.ReplaceAll(r.State, "_", " "), r.Environment, r.Finished.UTC().Format(time.DateTime), r.Intent, r.By), got)
	}
	return nil
}
