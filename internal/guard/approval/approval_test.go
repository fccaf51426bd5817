package approval_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/base/lease"
	"weir/internal/guard/approval"
	"weir/internal/guard/evidence"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
)

// signer keeps what it signs.
type signer struct {
	signed []evidence.Statement
	err    error
}

func (s *signer) Sign(_ context.Context, st evidence.Statement) (evidence.Evidence, error) {
	s.signed = append(s.signed, st)
	return evidence.Evidence{ID: "ev_1"}, s.err
}

type world struct {
	*approval.Approvals
	d      *db.DB
	signer *signer
	now    time.Time
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
	w := &world{d: d, signer: &signer{}, now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	if w.Approvals, err = approval.New(t.Context(), d, log, w.signer, func() time.Time { return w.now }); err != nil {
		t.Fatal(err)
	}
	return w
}

func as(ctx context.Context, name string, roles ...string) context.Context {
	return identity.With(ctx, identity.Actor{ID: "user_" + name, Name: name, Kind: identity.User, Roles: roles})
}

var request = approval.Request{ReleaseID: "rel_1", Version: "1.1.0", Digest: "sha256:aa", Environment: "production", ConfigDigest: "sha256:cc", Authors: []string{"ann"}, Eligible: []string{"ann", "ben", "kim"}, Verdict: "approve"}

func TestConsentIsSignedRecordedAndBoundToWhatItWasGivenFor(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		given, err := w.Give(as(t.Context(), "ben", identity.Approver), request)
		if err != nil {
			t.Fatal(err)
		}
		if given.By != "ben" || given.Digest != "sha256:aa" || given.Environment != "production" || given.ConfigDigest != "sha256:cc" || given.Expires != w.now.Add(approval.Life) {
			t.Errorf("Give() = %+v", given)
		}
		if s := w.signer.signed; len(s) != 1 || s[0].PredicateType != approval.PredicateType || s[0].Key != given.ID || s[0].Subjects[0].Digest["sha256"] != "aa" {
			t.Errorf("signed %+v", s)
		}
		for _, c := range []struct {
			digest, environment string
			want                int
		}{{"sha256:aa", "production", 1}, {"sha256:bb", "production", 0}, {"sha256:aa", "staging", 0}} {
			if got, err := w.For(t.Context(), c.digest, c.environment); err != nil || len(got) != c.want {
				t.Errorf("For(%s, %s) = %+v, %v; want %d", c.digest, c.environment, got, err, c.want)
			}
		}
		var n int
		if err := d.QueryRow(t.Context(), "select count(*) from ledger_entry where action = 'release.approved' and subject = 'sha256:aa'").Scan(&n); err != nil || n != 1 {
			t.Errorf("%d ledger entries, %v; want 1", n, err)
		}
	})
}

func TestWhoMayNotApproveIsToldWhy(t *testing.T) {
	w := open(t, dbtest.SQLite(t))
	for _, c := range []struct {
		name, role string
		kind       fault.Kind
		want       string
		change     func(*approval.Request)
	}{
		{"ann", identity.Approver, fault.Denied, "ann wrote part of 1.1.0 and cannot approve it. Ask somebody else.", nil},
		{"eve", identity.Approver, fault.Denied, "eve is not in the group that approves production. An admin can add people to it.", nil},
		{"ben", identity.Developer, fault.Denied, "ben may not do this: release.approve", nil},
		{"ben", identity.Admin, fault.Denied, "ben may not do this: release.approve", nil},
		{"ben", identity.Approver, fault.Invalid, `An approval says approve or reject, not "yes".`, func(r *approval.Request) { r.Verdict = "yes" }},
	} {
		r := request
		if c.change != nil {
			c.change(&r)
		}
		if _, err := w.Give(as(t.Context(), c.name, c.role), r); !fault.Is(err, c.kind) || !strings.Contains(fault.Sentence(err), c.want) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
	if _, err := w.Give(t.Context(), request); !fault.Is(err, fault.Denied) {
		t.Errorf("nobody: %v", err)
	}
	if got, err := w.For(t.Context(), "sha256:aa", "production"); err != nil || len(got) != 0 || len(w.signer.signed) != 0 {
		t.Errorf("For() = %+v, %v; signed %d; want nothing", got, err, len(w.signer.signed))
	}
}

func TestTheNewestWordOfEachPersonCounts(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := open(t, d)
		say := func(who, verdict string) {
			t.Helper()
			w.now = w.now.Add(time.Second)
			r := request
			r.Verdict = verdict
			if _, err := w.Give(as(t.Context(), who, identity.Approver), r); err != nil {
				t.Fatal(err)
			}
		}
		want := func(names ...string) {
			t.Helper()
			got, err := w.For(t.Context(), "sha256:aa", "production")
			var by []string
			for _, a := range got {
				by = append(by, a.By)
			}
			if err != nil || strings.Join(by, " ") != strings.Join(names, " ") {
				t.Errorf("approved by %v, %v; want %v", by, err, names)
			}
		}
		say("ben", "approve")
		say("kim", "approve")
		want("ben", "kim")
		say("ben", "reject")
		want("kim")
		say("ben", "approve")
		want("kim", "ben")
		say("ben", "approve") // twice is once
		want("kim", "ben")
	})
}

func TestWhatCannotBeSignedIsNotStored(t *testing.T) {
	w := open(t, dbtest.SQLite(t))
	w.signer.err = errors.New("no key")
	if _, err := w.Give(as(t.Context(), "ben", identity.Approver), request); !errors.Is(err, w.signer.err) {
		t.Errorf("Give() = %v", err)
	}
	if got, err := w.For(t.Context(), "sha256:aa", "production"); err != nil || len(got) != 0 {
		t.Errorf("For() = %+v, %v; want nothing", got, err)
	}
}
