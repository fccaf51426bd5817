package db_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
)

var counters = fstest.MapFS{"migrations/0001_init.sql": {Data: []byte(`
-- +goose Up
create table counter (org text not null, id text not null primary key, n bigint not null);
`)}}

func migrated(t *testing.T, d *db.DB) {
	t.Helper()
	for range 2 { // The second time finds nothing to do.
		if err := db.Migrate(t.Context(), d, "counters", counters); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConcurrentReadModifyWritesLoseNoUpdate(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		migrated(t, d)
		ctx := t.Context()
		if err := d.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, "insert into counter (org, id, n) values ('default', 'a', 0)")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		const writers, each = 8, 20
		for range writers {
			wg.Go(func() {
				for range each {
					err := d.Write(ctx, func(tx *db.Tx) error {
						var n int64
						if err := tx.QueryRow(ctx, "select n from counter where id = ?", "a").Scan(&n); err != nil {
							return err
						}
						_, err := tx.Exec(ctx, "update counter set n = ? where id = ?", n+1, "a")
						return err
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		var n int64
		if err := d.QueryRow(ctx, "select n from counter where id = ?", "a").Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n != writers*each {
			t.Errorf("n = %d; want %d", n, writers*each)
		}
	})
}

func TestFailedClosureTakesNothingWithIt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		migrated(t, d)
		ctx := t.Context()
		boom := errors.New("boom")
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				err := d.Write(ctx, func(tx *db.Tx) error {
					if _, err := tx.Exec(ctx, "insert into counter (org, id, n) values ('default', ?, 1)", fmt.Sprint(i)); err != nil {
						return err
					}
					if i%2 == 1 {
						return boom
					}
					return nil
				})
				if (i%2 == 1) != errors.Is(err, boom) {
					t.Errorf("Write() %d = %v", i, err)
				}
			})
		}
		wg.Wait()
		var n int
		if err := d.QueryRow(ctx, "select count(*) from counter").Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n != 10 {
			t.Errorf("%d rows; want 10", n)
		}
	})
}

func TestPanicInClosureIsAnErrorAndTheWriterLives(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		migrated(t, d)
		ctx := t.Context()
		if err := d.Write(ctx, func(*db.Tx) error { panic("oh") }); err == nil {
			t.Error("Write() = nil; want the panic")
		}
		if err := d.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, "insert into counter (org, id, n) values ('default', 'b', 1)")
			return err
		}); err != nil {
			t.Error(err)
		}
	})
}

func TestWakeReachesSubscribersAfterCommit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ch, cancel := d.Subscribe("topic")
		defer cancel()
		if err := d.Write(t.Context(), func(tx *db.Tx) error { tx.Wake("topic"); return nil }); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ch:
		case <-t.Context().Done():
			t.Error("no wake-up")
		}
	})
}

func TestWakeReachesAnotherReplica(t *testing.T) {
	raw := dbtest.PostgresURL(t)
	a, b := dbtest.Open(t, raw), dbtest.Open(t, raw)
	ch, cancel := b.Subscribe("topic")
	defer cancel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { // LISTEN is asynchronous, so the wake-up is repeated until it is heard.
		for ctx.Err() == nil {
			_ = a.Write(ctx, func(tx *db.Tx) error { tx.Wake("topic"); return nil })
		}
	}()
	<-ch
}

func TestRebindLeavesQuotedQuestionMarksAlone(t *testing.T) {
	got := db.Rebind("select '?', a from t where b = ? and c = ?")
	if want := "select '?', a from t where b = $1 and c = $2"; got != want {
		t.Errorf("Rebind() = %q; want %q", got, want)
	}
}

func TestStatementsThatWaitRunInOrderBeforeTheNextReadAndTheCommit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		migrated(t, d)
		ctx := t.Context()
		set := func(tx *db.Tx, n int64) error {
			return tx.Later(ctx, "insert into counter (org, id, n) values ('default', 'a', ?) on conflict (id) do update set n = 10 * counter.n + excluded.n", n)
		}
		if err := d.Write(ctx, func(tx *db.Tx) error {
			var n int64
			if err := errors.Join(set(tx, 1), set(tx, 2), tx.QueryRow(ctx, "select n from counter").Scan(&n), set(tx, 3)); err != nil || n != 12 {
				return fmt.Errorf("read %d, %w", n, err)
			}
			if _, err := tx.Exec(ctx, "update counter set n = -n"); err != nil {
				return err
			}
			return set(tx, 4)
		}); err != nil {
			t.Fatal(err)
		}
		var n int64
		if err := d.QueryRow(ctx, "select n from counter").Scan(&n); err != nil || n != -1226 {
			t.Errorf("n = %d, %v; want -1226", n, err)
		}
	})
}

func TestAStatementThatWaitedAndFailsFailsItsTransaction(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		migrated(t, d)
		ctx := t.Context()
		for name, after := range map[string]func(tx *db.Tx) error{
			"at the commit": func(*db.Tx) error { return nil },
			"at a read": func(tx *db.Tx) error {
				var n int64
				_ = tx.QueryRow(ctx, "select count(*) from counter").Scan(&n) // whoever swallows it changes nothing
				return nil
			},
			"at a read that is believed": func(tx *db.Tx) error {
				var n int64
				return tx.QueryRow(ctx, "select count(*) from counter").Scan(&n)
			},
			"at another statement": func(tx *db.Tx) error {
				_, _ = tx.Exec(ctx, "update counter set n = 1")
				return nil
			},
		} {
			err := d.Write(ctx, func(tx *db.Tx) error {
				for range 2 {
					if err := tx.Later(ctx, "insert into counter (org, id, n) values ('default', 'twice', 0)"); err != nil {
						return err
					}
				}
				return after(tx)
			})
			var n int64
			if rerr := d.QueryRow(ctx, "select count(*) from counter").Scan(&n); err == nil || rerr != nil || n != 0 {
				t.Errorf("%s: error %v, %d rows, %v; want an error and none", name, err, n, rerr)
			} else if !strings.Contains(strings.ToLower(err.Error()), "unique") { // not what follows from it: a lost race is told by its code
				t.Errorf("%s: %v; want what went wrong first", name, err)
			}
		}
	})
}
