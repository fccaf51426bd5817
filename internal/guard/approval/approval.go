// Package approval keeps consent: one person's signed statement that these
// bytes, with this configuration, may go to this environment. It is void for
// anything else, and it expires.
package approval

import (
	"context"
	"database/sql"
	"embed"
	"slices"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/id"
	"weir/internal/guard/evidence"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
	"weir/internal/guard/policy"
)

//go:embed migrations
var migrations embed.FS

// Life is how long an approval may wait to be used.
const Life = 24 * time.Hour

// PredicateType of the signed statement.
const PredicateType = "https://weir.dev/approval/v1"

// Request names what is approved.
type Request struct {
	ReleaseID    string
	Version      string
	Digest       string
	Environment  string
	ConfigDigest string
	Authors      []string // whose approval does not count
	Eligible     []string // user names; those who may give it
	Verdict      string   // approve | reject
	Reason       string
}

// Signer signs statements.
type Signer interface {
	Sign(ctx context.Context, st evidence.Statement) (evidence.Evidence, error)
}

// Approvals gives and finds consent.
type Approvals struct {
	db     *db.DB
	ledger *ledger.Log
	signer Signer
	now    func() time.Time
}

// New brings the tables up to date.
func New(ctx context.Context, d *db.DB, log *ledger.Log, signer Signer, now func() time.Time) (*Approvals, error) {
	if err := db.Migrate(ctx, d, "approval", migrations); err != nil {
		return nil, err
	}
	return &Approvals{d, log, signer, now}, nil
}

// Give records the consent, or the refusal, of the actor of ctx.
func (s *Approvals) Give(ctx context.Context, r Request) (policy.Approval, error) {
	if err := identity.Check(ctx, "release.approve", "default"); err != nil {
		return policy.Approval{}, err
	}
	who := identity.From(ctx)
	if slices.Contains(r.Authors, who.Name) {
		return policy.Approval{}, fault.New(fault.Denied, "%s wrote part of %s and cannot approve it. Ask somebody else.", who.Name, r.Version)
	}
	if !slices.Contains(r.Eligible, who.Name) {
		return policy.Approval{}, fault.New(fault.Denied, "%s is not in the group that approves %s. An admin can add people to it.", who.Name, r.Environment)
	}
	if r.Verdict != "approve" && r.Verdict != "reject" {
		return policy.Approval{}, fault.New(fault.Invalid, "An approval says approve or reject, not %q.", r.Verdict)
	}
	now := s.now().UTC()
	a := policy.Approval{ID: id.New("approval"), By: who.Name, Digest: r.Digest, Environment: r.Environment, ConfigDigest: r.ConfigDigest, Time: now, Expires: now.Add(Life)}
	ev, err := s.signer.Sign(ctx, evidence.Statement{PredicateType: PredicateType, Key: a.ID, Subjects: []evidence.Subject{evidence.SHA256(r.Version, r.Digest)},
		Predicate: map[string]any{"approval": a.ID, "by": who.ID, "release": r.ReleaseID, "version": r.Version, "environment": r.Environment,
			"configDigest": r.ConfigDigest, "verdict": r.Verdict, "reason": r.Reason, "time": now, "expires": a.Expires}})
	if err != nil {
		return policy.Approval{}, err
	}
	err = s.db.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `insert into approval (org, id, release_id, digest, environment, config_digest, account_id, by_name, verdict, reason, evidence_id, expires, at)
			values ('default', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			a.ID, r.ReleaseID, r.Digest, r.Environment, r.ConfigDigest, who.ID, who.Name, r.Verdict, r.Reason, ev.ID, a.Expires.UnixMicro(), now.UnixMicro()); err != nil {
			return err
		}
		tx.Wake(Topic)
		_, err := s.ledger.Append(ctx, tx, ledger.Entry{Actor: who, Action: "release." + map[string]string{"approve": "approved", "reject": "rejected"}[r.Verdict], Subject: r.Digest,
			Data: map[string]any{"approval": a.ID, "release": r.ReleaseID, "environment": r.Environment, "config_digest": r.ConfigDigest, "evidence": ev.ID, "reason": r.Reason}})
		return err
	})
	return a, err
}

// Topic is woken when consent was given.
const Topic = "approval"

// For returns the consent given for a digest in an environment: the newest word
// of each person, if it was yes.
func (s *Approvals) For(ctx context.Context, digest, environment string) ([]policy.Approval, error) {
	rows, err := s.db.Query(ctx, "select id, by_name, digest, environment, config_digest, verdict, expires, at from approval where digest = ? and environment = ? order by at, id", digest, environment)
	type word struct {
		policy.Approval
		verdict string
	}
	words, err := db.Collect(rows, err, func(r *sql.Rows) (w word, err error) {
		var expires, at int64
		err = r.Scan(&w.ID, &w.By, &w.Digest, &w.Environment, &w.ConfigDigest, &w.verdict, &expires, &at)
		w.Expires, w.Time = db.Time(expires), db.Time(at)
		return w, err
	})
	if err != nil {
		return nil, err
	}
	newest := map[string]word{}
	for _, w := range words {
		newest[w.By] = w
	}
	var out []policy.Approval
	for _, w := range words {
		if w.verdict == "approve" && newest[w.By].ID == w.ID {
			out = append(out, w.Approval)
		}
	}
	return out, nil
}
