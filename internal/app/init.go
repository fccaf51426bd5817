package app

import "weir/internal/base/fault"

// InitReport is what weir init found.
type InitReport struct {
	Lines   []InitLine `json:"lines"`
	YAML    string     `json:"yaml"`
	Written string     `json:"written,omitempty"`
}

// InitLine is one finding.
type InitLine struct{ What, Value, Source, Certainty string }

// Init describes a repository.
func Init(dir string, check, force bool) (InitReport, error) {
	return InitReport{}, fault.New(fault.Unavailable, "pending")
}
