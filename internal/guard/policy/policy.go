// Package policy is the only thing that says yes. It looks only at evidence: a
// versioned input document that holds everything a decision depends on, the
// time, freezes, exceptions and the state of the environment included.
//
// Each decision is stored with the digest of its input, and the input by that
// digest, so that a decision can be replayed and a new rule tried on old inputs.
// An action for which no rule is known is refused.
package policy

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"

	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/id"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
)

//go:embed migrations
var migrations embed.FS

// InputType and InputVersion name the shape of the input document.
const (
	InputType    = "weir.policy_input"
	InputVersion = 1
)

// Input is everything a decision depends on.
type Input struct {
	Type    string         `json:"type"`
	Version int            `json:"version"`
	Action  string         `json:"action"`  // "change.land", "artifact.admit", "release.promote", "release.rollback"
	Subject string         `json:"subject"` // revision or digest
	Time    time.Time      `json:"time"`
	Actor   identity.Actor `json:"actor"`
	// Facts is the typed document of the action: Land, Admit, Promote or Rollback.
	Facts json.RawMessage `json:"facts"`
	// Evidence names the signed statements that were looked at.
	Evidence   []EvidenceRef `json:"evidence"`
	Freezes    []Freeze      `json:"freezes"`
	Exceptions []Exception   `json:"exceptions"`
}

// EvidenceRef is one signed statement whose signature was verified.
type EvidenceRef struct {
	ID            string `json:"id"`
	PredicateType string `json:"predicate_type"`
	Subject       string `json:"subject"`
	LedgerIndex   int64  `json:"ledger_index"`
}

// Freeze keeps an environment as it is for a while. A rollback passes.
type Freeze struct {
	ID      string    `json:"id"`
	Scope   string    `json:"scope"` // environment name, or "*"
	Reason  string    `json:"reason"`
	Owner   string    `json:"owner"`
	Expires time.Time `json:"expires"`
}

// Exception lets one rule pass for one subject until it expires.
type Exception struct {
	ID      string    `json:"id"`
	Rule    string    `json:"rule"`
	Subject string    `json:"subject"`
	Reason  string    `json:"reason"`
	Owner   string    `json:"owner"`
	Expires time.Time `json:"expires"`
}

// RuleResult is what one rule says.
type RuleResult struct {
	Rule    string   `json:"rule"`
	Allow   bool     `json:"allow"`
	Message string   `json:"message"`
	Source  string   `json:"source"`            // where the rule is written
	Missing []string `json:"missing,omitempty"` // evidence that would change it
	Who     []string `json:"who,omitempty"`     // people, roles or parts that can supply it
	Warning bool     `json:"warning,omitempty"`
}

// Decision is what policy said, once.
type Decision struct {
	ID          string       `json:"id"`
	Action      string       `json:"action"`
	Subject     string       `json:"subject"`
	Scope       string       `json:"scope,omitempty"` // environment, if any
	Allow       bool         `json:"allow"`
	InputDigest string       `json:"input_digest"`
	Rules       []RuleResult `json:"rules"`
	Time        time.Time    `json:"time"`
}

// Blocks returns the rules that say no.
func (d Decision) Blocks() []RuleResult {
	return slices.DeleteFunc(slices.Clone(d.Rules), func(r RuleResult) bool { return r.Allow })
}

// Rule looks at one input. It is pure: same input, same result.
type Rule struct {
	Name   string
	Source string // where it is written: "built in", or file and line
	// Absolute rules hold whatever exception there is: what they guard, such as
	// the integrity of bytes, is nobody's to waive.
	Absolute bool
	Eval     func(in Input) (RuleResult, error)
}

// Policy decides and remembers.
type Policy struct {
	db     *db.DB
	ledger *ledger.Log
	rules  map[string][]Rule
	now    func() time.Time
}

// New brings the tables up to date. rules are the gates, by action.
func New(ctx context.Context, d *db.DB, log *ledger.Log, rules map[string][]Rule, now func() time.Time) (*Policy, error) {
	if err := db.Migrate(ctx, d, "policy", migrations); err != nil {
		return nil, err
	}
	return &Policy{d, log, rules, now}, nil
}

