package source_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/guard/policy"
	"weir/internal/source"
	"weir/internal/source/sourcetest"
)

const strict = `weir: 1
repository:
  reviews: {required: 1, code_owners: true}
  required_checks: [ci.yml/test]
`

// propose pushes a change of ann's.
func propose(t *testing.T, w *sourcetest.World, ann *sourcetest.Work, branch string, files ...string) source.Change {
	t.Helper()
	ann.Commit(branch, files...)
	ann.Git("push", "--quiet", "-o", "change", "origin", "HEAD:refs/heads/"+branch)
	changes, err := w.Source.List(w.As(t, "ann"), w.Repo.ID, source.Open)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if c.Branch == branch {
			return c
		}
	}
	t.Fatalf("no change of %s", branch)
	return source.Change{}
}

func approve(t *testing.T, w *sourcetest.World, who string, c source.Change) {
	t.Helper()
	if _, err := w.Source.Review(w.As(t, who), c.ID, "approve", ""); err != nil {
		t.Fatal(err)
	}
}

// stays tries to land and wants a refusal that says so.
func stays(t *testing.T, w *sourcetest.World, c source.Change, want string) policy.Decision {
	t.Helper()
	d, err := w.Source.Land(w.As(t, "mia"), c.ID)
	if !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Sentence(err), want) {
		t.Errorf("Land(#%d) = %v; want a refusal that says %q", c.Number, err, want)
	}
	return d
}

func TestALandingIsTheTestedCommitAndItsTree(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w, ann := landed(t, d, "weir.yaml", strict, "CODEOWNERS", "* @payments\n", "a.txt", "1\n")
		before := ann.Git("rev-parse", "HEAD")
		c := propose(t, w, ann, "topic", "a.txt", "2\n")
		tree := ann.Git("rev-parse", "HEAD^{tree}")
		stays(t, w, c, "0 of 1 reviews of the final patchset")
		approve(t, w, "ben", c)
		stays(t, w, c, "Not finished on this revision: ci.yml/test.")
		w.Pass(t, c, "ci.yml/test")
		dec, err := w.Source.Land(w.As(t, "ann"), c.ID)
		if err != nil || !dec.Allow {
			t.Fatalf("Land() = %+v, %v", dec, err)
		}
		head, err := w.Source.Head(t.Context(), w.Repo.ID, "main")
		if err != nil || head != c.Revision {
			t.Errorf("main is %s, %v; want the tested commit %s", head, err, c.Revision)
		}
		fresh := w.Work(t, "kim")
		fresh.Git("pull", "--quiet", "origin", "main")
		if got := fresh.Git("rev-parse", "HEAD^{tree}"); got != tree {
			t.Errorf("landed tree %s; want the tested one %s", got, tree)
		}
		if parent := fresh.Git("rev-parse", "HEAD^"); parent != before {
			t.Errorf("parent %s; want a fast-forward of %s", parent, before)
		}
		if now := w.Change(t, 1); now.State != source.Landed || now.Ended.IsZero() {
			t.Errorf("change %+v", now)
		}
		l, err := w.Source.LandingOf(t.Context(), w.Repo.ID, c.Revision)
		if err != nil || l.ChangeID != c.ID || l.Bootstrap || strings.Join(l.People, " ") != "ann" {
			t.Errorf("LandingOf() = %+v, %v", l, err)
		}
		if n := count(t, d, "select count(*) from ledger_entry where action = 'change.landed' and subject = ?", c.Revision); n != 1 {
			t.Errorf("%d ledger entries; want 1", n)
		}
		if _, err := w.Source.Land(w.As(t, "mia"), c.ID); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Sentence(err), "Change #1 is landed already.") {
			t.Errorf("Land() again = %v", err)
		}
		if _, err := w.Source.Review(w.As(t, "kim"), c.ID, "approve", ""); !fault.Is(err, fault.Conflict) {
			t.Errorf("Review() of a landed change = %v", err)
		}
	})
}

