package journal

import (
	"sync"
	"sync/atomic"
)

// tail remembers the newest facts, so that those who follow do not each read
// them: a fact never changes once it has a position, and positions have no gaps.
type tail struct {
	begun atomic.Int64 // reads, counted when they begin

	mu    sync.Mutex
	facts []Fact // contiguous by position
	end   int64  // position after which the last read found nothing, 0 if it found a full page
}

// most bounds what a tail remembers.
const most = 2 * storeFacts

// after returns the facts after a position: those that are remembered, or what
// read returns. While one follower reads, the others wait for it, and take its
// word that there is nothing if it began to read after they had asked.
func (t *tail) after(position int64, read func() ([]Fact, error)) ([]Fact, error) {
	asked := t.begun.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.facts); n > 0 && t.facts[0].Position <= position+1 && position < t.facts[n-1].Position {
		from := position + 1 - t.facts[0].Position
		return t.facts[from:min(from+storeFacts, int64(n))], nil
	}
	if t.begun.Load() > asked && t.end > 0 && position >= t.end {
		return nil, nil
	}
	t.begun.Add(1)
	t.end = 0
	facts, err := read()
	if err != nil {
		return nil, err
	}
	if len(facts) < storeFacts {
		t.end = max(position, 1)
		if n := len(facts); n > 0 {
			t.end = facts[n-1].Position
		}
	}
	if len(facts) == 0 {
		return nil, nil
	}
	switch n := len(t.facts); {
	case n > 0 && t.facts[n-1].Position+1 == facts[0].Position:
		// A copy of the list: others may hold the old one.
		t.facts = append(t.facts[min(n, max(0, n+len(facts)-most)):n:n], facts...)
	case n == 0 || t.facts[n-1].Position < facts[0].Position:
		t.facts = facts
	}
	return facts, nil
}
