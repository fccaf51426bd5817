package app

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"weir/internal/base/part"
	"weir/internal/guard/evidence"
	"weir/internal/guard/identity"
	"weir/internal/guard/secret"
)

// shareKeys lets the servers of one installation have the same signing keys, where there can be several: with a database that is not a file.
func (s *System) shareKeys() {
	if !strings.HasPrefix(s.Config.Database, "postgres") {
		return
	}
	s.evidence.Share = s.secrets.Share
	s.add(part.Func("keys", func(ctx context.Context) error {
		ctx = identity.With(ctx, identity.System("keys"))
		if err := s.evidence.ShareAll(ctx); err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, "signing keys not shared with other servers", "error", err)
		}
		woken, cancel := s.db.Subscribe(secret.SharedTopic)
		defer cancel()
		said := ""
		for {
			if err := s.receiveKeys(ctx); err != nil && ctx.Err() == nil && err.Error() != said {
				said = err.Error()
				slog.ErrorContext(ctx, "signing keys of another server not taken", "error", err)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-woken:
			case <-time.After(5 * time.Second):
			}
		}
	}))
}

// receiveKeys takes what other servers have shared.
func (s *System) receiveKeys(ctx context.Context) error {
	all, err := s.secrets.Shared(ctx)
	if err != nil {
		return err
	}
	for _, x := range all {
		if x.Kind == evidence.SharedLog && len(x.Private["log.key"]) > 0 {
			if err := s.ledger.Install(x.Number, x.Private["log.key"]); err != nil {
				return err
			}
		}
	}
	if _, err := s.ledger.Head(ctx); err != nil { // follows the ledger's key
		return err
	}
	return s.evidence.Receive(ctx, all)
}
