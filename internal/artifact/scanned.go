package artifact

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"weir/internal/check/vuln"
	"weir/internal/guard/evidence"
)

// maxSigned bounds how many findings a signed scan names; all are counted.
const maxSigned = 10_000

// ScanPredicate is cosign's predicate of a scan for vulnerabilities, v1, as
// `cosign verify-attestation --type vuln` reads it.
type ScanPredicate struct {
	Invocation struct {
		Parameters []string `json:"parameters"`
		URI        string   `json:"uri"`
		EventID    string   `json:"event_id"`
		Builder    string   `json:"builder.id"`
	} `json:"invocation"`
	Scanner struct {
		URI     string `json:"uri"`
		Version string `json:"version"`
		DB      struct {
			URI     string `json:"uri"`
			Version string `json:"version"` // when it was imported
		} `json:"db"`
		Result ScanResult `json:"result"`
	} `json:"scanner"`
	Metadata struct {
		Started  time.Time `json:"scanStartedOn"`
		Finished time.Time `json:"scanFinishedOn"`
	} `json:"metadata"`
}

// ScanResult is what was found, and what could not be compared.
type ScanResult struct {
	Summary    map[string]int  `json:"summary"` // findings by severity
	Compared   int             `json:"compared"`
	Uncompared int             `json:"uncompared"`
	Ecosystems []ScanEcosystem `json:"ecosystems"`
	Findings   []ScanFinding   `json:"findings"`
	Truncated  bool            `json:"truncated,omitempty"`
}

// ScanEcosystem is where components come from.
type ScanEcosystem struct {
	Name       string    `json:"name"`
	Components int       `json:"components"`
	Imported   time.Time `json:"imported,omitzero"`
}

// ScanFinding is a vulnerability of a component.
type ScanFinding struct {
	ID        string   `json:"id"`
	Aliases   []string `json:"aliases,omitempty"`
	Severity  string   `json:"severity"`
	Score     float64  `json:"score,omitempty"`
	Component string   `json:"component"`
	Version   string   `json:"version"`
	Fixed     string   `json:"fixed,omitempty"`
}

// Predicate says what a scan has found, in cosign's words.
func (f Findings) Predicate(scanner string) ScanPredicate {
	var p ScanPredicate
	p.Invocation.Parameters, p.Invocation.URI = []string{}, scanner
	p.Scanner.URI, p.Scanner.Version = "https://weir.dev/scanner/osv", "1"
	p.Scanner.DB.URI, p.Scanner.DB.Version = "https://osv.dev", f.Database.Imported.UTC().Format(time.RFC3339)
	p.Metadata.Started, p.Metadata.Finished = f.At, f.At
	r := &p.Scanner.Result
	*r = ScanResult{Summary: map[string]int{}, Compared: f.Compared, Uncompared: f.Uncompared, Ecosystems: []ScanEcosystem{}, Findings: []ScanFinding{}, Truncated: len(f.List) > maxSigned}
	for _, s := range vuln.Severities {
		r.Summary[string(s)] = f.Count(s)
	}
	for _, e := range f.Ecosystems {
		r.Ecosystems = append(r.Ecosystems, ScanEcosystem(e))
	}
	for _, x := range f.List[:min(len(f.List), maxSigned)] {
		r.Findings = append(r.Findings, ScanFinding{x.ID, x.Aliases, string(x.Severity), x.Score, x.Component, x.Version, x.Fixed})
	}
	return p
}

// Same reports whether two scans say the same of an image, at whatever time.
func (r ScanResult) Same(o ScanResult) bool {
	same := func(a, b ScanFinding) bool {
		return a.ID == b.ID && a.Severity == b.Severity && a.Component == b.Component && a.Version == b.Version && a.Fixed == b.Fixed
	}
	return r.Compared == o.Compared && r.Uncompared == o.Uncompared && slices.EqualFunc(r.Findings, o.Findings, same)
}

// Says tells a scan in a line.
func (p ScanPredicate) Says() string {
	r := p.Scanner.Result
	var words []string
	for _, s := range vuln.Severities {
		if n := r.Summary[string(s)]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, strings.Replace(string(s), "unknown", "not rated", 1)))
		}
	}
	says := "No known vulnerability"
	if len(words) > 0 {
		says = strings.Join(words, ", ")
	}
	says += fmt.Sprintf("; %d of %d components compared", r.Compared, r.Compared+r.Uncompared)
	if day, _, ok := strings.Cut(p.Scanner.DB.Version, "T"); ok {
		says += ", with data of " + day
	}
	return says
}

// ScanStatement is what is signed about a scan of an image. key tells apart the
// scans of one image.
func (f Findings) ScanStatement(issuer, repository, digest, key string) evidence.Statement {
	return evidence.Statement{Key: key, PredicateType: evidence.Scan, Subjects: []evidence.Subject{evidence.SHA256(repository, digest)}, Predicate: f.Predicate(issuer + "/control-plane")}
}
