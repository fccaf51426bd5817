package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/layout"
	"weir/internal/artifact/provenance"
	"weir/internal/artifact/sbom"
	"weir/internal/guard/evidence"
	"weir/internal/pipeline"
)

// statements is how many kinds of evidence every image gets before policy looks.
const statements = 5

// maxAbout bounds how much evidence about the revision travels with an image.
const maxAbout = 100

// sign makes the evidence about the image and pushes it beside the image. It
// waits until the checks of the revision have ended: what is signed about them
// is signed once.
func (e *Engine) sign(ctx context.Context, i artifact.Intake) (outcome, error) {
	checks, err := e.Checks.Results(ctx, i.Output.RepositoryID, i.Output.Revision)
	if err != nil {
		return outcome{}, fmt.Errorf("read checks of %s: %w", i.Output.Revision, err)
	}
	if names := unfinished(checks); len(names) > 0 {
		return outcome{}, waiting{sentence: "waits for the checks " + strings.Join(names, ", "), soon: true}
	}
	s, _, err := e.spec(ctx, i)
	if err != nil {
		return outcome{}, err
	}
	proof, err := e.provenance(ctx, i, s)
	if err != nil {
		return outcome{}, err
	}
	list, err := e.sbom(ctx, i, s)
	if err != nil {
		return outcome{}, err
	}
	bom, err := list.CycloneDX()
	if err != nil {
		return outcome{}, err
	}
	spdx, err := list.SPDX()
	if err != nil {
		return outcome{}, err
	}
	predicates := [statements]struct {
		kind string
		body any
	}{
		{evidence.CosignSignature, struct{}{}},
		{evidence.Provenance, proof},
		{evidence.SBOM, bom},
		{evidence.SPDX, spdx},
		{evidence.TestResult, results(checks, e.source(s), i.Output.Revision)},
	}
	var (
		wg   sync.WaitGroup
		made [statements]evidence.Evidence
		errs [statements]error
	)
	for n, p := range predicates { // at once, because each waits for the ledger
		wg.Go(func() {
			made[n], errs[n] = e.Signer.Sign(ctx, evidence.Statement{Org: i.Org, Key: string(i.ID), Identity: i.Progress.Signer, PredicateType: p.kind,
				Subjects: []evidence.Subject{evidence.SHA256(i.Progress.Repository, i.Progress.Digest)}, Predicate: p.body})
		})
	}
	wg.Wait()
	next := i.Progress
	next.Evidence = nil
	for n, ev := range made {
		if errs[n] != nil {
			return outcome{}, fmt.Errorf("sign %s: %w", predicates[n].kind, errs[n])
		}
		digest, err := artifact.Attach(ctx, e.Images, i.Progress.Repository, i.Image(), ev)
		if err != nil {
			return outcome{}, fmt.Errorf("attach %s: %w", ev.PredicateType, err)
		}
		next.Evidence = append(next.Evidence, artifact.Attached{EvidenceID: ev.ID, PredicateType: ev.PredicateType, Digest: digest, LedgerIndex: ev.Index})
	}
	ev, signed, err := e.Signer.SignBare(ctx, evidence.Statement{Org: i.Org, Key: string(i.ID), PredicateType: evidence.CosignSignature,
		Subjects: []evidence.Subject{evidence.SHA256(i.Progress.Repository, i.Progress.Digest)}, Predicate: struct{}{}})
	if err != nil {
		return outcome{}, fmt.Errorf("sign with the image key: %w", err)
	}
	if signed {
		if _, err := artifact.Attach(ctx, e.Images, i.Progress.Repository, i.Image(), ev); err != nil {
			return outcome{}, fmt.Errorf("attach the image key's signature: %w", err)
		}
	}
	about, err := e.Signer.About(ctx, "gitCommit:"+i.Output.Revision)
	if err != nil {
		return outcome{}, fmt.Errorf("find evidence about %s: %w", i.Output.Revision, err)
	}
	for _, ev := range about[:min(len(about), maxAbout)] { // so that reviews can be verified with the image alone
		if _, err := artifact.Attach(ctx, e.Images, i.Progress.Repository, i.Image(), ev); err != nil {
			return outcome{}, fmt.Errorf("attach %s: %w", ev.PredicateType, err)
		}
	}
	return outcome{next: artifact.Signed, progress: next}, nil
}

