package policy

import (
	"fmt"
	"time"
)

// VEX is a document of OpenVEX (github.com/openvex/spec, 0.2.0): what somebody
// who looked at vulnerabilities says of them.
type VEX struct {
	Context    string         `json:"@context"`
	ID         string         `json:"@id"`
	Author     string         `json:"author"`
	Timestamp  time.Time      `json:"timestamp"`
	Version    int            `json:"version"`
	Statements []VEXStatement `json:"statements"`
}

// VEXStatement is about one vulnerability of one component.
type VEXStatement struct {
	Vulnerability struct {
		Name    string   `json:"name"`
		Aliases []string `json:"aliases,omitempty"`
	} `json:"vulnerability"`
	Products      []VEXProduct `json:"products"`
	Status        string       `json:"status"` // not_affected, affected
	Justification string       `json:"justification,omitempty"`
	Impact        string       `json:"impact_statement,omitempty"` // of not_affected
	Action        string       `json:"action_statement,omitempty"` // of affected
}

// VEXProduct is what a statement is about.
type VEXProduct struct {
	ID            string       `json:"@id"`
	Subcomponents []VEXProduct `json:"subcomponents,omitempty"`
}

// Exceptions writes the exceptions that let vulnerabilities pass at a time as
// VEX; nil if there is none. An exception with a justification says that the
// product is not affected, one without that it is, and what is meant to be done.
func (v Vulnerable) Exceptions(id, author, product string, now time.Time) *VEX {
	doc := &VEX{Context: "https://openvex.dev/ns/v0.2.0", ID: id, Author: author, Timestamp: now.UTC(), Version: 1}
	for _, f := range v.Findings {
		j := v.Limit.Judge(f, now)
		if j.Standing != Excepted {
			continue
		}
		s := VEXStatement{Products: []VEXProduct{{ID: product, Subcomponents: []VEXProduct{{ID: f.Component + "@" + f.Version}}}}}
		s.Vulnerability.Name, s.Vulnerability.Aliases = f.ID, f.Aliases
		until := j.Until.Add(-time.Second).UTC().Format(time.DateOnly)
		if j.Justification != "" {
			s.Status, s.Justification, s.Impact = "not_affected", j.Justification, fmt.Sprintf("%s (looked at until %s)", j.Reason, until)
		} else {
			s.Status, s.Action = "affected", fmt.Sprintf("%s (accepted until %s)", j.Reason, until)
		}
		doc.Statements = append(doc.Statements, s)
	}
	if len(doc.Statements) == 0 {
		return nil
	}
	return doc
}
