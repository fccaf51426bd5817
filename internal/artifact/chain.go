package artifact

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
)

// Link is one step of the way from a commit to production, and whether its
// signature holds now. A link without evidence has State Absent.
type Link struct {
	Kind      string // commit, review, build, tests, sbom, scan, signature, admission, decision, rollout; statement is any other
	State     LinkState
	Says      string // what the evidence says, or why it does not hold
	Signer    string
	At        time.Time // of the timestamp
	Index     int64     // position in the ledger
	Of        string    // id of what it tells about: a change, a run, a decision, a rollout
	Place     string    // of a rollout: the environment
	Outcome   string    // of a rollout: how it ended
	Predicate string    // predicate type
}

// LinkState says whether a link holds.
type LinkState string

// The states of links.
const (
	Verified LinkState = "verified"
	Broken   LinkState = "broken"
	Absent   LinkState = "absent"
)

// Chain verifies everything that speaks for an artifact against the keys that
// are trusted now, and tells it in the order in which it happened. What of the
// expected is missing is there as absent.
func (s *Service) Chain(_ context.Context, d Details, trust evidence.TrustedRoot) []Link {
	var links []Link
	found := map[string]bool{}
	for _, e := range slices.Concat(d.Revision, d.Evidence) {
		l := link(e)
		_, err := evidence.Verify(e.Bundle, trust, evidence.Want{PredicateType: e.PredicateType, SubjectDigest: e.Subject, IdentityPrefix: trust.Issuer + "/"})
		if l.State = Verified; err != nil {
			l.State, l.Says = Broken, fault.Sentence(err)
		}
		found[l.Kind] = true
		links = append(links, l)
	}
	for kind, says := range map[string]string{
		"commit": "No landing of this commit is signed.", "review": "Nobody reviewed it, or the rules did not ask.", "build": "There is no provenance.",
		"tests": "There are no test results.", "sbom": "There is no SBOM.", "scan": "It was not compared with published vulnerabilities when it was admitted.", "signature": "It is not signed.", "admission": "No admission is signed.",
	} {
		if !found[kind] {
			links = append(links, Link{Kind: kind, State: Absent, Says: says, Index: -1})
		}
	}
	order := []string{"commit", "review", "build", "tests", "sbom", "scan", "signature", "admission", "decision", "rollout", "statement"}
	slices.SortStableFunc(links, func(a, b Link) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)), cmp.Compare(a.Index, b.Index))
	})
	return links
}

