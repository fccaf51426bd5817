package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"testing"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/guard/evidence"
	"weir/internal/source/engine"
	"weir/internal/source/sourcetest"
)

func TestMain(m *testing.M) { os.Exit(sourcetest.Main(m)) }

// run starts the parts that make facts into signatures, until the test ends.
func run(t *testing.T, w *sourcetest.World) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	e := &engine.Engine{DB: w.DB, Journal: w.Journal, Source: w.Source, Signer: w.Signed, Holder: "test"}
	for _, part := range []func(context.Context) error{e.Run, func(ctx context.Context) error { return w.Journal.Sequence(ctx, "test") }} {
		wg.Go(func() {
			if err := part(ctx); err != nil && !errors.Is(err, context.Canceled) && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

func TestEveryLandingIsSignedWithWhoAgreed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := sourcetest.New(t, d)
		ann := w.Work(t, "ann")
		first := ann.Commit("first", "a.txt", "1\n")
		ann.Git("push", "--quiet", "origin", "main")
		second := ann.Commit("second", "a.txt", "2\n")
		ann.Git("push", "--quiet", "-o", "change", "origin", "HEAD:refs/heads/topic")
		c := w.Change(t, 1)
		if _, err := w.Source.Review(w.As(t, "ben"), c.ID, "approve", ""); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Source.Land(w.As(t, "mia"), c.ID); err != nil {
			t.Fatal(err)
		}
		stop := run(t, w)
		landings := w.Signed.Wait(evidence.Landed, 2)
		stop()
		for i, rev := range []string{first, second} {
			st := landings[i]
			if got := st.Subjects[0].Digest["gitCommit"]; got != rev || st.Key != "refs/heads/main" {
				t.Errorf("statement %d is about %s of %s; want %s", i, got, st.Key, rev)
			}
		}
		raw, err := json.Marshal(landings[1].Predicate)
		if err != nil {
			t.Fatal(err)
		}
		var p struct {
			Actor  string
			Change struct {
				Author  string
				Reviews []struct{ By, Verdict string }
			}
		}
		if err := json.Unmarshal(raw, &p); err != nil || p.Actor != "mia" || p.Change.Author != "ann" || len(p.Change.Reviews) != 1 || p.Change.Reviews[0].By != "ben" {
			t.Errorf("predicate %s, %v", raw, err)
		}
		// What was pushed besides is no landing.
		ann.Git("push", "--quiet", "origin", "HEAD:refs/heads/other")
		stop = run(t, w)
		third := ann.Commit("third", "a.txt", "3\n")
		ann.Git("push", "--quiet", "-o", "change", "origin", "HEAD:refs/heads/topic")
		c = w.Change(t, 2)
		if _, err := w.Source.Review(w.As(t, "ben"), c.ID, "approve", ""); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Source.Land(w.As(t, "mia"), c.ID); err != nil {
			t.Fatal(err)
		}
		landings = w.Signed.Wait(evidence.Landed, 3)
		stop()
		if len(landings) != 3 || landings[2].Subjects[0].Digest["gitCommit"] != third {
			t.Errorf("%d landings are signed; want 3, the last one %s", len(landings), third)
		}
	})
}
