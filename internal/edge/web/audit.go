package web

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"
)

func (f AuditFilter) query() url.Values {
	q := url.Values{}
	for k, v := range map[string]string{"actor": f.Actor, "action": f.Action, "subject": f.Subject} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if f.Before > 0 {
		q.Set("before", strconv.FormatInt(f.Before, 10))
	}
	return q
}

func filtered(f AuditFilter) bool { return f.Actor != "" || f.Action != "" || f.Subject != "" }

func filterWords(f AuditFilter) string {
	var out []string
	for _, w := range []string{f.Actor, f.Action, f.Subject} {
		if w != "" {
			out = append(out, w)
		}
	}
	return strings.Join(out, ", ")
}

func entryURL(f AuditFilter, e Entry) templ.SafeURL {
	q := f.query()
	if f.Open != e.ID {
		q.Set("entry", e.ID)
	}
	return templ.SafeURL(fmt.Sprintf("/audit?%s#E%d", q.Encode(), e.Position))
}

func olderURL(f AuditFilter, before int64) templ.SafeURL {
	f.Before = before
	return templ.SafeURL("/audit?" + f.query().Encode())
}

// middle cuts a hash for the eye.
func middle(h string) string {
	if len(h) <= 14 {
		return h
	}
	return h[:8] + "…" + h[len(h)-4:]
}

func shortSubject(s string) string {
	if strings.HasPrefix(s, "sha256:") || len(s) >= 40 {
		return short(s)
	}
	return s
}

// kindName is a predicate type in a word or two.
func kindName(predicate string) string {
	switch {
	case strings.Contains(predicate, "cosign/sign"):
		return "Signature"
	case strings.Contains(predicate, "slsa.dev/provenance"):
		return "Provenance"
	case strings.Contains(predicate, "cyclonedx"):
		return "SBOM"
	case strings.Contains(predicate, "test-result"):
		return "Test result"
	case strings.Contains(predicate, "verification_summary"):
		return "Admission"
	case strings.Contains(predicate, "openvex"):
		return "Exceptions (VEX)"
	case strings.Contains(predicate, "attestation/vuln"):
		return "Scan"
	}
	name := strings.TrimSuffix(predicate, "/v1")
	name = name[strings.LastIndexByte(name, '/')+1:]
	if name == "" {
		return "Statement"
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

func tookOr(d time.Duration) string {
	if d <= 0 {
		return "–"
	}
	return took(d)
}

func jumpTitle(words string, hits []Hit) string {
	switch {
	case words == "":
		return "Jump to"
	case len(hits) == 0:
		return "Nothing found for " + strconv.Quote(words)
	case len(hits) == 1:
		return "One match for " + strconv.Quote(words)
	}
	return number(len(hits)) + " matches for " + strconv.Quote(words)
}

func hitIcon(kind string) string {
	switch kind {
	case "run", "change", "rollout", "artifact", "service":
		return kind
	}
	return "search"
}
