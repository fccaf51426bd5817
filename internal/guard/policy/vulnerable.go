package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// ActionRun is asked about what already runs, when more is known of its
// vulnerabilities. A no stops nothing; it is told.
const ActionRun = "release.run"

// Run is what is looked at of a release that runs.
type Run struct {
	Service     string      `json:"service"`
	Environment string      `json:"environment"`
	Release     string      `json:"release"`
	Version     string      `json:"version"`
	Digest      string      `json:"digest"`
	Vulnerable  *Vulnerable `json:"vulnerable,omitempty"`
}

// Vulnerable is what is known of the published vulnerabilities of an image, and
// how much of that may be. It holds everything that a judgement depends on but
// the time.
type Vulnerable struct {
	Limit      Limit               `json:"limit"`
	Problem    string              `json:"problem,omitempty"` // why nothing was compared
	Data       []VulnerabilityData `json:"data"`
	Uncompared int                 `json:"uncompared"` // components that no published data could be compared with
	Findings   []Vulnerability     `json:"findings"`
}

// Limit says how vulnerable a release may be.
type Limit struct {
	Block             string    `json:"block"` // this severity and worse
	FixableOnly       bool      `json:"fixable_only,omitempty"`
	GraceSeconds      int64     `json:"grace_seconds,omitempty"` // since the publication
	DataWithinSeconds int64     `json:"data_within_seconds"`
	UnratedPass       bool      `json:"unrated_pass,omitempty"`
	WithoutDataPass   bool      `json:"without_data_pass,omitempty"`
	Ignore            []Ignored `json:"ignore,omitempty"`
}

// Ignored is an exception: somebody looked at a vulnerability, and says why it
// may be there for a while.
type Ignored struct {
	ID            string    `json:"id"`
	Component     string    `json:"component,omitempty"` // "" is each
	Justification string    `json:"justification,omitempty"`
	Reason        string    `json:"reason"`
	Ends          time.Time `json:"ends"`
}

// VulnerabilityData tells of the data about one ecosystem that has components in the image.
type VulnerabilityData struct {
	Ecosystem  string    `json:"ecosystem"`
	Components int       `json:"components"`
	Imported   time.Time `json:"imported,omitzero"` // zero: there are none
}

// Vulnerability is a published one that a component has.
type Vulnerability struct {
	ID        string    `json:"id"`
	Aliases   []string  `json:"aliases,omitempty"`
	Severity  string    `json:"severity"` // unknown if nobody has rated it
	Component string    `json:"component"`
	Version   string    `json:"version"`
	Fixed     string    `json:"fixed,omitempty"`
	Published time.Time `json:"published,omitzero"`
}

// Name is how people call it: the CVE, if there is one.
func (v Vulnerability) Name() string {
	for _, a := range append([]string{v.ID}, v.Aliases...) {
		if strings.HasPrefix(a, "CVE-") {
			return a
		}
	}
	return v.ID
}

// is reports one of its names.
func (v Vulnerability) is(id string) bool {
	return strings.EqualFold(v.ID, id) || slices.ContainsFunc(v.Aliases, func(a string) bool { return strings.EqualFold(a, id) })
}

// Standing is how a vulnerability stands against a limit.
type Standing string

// The standings.
const (
	Over     Standing = "over"     // it is what the limit does not let through
	Grace    Standing = "grace"    // it will be, when its time is over
	Excepted Standing = "excepted" // weir.yaml says why it may be there, for a while
	Below    Standing = "below"    // the limit lets it through
)

// Judged is a vulnerability with its standing. Until is when grace or exception end.
type Judged struct {
	Vulnerability
	Standing Standing
	Until    time.Time
	Reason   string // of the exception
	// Justification of the exception, in the words of VEX, if it has one.
	Justification string
	Ended         time.Time // when an exception that there was ended
}

// severities, the worst first. What nobody has rated has no place among them.
var severities = []string{"critical", "high", "medium", "low"}

// Counts reports whether a limit is about a severity.
func (l Limit) Counts(severity string) bool {
	at := slices.Index(severities, severity)
	if at < 0 {
		return !l.UnratedPass
	}
	return at <= slices.Index(severities, l.Block)
}

// Words says what a limit does not let through.
func (l Limit) Words() string {
	words := l.Block
	if l.Block != "critical" {
		words += " or worse"
	}
	if !l.UnratedPass {
		words += ", or not rated"
	}
	if l.FixableOnly {
		words += ", with a fix"
	}
	if l.GraceSeconds > 0 {
		words += ", published more than " + span(l.GraceSeconds) + " ago"
	}
	return words
}

