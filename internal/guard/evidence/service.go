package evidence

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/id"
)

// Record is a signature as it is stored: evidence and what its bundle will be
// made of.
type Record struct {
	Evidence
	Signature   []byte
	Certificate []byte
	Timestamp   []byte
	Entry       []byte // log entry body
	EntryID     string // in the ledger
}

func (r Record) complete() bool { return len(r.Bundle) > 0 }

func (r Record) signature() signature {
	hint, _ := strings.CutPrefix(r.Identity, bareIdentity)
	if !bare(r.Evidence) {
		hint = ""
	}
	return signature{KeyHint: hint, Payload: r.Statement, Sig: r.Signature, Certificate: r.Certificate, Timestamp: r.Timestamp, Entry: r.Entry,
		NotBefore: r.NotBefore, NotAfter: r.NotAfter, Time: r.Time}
}

// Store keeps records. Its adapter is evidencedb.
type Store interface {
	// Add stores r and, in the same transaction, calls enter for the id of its
	// log entry. If the statement was signed before, it returns that record
	// and calls nothing.
	Add(ctx context.Context, r Record, enter func(context.Context, *db.Tx) (string, error)) (Record, error)
	// Complete stores the bundle of a record that has none yet.
	Complete(ctx context.Context, id string, index int64, bundle []byte) error
	// Lookup returns the record of a statement, and whether there is one.
	Lookup(ctx context.Context, org, predicateType, subject, key string) (Record, bool, error)
	// Pending lists records without a bundle, oldest first.
	Pending(ctx context.Context, limit int) ([]Record, error)
	// Find lists complete evidence, oldest first.
	Find(ctx context.Context, q Query) ([]Evidence, error)
}

// Query selects evidence. Empty fields select all.
type Query struct {
	Org           string // "" means "default"
	Subject       string // "sha256:..." or "gitCommit:..."
	PredicateType string
	Key           string
	Limit         int // 0 means 1000
}

// Service signs and finds evidence.
type Service struct {
	// Note, if set, keeps a change of the keys in the ledger, before it is made.
	Note func(ctx context.Context, action, subject string, data any) error
	// ImageKey, if set, signs images as well, for verifiers without certificates.
	ImageKey *ImageKey
	// Share, if set, hands new keys to the other servers of this installation, before they are used.
	Share func(ctx context.Context, x Shared) error
	// Published, if set, is told of a new trusted root.
	Published func(TrustedRoot) error

	store    Store
	log      Log
	keys     *Keys
	now      func() time.Time
	rotating sync.Mutex // held while keys change

	mu    sync.RWMutex
	root  TrustedRoot
	lacks string // why nothing can be signed here, "" if it can
}

// New returns the service. now is the clock of signatures; nil means time.Now.
func New(store Store, log Log, keys *Keys, now func() time.Time) (*Service, error) {
	if now == nil {
		now = time.Now
	}
	root, err := keys.TrustedRoot(log)
	if err != nil {
		return nil, err
	}
	return &Service{store: store, log: log, keys: keys, root: root, now: now}, nil
}

// Name makes the service a part of the process.
func (s *Service) Name() string { return "evidence" }

// Issuer is the URL below which every signer's identity lies.
func (s *Service) Issuer() string { return s.keys.Current().Issuer() }

// TrustedRoot is what a verifier of this installation's evidence needs.
func (s *Service) TrustedRoot() TrustedRoot {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.root
}

// Sign signs st, or returns what was signed for the same predicate type,
// subject and key before. It waits for the log.
func (s *Service) Sign(ctx context.Context, st Statement) (Evidence, error) {
	return s.signWith(ctx, s.keys.Current(), st)
}

func (s *Service) signWith(ctx context.Context, a *Authority, st Statement) (Evidence, error) {
	st, err := st.normal(s.Issuer())
	if err != nil {
		return Evidence{}, err
	}
	r, found, err := s.store.Lookup(ctx, st.Org, st.PredicateType, st.subject(), st.Key)
	if err != nil {
		return Evidence{}, fmt.Errorf("look up evidence %s about %s: %w", st.PredicateType, st.subject(), err)
	}
	if !found {
		if err := s.ready(); err != nil {
			return Evidence{}, err
		}
		if r, err = s.record(ctx, a, st); err != nil {
			return Evidence{}, err
		}
	}
	return s.finish(ctx, r)
}

