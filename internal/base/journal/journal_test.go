package journal_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
)

func open(t *testing.T, d *db.DB) *journal.Journal {
	t.Helper()
	for _, migrate := range []func(context.Context, *db.DB) error{lease.Migrate, journal.Migrate} {
		if err := migrate(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	return journal.New(d)
}

// Transactions that overlap commit in another order than their facts were
// made; one is even held open until a later one has been followed.
func TestFollowerSkipsNoFactOfInterleavedTransactions(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		j := open(t, d)
		ctx, stop := context.WithCancel(t.Context())
		var loops sync.WaitGroup
		t.Cleanup(loops.Wait)
		t.Cleanup(stop)
		loops.Go(func() { _ = j.Sequence(ctx, "node") })

		const writers, each = 6, 25
		var (
			mu   sync.Mutex
			seen = map[string]int{}
			last int64
			all  = make(chan struct{})
		)
		loops.Go(func() {
			_ = j.Follow(ctx, "test", func(_ context.Context, f journal.Fact) error {
				mu.Lock()
				defer mu.Unlock()
				if f.Position != last+1 {
					t.Errorf("position %d after %d", f.Position, last)
				}
				last = f.Position
				seen[f.Subject]++
				if len(seen) == writers*each+1 {
					close(all)
				}
				return nil
			})
		})

		release := func() {}
		if d.Engine() == "postgres" {
			// Begun first, its fact has the smallest id; committed last.
			begun, later := make(chan struct{}), make(chan struct{})
			var once sync.Once
			loops.Go(func() {
				err := d.Write(ctx, func(tx *db.Tx) error {
					if err := j.Append(ctx, tx, journal.Fact{Type: "t", Subject: "early"}); err != nil {
						return err
					}
					once.Do(func() { close(begun) })
					<-later
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
			<-begun
			release = func() { close(later) }
		} else if err := d.Write(ctx, func(tx *db.Tx) error { return j.Append(ctx, tx, journal.Fact{Type: "t", Subject: "early"}) }); err != nil {
			t.Fatal(err)
		}

		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					err := d.Write(ctx, func(tx *db.Tx) error {
						return j.Append(ctx, tx, journal.Fact{Type: "t", Subject: fmt.Sprintf("%d/%d", w, i)})
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		release()
		<-all
		mu.Lock()
		defer mu.Unlock()
		for s, n := range seen {
			if n != 1 {
				t.Errorf("%s seen %d times; want once while nothing crashed", s, n)
			}
		}
	})
}

func TestFactIsSeenAgainAfterAFailedHandler(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		j := open(t, d)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go j.Sequence(ctx, "node")
		if err := d.Write(ctx, func(tx *db.Tx) error { return j.Append(ctx, tx, journal.Fact{Type: "t", Subject: "a"}) }); err != nil {
			t.Fatal(err)
		}
		tries := 0
		err := j.Follow(ctx, "test", func(context.Context, journal.Fact) error {
			if tries++; tries == 1 {
				return errors.New("not now")
			}
			stop()
			return nil
		})
		if !errors.Is(err, context.Canceled) || tries != 2 {
			t.Errorf("Follow() = %v after %d tries; want cancelled after 2", err, tries)
		}
	})
}

// An earlier release let the sequencer number facts on every database.
func TestFactsWithoutAPositionGetOneWhereFactsAreNumberedAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		j := open(t, d)
		if err := d.Write(t.Context(), func(tx *db.Tx) error {
			for _, id := range []string{"fact_b", "fact_a"} {
				if _, err := tx.Exec(t.Context(), "insert into fact (org, id, type, version, subject, body, at) values ('default', ?, 't', 1, ?, '{}', 0)", id, id); err != nil {
					return err
				}
			}
			return j.Append(t.Context(), tx, journal.Fact{ID: "fact_c", Type: "t", Subject: "fact_c"})
		}); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go j.Sequence(ctx, "node")
		seen := map[string]int64{}
		_ = j.Follow(ctx, "test", func(_ context.Context, f journal.Fact) error {
			if f.Position != int64(len(seen)+1) {
				t.Errorf("%s has position %d after %d others", f.Subject, f.Position, len(seen))
			}
			if seen[f.Subject] = f.Position; len(seen) == 3 {
				stop()
			}
			return nil
		})
		if seen["fact_a"] > seen["fact_b"] {
			t.Errorf("positions %v are not in the order of ids", seen)
		}
	})
}
