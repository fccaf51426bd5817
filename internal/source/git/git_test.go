package git_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/source/git"
	"weir/internal/source/sourcetest"
)

func TestMain(m *testing.M) { os.Exit(sourcetest.Main(m)) }

func landed(t *testing.T, d *db.DB) (*sourcetest.World, *sourcetest.Work, string) {
	t.Helper()
	w := sourcetest.New(t, d)
	ann := w.Work(t, "ann")
	rev := ann.Commit("first", "a.txt", "1\n", "dir/b.txt", "2\n", "dir/deep/c.txt", "3\n")
	ann.Git("push", "--quiet", "origin", "main")
	return w, ann, rev
}

// fetched clones a world's shop anew and returns what main is.
func fetched(t *testing.T, w *sourcetest.World) string {
	t.Helper()
	k := w.Work(t, "kim")
	k.Git("fetch", "--quiet", "origin", "main")
	k.Git("fsck", "--strict", "--full")
	return k.Git("rev-parse", "FETCH_HEAD")
}

func TestALostFolderComesBackFromRowsAndPacks(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w, ann, rev := landed(t, d)
		ann.Commit("second", "a.txt", "2\n")
		ann.Git("push", "--quiet", "origin", "HEAD:refs/heads/topic")
		remove(t, w.Git.Dir(w.Repo.ID))
		if got := fetched(t, w); got != rev { // The same process, which thinks it is in line.
			t.Errorf("main is %s; want %s", got, rev)
		}
		remove(t, w.Git.Dir(w.Repo.ID))
		after := w.Restart(t)
		if got := fetched(t, after); got != rev {
			t.Errorf("after a restart main is %s; want %s", got, rev)
		}
	})
}

func remove(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

func bare(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"--git-dir=" + dir}, args...)...)
	cmd.Env = git.Env("GIT_AUTHOR_NAME=x", "GIT_AUTHOR_EMAIL=x@x", "GIT_COMMITTER_NAME=x", "GIT_COMMITTER_EMAIL=x@x")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func TestTamperedRefsAreRestoredAtStart(t *testing.T) {
	w, ann, rev := landed(t, dbtest.SQLite(t))
	second := ann.Commit("second", "a.txt", "2\n")
	ann.Git("push", "--quiet", "origin", "HEAD:refs/heads/topic")
	dir := w.Git.Dir(w.Repo.ID)
	bare(t, dir, "update-ref", "refs/heads/main", second)
	bare(t, dir, "update-ref", "refs/heads/planted", second)
	bare(t, dir, "update-ref", "-d", "refs/heads/topic")
	if err := os.WriteFile(filepath.Join(dir, "refs", "heads", "main.lock"), nil, 0o600); err != nil {
		t.Fatal(err) // As a killed git leaves it.
	}
	after := w.Restart(t)
	k := after.Work(t, "kim")
	got := k.Git("ls-remote", "origin")
	want := second + "\trefs/heads/topic"
	if !strings.Contains(got, rev+"\trefs/heads/main") || !strings.Contains(got, want) || strings.Contains(got, "planted") {
		t.Errorf("refs\n%s\nwant main at %s and topic at %s, and nothing planted", got, rev, second)
	}
}

func TestALostPackComesBackAtStart(t *testing.T) {
	w, _, rev := landed(t, dbtest.SQLite(t))
	if got := fetched(t, w); got != rev {
		t.Fatal(got)
	}
	packs, err := filepath.Glob(filepath.Join(w.Git.Dir(w.Repo.ID), "objects", "pack", "*.pack"))
	if err != nil || len(packs) == 0 {
		t.Fatal(packs, err)
	}
	for _, p := range packs {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	if got := fetched(t, w.Restart(t)); got != rev {
		t.Errorf("main is %s; want %s", got, rev)
	}
}

func TestReplicasSeeEachOthersPushes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w, ann, rev := landed(t, d)
		other := w.Replica(t)
		if got := fetched(t, other); got != rev {
			t.Errorf("main is %s there; want %s", got, rev)
		}
		second := ann.Commit("second", "a.txt", "2\n")
		ann.Git("push", "--quiet", other.Remote("ann"), "HEAD:refs/heads/topic")
		k := w.Work(t, "kim")
		k.Git("fetch", "--quiet", "origin", "topic")
		if got := k.Git("rev-parse", "FETCH_HEAD"); got != second {
			t.Errorf("topic is %s here; want %s", got, second)
		}
		// A push that builds on what the other replica has never seen on disk.
		k.Git("reset", "--quiet", "--hard", "FETCH_HEAD")
		third := k.Commit("third", "a.txt", "3\n")
		k.Git("push", "--quiet", "origin", "HEAD:refs/heads/topic")
		if head, err := other.Source.Head(t.Context(), w.Repo.ID, "topic"); err != nil || head != third {
			t.Errorf("topic is %s, %v; want %s", head, err, third)
		}
		ann.Git("fetch", "--quiet", other.Remote("ann"), "topic")
		// A push against what has moved elsewhere is refused.
		ann.Commit("late", "a.txt", "4\n")
		ann.Refused("rejected", "push", other.Remote("ann"), "HEAD:refs/heads/topic")
	})
}

