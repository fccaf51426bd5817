package app

import (
	"context"
	"encoding/json"
	"strings"

	"weir/internal/artifact"
	"weir/internal/artifact/provenance"
	"weir/internal/base/fault"
	"weir/internal/catalog"
	"weir/internal/deploy"
	"weir/internal/guard/evidence"
	"weir/internal/guard/identity"
	"weir/internal/guard/policy"
	"weir/internal/pipeline"
)

// admission is policy as the artifact layer asks it: it verifies each signed
// statement about the image again and lets the rules look at what held.
type admission struct{ s *System }

func (a admission) Admit(ctx context.Context, r artifact.AdmitRequest) (string, bool, []artifact.Block, error) {
	ctx = identity.With(ctx, identity.System("artifact"))
	facts := policy.Admit{Service: r.Service, Version: r.Version, Digest: r.Digest, Revision: r.Revision, RunID: r.RunID, Confined: r.Confined, AllowUnconfined: a.s.Config.Runner.Unconfined}
	_, err := a.s.source.LandingOf(ctx, r.RepositoryID, r.Revision)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return "", false, nil, err
	}
	facts.Landed = err == nil
	run, err := a.s.pipeline.Get(ctx, pipeline.RunID(r.RunID))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return "", false, nil, err
	}
	facts.RunSucceeded = err == nil && run.Trust == pipeline.Landed && run.Revision == r.Revision && run.State == pipeline.Success
	proven, err := a.s.prove(ctx, r.Digest)
	if err != nil {
		return "", false, nil, err
	}
	facts.Verified, facts.ProvenanceCommit, facts.Problems = sortedKeys(proven.types), proven.commit, proven.problems
	facts.Origin, facts.VouchedBy = proven.origin, proven.vouchedBy
	most, err := a.s.admissionLimit(ctx, r.ServiceID)
	if err != nil {
		return "", false, nil, err
	}
	if facts.Vulnerable, err = a.s.vulnerable(ctx, proven, most); err != nil {
		return "", false, nil, err
	}
	in := policy.Input{Action: policy.ActionAdmit, Subject: r.Digest, Evidence: proven.refs}
	if in.Facts, err = json.Marshal(facts); err != nil {
		return "", false, nil, err
	}
	d, err := a.s.policy.Decide(ctx, in)
	if err != nil {
		return "", false, nil, err
	}
	var blocks []artifact.Block
	for _, b := range d.Blocks() {
		blocks = append(blocks, artifact.Block{Rule: b.Rule, Message: strings.TrimSpace(b.Message), Missing: b.Missing, Who: b.Who})
	}
	return d.ID, d.Allow, blocks, nil
}

// proven is what is known of an image from evidence whose signatures held now.
type proven struct {
	refs   []policy.EvidenceRef
	types  map[string]bool // predicate types
	commit string          // that the provenance names
	// Where what the provenance says comes from, and whose word it is if Weir did not build.
	origin, vouchedBy string
	problems          []string // what did not verify, in words
	sbom              *evidence.Evidence
}

// prove verifies every signed statement about a digest again. Certificates are
// judged at the time of the timestamp, so evidence does not spoil with age.
func (s *System) prove(ctx context.Context, digest string) (proven, error) {
	p := proven{types: map[string]bool{}}
	about, err := s.evidence.About(ctx, digest)
	if err != nil {
		return p, err
	}
	for _, e := range about {
		v, err := evidence.Verify(e.Bundle, s.evidence.TrustedRoot(), evidence.Want{PredicateType: e.PredicateType, SubjectDigest: digest, IdentityPrefix: s.evidence.Issuer() + "/"})
		if err != nil {
			p.problems = append(p.problems, fault.Sentence(err))
			continue
		}
		p.types[e.PredicateType] = true
		p.refs = append(p.refs, policy.EvidenceRef{ID: e.ID, PredicateType: e.PredicateType, Subject: e.Subject, LedgerIndex: e.Index})
		if e.PredicateType == evidence.SBOM {
			p.sbom = &e
		}
		if e.PredicateType == evidence.Provenance {
			var body provenance.Predicate
			if err := v.Decode(&body); err == nil {
				p.commit = body.Commit()
				var origin artifact.Origin
				origin, p.vouchedBy = body.Origin()
				p.origin = string(origin)
			}
		}
	}
	return p, nil
}

// intact names what an image lacks to be run, or "".
func (p proven) intact() string {
	for _, need := range []struct{ predicate, name string }{{evidence.CosignSignature, "signature"}, {evidence.Provenance, "provenance"}, {evidence.SBOM, "SBOM"}} {
		if !p.types[need.predicate] {
			return strings.TrimSpace("it has no verified " + need.name + ". " + strings.Join(p.problems, " "))
		}
	}
	return ""
}

// gate is policy as the deploy layer asks it.
type gate struct{ s *System }

