package catalog

import (
	"fmt"
	"time"
)

// Vulnerabilities limits the published vulnerabilities that a release may have.
type Vulnerabilities struct {
	Block       string    `yaml:"block" doc:"This severity and worse is not let through." enum:"critical,high,medium,low"`
	FixableOnly bool      `yaml:"fixable_only" doc:"Whether only those count that a later version of the component has no more." default:"false"`
	Grace       Duration  `yaml:"grace" doc:"How long after its publication a vulnerability may still be there." default:"0s"`
	Unrated     string    `yaml:"unrated" doc:"What happens to vulnerabilities whose severity nobody has published." enum:"block,allow" default:"block"`
	DataWithin  Duration  `yaml:"data_within" doc:"How old the import of published vulnerabilities may be. Nothing is let through on older ones." default:"7d"`
	WithoutData string    `yaml:"without_data" doc:"What happens if components are of an ecosystem of which no vulnerabilities were imported." enum:"block,allow" default:"block"`
	Ignore      []Ignored `yaml:"ignore" doc:"Exceptions. Each has a reason and ends by itself; each decision that it passes names it."`
}

// Ignored is an exception from a limit: what somebody who looked at a
// vulnerability says of it.
type Ignored struct {
	ID            string `yaml:"id" doc:"The vulnerability, by any of its names, such as CVE-2026-12345."`
	Component     string `yaml:"component" doc:"The component that may have it, such as golang.org/x/net. Each, if absent."`
	Justification string `yaml:"justification" doc:"Why it does no harm, in the words of VEX, if it does none." enum:"component_not_present,vulnerable_code_not_present,vulnerable_code_not_in_execute_path,vulnerable_code_cannot_be_controlled_by_adversary,inline_mitigations_already_exist"`
	Reason        string `yaml:"reason" doc:"Why it may be there, for whoever reads the decision."`
	Until         Date   `yaml:"until" doc:"The last day of the exception, such as 2026-12-31."`
}

// Date is a day, in UTC.
type Date struct{ time.Time }

// UnmarshalText reads 2026-12-31.
func (d *Date) UnmarshalText(text []byte) error {
	t, err := time.Parse(time.DateOnly, string(text))
	if err != nil {
		return fmt.Errorf("%q is not a day; write one such as 2026-12-31", text)
	}
	d.Time = t
	return nil
}

// MarshalText is the reverse of UnmarshalText.
func (d Date) MarshalText() ([]byte, error) { return []byte(d.Format(time.DateOnly)), nil }

// Describe gives the pattern for the schema.
func (Date) Describe() (pattern, example string) {
	return `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`, "2026-12-31"
}

// Ends is the first instant after the day.
func (d Date) Ends() time.Time { return d.AddDate(0, 0, 1) }

// Limit is the limit of an environment: its own, or the artifact's. Nil is none.
func (d Declared) Limit(environment string) *Vulnerabilities {
	if e, ok := d.Environments[environment]; ok && e.Vulnerabilities != nil {
		return e.Vulnerabilities
	}
	return d.Artifact.Vulnerabilities
}

const maxIgnored = 1000

// vulnerabilities checks a limit and fills in its defaults.
func (p *parser) vulnerabilities(at string, v *Vulnerabilities) *Vulnerabilities {
	if v == nil {
		return nil
	}
	out := *v
	if out.Block == "" {
		p.at(at, "block must say from which severity on a vulnerability is not let through: critical, high, medium or low")
	}
	out.Unrated, out.WithoutData = cmpOr(out.Unrated, "block"), cmpOr(out.WithoutData, "block")
	out.DataWithin = cmpOr(out.DataWithin, Duration(7*24*time.Hour))
	if len(out.Ignore) > maxIgnored {
		p.at(at+".ignore", "at most %d vulnerabilities can be excepted, not %d", maxIgnored, len(out.Ignore))
	}
	for i, x := range out.Ignore {
		switch {
		case x.ID == "":
			p.at(at+".ignore", "exception %d has no id; name the vulnerability, such as CVE-2026-12345", i+1)
		case x.Reason == "":
			p.at(at+".ignore", "the exception of %s has no reason; say why it may be there", x.ID)
		case x.Until.IsZero():
			p.at(at+".ignore", "the exception of %s has no end; write its last day, such as until: 2026-12-31", x.ID)
		case len(x.ID) > 200 || len(x.Component) > 500 || len(x.Reason) > 2000:
			p.at(at+".ignore", "exception %d is too long: an id has at most 200 bytes, a component 500 and a reason 2000", i+1)
		}
	}
	return &out
}
