// Package vuln compares what something is made of with published
// vulnerabilities, in the format of the Open Source Vulnerability schema
// (ossf.github.io/osv-schema, version 1). It is pure: no network, no clock, no
// files. An advisory that cannot be compared is told apart from one that does
// not apply.
package vuln

import (
	"cmp"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	cvss30 "github.com/pandatix/go-cvss/30"
	cvss31 "github.com/pandatix/go-cvss/31"
	cvss40 "github.com/pandatix/go-cvss/40"

	"weir/internal/base/fault"
)

// Severity of an advisory, by its CVSS score or by the word of its source.
type Severity string

// The severities, the worst first. Unknown is what nobody has judged.
const (
	Critical Severity = "critical"
	High     Severity = "high"
	Medium   Severity = "medium"
	Low      Severity = "low"
	Unknown  Severity = "unknown"
)

// Severities lists all, the worst first.
var Severities = []Severity{Critical, High, Medium, Low, Unknown}

// MaxAdvisory is the size above which an advisory is not read.
const MaxAdvisory = 4 << 20

// Advisory is one published vulnerability.
type Advisory struct {
	ID        string
	Aliases   []string // CVE and GHSA ids
	Summary   string
	Severity  Severity
	Score     float64   // CVSS base score, 0 if there is none
	Published time.Time // zero if it does not say
	Modified  time.Time
	Withdrawn bool
	URL       string
	Affected  []Affected
}

// Affected is a package and the versions of it that have the vulnerability.
type Affected struct {
	Ecosystem string   `json:"ecosystem"` // "Go", "npm", "Debian:12", ...
	Package   string   `json:"package"`
	Spans     []Span   `json:"spans,omitempty"`
	Versions  []string `json:"versions,omitempty"` // each by itself
	Opaque    bool     `json:"opaque,omitempty"`   // has ranges in an order that is not known here
}

// Span is a range of versions in the order of their ecosystem: from Introduced on ("0" is from the
// first), before Fixed or up to Last; both empty means that there is no end yet.
type Span struct {
	Introduced string `json:"introduced"`
	Fixed      string `json:"fixed,omitempty"`
	Last       string `json:"last,omitempty"`
}

type wire struct {
	ID        string    `json:"id"`
	Aliases   []string  `json:"aliases"`
	Summary   string    `json:"summary"`
	Details   string    `json:"details"`
	Published time.Time `json:"published"`
	Modified  time.Time `json:"modified"`
	Withdrawn string    `json:"withdrawn"`
	Severity  []rating  `json:"severity"`
	Specific  struct {
		URL      string `json:"url"`
		Severity string `json:"severity"`
	} `json:"database_specific"`
	References []struct {
		Type string `json:"type"`
		URL  string `json:"url"`
	} `json:"references"`
	Affected []struct {
		Package struct {
			Ecosystem string `json:"ecosystem"`
			Name      string `json:"name"`
		} `json:"package"`
		Severity []rating `json:"severity"`
		Ranges   []struct {
			Type   string              `json:"type"`
			Events []map[string]string `json:"events"`
		} `json:"ranges"`
		Versions []string `json:"versions"`
	} `json:"affected"`
}

type rating struct{ Type, Score string }

// Parse reads an advisory.
func Parse(raw []byte) (Advisory, error) {
	if len(raw) > MaxAdvisory {
		return Advisory{}, fault.New(fault.Invalid, "an advisory has %d bytes, more than %d", len(raw), MaxAdvisory)
	}
	var w wire
	if err := json.Unmarshal(raw, &w); err != nil {
		return Advisory{}, fault.New(fault.Invalid, "it is no advisory in OSV's format: %v", err)
	}
	if w.ID == "" || len(w.ID) > 200 {
		return Advisory{}, fault.New(fault.Invalid, "it is no advisory in OSV's format: it has no id")
	}
	a := Advisory{ID: w.ID, Aliases: w.Aliases, Summary: cmp.Or(w.Summary, firstLine(w.Details)), Published: w.Published, Modified: w.Modified, Withdrawn: w.Withdrawn != "", URL: w.Specific.URL}
	ratings := w.Severity
	for _, x := range w.Affected {
		ratings = append(ratings, x.Severity...)
		f := Affected{Ecosystem: x.Package.Ecosystem, Package: x.Package.Name, Versions: x.Versions}
		order := orderOf(f.Ecosystem)
		for _, r := range x.Ranges {
			if r.Type != "SEMVER" && r.Type != "ECOSYSTEM" {
				continue // of commits
			}
			by := order
			if by == nil && r.Type == "SEMVER" {
				by = orderOf("")
			}
			if by == nil {
				f.Opaque = true
				continue
			}
			found, ok := spans(r.Events, by)
			if f.Spans = append(f.Spans, found...); !ok {
				f.Opaque = true
			}
		}
		if f.Package != "" {
			a.Affected = append(a.Affected, f)
		}
	}
	if a.URL == "" {
		for _, r := range w.References {
			if r.Type == "ADVISORY" || a.URL == "" {
				a.URL = r.URL
			}
		}
	}
	if u, err := url.Parse(a.URL); err != nil || u.Scheme != "https" && u.Scheme != "http" {
		a.URL = ""
	}
	a.Score = score(ratings)
	a.Severity = judge(a.Score, w.Specific.Severity)
	return a, nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line[:min(len(line), 300)]
}

