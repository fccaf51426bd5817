package source_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/source"
	"weir/internal/source/sourcetest"
)

func TestMain(m *testing.M) { os.Exit(sourcetest.Main(m)) }

// count asks for a number.
func count(t *testing.T, d *db.DB, query string, args ...any) int {
	t.Helper()
	var n int
	if err := d.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// landed is a world whose trunk has one commit, pushed by ann.
func landed(t *testing.T, d *db.DB, files ...string) (*sourcetest.World, *sourcetest.Work) {
	t.Helper()
	w := sourcetest.New(t, d)
	ann := w.Work(t, "ann")
	if len(files) == 0 {
		files = []string{"a.txt", "1\n"}
	}
	ann.Commit("first", files...)
	ann.Git("push", "--quiet", "origin", "main")
	return w, ann
}

func TestTheFirstPushIsABootstrapAndRecordedAsOne(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := sourcetest.New(t, d)
		ann := w.Work(t, "ann")
		rev := ann.Commit("first", "a.txt", "1\n")
		out := ann.Git("push", "origin", "main")
		if !strings.Contains(out, "Accepted as the first push to shop. From now on main is protected") {
			t.Errorf("git says %q", out)
		}
		if n := count(t, d, "select count(*) from ledger_entry where action = 'repository.bootstrapped' and subject = ?", rev); n != 1 {
			t.Errorf("%d ledger entries; want 1", n)
		}
		var raw string
		if err := d.QueryRow(t.Context(), "select body from fact where type = ?", source.FactPushed).Scan(&raw); err != nil {
			t.Fatal(err)
		}
		var fact source.Pushed
		if err := json.Unmarshal([]byte(raw), &fact); err != nil || !fact.Bootstrap || !fact.Landed || fact.New != rev || fact.Actor != "ann" || fact.Old != "" {
			t.Errorf("fact %+v, %v", fact, err)
		}
		l, err := w.Source.LandingOf(t.Context(), w.Repo.ID, rev)
		if err != nil || !l.Bootstrap || l.Actor != "ann" {
			t.Errorf("LandingOf() = %+v, %v", l, err)
		}
	})
}

func TestTheTrunkIsProtectedFromEverybody(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w, ann := landed(t, d)
		before := ann.Git("rev-parse", "HEAD")
		for _, who := range []string{"ann", "mia", "ada"} { // ada is an admin
			k := w.Work(t, who)
			k.Git("pull", "--quiet", "origin", "main")
			k.Commit("direct", "a.txt", who+"\n")
			k.Refused("main is protected: nobody pushes to it, changes land on it. Push a branch and open a change: git push -o change origin HEAD:refs/heads/my-change", "push", "origin", "main")
			k.Git("reset", "--quiet", "--hard", before)
			k.Git("commit", "--quiet", "--amend", "-m", "rewritten")
			k.Refused("main is protected: nobody pushes to it", "push", "--force", "origin", "main")
			k.Refused("main is protected and cannot be deleted, by anybody.", "push", "origin", ":main")
		}
		if head, err := w.Source.Head(t.Context(), w.Repo.ID, "main"); err != nil || head != before {
			t.Errorf("main is %s, %v; want %s", head, err, before)
		}
	})
}

func TestARoleWithoutPushIsToldSo(t *testing.T) {
	w := sourcetest.New(t, dbtest.SQLite(t))
	k := w.Work(t, "ops")
	k.Commit("first", "a.txt", "1\n")
	k.Refused("ops may not do this: repository.push is not among the permissions of the role admin", "push", "origin", "main")
}

func TestOneRefusedRefRefusesTheWholePush(t *testing.T) {
	w, ann := landed(t, dbtest.SQLite(t))
	ann.Commit("second", "a.txt", "2\n")
	ann.Refused("main is protected", "push", "origin", "main", "HEAD:refs/heads/topic")
	if head, err := w.Source.Head(t.Context(), w.Repo.ID, "topic"); err != nil || head != "" {
		t.Errorf("topic is %q, %v; want nothing", head, err)
	}
}

