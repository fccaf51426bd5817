// Package engine signs what has landed: for each revision of a trunk, a
// statement of who landed it, from which change, reviewed and checked by whom
// and what. It follows the journal, so a crash delays a signature and loses
// none; signing again is the same signature.
package engine

import (
	"context"
	"encoding/json"
	"fmt"

	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
	"weir/internal/guard/evidence"
	"weir/internal/guard/identity"
	"weir/internal/source"
)

// Engine is a part of the process.
type Engine struct {
	DB      *db.DB
	Journal *journal.Journal
	Source  *source.Service
	Signer  source.Signer
	Holder  string
}

// Name names the part.
func (e *Engine) Name() string { return "source engine" }

// Run follows the journal until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	ctx = identity.With(ctx, identity.System("source"))
	return lease.Hold(ctx, e.DB, "source/engine", e.Holder, func(ctx context.Context, _ lease.Lease) error {
		return e.Journal.Follow(ctx, "source/engine", e.handle)
	})
}

func (e *Engine) handle(ctx context.Context, f journal.Fact) error {
	if f.Type != source.FactPushed {
		return nil
	}
	var p source.Pushed
	if err := json.Unmarshal(f.Body, &p); err != nil {
		return fmt.Errorf("decode fact: %w", err)
	}
	if !p.Landed {
		return nil
	}
	predicate := map[string]any{"repository": p.RepositoryID, "ref": p.Ref, "previous": p.Old, "actor": p.Actor, "bootstrap": p.Bootstrap, "time": p.Time}
	if p.ChangeID != "" {
		d, err := e.Source.Get(ctx, p.ChangeID)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		type review struct {
			By      string `json:"by"`
			Verdict string `json:"verdict"`
		}
		var reviews []review
		for _, r := range d.Reviews {
			if r.Revision == p.New {
				reviews = append(reviews, review{r.By, r.Verdict})
			}
		}
		predicate["change"] = map[string]any{"id": d.Change.ID, "number": d.Change.Number, "author": d.Change.Author, "base": d.Change.Base, "reviews": reviews}
	}
	_, err := e.Signer.Sign(ctx, evidence.Statement{PredicateType: evidence.Landed, Key: p.Ref, Subjects: []evidence.Subject{evidence.Commit(p.Repository, p.New)}, Predicate: predicate})
	return err
}
