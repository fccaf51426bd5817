package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sort"
	"strings"
	"time"

	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

// RootUpdate is the predicate type of a statement by which the keys of an
// installation hand on trust: its subject is the new trusted_root.json, its
// signer the generation of keys that was trusted until then.
const RootUpdate = "https://weir.dev/trusted-root/v1"

type rootUpdate struct {
	Generation  int    `json:"generation"`
	Reason      string `json:"reason"`
	TrustedRoot []byte `json:"trustedRoot"` // the file, in base64
}

// Keys lists the generations of keys, the first one first.
func (s *Service) Keys(ctx context.Context) ([]Generation, error) {
	if err := identity.Check(ctx, "evidence.read", "default"); err != nil {
		return nil, err
	}
	return s.keys.List(), nil
}

// Rotate makes new keys and signs with them from now on. What was signed before
// goes on to verify. The old keys sign the new trusted root, so that whoever
// trusts them can follow, and are then removed.
func (s *Service) Rotate(ctx context.Context, in Places, reason string) (Generation, error) {
	if err := identity.Check(ctx, "keys.manage", "default"); err != nil {
		return Generation{}, err
	}
	if strings.TrimSpace(reason) == "" {
		return Generation{}, fault.New(fault.Invalid, "Say why the keys are rotated; the reason is kept in the ledger.")
	}
	s.rotating.Lock()
	defer s.rotating.Unlock()
	next, err := s.keys.next(in, reason, s.now())
	if err != nil {
		return Generation{}, err
	}
	made := next.List()[len(next.all)-1]
	if err := s.share(ctx, made.Number); err != nil {
		return Generation{}, errors.Join(err, os.RemoveAll(s.keys.folder(made.Number))) // nobody has used it
	}
	if err := s.note(ctx, "evidence.keys_rotated", made.KeyID, made); err != nil {
		return Generation{}, err
	}
	if err := s.trust(next); err != nil {
		return Generation{}, err
	}
	return made, s.succeed(ctx)
}

// Revoke distrusts what a former generation signed from since on. What it
// signed before stays trusted.
func (s *Service) Revoke(ctx context.Context, number int, since time.Time, reason string) (Generation, error) {
	if err := identity.Check(ctx, "keys.manage", "default"); err != nil {
		return Generation{}, err
	}
	switch {
	case strings.TrimSpace(reason) == "":
		return Generation{}, fault.New(fault.Invalid, "Say why the keys are revoked; the reason is kept in the ledger.")
	case since.After(s.now()):
		return Generation{}, fault.New(fault.Invalid, "Keys can be revoked from now on or from an earlier time, not from %s on.", since.UTC().Format(time.RFC3339))
	}
	s.rotating.Lock()
	defer s.rotating.Unlock()
	next, meta, err := s.keys.revoked(number, since, reason)
	if err != nil {
		return Generation{}, err
	}
	g := next.List()[number-1]
	if err := s.note(ctx, "evidence.keys_revoked", g.KeyID, g); err != nil {
		return Generation{}, err
	}
	if err := s.keys.save(meta); err != nil {
		return Generation{}, err
	}
	if err := s.share(ctx, number); err != nil {
		return Generation{}, err
	}
	if err := s.trust(next); err != nil {
		return Generation{}, err
	}
	return g, s.handOn(ctx, s.keys.Current(), fmt.Sprintf("revoked-%d-%d", number, meta.Revoked.Unix()), number, reason)
}

// trust makes the service use keys.
func (s *Service) trust(keys *Keys) error {
	root, err := keys.TrustedRoot(s.log)
	if err != nil {
		return err
	}
	s.keys.take(keys)
	s.mu.Lock()
	s.root = root
	s.mu.Unlock()
	if s.Published != nil {
		return s.Published(root)
	}
	return nil
}

// succeed lets each former generation that still has its keys hand trust on to
// the next one, and then takes its keys away. It goes on where a crash stopped it.
func (s *Service) succeed(ctx context.Context) error {
	s.keys.mu.RLock()
	all := s.keys.all
	s.keys.mu.RUnlock()
	for i, a := range all[:len(all)-1] {
		if a.issuingKey == nil {
			continue
		}
		if err := s.handOn(ctx, a, fmt.Sprintf("generation-%d", i+2), i+2, all[i+1].meta.Reason); err != nil {
			return err
		}
	}
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	if len(s.keys.all) != len(all) {
		return nil
	}
	return s.keys.retire()
}

// handOn lets a sign the present trusted root.
func (s *Service) handOn(ctx context.Context, a *Authority, key string, generation int, reason string) error {
	raw := s.TrustedRoot().JSON()
	sum := sha256.Sum256(raw)
	_, err := s.signWith(ctx, a, Statement{Key: key, PredicateType: RootUpdate, Subjects: []Subject{SHA256("trusted_root.json", hex.EncodeToString(sum[:]))},
		Predicate: rootUpdate{generation, reason, raw}})
	if err != nil {
		return fmt.Errorf("sign the new trusted root: %w", err)
	}
	return nil
}