// link reads what one statement says. It is pure.
func link(e evidence.Evidence) Link {
	l := Link{Signer: e.Identity, At: e.Time, Index: e.Index, Predicate: e.PredicateType}
	read := func(v any) bool { return e.Predicate(v) == nil }
	switch e.PredicateType {
	case evidence.Landed:
		var p struct {
			Actor  string `json:"actor"`
			Change *struct {
				ID     string `json:"id"`
				Number int64  `json:"number"`
				Author string `json:"author"`
			} `json:"change"`
			Bootstrap bool `json:"bootstrap"`
		}
		if !read(&p) {
			break
		}
		l.Kind, l.Says = "commit", "Pushed by "+strings.TrimPrefix(p.Actor, "user:")
		switch {
		case p.Change != nil:
			l.Of, l.Says = p.Change.ID, fmt.Sprintf("Landed as change #%d by %s", p.Change.Number, strings.TrimPrefix(p.Change.Author, "user:"))
		case p.Bootstrap:
			l.Says += ", as the first of its branch"
		}
	case evidence.Review:
		var p struct{ By, Verdict, Change string }
		if !read(&p) {
			break
		}
		l.Kind, l.Of, l.Says = "review", p.Change, strings.ReplaceAll(p.Verdict, "_", " ")+" by "+strings.TrimPrefix(p.By, "user:")
	case evidence.Provenance:
		var p struct {
			Definition struct {
				Internal struct {
					Confined bool   `json:"confined"`
					Network  string `json:"network"`
				} `json:"internalParameters"`
			} `json:"buildDefinition"`
			Run struct {
				Metadata struct {
					InvocationID string `json:"invocationId"`
				} `json:"metadata"`
			} `json:"runDetails"`
		}
		if !read(&p) {
			break
		}
		l.Kind, l.Of, l.Says = "build", invocation(p.Run.Metadata.InvocationID), "Confined"
		if !p.Definition.Internal.Confined {
			l.Says = "Not confined"
		}
		switch p.Definition.Internal.Network {
		case "none":
			l.Says += ", no network"
		case "":
		default:
			l.Says += ", network " + p.Definition.Internal.Network
		}
	case evidence.TestResult:
		var p struct {
			Result string
			Passed []string `json:"passedTests"`
			Failed []string `json:"failedTests"`
		}
		if !read(&p) {
			break
		}
		l.Kind = "tests"
		switch {
		case p.Result != "PASSED":
			l.Says = fmt.Sprintf("%d of %d failed", len(p.Failed), len(p.Failed)+len(p.Passed))
		case len(p.Passed) == 0:
			l.Says = "No checks were declared"
		default:
			l.Says = fmt.Sprintf("%d passed: %s", len(p.Passed), strings.Join(p.Passed[:min(3, len(p.Passed))], ", "))
		}
	case evidence.SBOM:
		var p struct {
			Components []struct{} `json:"components"`
		}
		if !read(&p) {
			break
		}
		l.Kind, l.Says = "sbom", fmt.Sprintf("Lists %d components", len(p.Components))
	case evidence.SPDX:
		l.Kind, l.Says = "sbom", "Lists the same components in SPDX's words"
	case evidence.Scan:
		var p ScanPredicate
		if !read(&p) {
			break
		}
		l.Kind, l.Says = "scan", p.Says()
	case evidence.Decision:
		var p struct {
			ID          string `json:"decision_id"`
			Action      string `json:"action"`
			Environment string `json:"environment"`
			Allow       bool   `json:"allow"`
		}
		if !read(&p) {
			break
		}
		l.Kind, l.Of, l.Place, l.Says = "decision", p.ID, p.Environment, "Policy let it into "+p.Environment
		if !p.Allow {
			l.Says = "Policy did not let it into " + p.Environment
		}
	case evidence.CosignSignature:
		l.Kind, l.Says = "signature", "By the workflow that built it, with the certificate authority "+e.KeyID[:min(len(e.KeyID), 15)]
	case evidence.Summary:
		var p struct {
			Result string `json:"verificationResult"`
			Policy struct {
				URI string `json:"uri"`
			} `json:"policy"`
			Levels []string `json:"verifiedLevels"`
		}
		if !read(&p) {
			break
		}
		l.Kind, l.Of, l.Says = "admission", path.Base(p.Policy.URI), "Policy admitted it as "+levels(p.Levels)
	case evidence.Rollout:
		var p struct {
			RolloutID   string `json:"rollout_id"`
			Environment string `json:"environment"`
			State       string `json:"state"`
			Reason      string `json:"reason"`
		}
		if !read(&p) {
			break
		}
		l.Kind, l.Of, l.Place, l.Outcome = "rollout", p.RolloutID, p.Environment, p.State
		l.Says = "Same digest; " + strings.ReplaceAll(p.State, "_", " ")
		if p.Reason != "" && p.State != "completed" {
			l.Says += ": " + p.Reason
		}
	}
	if l.Kind == "" {
		l.Kind = "statement"
	}
	return l
}

func levels(all []string) string {
	var words []string
	for _, l := range all {
		words = append(words, strings.ReplaceAll(strings.Replace(l, "SLSA_BUILD_LEVEL_", "SLSA build level ", 1), "_", " "))
	}
	return cmp.Or(strings.Join(words, ", "), "it is")
}

// invocation takes the run out of an invocation's id, ISSUER/runs/RUN/....
func invocation(id string) string {
	for part := range strings.SplitSeq(id, "/") {
		if strings.HasPrefix(part, "run_") {
			return part
		}
	}
	return ""
}

// SBOM is the CycloneDX document of an artifact, as it was signed.
func (s *Service) SBOM(ctx context.Context, id ID) (Artifact, json.RawMessage, error) {
	d, err := s.Details(ctx, id)
	if err != nil {
		return Artifact{}, nil, err
	}
	for _, e := range d.Evidence {
		if e.PredicateType == evidence.SBOM {
			var raw json.RawMessage
			err := e.Predicate(&raw)
			return d.Artifact, raw, err
		}
	}
	return d.Artifact, nil, fault.New(fault.NotFound, "%s has no SBOM, so nobody knows what it is made of.", d.Image())
}