func unfinished(checks []pipeline.Check) (names []string) {
	for _, c := range checks {
		if !pipeline.State(c.State).Done() {
			names = append(names, c.Name)
		}
	}
	return names
}

func (e *Engine) sbom(ctx context.Context, i artifact.Intake, s artifact.Spec) (*sbom.Document, error) {
	rc, _, err := e.Bytes.Open(ctx, i.Stored)
	if err != nil {
		return nil, fmt.Errorf("open output %s: %w", i.Stored, err)
	}
	defer rc.Close()
	about := sbom.Subject{Name: s.Service, Version: i.Output.Version, Digest: i.Progress.Digest, Created: i.Progress.CommitTime}
	for _, m := range i.Output.Materials {
		about.Bases = append(about.Bases, sbom.Base{Name: m.URI, Digest: m.Digest})
	}
	if s.HandsImage() {
		l, err := layout.Open(s.Service, rc)
		if err != nil {
			return nil, err
		}
		return sbom.FromLayout(about, l, e.temporary(), e.modules(i))
	}
	if s.Node != "" {
		return sbom.FromTree(about, rc, e.temporary())
	}
	if s.Static != "" {
		return sbom.FromFiles(about, rc)
	}
	return sbom.FromGo(about, seekReader{rc}, e.modules(i))
}

// modules is where the licences of Go modules are found.
func (e *Engine) modules(i artifact.Intake) *sbom.Modules {
	if e.ModuleCaches == nil {
		return nil
	}
	return &sbom.Modules{Caches: e.ModuleCaches(i.Output.RepositoryID)}
}

func (e *Engine) provenance(ctx context.Context, i artifact.Intake, s artifact.Spec) (provenance.Predicate, error) {
	o := i.Output
	if sub := i.Progress.Submission; sub != nil {
		return provenance.OfSubmission(e.Signer.Issuer(), e.source(s), o.Service, o.Version, o.Revision, *sub, i.Created), nil
	}
	run, err := e.Runs.Run(ctx, o.RunID)
	if err != nil {
		return provenance.Predicate{}, fmt.Errorf("load run %s: %w", o.RunID, err)
	}
	var materials []provenance.Dependency
	for _, m := range o.Materials {
		if alg, hex, ok := strings.Cut(m.Digest, ":"); ok {
			materials = append(materials, provenance.Dependency{URI: m.URI + "@" + m.Digest, Digest: map[string]string{alg: hex}})
		}
	}
	materials = append(append(materials, containers(run)...), actions(run)...)
	return provenance.Of(provenance.Input{
		Issuer: e.Signer.Issuer(), Repository: e.source(s), Ref: run.Ref, Revision: o.Revision, Workflow: run.Workflow, Service: o.Service, Version: o.Version,
		RunID: string(o.RunID), JobID: string(o.JobID), Attempt: o.Attempt, Confined: o.Confined, Network: o.Network, Unenforced: o.Unenforced, OutputDigest: string(i.Stored), Materials: materials,
		Started: o.Started, Finished: o.Finished,
	}), nil
}

// containers are the images that jobs of the run were made of, services included: what they made or said went into the release.
func containers(run pipeline.Run) (all []provenance.Dependency) {
	seen := map[string]bool{}
	for i := range run.Jobs {
		a := run.Jobs[i].Current()
		if a == nil || a.State != pipeline.Success {
			continue
		}
		for _, img := range a.Images {
			alg, hex, ok := strings.Cut(img.Digest, ":")
			uri := "oci://weir/" + img.Name + "@" + img.Digest
			if !ok || seen[uri] || strings.Contains(img.Name, " ") { // one that was built for the job is no dependency by name
				continue
			}
			if seen[uri] = true; strings.Contains(img.Name, "@") {
				uri = "oci://weir/" + img.Name
			}
			all = append(all, provenance.Dependency{Name: img.Use, URI: uri, Digest: map[string]string{alg: hex}})
		}
	}
	return all
}

