package secret_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/lease"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
	"weir/internal/guard/secret"
)

func open(t *testing.T, d *db.DB, key string) *secret.Store {
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
	s, err := secret.Open(t.Context(), d, log, key, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func as(ctx context.Context, roles ...string) context.Context {
	return identity.With(ctx, identity.Actor{ID: "user_ada", Name: "ada", Kind: identity.User, Roles: roles})
}

func TestNearerValuesWinAndAreNeverReadBack(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := open(t, d, filepath.Join(t.TempDir(), "keys", "secret.key"))
		ctx := as(t.Context(), "admin")
		for _, x := range []struct{ repo, env, value string }{{"", "", "org"}, {"", "prod", "org-prod"}, {"r1", "", "repo"}, {"r1", "prod", "repo-prod"}} {
			if err := s.Set(ctx, secret.Secret, secret.Place{RepositoryID: x.repo, Environment: x.env}, "token", x.value); err != nil {
				t.Fatal(err)
			}
		}
		for _, x := range []struct{ repo, env, want string }{{"r1", "prod", "repo-prod"}, {"r1", "PROD", "repo-prod"}, {"r1", "", "repo"}, {"r2", "prod", "org-prod"}, {"r2", "test", "org"}} {
			got, err := s.Values(t.Context(), secret.Secret, x.repo, x.env)
			if err != nil || got["TOKEN"] != x.want {
				t.Errorf("in %s %s: %v, %v; want %s", x.repo, x.env, got, err, x.want)
			}
		}
		items, err := s.List(ctx, secret.Secret, "r1")
		if err != nil || len(items) != 2 || items[0].Value != "" || items[0].By != "ada" {
			t.Errorf("List() = %+v, %v", items, err)
		}
		var stored string
		if err := d.QueryRow(t.Context(), "select value from secret where repository_id = 'r1' and environment = ''").Scan(&stored); err != nil || strings.Contains(stored, "repo") {
			t.Errorf("stored as %q, %v", stored, err)
		}
	})
}

func TestAMovedRowOrALostKeyOpensNothing(t *testing.T) {
	d := dbtest.SQLite(t)
	path := filepath.Join(t.TempDir(), "secret.key")
	s := open(t, d, path)
	ctx := as(t.Context(), "admin")
	if err := s.Set(ctx, secret.Secret, secret.Place{RepositoryID: "r1"}, "A", "x"); err != nil {
		t.Fatal(err)
	}
	if err := d.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(t.Context(), "update secret set repository_id = 'r2'")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Values(t.Context(), secret.Secret, "r2", ""); err == nil || !strings.Contains(err.Error(), "cannot be opened") {
		t.Errorf("a moved row opened: %v, %v", got, err)
	}
	if err := os.WriteFile(path, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.Open(t.Context(), d, nil, path, time.Now); err == nil || !strings.Contains(err.Error(), "is damaged. Restore it") {
		t.Errorf("a damaged key: %v", err)
	}
}

func TestWhoMayAndWhatIsRefused(t *testing.T) {
	s := open(t, dbtest.SQLite(t), filepath.Join(t.TempDir(), "secret.key"))
	ctx := as(t.Context(), "maintainer")
	for key, want := range map[string]string{"1A": "is not a name", "GITHUB_TOKEN": "is not a name", "A-B": "is not a name", "EMPTY": "would be empty"} {
		if err := s.Set(ctx, secret.Secret, secret.Place{}, key, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Set(%s) = %v; want %q", key, err, want)
		}
	}
	if err := s.Set(ctx, secret.Secret, secret.Place{}, "BIG", strings.Repeat("x", secret.MaxValue+1)); err == nil || !strings.Contains(err.Error(), "it may have") {
		t.Errorf("a large value: %v", err)
	}
	if err := s.Delete(ctx, secret.Variable, secret.Place{}, "NONE"); err == nil || !strings.Contains(err.Error(), "There is no variable NONE") {
		t.Errorf("Delete() = %v", err)
	}
	for _, roles := range [][]string{{"developer"}, {"approver"}, {"auditor"}, nil} {
		if err := s.Set(as(t.Context(), roles...), secret.Secret, secret.Place{}, "A", "x"); err == nil || !strings.Contains(err.Error(), "may not do this") {
			t.Errorf("%v set a secret: %v", roles, err)
		}
	}
	if err := s.Set(ctx, secret.Variable, secret.Place{}, "V", "1"); err != nil {
		t.Fatal(err)
	}
	items, err := s.List(as(t.Context(), "developer"), secret.Variable, "")
	if err != nil || len(items) != 1 || items[0].Value != "1" {
		t.Errorf("variables = %+v, %v", items, err)
	}
}
