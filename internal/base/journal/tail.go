package journal

import "sync"

// tail remembers the newest facts, so that those who follow do not each read
// them: a fact never changes once it has a position, and positions have no gaps.
//
// It also remembers how many wake-ups there had been when it last read. Whoever
// asks with the same number need not read again: what came later has not woken
// anybody yet, and will.
type tail struct {
	mu    sync.Mutex
	facts []Fact // contiguous by position
	last  int64  // nothing was found after it
	full  bool   // because a page was full
	woken int64  // wake-ups before the last read of the newest facts
}

// most bounds what a tail remembers.
const most = 2 * storeFacts

// after returns the facts after a position - those that are remembered, or what
// read returns - and whether to ask for more without waiting for a wake-up.
// Woken is how many wake-ups there had been when the caller began to ask; -1 has
// it read whatever is known.
func (t *tail) after(position, woken int64, read func() ([]Fact, error)) (facts []Fact, more bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := woken >= 0 && t.woken >= woken && !t.full // that nothing follows the last one
	if n := len(t.facts); n > 0 && t.facts[0].Position <= position+1 && position < t.facts[n-1].Position {
		from := position + 1 - t.facts[0].Position
		to := min(from+storeFacts, int64(n))
		return t.facts[from:to], to < int64(n) || !known, nil
	}
	if known && position == t.last {
		return nil, false, nil
	}
	facts, err = read()
	if err != nil {
		return nil, true, err
	}
	full := len(facts) == storeFacts
	if position < t.last { // of one who lags behind
		return facts, true, nil
	}
	t.last, t.full, t.woken = position, full, max(woken, t.woken)
	if len(facts) == 0 {
		return nil, false, nil
	}
	t.last = facts[len(facts)-1].Position
	if n := len(t.facts); n > 0 && t.facts[n-1].Position == position {
		// A copy of the list: others may hold the old one.
		t.facts = append(t.facts[min(n, max(0, n+len(facts)-most)):n:n], facts...)
	} else {
		t.facts = facts
	}
	return facts, full, nil
}