// Evaluate runs the rules of an action over an input. It is pure.
func Evaluate(rules []Rule, in Input) (allow bool, results []RuleResult, err error) {
	if len(rules) == 0 {
		return false, []RuleResult{{Rule: "default", Message: fmt.Sprintf("No rule allows %s.", in.Action), Source: "built in"}}, nil
	}
	allow = true
	for _, r := range rules {
		res, err := r.Eval(in)
		if err != nil {
			return false, nil, fmt.Errorf("rule %s: %w", r.Name, err)
		}
		res.Rule, res.Source = r.Name, r.Source
		for _, e := range in.Exceptions {
			if !res.Allow && !r.Absolute && e.Rule == r.Name && e.Subject == in.Subject && in.Time.Before(e.Expires) {
				res.Allow, res.Warning = true, true
				res.Message = fmt.Sprintf("%s Passed by exception %s (%s, by %s, until %s).", res.Message, e.ID, e.Reason, e.Owner, e.Expires.UTC().Format(time.RFC3339))
			}
		}
		allow = allow && res.Allow
		results = append(results, res)
	}
	return allow, results, nil
}

// Decide answers a question and stores the answer, with the whole input by its
// digest. The same no to the same question for the same reasons is stored once,
// so that asking again while waiting leaves no trail of copies; so is every
// answer about what runs and about a job that enters, which is asked again and again.
func (p *Policy) Decide(ctx context.Context, in Input) (Decision, error) {
	in.Type, in.Version = InputType, InputVersion
	if in.Time.IsZero() {
		in.Time = p.now()
	}
	in.Time = in.Time.UTC()
	if in.Actor.ID == "" {
		in.Actor = identity.From(ctx)
	}
	freezes, exceptions, err := p.standing(ctx, in)
	if err != nil {
		return Decision{}, err
	}
	in.Freezes, in.Exceptions = freezes, exceptions
	allow, results, err := Evaluate(p.rules[in.Action], in)
	if err != nil {
		return Decision{}, err
	}
	raw, err := json.Marshal(in)
	if err != nil {
		return Decision{}, err
	}
	body, err := jsoncanonicalizer.Transform(raw)
	if err != nil {
		return Decision{}, fmt.Errorf("policy input: %w", err)
	}
	sum := sha256.Sum256(body)
	d := Decision{ID: id.New("decision"), Action: in.Action, Subject: in.Subject, Scope: scope(in.Facts), Allow: allow, InputDigest: "sha256:" + hex.EncodeToString(sum[:]), Rules: results, Time: in.Time}
	rules, err := json.Marshal(d.Rules)
	if err != nil {
		return Decision{}, err
	}
	err = p.db.Write(ctx, func(tx *db.Tx) error {
		known, err := newest(ctx, tx, in.Action, in.Subject, scope(in.Facts))
		if err == nil && known.Allow == allow && (!allow || in.Action == ActionRun || in.Action == ActionEnter) && sameRules(known.Rules, results) {
			d = known
			return nil
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if _, err := tx.Exec(ctx, "insert into policy_input (org, digest, body) values ('default', ?, ?) on conflict (digest) do nothing", d.InputDigest, string(body)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "insert into decision (org, id, action, subject, scope, allow, input_digest, rules, at) values ('default', ?, ?, ?, ?, ?, ?, ?, ?)",
			d.ID, d.Action, d.Subject, scope(in.Facts), db.Bool(allow), d.InputDigest, string(rules), in.Time.UnixMicro()); err != nil {
			return err
		}
		verb := "policy.denied"
		if allow {
			verb = "policy.allowed"
		}
		_, err = p.ledger.Append(ctx, tx, ledger.Entry{Actor: in.Actor, Action: verb, Subject: in.Subject,
			Data: map[string]any{"action": in.Action, "decision": d.ID, "input_digest": d.InputDigest, "scope": scope(in.Facts), "rules": results}})
		return err
	})
	return d, err
}

// scope tells decisions about one subject apart: the environment, if any.
func scope(facts json.RawMessage) string {
	var f struct {
		Environment string `json:"environment"`
	}
	_ = json.Unmarshal(facts, &f) // Facts without an environment have no scope.
	return f.Environment
}

func sameRules(a, b []RuleResult) bool {
	return slices.EqualFunc(a, b, func(x, y RuleResult) bool {
		return x.Rule == y.Rule && x.Allow == y.Allow && x.Message == y.Message && slices.Equal(x.Missing, y.Missing) && slices.Equal(x.Who, y.Who)
	})
}

func newest(ctx context.Context, q db.Querier, action, subject, scope string) (Decision, error) {
	row := q.QueryRow(ctx, "select id, action, subject, scope, allow, input_digest, rules, at from decision where action = ? and subject = ? and scope = ? order by at desc, id desc limit 1", action, subject, scope)
	return scan(row)
}

func scan(r interface{ Scan(...any) error }) (Decision, error) {
	var (
		d     Decision
		allow int
		rules string
		at    int64
	)
	if err := r.Scan(&d.ID, &d.Action, &d.Subject, &d.Scope, &allow, &d.InputDigest, &rules, &at); err != nil {
		return d, err
	}
	d.Allow, d.Time = allow != 0, db.Time(at)
	return d, json.Unmarshal([]byte(rules), &d.Rules)
}

// Decisions returns what was decided about a subject, newest first.
func (p *Policy) Decisions(ctx context.Context, subject string) ([]Decision, error) {
	rows, err := p.db.Query(ctx, "select id, action, subject, scope, allow, input_digest, rules, at from decision where subject = ? order by at desc, id desc limit 200", subject)
	return db.Collect(rows, err, func(r *sql.Rows) (Decision, error) { return scan(r) })
}

// Decision returns one by its id.
func (p *Policy) Decision(ctx context.Context, id string) (Decision, error) {
	d, err := scan(p.db.QueryRow(ctx, "select id, action, subject, scope, allow, input_digest, rules, at from decision where id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		return d, fault.New(fault.NotFound, "There is no decision %s.", id)
	}
	return d, err
}

// Facts reads what a decision looked at into facts.
func (p *Policy) Facts(ctx context.Context, d Decision, facts any) error {
	in, err := p.input(ctx, d)
	if err != nil {
		return err
	}
	return json.Unmarshal(in.Facts, facts)
}

// input is the stored input of a decision, held against its digest.
func (p *Policy) input(ctx context.Context, d Decision) (in Input, err error) {
	var body string
	if err := p.db.QueryRow(ctx, "select body from policy_input where digest = ?", d.InputDigest).Scan(&body); err != nil {
		return in, fmt.Errorf("input of decision %s: %w", d.ID, err)
	}
	sum := sha256.Sum256([]byte(body))
	if got := "sha256:" + hex.EncodeToString(sum[:]); got != d.InputDigest {
		return in, fault.New(fault.Conflict, "The stored input of decision %s no longer has its digest: it was changed.", d.ID)
	}
	return in, json.Unmarshal([]byte(body), &in)
}

// Replay decides a stored decision again, from its stored input, with the
// rules of today. It stores nothing.
func (p *Policy) Replay(ctx context.Context, decisionID string) (was, now Decision, err error) {
	if err := identity.Check(ctx, "evidence.read", "default"); err != nil {
		return was, now, err
	}
	if was, err = p.Decision(ctx, decisionID); err != nil {
		return was, now, err
	}
	in, err := p.input(ctx, was)
	if err != nil {
		return was, now, err
	}
	now = was
	now.Allow, now.Rules, err = Evaluate(p.rules[in.Action], in)
	return was, now, err
}

// standing returns the freezes and exceptions that have not expired.
func (p *Policy) standing(ctx context.Context, in Input) ([]Freeze, []Exception, error) {
	rows, err := p.db.Query(ctx, "select id, scope, reason, owner, expires from policy_freeze where org = 'default' and expires > ? order by id", in.Time.UnixMicro())
	freezes, err := db.Collect(rows, err, func(r *sql.Rows) (f Freeze, err error) {
		var expires int64
		err = r.Scan(&f.ID, &f.Scope, &f.Reason, &f.Owner, &expires)
		f.Expires = db.Time(expires)
		return f, err
	})
	if err != nil {
		return nil, nil, err
	}
	rows, err = p.db.Query(ctx, "select id, rule, subject, reason, owner, expires from policy_exception where org = 'default' and expires > ? order by id", in.Time.UnixMicro())
	exceptions, err := db.Collect(rows, err, func(r *sql.Rows) (e Exception, err error) {
		var expires int64
		err = r.Scan(&e.ID, &e.Rule, &e.Subject, &e.Reason, &e.Owner, &expires)
		e.Expires = db.Time(expires)
		return e, err
	})
	return freezes, exceptions, err
}