// record makes a signature and stores it with its log entry.
func (s *Service) record(ctx context.Context, a *Authority, st Statement) (Record, error) {
	payload, err := st.payload()
	if err != nil {
		return Record{}, err
	}
	sig, err := a.sign(payload, st.Identity, s.now())
	if err != nil {
		return Record{}, err
	}
	return s.keep(ctx, a, st, sig)
}

// keep stores a signature with its log entry.
func (s *Service) keep(ctx context.Context, a *Authority, st Statement, sig signature) (Record, error) {
	r := Record{
		Evidence: Evidence{ID: id.New("ev"), Org: st.Org, Key: st.Key, Identity: st.Identity, PredicateType: st.PredicateType,
			PredicateVersion: st.PredicateVersion, Subject: st.subject(), Statement: sig.Payload, Index: -1,
			KeyID: a.KeyID(), NotBefore: sig.NotBefore, NotAfter: sig.NotAfter, Time: sig.Time},
		Signature: sig.Sig, Certificate: sig.Certificate, Timestamp: sig.Timestamp, Entry: sig.Entry,
	}
	for _, sub := range st.Subjects {
		r.Subjects = append(r.Subjects, sub.Digests()...)
	}
	r, err := s.store.Add(ctx, r, func(ctx context.Context, tx *db.Tx) (string, error) {
		return s.log.AppendRaw(ctx, tx, "hashedrekord", sig.Entry)
	})
	if err != nil {
		return Record{}, fmt.Errorf("store evidence %s about %s: %w", st.PredicateType, st.subject(), err)
	}
	return r, nil
}

// finish waits for the position of r in the log and stores its bundle. Doing it
// twice stores the first bundle only; both would verify.
func (s *Service) finish(ctx context.Context, r Record) (Evidence, error) {
	if r.complete() {
		return r.Evidence, nil
	}
	proof, err := s.log.Await(ctx, r.EntryID)
	if err != nil {
		return Evidence{}, fmt.Errorf("await log entry %s of evidence %s: %w", r.EntryID, r.ID, err)
	}
	by := proof.Key
	if by == nil {
		by = s.log.PublicKey()
	}
	b, err := r.signature().bundle(proof, logID(s.log.Origin(), by))
	if err != nil {
		return Evidence{}, err
	}
	if err := s.store.Complete(ctx, r.ID, proof.Index, b); err != nil {
		return Evidence{}, fmt.Errorf("store bundle of evidence %s: %w", r.ID, err)
	}
	r.Bundle, r.Index = b, proof.Index
	return r.Evidence, nil
}

// Find lists complete evidence, oldest first.
func (s *Service) Find(ctx context.Context, q Query) ([]Evidence, error) {
	if q.Org == "" {
		q.Org = "default"
	}
	if q.Limit <= 0 {
		q.Limit = 1000
	}
	found, err := s.store.Find(ctx, q)
	// What a bare key signed is for others: it says nothing that Weir would believe.
	return slices.DeleteFunc(found, bare), err
}

// About lists all complete evidence about a digest, oldest first.
func (s *Service) About(ctx context.Context, digest string) ([]Evidence, error) {
	return s.Find(ctx, Query{Subject: digest})
}

// Run completes what a crash left without a bundle, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	for {
		err := s.Recover(ctx)
		if err == nil {
			s.rotating.Lock()
			err = s.succeed(ctx)
			s.rotating.Unlock()
		}
		if err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, "evidence not completed", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(30 * time.Second):
		}
	}
}

// Recover completes every signature that has no bundle yet.
func (s *Service) Recover(ctx context.Context) error {
	for {
		pending, err := s.store.Pending(ctx, 100)
		if err != nil {
			return fmt.Errorf("list incomplete evidence: %w", err)
		}
		for _, r := range pending {
			if _, err := s.finish(ctx, r); err != nil {
				return err
			}
		}
		if len(pending) < 100 {
			return nil
		}
	}
}