// actions are the commits of other repositories whose actions and workflows the run was made of.
func actions(run pipeline.Run) (all []provenance.Dependency) {
	seen := map[string]bool{}
	for _, uses := range slices.Sorted(maps.Keys(run.Plan.Actions)) {
		to := run.Plan.Actions[uses]
		name, revision, ok := strings.Cut(to, "@")
		if !ok || seen[to] {
			continue
		}
		seen[to] = true
		all = append(all, provenance.Dependency{Name: "uses " + uses, URI: "git+mirror://" + name + "@" + revision, Digest: map[string]string{"gitCommit": revision}})
	}
	return all
}

// TestResults is in-toto's test-result predicate, v0.1.
type TestResults struct {
	Result        string                  `json:"result"` // PASSED, WARNED, FAILED
	Configuration []provenance.Dependency `json:"configuration"`
	Passed        []string                `json:"passedTests"`
	Warned        []string                `json:"warnedTests"` // skipped
	Failed        []string                `json:"failedTests"`
}

func results(checks []pipeline.Check, source, revision string) TestResults {
	r := TestResults{Result: "PASSED", Passed: []string{}, Warned: []string{}, Failed: []string{},
		Configuration: []provenance.Dependency{{URI: "git+" + source, Digest: map[string]string{"gitCommit": revision}}}}
	for _, c := range checks {
		switch pipeline.State(c.State) {
		case pipeline.Success:
			r.Passed = append(r.Passed, c.Name)
		case pipeline.Skipped:
			r.Warned = append(r.Warned, c.Name)
		default:
			r.Result = "FAILED"
			r.Failed = append(r.Failed, c.Name)
		}
	}
	for _, names := range [][]string{r.Passed, r.Warned, r.Failed} {
		slices.Sort(names)
	}
	return r
}

// VerificationSummary is SLSA's verification summary, v1: that policy looked at
// the evidence, and when.
type VerificationSummary struct {
	Verifier           map[string]string       `json:"verifier"`
	TimeVerified       string                  `json:"timeVerified"`
	ResourceURI        string                  `json:"resourceUri"`
	Policy             map[string]string       `json:"policy"`
	InputAttestations  []provenance.Dependency `json:"inputAttestations"`
	VerificationResult string                  `json:"verificationResult"` // PASSED
	VerifiedLevels     []string                `json:"verifiedLevels"`
	SLSAVersion        string                  `json:"slsaVersion"`
}

// level is the SLSA build level that is known to hold. Of what was built
// elsewhere none is.
func level(i artifact.Intake) string {
	if i.Progress.Submission != nil {
		return "SLSA_BUILD_LEVEL_0"
	}
	return provenance.Level(i.Output.Confined)
}

// summarise signs that policy admitted the image, by which decision and from
// which evidence, and pushes that beside the image.
func (e *Engine) summarise(ctx context.Context, i artifact.Intake) error {
	s := VerificationSummary{
		Verifier: map[string]string{"id": e.Signer.Issuer() + "/control-plane"}, TimeVerified: time.Now().UTC().Format(time.RFC3339),
		ResourceURI: i.Progress.Repository + "@" + i.Progress.Digest, Policy: map[string]string{"uri": e.Signer.Issuer() + "/decisions/" + i.Progress.DecisionID},
		InputAttestations: []provenance.Dependency{}, VerificationResult: "PASSED", VerifiedLevels: []string{level(i)}, SLSAVersion: "1.1",
	}
	for _, a := range i.Progress.Evidence {
		s.InputAttestations = append(s.InputAttestations, provenance.Dependency{URI: a.PredicateType, Digest: map[string]string{"sha256": strings.TrimPrefix(a.Digest, "sha256:")}})
	}
	ev, err := e.Signer.Sign(ctx, evidence.Statement{Org: i.Org, Key: string(i.ID), PredicateType: evidence.Summary,
		Subjects: []evidence.Subject{evidence.SHA256(i.Progress.Repository, i.Progress.Digest)}, Predicate: s})
	if err != nil {
		return fmt.Errorf("sign the admission of %s: %w", i.Progress.Digest, err)
	}
	if _, err := artifact.Attach(ctx, e.Images, i.Progress.Repository, i.Image(), ev); err != nil {
		return fmt.Errorf("attach the admission of %s: %w", i.Progress.Digest, err)
	}
	return nil
}