func span(seconds int64) string {
	if seconds >= 86400 && seconds%86400 == 0 {
		return count(int(seconds/86400), "day", "days")
	}
	return (time.Duration(seconds) * time.Second).String()
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Judge says how a vulnerability stands at a time.
func (l Limit) Judge(v Vulnerability, now time.Time) Judged {
	j := Judged{Vulnerability: v, Standing: Below}
	if !l.Counts(v.Severity) || l.FixableOnly && v.Fixed == "" {
		return j
	}
	for _, x := range l.Ignore {
		if !v.is(x.ID) || x.Component != "" && x.Component != v.Component {
			continue
		}
		if now.Before(x.Ends) {
			j.Standing, j.Until, j.Reason, j.Justification, j.Ended = Excepted, x.Ends, x.Reason, x.Justification, time.Time{}
			return j
		}
		j.Ended = x.Ends
	}
	if grace := time.Duration(l.GraceSeconds) * time.Second; grace > 0 && !v.Published.IsZero() && now.Before(v.Published.Add(grace)) {
		j.Standing, j.Until = Grace, v.Published.Add(grace)
		return j
	}
	j.Standing = Over
	return j
}

// lacking says what data are missing or too old to judge by, or "".
func (v Vulnerable) lacking(now time.Time) (says string, ecosystems []string) {
	var none, old []string
	var oldest time.Time
	for _, d := range v.Data {
		switch {
		case d.Imported.IsZero() && v.Limit.WithoutDataPass:
		case d.Imported.IsZero():
			none = append(none, fmt.Sprintf("%s (%s)", d.Ecosystem, count(d.Components, "component", "components")))
			ecosystems = append(ecosystems, d.Ecosystem)
		case now.Sub(d.Imported) > time.Duration(v.Limit.DataWithinSeconds)*time.Second:
			old = append(old, d.Ecosystem)
			ecosystems = append(ecosystems, d.Ecosystem)
			if oldest.IsZero() || d.Imported.Before(oldest) {
				oldest = d.Imported
			}
		}
	}
	if len(none) > 0 {
		says = fmt.Sprintf("No published vulnerabilities of %s were imported, so what it is made of was not compared.", strings.Join(none, ", "))
	}
	if len(old) > 0 {
		says += fmt.Sprintf(" The vulnerabilities of %s were imported on %s, longer ago than %s.", strings.Join(old, ", "), oldest.UTC().Format("2006-01-02"), span(v.Limit.DataWithinSeconds))
	}
	return strings.TrimSpace(says), ecosystems
}

// most is how many findings a sentence names.
const most = 5

// Verdict says whether a limit holds at a time, in a sentence for people. ids
// are what has to change for it; open is what passes for a while, or could not
// be compared.
func (v Vulnerable) Verdict(where string, now time.Time) (allow bool, says string, ids []string, open bool) {
	if v.Problem != "" {
		return false, fmt.Sprintf("Its vulnerabilities are not known, and %s has a limit: %s", where, v.Problem), []string{"SBOM"}, false
	}
	if says, ecosystems := v.lacking(now); says != "" {
		return false, fmt.Sprintf("%s %s has a limit (%s). Import newer data: weir vulnerability import all.zip", says, where, v.Limit.Words()), ecosystems, false
	}
	var over, notes []string
	excepted, graced := 0, 0
	var first time.Time
	for _, f := range v.Findings {
		j := v.Limit.Judge(f, now)
		switch j.Standing {
		case Over:
			over = append(over, j.says())
			if !slices.Contains(ids, j.Name()) {
				ids = append(ids, j.Name())
			}
		case Excepted:
			if excepted++; excepted <= most {
				notes = append(notes, fmt.Sprintf("%s in %s is excepted until %s: %s", j.Name(), j.Component, j.Until.Add(-time.Second).UTC().Format("2006-01-02"), j.Reason))
			}
		case Grace:
			if graced++; first.IsZero() || j.Until.Before(first) {
				first = j.Until
			}
		}
	}
	if excepted > most {
		notes = append(notes, fmt.Sprintf("%d more are excepted", excepted-most))
	}
	if graced > 0 {
		notes = append(notes, fmt.Sprintf("%s still time, the first until %s", count(graced, "vulnerability has", "vulnerabilities have"), first.UTC().Format("2006-01-02")))
	}
	if v.Uncompared > 0 {
		notes = append(notes, count(v.Uncompared, "component", "components")+" could not be compared")
	}
	rest := ""
	if len(notes) > 0 {
		rest = " " + strings.Join(notes, "; ") + "."
	}
	if len(over) == 0 {
		return true, fmt.Sprintf("No vulnerability is over the limit of %s (%s).%s", where, v.Limit.Words(), rest), nil, len(notes) > 0
	}
	named := strings.Join(over[:min(most, len(over))], ", ")
	if more := len(over) - most; more > 0 {
		named += fmt.Sprintf(", and %d more", more)
	}
	is := "is"
	if len(over) > 1 {
		is = "are"
	}
	return false, fmt.Sprintf("%s %s over the limit of %s (%s): %s. Release one without, or except them in weir.yaml with a reason and a date.%s",
		count(len(over), "vulnerability", "vulnerabilities"), is, where, v.Limit.Words(), named, rest), ids, false
}

func (j Judged) says() string {
	s := fmt.Sprintf("%s in %s %s (%s", j.Name(), j.Component, j.Version, strings.Replace(j.Severity, "unknown", "not rated", 1))
	if j.Fixed != "" {
		s += ", fixed in " + j.Fixed
	} else {
		s += ", no fix yet"
	}
	if !j.Ended.IsZero() {
		s += ", its exception ended on " + j.Ended.Add(-time.Second).UTC().Format("2006-01-02")
	}
	return s + ")"
}

// Against is how an image stands against one limit.
type Against struct {
	Where    string // admission, or an environment
	Limit    Limit
	Allow    bool
	Says     string
	Findings []Judged // all but those that are below the limit
}

// Against holds what is known against the limit.
func (v Vulnerable) Against(where string, now time.Time) Against {
	a := Against{Where: where, Limit: v.Limit}
	a.Allow, a.Says, _, _ = v.Verdict(where, now)
	for _, f := range v.Findings {
		if j := v.Limit.Judge(f, now); j.Standing != Below {
			a.Findings = append(a.Findings, j)
		}
	}
	return a
}
