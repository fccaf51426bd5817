package identity_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

func as(ctx context.Context, roles ...string) context.Context {
	return identity.With(ctx, identity.Actor{ID: "user_x", Name: "x", Kind: identity.User, Roles: roles})
}

// The whole matrix: an action that is not listed for a role is refused.
func TestEachRoleMayDoItsOwnAndNothingElse(t *testing.T) {
	read := []string{"repository.read", "change.read", "run.read", "artifact.read", "release.read", "rollout.read", "registry.pull", "repository.pull",
		"variable.read", "secret.read", "mirror.read"}
	write := []string{"repository.push", "change.open", "change.review", "change.land", "run.rerun", "run.cancel", "run.start"}
	may := map[string][]string{
		identity.Developer:  write,
		identity.Maintainer: append([]string{"registry.push", "registry.delete", "secret.write", "variable.write", "mirror.write", "repository.create", "rollout.pause", "rollout.promote", "rollout.rollback"}, write...),
		identity.Approver:   {"release.approve", "change.review", "rollout.pause", "rollout.rollback"},
		identity.Auditor:    {"ledger.read", "evidence.read", "user.read", "registry.hold"},
		identity.Admin: {"user.create", "user.read", "user.roles", "token.create", "repository.create", "ledger.read", "evidence.read",
			"rollout.pause", "rollout.rollback", "system.read", "secret.write", "variable.write", "mirror.write",
			"agent.manage", "garbage.collect", "registry.delete", "registry.hold", "registry.manage"},
	}
	all := map[string]bool{"registry.tag": true, "no.such_action": true}
	for _, actions := range may {
		for _, a := range actions {
			all[a] = true
		}
	}
	for role, actions := range may {
		ctx := as(t.Context(), role)
		for action := range all {
			want := contains(actions, action)
			err := identity.Check(ctx, action, "default")
			if (err == nil) != want {
				t.Errorf("%s doing %s: %v; want allowed = %v", role, action, err, want)
			}
			if err != nil && !fault.Is(err, fault.Denied) {
				t.Errorf("%s doing %s: %v; want denied", role, action, err)
			}
		}
		for _, action := range read {
			if err := identity.Check(ctx, action, "default"); err != nil {
				t.Errorf("%s doing %s: %v", role, action, err)
			}
		}
	}
	for action := range all {
		if err := identity.Check(t.Context(), action, "default"); !fault.Is(err, fault.Denied) || !strings.Contains(fault.Sentence(err), "not signed in") {
			t.Errorf("anonymous doing %s: %v; want denied", action, err)
		}
	}
}

func contains(s []string, v string) bool {
	for _, x := range s {
		if x == v {
			return true
		}
	}
	return false
}

func open(t *testing.T, d *db.DB, now *time.Time) (*identity.Accounts, *[]string) {
	t.Helper()
	var log []string
	a, err := identity.Open(t.Context(), d, func(_ context.Context, _ *db.Tx, action, _ string, _ any) error {
		log = append(log, action)
		return nil
	}, func() time.Time { return *now })
	if err != nil {
		t.Fatal(err)
	}
	return a, &log
}

func TestFirstAdminSignsInOnceByALink(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		now := time.Now()
		accounts, log := open(t, d, &now)
		link, err := accounts.Bootstrap(t.Context())
		if err != nil || link == "" {
			t.Fatalf("Bootstrap() = %q, %v", link, err)
		}
		session, who, err := accounts.SignIn(t.Context(), link)
		if err != nil || who.Name != "admin" {
			t.Fatalf("SignIn() = %v, %v", who, err)
		}
		if a, err := accounts.Authenticate(t.Context(), session); err != nil || a.Name != "admin" {
			t.Errorf("Authenticate() = %v, %v", a, err)
		}
		if _, _, err := accounts.SignIn(t.Context(), link); !fault.Is(err, fault.Denied) {
			t.Errorf("second SignIn() = %v; want denied", err)
		}
		if again, err := accounts.Bootstrap(t.Context()); err != nil || again != "" {
			t.Errorf("second Bootstrap() = %q, %v; want none", again, err)
		}
		if err := accounts.SignOut(t.Context(), session); err != nil {
			t.Fatal(err)
		}
		if _, err := accounts.Authenticate(t.Context(), session); !fault.Is(err, fault.Denied) {
			t.Errorf("Authenticate() after signing out = %v; want denied", err)
		}
		if got := strings.Join(*log, " "); got != "user.created token.created user.signed_in token.created" {
			t.Errorf("recorded %s", got)
		}
	})
}

func TestTokensExpireWithASentence(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		now := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
		accounts, _ := open(t, d, &now)
		admin := as(t.Context(), identity.Admin)
		if _, err := accounts.Create(admin, identity.Account{Name: "mira", Roles: []string{identity.Developer}}); err != nil {
			t.Fatal(err)
		}
		for life, ok := range map[time.Duration]bool{0: false, identity.MaxTokenLife + 1: false, time.Hour: true} {
			if _, err := accounts.Token(admin, "mira", "laptop", life); (err == nil) != ok {
				t.Errorf("Token(%v) = %v", life, err)
			}
		}
		token, err := accounts.Token(admin, "mira", "laptop", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := accounts.Authenticate(t.Context(), token); err != nil || a.Name != "mira" {
			t.Fatalf("Authenticate() = %v, %v", a, err)
		}
		now = now.Add(2 * time.Hour)
		_, err = accounts.Authenticate(t.Context(), token)
		if want := "This token expired on 2 January 2026 04:04 UTC. Make a new one with `weir token create`."; fault.Sentence(err) != want {
			t.Errorf("Authenticate() = %v; want %q", err, want)
		}
		for _, bad := range []string{"", "hunter2", token[:len(token)-1] + "x"} {
			if _, err := accounts.Authenticate(t.Context(), bad); !fault.Is(err, fault.Denied) {
				t.Errorf("Authenticate(%q) = %v; want denied", bad, err)
			}
		}
	})
}

func TestOnlyAdminsMakeAccountsAndOthersTokens(t *testing.T) {
	d := dbtest.SQLite(t)
	now := time.Now()
	accounts, _ := open(t, d, &now)
	dev := as(t.Context(), identity.Developer)
	if _, err := accounts.Create(dev, identity.Account{Name: "eve"}); !fault.Is(err, fault.Denied) {
		t.Errorf("Create() by a developer = %v; want denied", err)
	}
	admin := as(t.Context(), identity.Admin)
	for _, bad := range []identity.Account{{Name: "Eve!"}, {Name: "eve", Roles: []string{"root"}}} {
		if _, err := accounts.Create(admin, bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("Create(%+v) = %v; want invalid", bad, err)
		}
	}
	if _, err := accounts.Create(admin, identity.Account{Name: "eve"}); err != nil {
		t.Fatal(err)
	}
	if _, err := accounts.Create(admin, identity.Account{Name: "eve"}); !fault.Is(err, fault.Conflict) {
		t.Errorf("second Create() = %v; want conflict", err)
	}
	if _, err := accounts.Token(dev, "eve", "x", time.Hour); !fault.Is(err, fault.Denied) {
		t.Errorf("Token() for somebody else = %v; want denied", err)
	}
}