// RootUpdates lists the bundles by which trust was handed on, the first one first.
func (s *Service) RootUpdates(ctx context.Context) ([]json.RawMessage, error) {
	found, err := s.Find(ctx, Query{PredicateType: RootUpdate})
	if err != nil {
		return nil, err
	}
	sort.Slice(found, func(i, k int) bool { return found[i].Index < found[k].Index })
	out := []json.RawMessage{}
	for _, e := range found {
		out = append(out, e.Bundle)
	}
	return out, nil
}

// Follow returns the newest trusted root that the keys of trust lead to. Each
// step must be signed by keys that are trusted before it, be in the log, and take
// nothing away: no key may vanish, and what was revoked stays revoked.
func Follow(trust TrustedRoot, updates []json.RawMessage) (TrustedRoot, error) {
	for _, raw := range updates {
		payload, err := Peek(raw)
		if err != nil {
			return trust, err
		}
		if payload != RootUpdate {
			return trust, fault.New(fault.Invalid, "an update of the trusted root says %s, but %s is required", payload, RootUpdate)
		}
		next, sum, err := proposed(raw)
		if err != nil {
			return trust, err
		}
		if string(next.json) == string(trust.json) || Extends(next, trust) {
			continue // an update that this root is the outcome of, or has been followed by
		}
		if _, err := Verify(raw, trust, Want{PredicateType: RootUpdate, SubjectDigest: "sha256:" + sum, Identity: trust.Issuer + "/control-plane"}); err != nil {
			return trust, fault.Wrap(fault.Denied, err, "the new trusted root is not signed by keys that are trusted now: %s", fault.Sentence(err))
		}
		if !Extends(trust, next) {
			return trust, fault.New(fault.Denied, "the new trusted root takes away what was known: a key is missing, or one that was revoked is trusted again")
		}
		trust = next
	}
	return trust, nil
}

// proposed reads what an update would make trusted. Nothing of it is proven yet.
func proposed(raw []byte) (next TrustedRoot, sum string, err error) {
	var b struct {
		Envelope struct {
			Payload []byte `json:"payload"`
		} `json:"dsseEnvelope"`
	}
	var w wire
	var p rootUpdate
	if json.Unmarshal(raw, &b) != nil || json.Unmarshal(b.Envelope.Payload, &w) != nil || json.Unmarshal(w.Predicate, &p) != nil {
		return next, "", fault.New(fault.Invalid, "an update of the trusted root is damaged")
	}
	digest := sha256.Sum256(p.TrustedRoot)
	next, err = ParseTrustedRoot(p.TrustedRoot)
	return next, hex.EncodeToString(digest[:]), err
}

// Extends reports whether next keeps every key of trust, and every end that is
// set to one. The issuer and the name of the log never change.
func Extends(trust, next TrustedRoot) bool {
	if trust.Issuer != next.Issuer || trust.Origin != next.Origin {
		return false
	}
	have, err := next.keys()
	if err != nil {
		return false
	}
	had, err := trust.keys()
	if err != nil {
		return false
	}
	for key, end := range had {
		newEnd, ok := have[key]
		if !ok || !end.IsZero() && (newEnd.IsZero() || newEnd.After(end)) {
			return false
		}
	}
	return true
}

// keys lists every key and certificate of a trusted root with the end of its time.
func (t TrustedRoot) keys() (map[string]time.Time, error) {
	type span struct {
		ValidFor struct {
			End time.Time `json:"end"`
		} `json:"validFor"`
	}
	type authority struct {
		span
		CertChain struct {
			Certificates []struct {
				RawBytes []byte `json:"rawBytes"`
			} `json:"certificates"`
		} `json:"certChain"`
	}
	type log struct {
		PublicKey struct {
			RawBytes []byte `json:"rawBytes"`
			span
		} `json:"publicKey"`
	}
	var all struct {
		CAs    []authority `json:"certificateAuthorities"`
		TSAs   []authority `json:"timestampAuthorities"`
		CTLogs []log       `json:"ctlogs"`
		TLogs  []log       `json:"tlogs"`
	}
	if err := json.Unmarshal(t.json, &all); err != nil {
		return nil, err
	}
	out := map[string]time.Time{}
	for kind, list := range map[string][]authority{"ca": all.CAs, "tsa": all.TSAs} {
		for _, a := range list {
			for _, c := range a.CertChain.Certificates {
				out[kind+base64.StdEncoding.EncodeToString(c.RawBytes)] = a.ValidFor.End
			}
		}
	}
	for kind, list := range map[string][]log{"ct": all.CTLogs, "log": all.TLogs} {
		for _, l := range list {
			out[kind+base64.StdEncoding.EncodeToString(l.PublicKey.RawBytes)] = l.PublicKey.ValidFor.End
		}
	}
	return out, nil
}

// note tells the ledger, if there is one.
func (s *Service) note(ctx context.Context, action, subject string, data any) error {
	if s.Note == nil {
		slog.InfoContext(ctx, "signing keys changed", "action", action, "key", subject)
		return nil
	}
	return s.Note(ctx, action, subject, data)
}
