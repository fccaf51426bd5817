package policy_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/base/lease"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
	"weir/internal/guard/policy"
	"weir/internal/guard/policy/rules"
)

type world struct {
	d   *db.DB
	p   *policy.Policy
	now time.Time
	ctx context.Context
}

func open(t *testing.T, d *db.DB) *world {
	t.Helper()
	if err := lease.Migrate(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	key, err := ledger.LoadKey(filepath.Join(t.TempDir(), "key"), "log.test")
	if err != nil {
		t.Fatal(err)
	}
	log, err := ledger.Open(t.Context(), d, key)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{d: d, now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), ctx: identity.With(t.Context(), identity.System("test"))}
	if w.p, err = policy.New(t.Context(), d, log, rules.All(), func() time.Time { return w.now }); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if err := w.d.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(t.Context(), query, args...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	if err := w.d.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (w *world) decide(t *testing.T, action string, facts any) policy.Decision {
	t.Helper()
	raw, err := json.Marshal(facts)
	if err != nil {
		t.Fatal(err)
	}
	d, err := w.p.Decide(w.ctx, policy.Input{Action: action, Subject: "sha256:aa", Facts: raw})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func promote(environment string, approvals ...policy.Approval) policy.Promote {
	return policy.Promote{Environment: environment, Version: "1.1.0", Digest: "sha256:aa", Admitted: true, Verified: true, NeedApprovals: 1, Eligible: []string{"ben", "kim"}, Approvals: approvals}
}

var rollback = policy.Rollback{Environment: "production", Version: "1.0.0", Digest: "sha256:aa", AdmittedHere: true, Intact: true}

func TestAStoredDecisionReplaysToTheSame(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		for _, made := range []policy.Decision{w.decide(t, policy.ActionPromote, promote("production")), w.decide(t, policy.ActionRollback, rollback)} {
			w.now = w.now.Add(100 * time.Hour) // Time is part of the input, so it stands still.
			was, again, err := w.p.Replay(w.ctx, made.ID)
			if err != nil {
				t.Fatal(err)
			}
			a, _ := json.Marshal(was)
			b, _ := json.Marshal(again)
			if string(a) != string(b) || was.InputDigest != made.InputDigest || !was.Time.Equal(made.Time) {
				t.Errorf("replayed\n%s\nwas\n%s", b, a)
			}
		}
		if n := w.count(t, "select count(*) from ledger_entry where action in ('policy.allowed', 'policy.denied')"); n != 2 {
			t.Errorf("%d ledger entries; want 2", n)
		}
	})
}

func TestAChangedInputIsNotReplayed(t *testing.T) {
	w := open(t, dbtest.SQLite(t))
	made := w.decide(t, policy.ActionPromote, promote("production"))
	w.exec(t, "update policy_input set body = replace(body, '1.1.0', '1.2.0')")
	_, _, err := w.p.Replay(w.ctx, made.ID)
	if !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Sentence(err), "no longer has its digest: it was changed") {
		t.Errorf("Replay() = %v", err)
	}
	if _, _, err := w.p.Replay(w.ctx, "decision_x"); !fault.Is(err, fault.NotFound) {
		t.Errorf("Replay() of none = %v", err)
	}
	if _, _, err := w.p.Replay(identity.With(t.Context(), identity.Actor{ID: "user_1", Name: "dev", Kind: identity.User, Roles: []string{identity.Developer}}), made.ID); !fault.Is(err, fault.Denied) {
		t.Errorf("Replay() by a developer = %v; want a refusal", err)
	}
}

func TestAskingAgainWhileWaitingLeavesOneDecision(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		first := w.decide(t, policy.ActionPromote, promote("production"))
		w.now = w.now.Add(time.Minute)
		if again := w.decide(t, policy.ActionPromote, promote("production")); again.ID != first.ID {
			t.Errorf("the same refusal is stored as %s and %s", first.ID, again.ID)
		}
		if other := w.decide(t, policy.ActionPromote, promote("staging")); other.ID == first.ID {
			t.Error("a refusal for another environment is taken for this one")
		}
		two := promote("production")
		two.NeedApprovals = 2
		if other := w.decide(t, policy.ActionPromote, two); other.ID == first.ID || !strings.Contains(other.Rules[3].Message, "0 of 2") {
			t.Errorf("a refusal that says something else is not stored: %+v", other)
		}
		yes := promote("production", policy.Approval{By: "ben", Digest: "sha256:aa", Environment: "production", Expires: w.now.Add(time.Hour)})
		a, b := w.decide(t, policy.ActionPromote, yes), w.decide(t, policy.ActionPromote, yes)
		if !a.Allow || a.ID == b.ID {
			t.Errorf("each yes is a decision of its own: %s, %s", a.ID, b.ID)
		}
		all, err := w.p.Decisions(t.Context(), "sha256:aa")
		if err != nil || len(all) != 5 {
			t.Errorf("Decisions() = %d, %v; want 5", len(all), err)
		}
	})
}

func TestStandingFreezesAndExceptionsArePartOfTheInput(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		ok := promote("production", policy.Approval{By: "ben", Digest: "sha256:aa", Environment: "production", Expires: w.now.Add(100 * time.Hour)})
		w.exec(t, "insert into policy_freeze (org, id, scope, reason, owner, expires) values ('default', 'freeze_1', 'production', 'year''s end', 'mia', ?)", w.now.Add(time.Hour).UnixMicro())
		frozen := w.decide(t, policy.ActionPromote, ok)
		if frozen.Allow || !strings.Contains(frozen.Blocks()[0].Message, "production is frozen until") {
			t.Errorf("a promotion passes a freeze: %+v", frozen)
		}
		if back := w.decide(t, policy.ActionRollback, rollback); !back.Allow {
			t.Errorf("a rollback does not pass a freeze: %+v", back)
		}
		w.now = w.now.Add(time.Hour)
		if d := w.decide(t, policy.ActionPromote, ok); !d.Allow {
			t.Errorf("a freeze that is over stops a promotion: %+v", d)
		}
		w.exec(t, "insert into policy_exception (org, id, rule, subject, reason, owner, expires) values ('default', 'ex_1', 'environment.approvals', 'sha256:aa', 'outage', 'mia', ?)", w.now.Add(time.Minute).UnixMicro())
		passed := w.decide(t, policy.ActionPromote, promote("production"))
		if !passed.Allow {
			t.Errorf("the exception is not looked at: %+v", passed)
		}
		w.now = w.now.Add(time.Minute)
		if d := w.decide(t, policy.ActionPromote, promote("production")); d.Allow {
			t.Error("the exception outlives its end")
		}
		if _, again, err := w.p.Replay(w.ctx, passed.ID); err != nil || !again.Allow {
			t.Errorf("Replay() = %+v, %v; the exception was part of the input", again, err)
		}
	})
}

func TestAnUnknownActionIsDeniedAndRecorded(t *testing.T) {
	w := open(t, dbtest.SQLite(t))
	d := w.decide(t, "universe.end", struct{}{})
	if d.Allow || d.Rules[0].Message != "No rule allows universe.end." {
		t.Errorf("%+v", d)
	}
	if n := w.count(t, "select count(*) from ledger_entry where action = 'policy.denied'"); n != 1 {
		t.Errorf("%d ledger entries; want 1", n)
	}
}
