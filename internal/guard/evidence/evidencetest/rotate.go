package evidencetest

import (
	"context"
	"testing"
	"time"

	"weir/internal/guard/evidence"
)

// Rotating returns a log whose key can be replaced: by that of next, which is a log of its own only for its key.
func Rotating(t testing.TB) evidence.Rotating {
	t.Helper()
	return &rotating{Log: NewLog(t), next: NewLog(t)}
}

type rotating struct {
	*Log
	next *Log
	was  []evidence.LogKey
	made time.Time
}

func (r *rotating) Prepare() (evidence.LogKey, error) {
	r.was = []evidence.LogKey{{Number: 1, Public: r.public}}
	return evidence.LogKey{Number: 2, Public: r.next.public}, nil
}

func (r *rotating) Next() ([]byte, error) { return []byte("in memory"), nil }

func (r *rotating) Switch(_ context.Context, reason string) (evidence.LogKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.public, r.signer, r.made = r.next.public, r.next.signer, time.Now()
	return evidence.LogKey{Number: 2, Public: r.public, Created: r.made, Start: r.size, Reason: reason}, nil
}

func (r *rotating) Keys() []evidence.LogKey {
	if r.was == nil {
		return []evidence.LogKey{{Number: 1, Public: r.public}}
	}
	return append(r.was[:1:1], evidence.LogKey{Number: 2, Public: r.next.public, Created: r.made})
}
