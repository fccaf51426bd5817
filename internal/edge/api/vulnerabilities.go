package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/artifact"
	"weir/internal/base/fault"
)

// AdvisoryState is what is known of published vulnerabilities.
type AdvisoryState struct {
	Advisories int64     `json:"advisories"`
	Source     string    `json:"source,omitempty" doc:"Of the last import."`
	Imported   time.Time `json:"imported,omitzero"`
}

// VulnerabilityState is what is known, by ecosystem.
type VulnerabilityState struct {
	AdvisoryState
	Ecosystems []EcosystemImport `json:"ecosystems"`
}

// EcosystemImport tells when the vulnerabilities of an ecosystem were last imported.
type EcosystemImport struct {
	Name     string    `json:"name"`
	Imported time.Time `json:"imported"`
}

// Finding is a vulnerability of a component of an artifact.
type Finding struct {
	ID        string    `json:"id"`
	Aliases   []string  `json:"aliases"`
	Severity  string    `json:"severity" enum:"critical,high,medium,low,unknown"`
	Score     float64   `json:"score,omitempty" doc:"CVSS base score."`
	Summary   string    `json:"summary"`
	URL       string    `json:"url,omitempty"`
	Component string    `json:"component"`
	Version   string    `json:"version"`
	Fixed     string    `json:"fixed,omitempty" doc:"First later version without it."`
	Published time.Time `json:"published,omitzero"`
}

// Limit is how findings stand against a limit that weir.yaml sets.
type Limit struct {
	Where    string     `json:"where" doc:"admission, or an environment."`
	Limit    string     `json:"limit" doc:"What is not let through."`
	Allow    bool       `json:"allow"`
	Says     string     `json:"says"`
	Findings []Standing `json:"findings" doc:"Those that are not below the limit."`
}

// Standing is how a finding stands against a limit.
type Standing struct {
	ID        string    `json:"id"`
	Component string    `json:"component"`
	Standing  string    `json:"standing" enum:"over,grace,excepted"`
	Until     time.Time `json:"until,omitzero" doc:"End of grace or exception."`
	Reason    string    `json:"reason,omitempty" doc:"Of the exception."`
}

// EcosystemState tells of the data about where components come from.
type EcosystemState struct {
	Name       string    `json:"name"`
	Components int       `json:"components"`
	Imported   time.Time `json:"imported,omitzero" doc:"Absent if no vulnerabilities of it were imported."`
}

// Findings is an artifact compared with what is known now.
type Findings struct {
	Findings   []Finding        `json:"findings"`
	Compared   int              `json:"compared" doc:"Components that could be compared."`
	Uncompared int              `json:"uncompared" doc:"Components of an ecosystem or version that could not."`
	Database   AdvisoryState    `json:"database"`
	Ecosystems []EcosystemState `json:"ecosystems"`
	Limits     []Limit          `json:"limits" doc:"How it stands against each limit of its service."`
}

// Vulnerability is an advisory and where it is.
type Vulnerability struct {
	ID       string             `json:"id"`
	Aliases  []string           `json:"aliases"`
	Severity string             `json:"severity" enum:"critical,high,medium,low,unknown"`
	Score    float64            `json:"score,omitempty"`
	Summary  string             `json:"summary"`
	URL      string             `json:"url,omitempty"`
	Affected []AffectedArtifact `json:"affected"`
}

// AffectedArtifact is an artifact that contains a vulnerable version.
type AffectedArtifact struct {
	ComponentUse
	Fixed string `json:"fixed,omitempty"`
}

// maxAdvisories is the largest database that can be imported, in bytes.
const maxAdvisories = 2 << 30

func (s *server) vulnerabilities(a huma.API) {
	route(a, "GET", "/vulnerabilities", "vulnerability-state", "What is known of published vulnerabilities", func(ctx context.Context, _ *struct{}) (VulnerabilityState, error) {
		st, err := s.Artifact.AdvisoryState(ctx)
		out := VulnerabilityState{AdvisoryState: AdvisoryState(st), Ecosystems: []EcosystemImport{}}
		if err != nil {
			return out, err
		}
		all, err := s.Artifact.Ecosystems(ctx)
		for _, e := range all {
			out.Ecosystems = append(out.Ecosystems, EcosystemImport{e.Name, e.Imported})
		}
		return out, err
	})
	route(a, "GET", "/vulnerabilities/{id}", "show-vulnerability", "An advisory, by id or alias, the artifacts that it affects and where they run", func(ctx context.Context, in *struct {
		ID string `path:"id"`
	}) (Vulnerability, error) {
		adv, affected, err := s.Artifact.Vulnerability(ctx, in.ID)
		if err != nil {
			return Vulnerability{}, err
		}
		runs, err := s.running(ctx)
		v := Vulnerability{adv.ID, append([]string{}, adv.Aliases...), string(adv.Severity), adv.Score, adv.Summary, adv.URL, []AffectedArtifact{}}
		for _, x := range affected {
			v.Affected = append(v.Affected, AffectedArtifact{componentUse(x.Use, runs), x.Fixed})
		}
		return v, err
	})
	route(a, "GET", "/artifacts/{id}/vulnerabilities", "list-vulnerabilities", "An artifact's SBOM compared with the vulnerabilities that are known now", func(ctx context.Context, in *struct {
		ID string `path:"id"`
	}) (Findings, error) {
		art, f, err := s.Artifact.Vulnerabilities(ctx, artifact.ID(in.ID))
		out := Findings{Findings: []Finding{}, Compared: f.Compared, Uncompared: f.Uncompared, Database: AdvisoryState(f.Database), Ecosystems: []EcosystemState{}, Limits: []Limit{}}
		if err != nil {
			return out, err
		}
		for _, e := range f.Ecosystems {
			out.Ecosystems = append(out.Ecosystems, EcosystemState(e))
		}
		all, err := s.Against(ctx, art.ServiceID, f)
		for _, a := range all {
			l := Limit{a.Where, a.Limit.Words(), a.Allow, a.Says, []Standing{}}
			for _, j := range a.Findings {
				l.Findings = append(l.Findings, Standing{j.ID, j.Component, string(j.Standing), j.Until, j.Reason})
			}
			out.Limits = append(out.Limits, l)
		}
		for _, x := range f.List {
			out.Findings = append(out.Findings, Finding{x.ID, append([]string{}, x.Aliases...), string(x.Severity), x.Score, x.Summary, x.URL, x.Component, x.Version, x.Fixed, x.Published})
		}
		return out, err
	})
}

// importAdvisories takes the zip itself as the body.
func (s *server) importAdvisories(w http.ResponseWriter, r *http.Request) {
	st, err := s.takeAdvisories(w, r)
	if err != nil {
		problem(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(AdvisoryState(st))
}

func (s *server) takeAdvisories(w http.ResponseWriter, r *http.Request) (artifact.AdvisoryState, error) {
	if err := s.Artifact.MayImportAdvisories(r.Context()); err != nil {
		return artifact.AdvisoryState{}, err // before the bytes are taken
	}
	f, err := os.CreateTemp("", "weir-advisories-")
	if err != nil {
		return artifact.AdvisoryState{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	size, err := io.Copy(f, http.MaxBytesReader(w, r.Body, maxAdvisories))
	if err != nil {
		return artifact.AdvisoryState{}, fault.New(fault.Invalid, "The database of vulnerabilities did not arrive whole, or has more than %d GiB: %v.", maxAdvisories>>30, err)
	}
	source := r.URL.Query().Get("source")
	if source == "" || len(source) > 200 {
		source = "an import"
	}
	return s.Artifact.ImportAdvisories(r.Context(), source, f, size)
}