func TestTagsNameLandedRevisionsForGood(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w, ann := landed(t, d)
		first := ann.Git("rev-parse", "HEAD")
		ann.Git("tag", "v1.0.0")
		ann.Git("tag", "-a", "-m", "release", "v1.0.1")
		ann.Git("push", "--quiet", "origin", "v1.0.0", "v1.0.1")
		ann.Commit("second", "a.txt", "2\n")
		ann.Git("tag", "-f", "v1.0.0")
		ann.Refused("The tag v1.0.0 exists. Tags are never moved or deleted; choose another name.", "push", "--force", "origin", "v1.0.0")
		ann.Refused("The tag v1.0.0 exists. Tags are never moved", "push", "origin", ":refs/tags/v1.0.0")
		ann.Git("tag", "v2.0.0")
		ann.Refused("The tag v2.0.0 does not point to a landed revision. Land the change first, then tag what landed.", "push", "origin", "v2.0.0")
		blob := ann.Git("rev-parse", "HEAD:a.txt")
		ann.Git("tag", "of-a-file", blob)
		ann.Refused("A tag points to a commit or is annotated", "push", "origin", "of-a-file")
		ann.Git("tag", "-a", "-m", "x", "of-a-file-annotated", ann.Git("rev-parse", first+":a.txt"))
		ann.Refused("does not point to a landed revision", "push", "origin", "of-a-file-annotated")
		if err := w.Source.Tag(t.Context(), w.Repo.ID, "v1.0.0", first); err != nil {
			t.Errorf("Tag() again = %v; want no error", err)
		}
		if err := w.Source.Tag(t.Context(), w.Repo.ID, "v1.0.0", ann.Git("rev-parse", "HEAD")); !fault.Is(err, fault.Conflict) {
			t.Errorf("Tag() elsewhere = %v; want a conflict", err)
		}
	})
}

func TestOddNamesAndOptionsAreRefused(t *testing.T) {
	w, ann := landed(t, dbtest.SQLite(t))
	ann.Commit("second", "a.txt", "2\n")
	ann.Refused("refs/notes/x is neither a branch nor a tag.", "push", "origin", "HEAD:refs/notes/x")
	ann.Refused("refs/changes/1/1 is neither a branch nor a tag.", "push", "origin", "HEAD:refs/changes/1/1")
	ann.Refused(`is not a name for a branch or tag here`, "push", "origin", "HEAD:refs/heads/semi;colon")
	ann.Refused(`is not a name for a branch or tag here`, "push", "origin", "HEAD:refs/heads/größe")
	ann.Refused(`is not a name for a branch or tag here`, "push", "origin", "HEAD:refs/heads/"+strings.Repeat("x", 201))
	ann.Refused(`The push option "chnage" is not known. Weir understands change and title=TEXT.`, "push", "-o", "chnage", "origin", "HEAD:refs/heads/topic")
	ann.Git("push", "--quiet", "origin", "HEAD:refs/heads/topic")
	ann.Refused("refs/heads/topic/sub cannot be made while there is refs/heads/topic: one would have to be a file and a folder at once.", "push", "origin", "HEAD:refs/heads/topic/sub")
	ann.Refused("refs/heads/a cannot be made while there is refs/heads/a/b", "push", "origin", "HEAD:refs/heads/a", "HEAD:refs/heads/a/b")
	// What git's own client would not send, its server must not be asked to write.
	for _, ref := range []string{"refs/heads/a..b", "refs/heads/a.lock", "refs/heads/a./b", "refs/heads/.a", "refs/heads/-a", "refs/heads/a//b", "refs/heads/", "refs/heads/../../hooks/x", "HEAD", "refs/heads/a\nb"} {
		_, err := w.Source.Receive(w.As(t, "ann"), source.Push{RepositoryID: w.Repo.ID, Updates: []source.Update{{Ref: ref, Old: source.ZeroRevision, New: ann.Git("rev-parse", "HEAD")}}})
		if !fault.Is(err, fault.Denied) {
			t.Errorf("Receive(%q) = %v; want a refusal", ref, err)
		}
	}
	ann.Git("fetch", "--quiet", "origin") // The repository still works.
}

func TestABranchPointsToACommit(t *testing.T) {
	w, ann := landed(t, dbtest.SQLite(t))
	tree := ann.Git("rev-parse", "HEAD^{tree}")
	_, err := w.Source.Receive(w.As(t, "ann"), source.Push{RepositoryID: w.Repo.ID, Updates: []source.Update{{Ref: "refs/heads/topic", Old: source.ZeroRevision, New: tree}}})
	if !fault.Is(err, fault.Denied) || !strings.Contains(fault.Sentence(err), "A branch points to a commit") {
		t.Errorf("Receive() = %v", err)
	}
	_, err = w.Source.Receive(w.As(t, "ann"), source.Push{RepositoryID: w.Repo.ID, Updates: []source.Update{{Ref: "refs/heads/topic", Old: source.ZeroRevision, New: strings.Repeat("1", 40)}}})
	if !fault.Is(err, fault.Denied) {
		t.Errorf("Receive() of an object that is not there = %v", err)
	}
}

