package mirror_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/base/blob/dir"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/base/lease"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
	"weir/internal/source/mirror"
)

type world struct {
	*mirror.Store
	upstream, cache string
}

func (w *world) git(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", w.upstream, "-c", "user.name=a", "-c", "user.email=a@example.com"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (w *world) commit(t *testing.T, text string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.upstream, "action.yml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	w.git(t, "add", "-A")
	w.git(t, "commit", "-qm", text)
	return w.git(t, "rev-parse", "HEAD")
}

func open(t *testing.T, d *db.DB) *world {
	t.Helper()
	if err := lease.Migrate(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	k, err := ledger.LoadKey(filepath.Join(t.TempDir(), "log"), "log.test")
	if err != nil {
		t.Fatal(err)
	}
	log, err := ledger.Open(t.Context(), d, k)
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{cache: t.TempDir(), upstream: filepath.Join(t.TempDir(), "acme", "hello")}
	if err := os.MkdirAll(w.upstream, 0o755); err != nil {
		t.Fatal(err)
	}
	w.git(t, "init", "-q", "-b", "main")
	if w.Store, err = mirror.Open(t.Context(), d, blobs, log, w.cache, time.Now); err != nil {
		t.Fatal(err)
	}
	return w
}

func as(ctx context.Context, roles ...string) context.Context {
	return identity.With(ctx, identity.Actor{ID: "user_ada", Name: "ada", Kind: identity.User, Roles: roles})
}

// A name means the same bytes until a person fetches again, also when the cache is gone and the upstream, too.
func TestAReferenceStaysUntilItIsFetchedAgain(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		one := w.commit(t, "one")
		w.git(t, "tag", "-a", "-m", "x", "v1")
		ctx := as(t.Context(), "maintainer")
		m, err := w.Add(ctx, "", w.upstream)
		if err != nil || m.Name != "acme/hello" || m.By != "ada" {
			t.Fatalf("Add() = %+v, %v", m, err)
		}
		two := w.commit(t, "two")
		w.git(t, "tag", "-f", "-a", "-m", "x", "v1")
		for _, ref := range []string{"v1", "main", one, "refs/tags/v1"} {
			if got, err := w.Resolve(t.Context(), "Acme/Hello", ref); err != nil || got != one {
				t.Errorf("Resolve(%s) = %s, %v; want %s", ref, got, err, one)
			}
		}
		if _, err := w.Resolve(t.Context(), "acme/hello", two); err == nil || !strings.Contains(fault.Sentence(err), "weir mirror update acme/hello") {
			t.Errorf("a revision that was not fetched: %v", err)
		}
		if err := os.RemoveAll(w.cache); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(w.cache, 0o700); err != nil {
			t.Fatal(err)
		}
		to := t.TempDir()
		if err := w.Checkout(t.Context(), "acme/hello", one, to); err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(filepath.Join(to, "action.yml")); string(b) != "one" {
			t.Errorf("checked out %q", b)
		}
		if _, err := w.Add(ctx, "acme/hello", ""); err != nil {
			t.Fatal(err)
		}
		if got, err := w.Resolve(t.Context(), "acme/hello", "v1"); err != nil || got != two {
			t.Errorf("after the update v1 is %s, %v; want %s", got, err, two)
		}
		if b, err := w.ReadFile(t.Context(), "acme/hello", two, "action.yml"); err != nil || string(b) != "two" {
			t.Errorf("ReadFile() = %q, %v", b, err)
		}
		var moved string
		if err := d.QueryRow(t.Context(), "select count(*) from source_mirror").Scan(&moved); err != nil || moved != "1" {
			t.Errorf("%s mirrors, %v", moved, err)
		}
	})
}

func TestWhatCannotBeMirroredIsSaid(t *testing.T) {
	w := open(t, dbtest.SQLite(t))
	ctx := as(t.Context(), "admin")
	for from, want := range map[string]string{
		"ext::sh -c touch% /tmp/x":           "comes from an https:// URL",
		"-u./x":                              "comes from an https:// URL",
		"relative/path":                      "comes from an https:// URL",
		"file:///etc":                        "comes from an https:// URL",
		filepath.Join(w.upstream, "nowhere"): "cannot be fetched",
		w.upstream:                           "has 0 branches and tags",
		"https://":                           "comes from an https:// URL",
	} {
		if _, err := w.Add(ctx, "acme/x", from); err == nil || !strings.Contains(fault.Sentence(err), want) {
			t.Errorf("Add(%s) = %v; want %q", from, err, want)
		}
	}
	w.commit(t, "one")
	if _, err := w.Add(ctx, "no-owner", w.upstream); err == nil || !strings.Contains(fault.Sentence(err), "is not the name of a repository") {
		t.Errorf("a bad name: %v", err)
	}
	if _, err := w.Add(as(t.Context(), "developer"), "acme/x", w.upstream); !fault.Is(err, fault.Denied) {
		t.Errorf("a developer added a mirror: %v", err)
	}
	if _, err := w.Resolve(t.Context(), "acme/none", "v1"); err == nil || !strings.Contains(fault.Sentence(err), "weir mirror add https://github.com/acme/none") {
		t.Errorf("no mirror: %v", err)
	}
	if _, err := w.ReadFile(t.Context(), "acme/x", "main", "x"); err == nil || !strings.Contains(fault.Sentence(err), "is not a full revision") {
		t.Errorf("a loose revision: %v", err)
	}
}