func TestAChangeCannotLoosenItsOwnGate(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w, ann := landed(t, d, "weir.yaml", strict, "CODEOWNERS", "* @payments\n", "a.txt", "1\n",
			".github/workflows/ci.yml", "on: pull_request\njobs: {test: {runs-on: x, steps: [{run: go test ./...}]}}\n")
		base := ann.Git("rev-parse", "HEAD")
		c := propose(t, w, ann, "loosen",
			"weir.yaml", "weir: 1\nrepository:\n  reviews: {required: 0}\n",
			"CODEOWNERS", "* @ann\n",
			".github/workflows/ci.yml", "on: pull_request\njobs: {test: {runs-on: x, steps: [{run: 'true'}]}}\n")
		if c.Base != base {
			t.Errorf("base %s; want %s, whose workflows run", c.Base, base)
		}
		dec := stays(t, w, c, "0 of 1 reviews")
		for _, want := range []string{"change.reviewed", "change.code_owners", "change.checks_passed"} {
			found := false
			for _, b := range dec.Blocks() {
				found = found || b.Rule == want
			}
			if !found {
				t.Errorf("%s does not block: %+v", want, dec.Rules)
			}
		}
		approve(t, w, "kim", c) // not in the team that owns CODEOWNERS on the trunk
		w.Pass(t, c, "ci.yml/test")
		stays(t, w, c, "none of its owners (ben) has approved")
		approve(t, w, "ben", c)
		if _, err := w.Source.Land(w.As(t, "ben"), c.ID); err != nil {
			t.Errorf("Land() = %v; an owner may agree to looser rules", err)
		}
		next := propose(t, w, ann, "after", "a.txt", "2\n")
		if _, err := w.Source.Land(w.As(t, "ann"), next.ID); err != nil {
			t.Errorf("Land() = %v; the looser rules hold once they have landed", err)
		}
	})
}

func TestAResultUnderAnotherBaseDoesNotCount(t *testing.T) {
	w, ann := landed(t, dbtest.SQLite(t), "weir.yaml", "weir: 1\nrepository: {reviews: {required: 0}, required_checks: [ci.yml/test]}\n")
	first := propose(t, w, ann, "first", "a.txt", "1\n")
	second := propose(t, w, ann, "second", "b.txt", "2\n") // on top of first
	w.Pass(t, second, "ci.yml/test")
	w.Pass(t, first, "ci.yml/test")
	if _, err := w.Source.Land(w.As(t, "mia"), first.ID); err != nil {
		t.Fatal(err)
	}
	stays(t, w, second, "main has moved since the checks of change #2 ran. They run again now")
	again := w.Change(t, 2)
	if again.Base != first.Revision || again.Revision != second.Revision || again.Patchset != 2 {
		t.Errorf("change %+v; want the same revision on the new base", again)
	}
	w.Pass(t, second, "ci.yml/test") // A late result of a run under the old base.
	stays(t, w, second, "Not finished on this revision: ci.yml/test.")
	w.Pass(t, again, "ci.yml/test")
	if _, err := w.Source.Land(w.As(t, "mia"), second.ID); err != nil {
		t.Error(err)
	}
}

func TestWhoAsksToLandDoesNotBecomeAnAuthor(t *testing.T) {
	w, ann := landed(t, dbtest.SQLite(t))
	first := propose(t, w, ann, "first", "a.txt", "2\n")
	second := propose(t, w, ann, "second", "b.txt", "2\n")
	approve(t, w, "mia", first)
	approve(t, w, "mia", second)
	if _, err := w.Source.Land(w.As(t, "mia"), first.ID); err != nil {
		t.Fatal(err)
	}
	stays(t, w, second, "main has moved") // asked by mia, the reviewer
	if _, err := w.Source.Land(w.As(t, "mia"), second.ID); err != nil {
		t.Errorf("Land() = %v; mia's review still counts", err)
	}
}

