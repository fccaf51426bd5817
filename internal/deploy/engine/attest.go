package engine

import (
	"context"
	"encoding/json"
	"log/slog"

	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/deploy"
	"weir/internal/guard/evidence"
)

// attest signs how a rollout ended, and by which decision a release was let into
// an environment: statements about the image, that travel with it. A fact that
// comes again signs nothing twice, because the rollout or the decision is the
// statement's key.
func (e *Engine) attest(ctx context.Context, f journal.Fact) error {
	var all []evidence.Statement
	switch f.Type {
	case deploy.FactRolloutFinished:
		var r deploy.RolloutFact
		if err := json.Unmarshal(f.Body, &r); err != nil || r.Digest == "" {
			slog.ErrorContext(ctx, "fact not understood", "fact", f.ID, "type", f.Type, "error", err)
			return nil
		}
		all = []evidence.Statement{{Key: string(r.RolloutID), PredicateType: evidence.Rollout, Predicate: r, Subjects: []evidence.Subject{evidence.SHA256(r.Service, r.Digest)}}}
	case deploy.FactPromotionAllowed:
		var r deploy.ReleaseFact
		if err := json.Unmarshal(f.Body, &r); err != nil || r.Digest == "" || r.DecisionID == "" || e.Decided == nil {
			return nil
		}
		var err error
		if all, err = e.Decided(ctx, r); fault.Is(err, fault.NotFound) || fault.Is(err, fault.Conflict) { // there is nothing to be signed, now or later
			slog.WarnContext(ctx, "decision not attested", "decision", r.DecisionID, "error", err)
			return nil
		} else if err != nil {
			return err
		}
	}
	for _, st := range all {
		st.Org = f.Org
		err := e.Attest(ctx, st)
		if fault.Is(err, fault.NotFound) { // the image is gone; there is nothing to keep it beside
			slog.WarnContext(ctx, "image not attested", "predicate", st.PredicateType, "key", st.Key, "error", err)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