func TestAPushThatGitDidNotFinishIsTrueAfterwards(t *testing.T) {
	for name, end := range map[string]string{"hook fails after the commit": "exit 1", "git is killed after the commit": "kill -9 $PPID; exit 1"} {
		t.Run(name, func(t *testing.T) {
			w, ann, _ := landed(t, dbtest.SQLite(t))
			hook := filepath.Join(w.Handler.HooksDir, "pre-receive")
			real := filepath.Join(t.TempDir(), "pre-receive")
			if err := os.Rename(hook, real); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(hook, []byte("#!/bin/sh\n"+real+"\n"+end+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			rev := ann.Commit("second", "a.txt", "2\n")
			if out, err := ann.Try("push", "origin", "HEAD:refs/heads/topic"); err == nil {
				t.Fatalf("push succeeded:\n%s", out)
			}
			if err := os.Rename(real, hook); err != nil {
				t.Fatal(err)
			}
			for _, now := range []*sourcetest.World{w, w.Restart(t)} {
				k := now.Work(t, "kim")
				k.Git("fetch", "--quiet", "origin", "topic")
				if got := k.Git("rev-parse", "FETCH_HEAD"); got != rev {
					t.Errorf("topic is %s; want %s, as the rows say", got, rev)
				}
			}
			// The person who pushes again is told that it is there.
			if out := ann.Git("push", "origin", "HEAD:refs/heads/topic"); !strings.Contains(out, "Everything up-to-date") {
				t.Errorf("git says %q", out)
			}
		})
	}
}

func TestQuestionsAreAnsweredFromTheTree(t *testing.T) {
	w, ann, first := landed(t, dbtest.SQLite(t))
	second := ann.Commit("feat: second\n\nbody", "a.txt", "2\n", "new name.txt", "x\n")
	ann.Git("push", "--quiet", "origin", "HEAD:refs/heads/topic")
	ctx, id := t.Context(), w.Repo.ID
	if b, err := w.Git.ReadFile(ctx, id, second, "dir/b.txt"); err != nil || string(b) != "2\n" {
		t.Errorf("ReadFile() = %q, %v", b, err)
	}
	if files, err := w.Git.List(ctx, id, second, "dir"); err != nil || strings.Join(files, " ") != "dir/b.txt" {
		t.Errorf("List() = %v, %v", files, err)
	}
	if files, err := w.Git.List(ctx, id, second, "nowhere"); err != nil || len(files) != 0 {
		t.Errorf("List(nowhere) = %v, %v", files, err)
	}
	if files, err := w.Git.ChangedFiles(ctx, id, first, second); err != nil || strings.Join(files, "|") != "a.txt|new name.txt" {
		t.Errorf("ChangedFiles() = %v, %v", files, err)
	}
	if log, err := w.Git.Log(ctx, id, first, second, 10); err != nil || len(log) != 1 || log[0].Subject != "feat: second" || strings.TrimSpace(log[0].Body) != "body" || log[0].Author != "ann" {
		t.Errorf("Log() = %+v, %v", log, err)
	}
	var patch strings.Builder
	if err := w.Git.Diff(ctx, id, first, second, &patch, 1<<20); err != nil || !strings.Contains(patch.String(), "-1\n+2\n") {
		t.Errorf("Diff() = %q, %v", patch.String(), err)
	}
	dir := t.TempDir()
	if err := w.Git.Checkout(ctx, id, second, dir); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "dir", "deep", "c.txt")); err != nil || string(b) != "3\n" {
		t.Errorf("checked out %q, %v", b, err)
	}
	if kind, err := w.Git.Kind(ctx, id, second); err != nil || kind != "commit" {
		t.Errorf("Kind() = %q, %v", kind, err)
	}
	if kind, err := w.Git.Kind(ctx, id, strings.Repeat("1", 40)); err != nil || kind != "" {
		t.Errorf("Kind() of nothing = %q, %v", kind, err)
	}
}

func TestHostileNamesAreRefusedWithASentence(t *testing.T) {
	w, _, rev := landed(t, dbtest.SQLite(t))
	ctx, id := t.Context(), w.Repo.ID
	for _, p := range []string{"../x", "/etc/passwd", "a\nb", "a\x00b", "dir/../../x"} {
		if _, err := w.Git.ReadFile(ctx, id, rev, p); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), "is not a path inside a repository") {
			t.Errorf("ReadFile(%q) = %v", p, err)
		}
	}
	for _, p := range []string{"dir", "nothing", "a.txt/x"} {
		if _, err := w.Git.ReadFile(ctx, id, rev, p); !fault.Is(err, fault.NotFound) {
			t.Errorf("ReadFile(%q) = %v; want not found", p, err)
		}
	}
	for _, r := range []string{"", "main", "--output=/tmp/x", "HEAD~1", rev[:12]} {
		if _, err := w.Git.Log(ctx, id, "", r, 1); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), "is not a full revision of 40 hexadecimal digits") {
			t.Errorf("Log(%q) = %v", r, err)
		}
	}
}
