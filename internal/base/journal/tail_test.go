package journal

import (
	"math/rand/v2"
	"sync"
	"testing"
)

// A log that grows, read by many through one tail: each sees every fact once, in
// order, and whoever asks after a fact was there is never told that it is not.
func TestManyReadersOfATailMissNothingAndReadLittle(t *testing.T) {
	const all, readers = 5000, 8
	var (
		bin   tail
		mu    sync.Mutex
		there int64 // committed
		woken int64 // wake-ups, each told a moment after its commit
		reads int
	)
	look := func() (int64, int64) {
		mu.Lock()
		defer mu.Unlock()
		return there, woken
	}
	read := func(after int64) ([]Fact, error) {
		mu.Lock()
		defer mu.Unlock()
		reads++
		var out []Fact
		for p := after + 1; p <= there && len(out) < storeFacts; p++ {
			out = append(out, Fact{Position: p})
		}
		return out, nil
	}
	var wg sync.WaitGroup
	grown := make([]chan int64, readers) // how much was there when it was told
	for i := range grown {
		grown[i] = make(chan int64, all)
		wg.Go(func() {
			at, told := int64(0), int64(0)
			for at < all {
				_, woken := look()
				facts, more, err := bin.after(at, woken, func() ([]Fact, error) { return read(at) })
				if err != nil {
					t.Error(err)
					return
				}
				for _, f := range facts {
					if f.Position != at+1 {
						t.Errorf("reader %d saw %d after %d", i, f.Position, at)
						return
					}
					at = f.Position
				}
				if more {
					continue
				}
				if told > at {
					t.Errorf("reader %d is to wait after %d, but was woken for %d before it asked", i, at, told)
					return
				}
				if at < all {
					told = <-grown[i]
				}
			}
		})
	}
	for committed := int64(0); committed < all; {
		mu.Lock()
		there = min(all, there+1+rand.Int64N(7))
		committed = there
		mu.Unlock()
		mu.Lock()
		woken++
		mu.Unlock()
		for _, g := range grown {
			g <- committed
		}
	}
	wg.Wait()
	if len(bin.facts) > most {
		t.Errorf("%d facts are remembered, at most %d should be", len(bin.facts), most)
	}
	if _, wakes := look(); int64(reads) > 2*wakes {
		t.Errorf("%d reads for %d wake-ups of %d readers", reads, wakes, readers)
	}
}
