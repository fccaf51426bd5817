package app

import (
	"context"
	"encoding/json"
	"strings"

	"weir/internal/artifact"
	"weir/internal/artifact/provenance"
	"weir/internal/base/fault"
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
	about, err := a.s.evidence.About(ctx, r.Digest)
	if err != nil {
		return "", false, nil, err
	}
	in := policy.Input{Action: policy.ActionAdmit, Subject: r.Digest}
	verified := map[string]bool{}
	for _, e := range about {
		v, err := evidence.Verify(e.Bundle, a.s.evidence.TrustedRoot(), evidence.Want{PredicateType: e.PredicateType, SubjectDigest: r.Digest, IdentityPrefix: a.s.evidence.Issuer() + "/"})
		if err != nil {
			facts.Problems = append(facts.Problems, fault.Sentence(err))
			continue
		}
		verified[e.PredicateType] = true
		in.Evidence = append(in.Evidence, policy.EvidenceRef{ID: e.ID, PredicateType: e.PredicateType, Subject: e.Subject, LedgerIndex: e.Index})
		if e.PredicateType == evidence.Provenance {
			var p provenance.Predicate
			if err := v.Decode(&p); err == nil {
				facts.ProvenanceCommit = p.Commit()
			}
		}
	}
	facts.Verified = sortedKeys(verified)
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