func TestAuthorsPushersAndStaleReviewsDoNotCount(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w, ann := landed(t, d)
		c := propose(t, w, ann, "topic", "a.txt", "2\n")
		if _, err := w.Source.Review(w.As(t, "ann"), c.ID, "approve", ""); !fault.Is(err, fault.Denied) || !strings.Contains(fault.Sentence(err), "ann wrote part of change #1 and cannot approve it. Ask somebody else.") {
			t.Errorf("author: %v", err)
		}
		approve(t, w, "kim", c)
		// ben pushes a patchset of his own: kim's word was about another one, and
		// ben is an author from now on.
		ben := w.Work(t, "ben")
		ben.Git("fetch", "--quiet", "origin", "topic")
		ben.Git("reset", "--quiet", "--hard", "FETCH_HEAD")
		ben.Commit("more", "a.txt", "3\n")
		ben.Git("push", "--quiet", "origin", "HEAD:refs/heads/topic")
		stays(t, w, c, "0 of 1 reviews of the final patchset. Authors and pushers do not count, nor do reviews of earlier patchsets.")
		if _, err := w.Source.Review(w.As(t, "ben"), c.ID, "approve", ""); !fault.Is(err, fault.Denied) {
			t.Errorf("pusher: %v", err)
		}
		if _, err := w.Source.Review(w.As(t, "kim"), c.ID, "maybe", ""); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), `A review says approve or reject, not "maybe".`) {
			t.Errorf("verdict: %v", err)
		}
		if _, err := w.Source.Review(w.As(t, "ops"), c.ID, "approve", ""); !fault.Is(err, fault.Denied) {
			t.Errorf("an admin without a role that reviews: %v", err)
		}
		if _, err := w.Source.Review(w.As(t, "kim"), c.ID, "reject", "no"); err != nil {
			t.Fatal(err)
		}
		stays(t, w, c, "kim has rejected this patchset.")
		approve(t, w, "kim", w.Change(t, 1))
		if _, err := w.Source.Land(w.As(t, "ann"), c.ID); err != nil {
			t.Errorf("Land() = %v; kim has come round", err)
		}
		if n := len(w.Signed.Statements); n != 3 {
			t.Errorf("%d reviews were signed; want 3", n)
		}
	})
}

func TestSameWordsAgainAreOneReviewSignedOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w, ann := landed(t, d)
		c := propose(t, w, ann, "topic", "a.txt", "2\n")
		for range 3 { // A client that misses the answer tries again.
			approve(t, w, "kim", c)
		}
		got, err := w.Source.Get(w.As(t, "ann"), c.ID)
		if err != nil || len(got.Reviews) != 1 || len(w.Signed.Statements) != 1 {
			t.Fatalf("%d reviews, %d signed, %v; want one of each", len(got.Reviews), len(w.Signed.Statements), err)
		}
		for _, verdict := range []string{"reject", "approve"} {
			if _, err := w.Source.Review(w.As(t, "kim"), c.ID, verdict, ""); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := w.Source.Get(w.As(t, "ann"), c.ID); err != nil || len(got.Reviews) != 3 {
			t.Errorf("%d reviews, %v; want 3, since kim changed their mind twice", len(got.Reviews), err)
		}
	})
}

