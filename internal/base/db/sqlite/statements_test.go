package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"testing"

	"weir/internal/base/db"
)

func open(t *testing.T) *db.DB {
	t.Helper()
	d, _ := both(t)
	return d
}

// both opens a database and gives its engine as well.
func both(t *testing.T) (*db.DB, *engine) {
	t.Helper()
	e, err := start(&url.URL{Scheme: "sqlite", Path: filepath.Join(t.TempDir(), "weir.db")})
	if err != nil {
		t.Fatal(err)
	}
	d := db.New(e)
	t.Cleanup(func() { d.Close() })
	write(t, d, func(tx *db.Tx) error {
		_, err := tx.Exec(t.Context(), "create table n (n integer primary key)")
		return err
	})
	return d, e
}

func write(t *testing.T, d *db.DB, fn func(*db.Tx) error) {
	t.Helper()
	if err := d.Write(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, q db.Querier) (n int) {
	t.Helper()
	if err := q.QueryRow(t.Context(), "select count(*) from n").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAQueryCanRunInsideItsOwnResult(t *testing.T) {
	d := open(t)
	const all = "select n from n order by n"
	write(t, d, func(tx *db.Tx) error {
		for i := range 3 {
			if _, err := tx.Exec(t.Context(), "insert into n (n) values (?)", i); err != nil {
				return err
			}
		}
		seen := 0
		outer, err := tx.Query(t.Context(), all)
		if err != nil {
			return err
		}
		defer outer.Close()
		for outer.Next() {
			inner, err := tx.Query(t.Context(), all)
			if err != nil {
				return err
			}
			for inner.Next() {
				seen++
			}
			inner.Close()
		}
		if seen != 9 {
			t.Errorf("saw %d rows, want 9", seen)
		}
		return outer.Err()
	})
}

func TestMoreQueriesThanAreKeptPreparedStillWork(t *testing.T) {
	d := open(t)
	for round := range 2 {
		for i := range 2*prepared + 1 {
			var got int
			if err := d.QueryRow(t.Context(), fmt.Sprintf("select %d + ?", i), round).Scan(&got); err != nil || got != i+round {
				t.Fatalf("query %d gave %d, %v", i, got, err)
			}
		}
	}
}

func TestAStatementSeesASchemaThatChangedAfterItWasPrepared(t *testing.T) {
	d := open(t)
	const insert = "insert into n (n) values (?)"
	for i, change := range []string{"alter table n add column m integer", "create index n_m on n (m)", "drop index n_m"} {
		write(t, d, func(tx *db.Tx) error {
			_, err := tx.Exec(t.Context(), insert, i)
			return err
		})
		if got := count(t, d); got != i+1 {
			t.Errorf("%d rows, want %d", got, i+1)
		}
		write(t, d, func(tx *db.Tx) error {
			_, err := tx.Exec(t.Context(), change)
			return err
		})
	}
}

func TestAFailedStatementIsForgottenAndDoesNotSpoilTheNext(t *testing.T) {
	d := open(t)
	const insert = "insert into n (n) values (?)"
	write(t, d, func(tx *db.Tx) error {
		if _, err := tx.Exec(t.Context(), insert, 1); err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), insert, 1); err == nil {
			t.Error("the same key went in twice")
		}
		_, err := tx.Exec(t.Context(), insert, 2)
		return err
	})
	if got := count(t, d); got != 2 {
		t.Errorf("%d rows, want 2", got)
	}
}

// An interrupted write would roll back the whole batch, and with it the writes
// of callers who were never cancelled.
func TestACallerWhoGivesUpTakesNobodysWriteWithIt(t *testing.T) {
	d, e := both(t)
	const rounds = 20
	for i := range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		held, release := make(chan struct{}), make(chan struct{})
		results := make(chan error, 3)
		queue := func(ctx context.Context, run func(*sql.Tx) error) {
			fn := func(s db.Session) error { return run(s.Tx) }
			r := request{ctx, fn, make(chan error, 1)}
			e.queue <- r
			go func() { results <- <-r.done }()
		}
		queue(t.Context(), func(*sql.Tx) error { close(held); <-release; return nil })
		<-held // What is queued now shares the next batch.
		queue(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec("insert into n (n) values (?)", i); return err })
		queue(ctx, func(tx *sql.Tx) error {
			go cancel()
			_, err := tx.ExecContext(ctx, "with recursive r(i) as (select 100000 union all select i + 1 from r where i < 200000) insert into n (n) select i from r")
			return errors.Join(err, errors.New("gave up"))
		})
		close(release)
		for range 3 {
			<-results
		}
		cancel()
		if got := count(t, d); got != i+1 {
			t.Fatalf("%d rows after round %d, want %d", got, i, i+1)
		}
	}
}