func TestAnEmptyRepositoryWantsItsTrunkFirst(t *testing.T) {
	w := sourcetest.New(t, dbtest.SQLite(t))
	ann := w.Work(t, "ann")
	ann.Commit("first", "a.txt", "1\n")
	ann.Refused("The repository is empty. Push main first.", "push", "origin", "HEAD:refs/heads/topic")
	if _, err := w.Source.OpenChange(w.As(t, "ann"), "shop", "topic", "x"); !fault.Is(err, fault.Conflict) {
		t.Errorf("OpenChange() = %v", err)
	}
	ann.Git("branch", "topic")
	ann.Git("push", "--quiet", "origin", "main", "topic")
}

func TestATrunkWhoseRulesCannotBeReadIsNotAccepted(t *testing.T) {
	w := sourcetest.New(t, dbtest.SQLite(t))
	ann := w.Work(t, "ann")
	ann.Commit("first", "weir.yaml", "weir: 1\nservcies: {}\n")
	ann.Refused(`main would be refused later, so it cannot be the first: weir.yaml:2:1: unknown key "servcies"; did you mean "services"?`, "push", "origin", "main")
	ann.Commit("mended", "weir.yaml", "weir: 1\n")
	ann.Git("push", "--quiet", "origin", "main")
}

func TestAPushOptionOpensAChangeAndALaterPushIsItsNextPatchset(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w, ann := landed(t, d)
		ann.Commit("second", "a.txt", "2\n")
		if out := ann.Git("push", "-o", "change", "-o", "title=Count to two", "origin", "HEAD:refs/heads/topic"); !strings.Contains(out, "Change #1 is open: Count to two. Its checks start.") {
			t.Errorf("git says %q", out)
		}
		ann.Refused("belongs to an open change. Abandon the change first", "push", "origin", ":topic")
		rev := ann.Commit("third", "a.txt", "3\n")
		if out := ann.Git("push", "origin", "HEAD:refs/heads/topic"); !strings.Contains(out, "Change #1 has patchset 2. Earlier reviews no longer count; its checks start.") {
			t.Errorf("git says %q", out)
		}
		c := w.Change(t, 1)
		if c.Patchset != 2 || c.Revision != rev || c.Title != "Count to two" || c.Author != "ann" {
			t.Errorf("change %+v", c)
		}
		facts := unsequenced(t, d, source.FactChangeUpdated)
		var u source.ChangeUpdated
		if err := json.Unmarshal(facts[len(facts)-1].Body, &u); err != nil || len(facts) != 2 || u.Patchset != 2 || u.Revision != rev || u.Base != c.Base {
			t.Errorf("facts %v; last %+v, %v", facts, u, err)
		}
		if _, err := w.Source.OpenChange(w.As(t, "ben"), "shop", "topic", ""); !fault.Is(err, fault.Conflict) {
			t.Errorf("a second change of the branch: %v", err)
		}
		for branch, want := range map[string]fault.Kind{"main": fault.Invalid, "elsewhere": fault.NotFound} {
			if _, err := w.Source.OpenChange(w.As(t, "ben"), "shop", branch, ""); !fault.Is(err, want) {
				t.Errorf("OpenChange(%s) = %v; want %s", branch, err, want)
			}
		}
	})
}

// unsequenced returns the facts of a type in the order in which they were written.
func unsequenced(t *testing.T, d *db.DB, typ string) []journal.Fact {
	t.Helper()
	rows, err := d.Query(t.Context(), "select body from fact where type = ? order by id", typ)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out []journal.Fact
	for rows.Next() {
		var f journal.Fact
		var body string
		if err := rows.Scan(&body); err != nil {
			t.Fatal(err)
		}
		f.Body = json.RawMessage(body)
		out = append(out, f)
	}
	return out
}

func TestOnlyItsAuthorOrAMaintainerAbandonsAChange(t *testing.T) {
	w, ann := landed(t, dbtest.SQLite(t))
	for _, branch := range []string{"one", "two"} {
		ann.Commit(branch, "a.txt", branch)
		ann.Git("push", "--quiet", "-o", "change", "origin", "HEAD:refs/heads/"+branch)
	}
	one, two := w.Change(t, 1), w.Change(t, 2)
	if err := w.Source.Abandon(w.As(t, "ben"), one.ID); !fault.Is(err, fault.Denied) {
		t.Errorf("ben: %v; want a refusal", err)
	}
	if err := w.Source.Abandon(w.As(t, "ann"), one.ID); err != nil {
		t.Error(err)
	}
	if err := w.Source.Abandon(w.As(t, "mia"), two.ID); err != nil {
		t.Error(err)
	}
	if err := w.Source.Abandon(w.As(t, "mia"), two.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("again: %v; want a conflict", err)
	}
	ann.Git("push", "--quiet", "origin", ":one") // A branch of an ended change can go.
}
