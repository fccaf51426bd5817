package evidence

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"weir/internal/base/fault"
)

// Predicate types that Weir signs. Those that are not Weir's own are read by stock tools.
const (
	CosignSignature = "https://sigstore.dev/cosign/sign/v1"
	Provenance      = "https://slsa.dev/provenance/v1"
	SBOM            = "https://cyclonedx.org/bom"
	SPDX            = "https://spdx.dev/Document"
	Summary         = "https://slsa.dev/verification_summary/v1"
	TestResult      = "https://in-toto.io/attestation/test-result/v0.1"
	Scan            = "https://cosign.sigstore.dev/attestation/vuln/v1"
	VEX             = "https://openvex.dev/ns"
	Decision        = "https://weir.dev/decision/v1"
	Review          = "https://weir.dev/review/v1"
	Landed          = "https://weir.dev/landed/v1"
	CheckResult     = "https://weir.dev/check/v1"
	SourceSummary   = "https://weir.dev/source/v1"
	Rollout         = "https://weir.dev/rollout/v1"
	Drill           = "https://weir.dev/drill/v1"
)

const (
	statementType = "https://in-toto.io/Statement/v1"
	payloadType   = "application/vnd.in-toto+json"
	maxStatement  = 8 << 20
)

// Subject is one thing a statement is about. Digest has one entry as a rule:
// "sha256" for bytes, "gitCommit" for a revision.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// SHA256 returns the subject for bytes named by "sha256:<hex>".
func SHA256(name, digest string) Subject {
	return Subject{Name: name, Digest: map[string]string{"sha256": strings.TrimPrefix(digest, "sha256:")}}
}

// Commit returns the subject for a revision.
func Commit(name, revision string) Subject {
	return Subject{Name: name, Digest: map[string]string{"gitCommit": revision}}
}

// Digests lists the digests of s as "algorithm:value".
func (s Subject) Digests() []string {
	out := make([]string, 0, len(s.Digest))
	for alg, hex := range s.Digest {
		out = append(out, alg+":"+hex)
	}
	return out
}

// Statement is a claim to be signed. Key tells apart statements of one type
// about one subject ("" when there can be only one): a check's name, a
// reviewer, a run and attempt.
type Statement struct {
	Org              string // "" means "default"
	Key              string
	Identity         string // who signs, a URI below the issuer; "" means the control plane
	PredicateType    string
	PredicateVersion int // of the predicate's own shape; 0 means 1
	Subjects         []Subject
	Predicate        any
}

// wire is a statement as in-toto writes it.
type wire struct {
	Type          string          `json:"_type"`
	Subject       []Subject       `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// subject is the digest that a statement is filed under.
func (s Statement) subject() string {
	d := s.Subjects[0].Digest
	for _, alg := range []string{"sha256", "gitCommit"} {
		if v := d[alg]; v != "" {
			return alg + ":" + v
		}
	}
	return s.Subjects[0].Digests()[0]
}

func (s Statement) normal(issuer string) (Statement, error) {
	if s.Org == "" {
		s.Org = "default"
	}
	if s.PredicateVersion == 0 {
		s.PredicateVersion = 1
	}
	if s.Identity == "" {
		s.Identity = issuer + "/control-plane"
	}
	switch {
	case s.PredicateType == "":
		return s, fault.New(fault.Invalid, "a statement needs a predicate type; say what it claims, for example %s", Provenance)
	case len(s.Subjects) == 0 || len(s.Subjects[0].Digest) == 0:
		return s, fault.New(fault.Invalid, "a statement of type %s needs a subject with a digest; a name alone proves nothing", s.PredicateType)
	case !strings.HasPrefix(s.Identity, issuer+"/"):
		return s, fault.New(fault.Invalid, "the signer %q is not below this installation's issuer %s; it may only sign as itself", s.Identity, issuer)
	}
	return s, nil
}

func (s Statement) payload() ([]byte, error) {
	predicate, err := json.Marshal(s.Predicate)
	if err != nil {
		return nil, fmt.Errorf("encode predicate %s: %w", s.PredicateType, err)
	}
	b, err := json.Marshal(wire{statementType, s.Subjects, s.PredicateType, predicate})
	if err != nil {
		return nil, fmt.Errorf("encode statement %s: %w", s.PredicateType, err)
	}
	if len(b) > maxStatement {
		return nil, fault.New(fault.Invalid, "a statement of type %s has %d bytes; at most %d can be signed", s.PredicateType, len(b), maxStatement)
	}
	return b, nil
}

// Evidence is a signed statement at rest.
type Evidence struct {
	ID               string
	Org              string
	Key              string
	Identity         string
	PredicateType    string
	PredicateVersion int
	Subject          string   // the digest it is filed under, "sha256:..." or "gitCommit:..."
	Subjects         []string // every digest it names
	Statement        []byte   // the signed bytes
	Bundle           []byte   // sigstore bundle v0.3 as JSON; empty until complete
	Index            int64    // position in the ledger; -1 until complete
	KeyID            string   // of the certificate authority
	NotBefore        time.Time
	NotAfter         time.Time
	Time             time.Time // of the timestamp token
}

// Predicate decodes what e claims into v.
func (e Evidence) Predicate(v any) error {
	var w wire
	if err := json.Unmarshal(e.Statement, &w); err != nil {
		return fmt.Errorf("decode statement of %s: %w", e.ID, err)
	}
	if err := json.Unmarshal(w.Predicate, v); err != nil {
		return fmt.Errorf("decode predicate of %s: %w", e.ID, err)
	}
	return nil
}
