package evidence

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"weir/internal/base/fault"
)

// MaxBundle is the size above which a bundle is not even read.
const MaxBundle = 16 << 20

// Want is what a verifier insists on. PredicateType and SubjectDigest are
// always required; so is one of Identity and IdentityPrefix.
type Want struct {
	PredicateType  string
	SubjectDigest  string // "sha256:<hex>" or "gitCommit:<hex>"
	Identity       string // the signer, exactly
	IdentityPrefix string // or how its name begins; end it with "/" or "@"
	Issuer         string // "" means the issuer that the trusted root names
}

// Verified is a statement whose signature holds.
type Verified struct {
	Statement        // Predicate is a json.RawMessage
	Issuer    string // who certified the signer
	SignedAt  time.Time
	Index     int64 // position in the log
}

// Decode reads the predicate into v.
func (v Verified) Decode(to any) error {
	raw, _ := v.Predicate.(json.RawMessage)
	if err := json.Unmarshal(raw, to); err != nil {
		return fault.Wrap(fault.Invalid, err, "the predicate of type %s has another shape than its type promises", v.PredicateType)
	}
	return nil
}

// Verify checks raw against root and want, offline. Certificates are judged at
// the time of the timestamp, so that evidence does not spoil with age.
func Verify(raw []byte, trust TrustedRoot, want Want) (Verified, error) {
	if want.PredicateType == "" || want.SubjectDigest == "" || want.Identity == "" && want.IdentityPrefix == "" {
		return Verified{}, fmt.Errorf("verify evidence: predicate type, subject and identity are required")
	}
	if trust.root == nil {
		return Verified{}, fault.New(fault.Invalid, "there is no trusted root to verify with; pass the trusted_root.json of the installation that signed")
	}
	if len(raw) > MaxBundle {
		return Verified{}, fault.New(fault.Invalid, "the bundle has %d bytes, more than the %d a bundle may have", len(raw), MaxBundle)
	}
	var b bundle.Bundle
	if err := b.UnmarshalJSON(raw); err != nil {
		return Verified{}, fault.Wrap(fault.Invalid, err, "the bundle is damaged: it is not a readable sigstore bundle")
	}
	result, err := verifySignature(&b, trust)
	if err != nil {
		return Verified{}, err
	}
	v, err := read(&b)
	if err != nil {
		return Verified{}, err
	}
	cert := result.Signature.Certificate
	v.Identity, v.Issuer = cert.SubjectAlternativeName, cert.Issuer
	v.SignedAt = result.VerifiedTimestamps[0].Timestamp
	return v, want.check(v, trust)
}

// verifySignature holds the bundle against the keys; it does not yet ask who
// signed what.
func verifySignature(b *bundle.Bundle, trust TrustedRoot) (*verify.VerificationResult, error) {
	entries, err := b.TlogEntries()
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the bundle is damaged: its log entry cannot be read")
	}
	known := trust.root.RekorLogs()
	if len(entries) == 0 {
		return nil, fault.New(fault.Denied, "the evidence has no entry in a log, so nobody could have noticed it")
	}
	for _, e := range entries {
		if _, ok := known[hex.EncodeToString([]byte(e.LogKeyID()))]; !ok {
			return nil, fault.New(fault.Denied, "the evidence is in a log that this trusted root does not know (it knows %s); is this the trusted_root.json of the installation that signed?", trust.Origin)
		}
	}
	v, err := verify.NewVerifier(trust.root, verify.WithSignedTimestamps(1), verify.WithTransparencyLog(1), verify.WithSignedCertificateTimestamps(1))
	if err != nil {
		return nil, fmt.Errorf("make verifier: %w", err)
	}
	// Subject and signer are compared by Want.check, which knows commits too.
	result, err := v.Verify(b, verify.NewPolicy(verify.WithoutArtifactUnsafe(), verify.WithoutIdentitiesUnsafe()))
	if err != nil {
		return nil, fault.Wrap(fault.Denied, err, "the evidence does not verify: it was changed after signing, or signed by keys that the trusted root does not know")
	}
	if result.Signature == nil || result.Signature.Certificate == nil || len(result.VerifiedTimestamps) == 0 {
		return nil, fault.New(fault.Denied, "the evidence was signed by a bare key; a certificate that names the signer is required")
	}
	for _, e := range entries { // the library looks at the time of a log's key only where entries have a time of their own
		end := known[hex.EncodeToString([]byte(e.LogKeyID()))].ValidityPeriodEnd
		if at := result.VerifiedTimestamps[0].Timestamp; !end.IsZero() && at.After(end) {
			return nil, fault.New(fault.Denied, "the evidence of %s is in a log whose key was replaced by another at %s", at.UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339))
		}
	}
	return result, nil
}

