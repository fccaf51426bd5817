package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

// LogGeneration describes one generation of the ledger's key.
type LogGeneration struct {
	Number  int       `json:"generation"`
	KeyID   string    `json:"key_id" doc:"Digest of the public key."`
	Created time.Time `json:"created,omitzero"`
	Start   int64     `json:"start" doc:"It signs checkpoints of more entries than these."`
	Next    bool      `json:"next,omitempty" doc:"It is known and does not sign yet."`
	Reason  string    `json:"reason,omitempty"`
}

func generationOf(k LogKey) LogGeneration {
	sum := sha256.Sum256(k.Public)
	return LogGeneration{Number: k.Number, KeyID: "sha256:" + hex.EncodeToString(sum[:]), Created: k.Created, Start: k.Start, Next: k.Number > 1 && k.Created.IsZero(), Reason: k.Reason}
}

// LogKeys lists the generations of the ledger's key, the first one first.
func (s *Service) LogKeys(ctx context.Context) ([]LogGeneration, error) {
	if err := identity.Check(ctx, "evidence.read", "default"); err != nil {
		return nil, err
	}
	var out []LogGeneration
	for _, k := range logKeys(s.log) {
		out = append(out, generationOf(k))
	}
	return out, nil
}

// RotateLog makes a new key for the ledger. It is first made known: the keys that are trusted now sign a trusted root that has it. Then the old key
// signs it and is removed, and the new one signs every checkpoint from the next entry on. After a crash the same key is gone on with.
func (s *Service) RotateLog(ctx context.Context, reason string) (LogGeneration, error) {
	if err := identity.Check(ctx, "keys.manage", "default"); err != nil {
		return LogGeneration{}, err
	}
	if strings.TrimSpace(reason) == "" {
		return LogGeneration{}, fault.New(fault.Invalid, "Say why the key is rotated; the reason is kept in the ledger.")
	}
	log, ok := s.log.(Rotating)
	if !ok {
		return LogGeneration{}, fault.New(fault.Invalid, "The key of this log cannot be replaced.")
	}
	s.rotating.Lock()
	defer s.rotating.Unlock()
	next, err := log.Prepare()
	if err != nil {
		return LogGeneration{}, err
	}
	if s.Share != nil {
		file, err := log.Next()
		if err != nil {
			return LogGeneration{}, fmt.Errorf("read the new log key: %w", err)
		}
		if err := s.Share(ctx, Shared{Kind: SharedLog, Number: next.Number, Private: map[string][]byte{"log.key": file}}); err != nil {
			return LogGeneration{}, err
		}
	}
	if err := s.trust(s.keys); err != nil {
		return LogGeneration{}, err
	}
	if err := s.handOn(ctx, s.keys.Current(), fmt.Sprintf("log-%d-known", next.Number), next.Number, reason); err != nil {
		return LogGeneration{}, err
	}
	if next, err = log.Switch(ctx, reason); err != nil {
		return LogGeneration{}, err
	}
	if err := s.trust(s.keys); err != nil { // now with the end of the former key
		return LogGeneration{}, err
	}
	return generationOf(next), s.handOn(ctx, s.keys.Current(), fmt.Sprintf("log-%d", next.Number), next.Number, reason)
}