// Decide gathers what the rules look at, from the current trunk and from
// evidence, and asks them.
func (g gate) Decide(ctx context.Context, r deploy.GateRequest) (deploy.GateDecision, error) {
	digest := r.Release.Digest()
	known, err := g.s.prove(ctx, digest)
	if err != nil {
		return deploy.GateDecision{}, err
	}
	in := policy.Input{Subject: digest, Evidence: known.refs, Time: r.Time, Actor: r.Actor}
	var facts any
	switch r.Action {
	case deploy.ActionRun:
		in.Action = policy.ActionRun
		facts, err = g.run(ctx, r, known)
	case deploy.ActionRollback:
		in.Action = policy.ActionRollback
		facts = policy.Rollback{Service: r.Service, Environment: r.Environment, Release: string(r.Release.ID), Version: r.Release.Version, Digest: digest,
			AdmittedHere: r.AdmittedHere, RememberedBad: r.RememberedBad, Intact: known.intact() == "", Problem: known.intact(), Warnings: g.warnings(ctx, r, known)}
	case deploy.ActionStep:
		in.Action = policy.ActionStep
		facts, err = g.promote(ctx, r, known)
	default:
		in.Action = policy.ActionPromote
		facts, err = g.promote(ctx, r, known)
	}
	if err != nil {
		return deploy.GateDecision{}, err
	}
	if in.Facts, err = json.Marshal(facts); err != nil {
		return deploy.GateDecision{}, err
	}
	d, err := g.s.policy.Decide(ctx, in)
	if err != nil {
		return deploy.GateDecision{}, err
	}
	out := deploy.GateDecision{DecisionID: d.ID, Allow: d.Allow}
	for _, b := range d.Blocks() {
		out.Blocks = append(out.Blocks, deploy.Block{Rule: b.Rule, Message: b.Message, Source: b.Source, Who: b.Who})
	}
	return out, nil
}

func (g gate) promote(ctx context.Context, r deploy.GateRequest, known proven) (policy.Promote, error) {
	f := policy.Promote{Service: r.Service, Environment: r.Environment, Release: string(r.Release.ID), Version: r.Release.Version, Digest: r.Release.Digest(),
		ConfigDigest: r.Release.ConfigDigest, Revision: r.Release.Revision, Admitted: true, Verified: known.intact() == "", Problem: known.intact(),
		NeedApprovals: r.Declared.Approvals.Count, Group: r.Declared.Approvals.Group, RememberedBad: r.RememberedBad,
		Origin: known.origin, VouchedBy: known.vouchedBy, Accept: r.Declared.Accept}
	for _, a := range r.After {
		f.After = append(f.After, policy.Before{Environment: a.Environment, NeedSeconds: int64(a.Need.Seconds()), Healthy: a.Healthy, Since: a.Since})
	}
	most, err := g.limit(ctx, r)
	if err != nil {
		return f, err
	}
	if f.Vulnerable, err = g.s.vulnerable(ctx, known, most); err != nil {
		return f, err
	}
	if f.RulesFrom, err = g.s.source.Head(ctx, r.Release.RepositoryID, "main"); err != nil {
		return f, err
	}
	if f.Authors, err = g.s.authors(ctx, r.Release, r.Environment); err != nil {
		return f, err
	}
	if f.NeedApprovals == 0 {
		return f, nil
	}
	if f.Eligible, err = g.s.accounts.Approvers(ctx, f.Group); err != nil {
		return f, err
	}
	f.Approvals, err = g.s.approval.For(ctx, f.Digest, r.Environment)
	return f, err
}

// run is about what runs already.
func (g gate) run(ctx context.Context, r deploy.GateRequest, known proven) (policy.Run, error) {
	f := policy.Run{Service: r.Service, Environment: r.Environment, Release: string(r.Release.ID), Version: r.Release.Version, Digest: r.Release.Digest()}
	most, err := g.limit(ctx, r)
	if err != nil {
		return f, err
	}
	f.Vulnerable, err = g.s.vulnerable(ctx, known, most)
	return f, err
}

// limit is that of the environment, or of the service's artifacts.
func (g gate) limit(ctx context.Context, r deploy.GateRequest) (*catalog.Vulnerabilities, error) {
	if l := r.Declared.Vulnerabilities; l != nil {
		return l, nil
	}
	return g.s.admissionLimit(ctx, r.ServiceID)
}

// warnings are what a rollback is told and not stopped by. Nothing that cannot
// be found out stops it either.
func (g gate) warnings(ctx context.Context, r deploy.GateRequest, known proven) []string {
	most, err := g.limit(ctx, r)
	if err != nil {
		return nil
	}
	v, err := g.s.vulnerable(ctx, known, most)
	if err != nil || v == nil {
		return nil
	}
	if allow, says, _, _ := v.Verdict(r.Environment, r.Time); !allow {
		return []string{says}
	}
	return nil
}

// authors are the people whose approval of a release does not count: everybody
// who wrote or pushed what it would bring to the environment.
func (s *System) authors(ctx context.Context, r deploy.Release, environment string) ([]string, error) {
	env, err := s.deployRows.Environment(ctx, r.ServiceID, environment)
	if err != nil {
		return nil, err
	}
	running := ""
	if n := len(env.Ran); n > 0 {
		running = env.Ran[n-1].Spec.Revision
	}
	return s.source.Authors(ctx, r.RepositoryID, running, r.Revision)
}
