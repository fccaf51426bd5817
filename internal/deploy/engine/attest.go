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

// attest signs how a rollout ended: a statement about the image, that travels
// with it. A fact that comes again signs nothing twice, because the rollout is
// the statement's key.
func (e *Engine) attest(ctx context.Context, f journal.Fact) error {
	if f.Type != deploy.FactRolloutFinished {
		return nil
	}
	var r deploy.RolloutFact
	if err := json.Unmarshal(f.Body, &r); err != nil || r.Digest == "" {
		slog.ErrorContext(ctx, "fact not understood", "fact", f.ID, "type", f.Type, "error", err)
		return nil
	}
	err := e.Attest(ctx, evidence.Statement{Org: f.Org, Key: string(r.RolloutID), PredicateType: evidence.Rollout,
		Subjects: []evidence.Subject{evidence.SHA256(r.Service, r.Digest)}, Predicate: r})
	if fault.Is(err, fault.NotFound) { // the image is gone; there is nothing to keep it beside
		slog.WarnContext(ctx, "rollout not attested", "rollout", r.RolloutID, "error", err)
		return nil
	}
	return err
}