func TestAFailedCheckBlocksAlsoIfNobodyListedIt(t *testing.T) {
	w, ann := landed(t, dbtest.SQLite(t))
	c := propose(t, w, ann, "topic", "a.txt", "2\n")
	approve(t, w, "ben", c)
	k := source.Check{RepositoryID: w.Repo.ID, Revision: c.Revision, Base: c.Base, Name: "ci.yml/lint", State: "failure", Time: time.Now()}
	if err := w.Source.Report(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	stays(t, w, c, "Failed on this revision: ci.yml/lint.")
	k.State, k.Time = "success", k.Time.Add(-time.Second)
	if err := w.Source.Report(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	stays(t, w, c, "Failed on this revision: ci.yml/lint.") // An older word does not undo a newer one.
}

func TestAChangeThatFellBehindIsToldToRebase(t *testing.T) {
	w, ann := landed(t, dbtest.SQLite(t))
	root := ann.Git("rev-parse", "HEAD")
	one := propose(t, w, ann, "one", "a.txt", "2\n")
	ann.Git("reset", "--quiet", "--hard", root)
	two := propose(t, w, ann, "two", "b.txt", "2\n")
	approve(t, w, "ben", one)
	approve(t, w, "ben", two)
	if _, err := w.Source.Land(w.As(t, "mia"), one.ID); err != nil {
		t.Fatal(err)
	}
	stays(t, w, two, "main has moved on since the change was made. Rebase the change on main and push it again")
}

func TestOfConcurrentLandingsOneWins(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w, ann := landed(t, d)
		other := w.Replica(t)
		root := ann.Git("rev-parse", "HEAD")
		one := propose(t, w, ann, "one", "a.txt", "2\n")
		ann.Git("reset", "--quiet", "--hard", root)
		two := propose(t, w, ann, "two", "b.txt", "2\n")
		approve(t, w, "ben", one)
		approve(t, w, "ben", two)
		var (
			wg   sync.WaitGroup
			errs [4]error
		)
		for i, try := range []struct {
			on *sourcetest.World
			c  source.Change
		}{{w, one}, {other, two}, {other, one}, {w, two}} {
			ctx := try.on.As(t, "mia")
			wg.Go(func() { _, errs[i] = try.on.Source.Land(ctx, try.c.ID) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			switch {
			case err == nil:
				won++
			case !fault.Is(err, fault.Conflict):
				t.Errorf("Land() = %v; want a conflict", err)
			}
		}
		if won != 1 {
			t.Errorf("%d landings won; want 1", won)
		}
		if n := count(t, d, "select count(*) from git_ref_log where landed = 1"); n != 2 { // the bootstrap and one
			t.Errorf("main moved %d times; want 2", n)
		}
	})
}

func TestAWeirYamlThatCannotBeReadDoesNotLand(t *testing.T) {
	w, ann := landed(t, dbtest.SQLite(t))
	c := propose(t, w, ann, "topic", "weir.yaml", "weir: 1\nservcies: {}\n")
	approve(t, w, "ben", c)
	stays(t, w, c, `Its weir.yaml cannot be read, and main would have no rules: weir.yaml:2:1: unknown key "servcies"`)
}

func TestATrunkWhoseRulesCannotBeReadAnyMoreCanBeMended(t *testing.T) {
	w, ann := landed(t, dbtest.SQLite(t), "CODEOWNERS", "* @payments\n", "weir.yaml", "weir: 1\n")
	// As if a version of Weir that was more lenient had let it pass.
	broken := ann.Commit("broken", "weir.yaml", "weir: 1\nold_key: {}\n")
	ann.Git("push", "--quiet", "origin", "HEAD:refs/heads/carrier")
	if err := w.DB.Write(t.Context(), func(tx *db.Tx) error {
		if _, err := tx.Exec(t.Context(), "update git_ref set revision = ? where name = 'refs/heads/main'", broken); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), "update git_state set version = version + 1")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	c := propose(t, w, ann, "mend", "weir.yaml", "weir: 1\n")
	approve(t, w, "kim", c)
	stays(t, w, c, "none of its owners (ben) has approved") // Stricter than usual, not looser.
	approve(t, w, "ben", c)
	if _, err := w.Source.Land(w.As(t, "ann"), c.ID); err != nil {
		t.Error(err)
	}
}

func TestTheLastMatchingLineOfCodeownersDecides(t *testing.T) {
	w, ann := landed(t, dbtest.SQLite(t), "CODEOWNERS", "* @kim\n/docs/ @ben\n/docs/free.md\n*.go @nobody-here\n", "weir.yaml", "weir: 1\nrepository: {reviews: {required: 1, code_owners: true}}\n")
	c := propose(t, w, ann, "docs", "docs/a/b.md", "x\n", "docs/free.md", "x\n")
	approve(t, w, "kim", c)
	stays(t, w, c, "docs/a/b.md changes and none of its owners (ben) has approved.")
	ann.Git("rm", "-rq", "docs")
	code := propose(t, w, ann, "code", "main.go", "package main\n")
	approve(t, w, "kim", code)
	approve(t, w, "ben", code)
	stays(t, w, code, "The rule for main.go in CODEOWNERS names nobody who is known here.")
}
