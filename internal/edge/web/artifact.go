package web

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"weir/internal/base/fault"
)

// class is how a link of the chain is drawn.
func (l ChainLink) class() string {
	switch l.State.Kind {
	case "ok", "run":
		return l.State.Kind
	}
	return "warn"
}

func (l ChainLink) icon() string {
	if i, ok := map[string]string{"commit": "commit", "review": "review", "build": "terminal", "tests": "check", "sbom": "layers", "scan": "search", "decision": "policy", "signature": "sign", "admission": "policy", "rollout": "rollout"}[l.Kind]; ok {
		return i
	}
	return "shield"
}

// holds counts the links that are verified, and all of those that have evidence.
func (a Artifact) holds() (good, of int) {
	for _, l := range a.Chain {
		if l.Index < 0 {
			continue
		}
		of++
		if l.Verified {
			good++
		}
	}
	return good, of
}

func (a Artifact) broken() int {
	good, of := a.holds()
	return of - good
}

// standing is what there is to say about an artifact in a word or two.
func (a Artifact) standing() Status {
	if a.broken() > 0 {
		return Status{"bad", "The chain does not hold"}
	}
	for _, l := range a.Chain {
		if l.Index < 0 && l.Kind != "review" && l.Kind != "commit" && l.Kind != "scan" {
			return Status{"warn", "A link is missing"}
		}
	}
	return Status{"ok", "Admitted, chain verified"}
}

// sbom sends the signed statement's SBOM as a file.
func (s *Site) sbom(w http.ResponseWriter, r *http.Request) {
	raw, name, err := s.data.SBOM(r.Context(), r.PathValue("id"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if !json.Valid(raw) {
		s.fail(w, r, fault.New(fault.Invalid, "The SBOM of %s is damaged.", name))
		return
	}
	w.Header().Set("Content-Type", "application/vnd.cyclonedx+json")
	w.Header().Set("Content-Disposition", `attachment; filename="`+strings.ReplaceAll(name, `"`, "")+`"`)
	_, _ = w.Write(raw)
}

// level is how many findings of a severity there are.
type level struct {
	Word, Width, Limit string
	Count              int
}

// levels counts the findings of each severity, the worst first.
func (v Vulnerabilities) levels() []level {
	out := []level{{Word: "critical"}, {Word: "high"}, {Word: "medium"}, {Word: "low"}, {Word: "unknown"}}
	most := 1
	for i := range out {
		for _, f := range v.Findings {
			if f.Severity == out[i].Word {
				out[i].Count++
			}
		}
		most = max(most, out[i].Count)
	}
	for i := range out {
		out[i].Width = strconv.Itoa(100*out[i].Count/most) + "%"
		out[i].Limit = "no limit"
		for _, l := range v.Limits {
			if l.Counts[out[i].Word] {
				out[i].Limit = "limited"
			}
		}
	}
	return out
}

// gate is how the findings stand against all limits, in a word or two.
func (v Vulnerabilities) gate() Status {
	for _, l := range v.Limits {
		if !l.Allow {
			return Status{"bad", "Refused by " + l.Where}
		}
	}
	if len(v.Limits) == 0 {
		return Status{"off", "weir.yaml sets no limit"}
	}
	return Status{"ok", "Inside every limit"}
}

func (f Finding) rating() string {
	if f.Score > 0 {
		return f.Severity + ", " + strconv.FormatFloat(f.Score, 'f', 1, 64)
	}
	return f.Severity
}