// read takes the statement out of a bundle that verified.
func read(b *bundle.Bundle) (Verified, error) {
	env, err := b.Envelope()
	if err != nil || env == nil {
		return Verified{}, fault.New(fault.Invalid, "the bundle signs bytes, not a statement; a statement is required")
	}
	payload := b.GetDsseEnvelope().GetPayload()
	if t := b.GetDsseEnvelope().GetPayloadType(); t != payloadType {
		return Verified{}, fault.New(fault.Invalid, "the bundle holds %q, not an in-toto statement", t)
	}
	var w wire
	if err := json.Unmarshal(payload, &w); err != nil || w.Type != statementType {
		return Verified{}, fault.New(fault.Invalid, "the bundle holds no in-toto v1 statement")
	}
	v := Verified{Statement: Statement{PredicateType: w.PredicateType, Subjects: w.Subject, Predicate: w.Predicate}}
	if e := b.GetVerificationMaterial().GetTlogEntries(); len(e) > 0 {
		v.Index = e[0].GetLogIndex()
	}
	return v, nil
}

func (w Want) check(v Verified, trust TrustedRoot) error {
	issuer := w.Issuer
	if issuer == "" {
		issuer = trust.Issuer
	}
	switch {
	case v.PredicateType != w.PredicateType:
		return fault.New(fault.Denied, "the evidence says %s, but %s is required", v.PredicateType, w.PredicateType)
	case !v.names(w.SubjectDigest):
		return fault.New(fault.Denied, "the evidence is about something else than %s", w.SubjectDigest)
	case v.Issuer != issuer:
		return fault.New(fault.Denied, "the signer %s was certified by %s, but %s is required", v.Identity, v.Issuer, issuer)
	case w.Identity != "" && v.Identity != w.Identity:
		return fault.New(fault.Denied, "the evidence was signed by %s, but %s is required", v.Identity, w.Identity)
	case !strings.HasPrefix(v.Identity, w.IdentityPrefix):
		return fault.New(fault.Denied, "the evidence was signed by %s, but a signer below %s is required", v.Identity, w.IdentityPrefix)
	}
	return nil
}

func (s Statement) names(digest string) bool {
	return slices.ContainsFunc(s.Subjects, func(x Subject) bool { return slices.Contains(x.Digests(), digest) })
}

// Peek reads what a bundle claims without verifying it: only to choose which
// bundle to verify.
func Peek(raw []byte) (predicateType string, err error) {
	if len(raw) > MaxBundle {
		return "", fault.New(fault.Invalid, "the bundle has %d bytes, more than the %d a bundle may have", len(raw), MaxBundle)
	}
	var b struct {
		Envelope struct {
			Payload []byte `json:"payload"`
		} `json:"dsseEnvelope"`
	}
	var w wire
	if err := json.Unmarshal(raw, &b); err != nil || json.Unmarshal(b.Envelope.Payload, &w) != nil {
		return "", fault.New(fault.Invalid, "the bundle is damaged: it is not a readable sigstore bundle")
	}
	return w.PredicateType, nil
}
