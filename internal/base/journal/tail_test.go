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
		reads int
	)
	committed := func() int64 {
		mu.Lock()
		defer mu.Unlock()
		return there
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
	grown := make([]chan struct{}, readers)
	for i := range grown {
		grown[i] = make(chan struct{}, 1)
		wg.Go(func() {
			at := int64(0)
			for at < all {
				must := committed()
				facts, err := bin.after(at, func() ([]Fact, error) { return read(at) })
				if err != nil {
					t.Error(err)
					return
				}
				if len(facts) == 0 {
					if must > at {
						t.Errorf("reader %d was told that nothing follows %d, but %d was there before it asked", i, at, must)
						return
					}
					<-grown[i]
					continue
				}
				for _, f := range facts {
					if f.Position != at+1 {
						t.Errorf("reader %d saw %d after %d", i, f.Position, at)
						return
					}
					at = f.Position
				}
			}
		})
	}
	for committed() < all {
		mu.Lock()
		there = min(all, there+1+rand.Int64N(7))
		mu.Unlock()
		for _, g := range grown {
			select {
			case g <- struct{}{}:
			default:
			}
		}
	}
	wg.Wait()
	if len(bin.facts) > most {
		t.Errorf("%d facts are remembered, at most %d should be", len(bin.facts), most)
	}
	t.Logf("%d reads for %d facts and %d readers", reads, all, readers)
}