// spans puts events in the order of versions and pairs them. ok is false if one
// is no version of that order.
func spans(events []map[string]string, order func(a, b string) (int, bool)) (out []Span, ok bool) {
	type event struct{ kind, version string }
	rank := map[string]int{"introduced": 0, "fixed": 1, "last_affected": 2}
	var all []event
	for _, e := range events {
		for kind, version := range e {
			if _, known := rank[kind]; !known {
				continue // a limit is about branches
			}
			if _, valid := order(version, version); !valid && version != "0" {
				return nil, false
			}
			all = append(all, event{kind, version})
		}
	}
	slices.SortStableFunc(all, func(a, b event) int {
		return cmp.Or(after(order, a.version, b.version), cmp.Compare(rank[a.kind], rank[b.kind]))
	})
	open := -1
	for _, e := range all {
		switch {
		case e.kind == "introduced" && open < 0:
			out, open = append(out, Span{Introduced: e.version}), len(out)
		case e.kind == "fixed" && open >= 0:
			out[open].Fixed, open = e.version, -1
		case e.kind == "last_affected" && open >= 0:
			out[open].Last, open = e.version, -1
		}
	}
	return out, true
}

// after compares two versions of which each is known to be one. "0" is before all.
func after(order func(a, b string) (int, bool), a, b string) int {
	switch {
	case a == b:
		return 0
	case a == "0":
		return -1
	case b == "0":
		return 1
	}
	n, _ := order(a, b)
	return n
}

func score(ratings []rating) (best float64) {
	for _, r := range ratings {
		s := 0.0
		switch {
		case strings.HasPrefix(r.Score, "CVSS:3.1/"):
			if v, err := cvss31.ParseVector(r.Score); err == nil {
				s = v.BaseScore()
			}
		case strings.HasPrefix(r.Score, "CVSS:3.0/"):
			if v, err := cvss30.ParseVector(r.Score); err == nil {
				s = v.BaseScore()
			}
		case strings.HasPrefix(r.Score, "CVSS:4.0/"):
			if v, err := cvss40.ParseVector(r.Score); err == nil {
				s = v.Score()
			}
		}
		best = max(best, s)
	}
	return best
}

// judge is CVSS's own scale of words.
func judge(score float64, word string) Severity {
	switch {
	case score >= 9:
		return Critical
	case score >= 7:
		return High
	case score >= 4:
		return Medium
	case score > 0:
		return Low
	}
	switch strings.ToUpper(word) {
	case "CRITICAL":
		return Critical
	case "HIGH":
		return High
	case "MODERATE", "MEDIUM":
		return Medium
	case "LOW":
		return Low
	}
	return Unknown
}

// Affects reports whether a version has the vulnerability, the first later
// version that has it no more ("" if there is none), and whether that could be
// found out at all.
func (a Affected) Affects(version string) (affected bool, fixed string, known bool) {
	if slices.Contains(a.Versions, version) || slices.Contains(a.Versions, strings.TrimPrefix(version, "v")) {
		affected, known = true, true
	}
	order := orderOf(a.Ecosystem)
	if order == nil {
		return affected, "", known || len(a.Spans) == 0 && !a.Opaque
	}
	if _, ok := order(version, version); !ok {
		return affected, "", known || len(a.Spans) == 0 && !a.Opaque
	}
	for _, s := range a.Spans {
		known = true
		if after(order, version, s.Introduced) < 0 || s.Fixed != "" && after(order, version, s.Fixed) >= 0 || s.Last != "" && after(order, version, s.Last) > 0 {
			continue
		}
		affected = true
		if fixed == "" {
			fixed = s.Fixed
		}
	}
	return affected, fixed, known || !a.Opaque
}
