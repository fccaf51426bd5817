package artifact

import (
	"context"
	"io"
	"maps"
	"regexp"
	"slices"
	"time"

	"weir/internal/base/fault"
	"weir/internal/check/vuln"
)

// AdvisoryState is what is known of published vulnerabilities.
type AdvisoryState struct {
	Advisories int64
	Source     string    // of the last import
	Imported   time.Time // zero if there was none
}

// Rating is how bad somebody says that a vulnerability is.
type Rating struct {
	Severity vuln.Severity
	Score    float64
}

// Worse is the worse of r and o.
func (r Rating) Worse(o Rating) Rating {
	a, b := slices.Index(vuln.Severities, r.Severity), slices.Index(vuln.Severities, o.Severity)
	if o.Severity != "" && (r.Severity == "" || b < a || b == a && o.Score > r.Score) {
		return o
	}
	return r
}

// Advisories are the published vulnerabilities. Their adapter is vulndb.
type Advisories interface {
	// Import reads advisories in OSV's format: a zip of them, or one.
	Import(ctx context.Context, source string, r io.ReaderAt, size int64) (AdvisoryState, error)
	State(ctx context.Context) (AdvisoryState, error)
	// Imported tells when the advisories of ecosystems were last imported; those without any are left out.
	Imported(ctx context.Context) (map[string]time.Time, error)
	// About lists those about packages of an ecosystem, by package; Affected is about it alone.
	About(ctx context.Context, ecosystem string, names []string) (map[string][]vuln.Advisory, error)
	// Rated finds the worst rating of advisories with an id or alias, by that name in
	// upper case. What nobody has rated is left out.
	Rated(ctx context.Context, names []string) (map[string]Rating, error)
	// Named lists those with an id or alias, once for each package.
	Named(ctx context.Context, name string) ([]vuln.Advisory, error)
}

// Watch makes s compare artifacts with advisories.
func (s *Service) Watch(a Advisories) { s.advisories = a }

// MayImportAdvisories refuses who may not import.
func (s *Service) MayImportAdvisories(ctx context.Context) error {
	return s.authorize(ctx, "vulnerability.import", "default")
}

// ImportAdvisories takes in published vulnerabilities.
func (s *Service) ImportAdvisories(ctx context.Context, source string, r io.ReaderAt, size int64) (AdvisoryState, error) {
	if err := s.MayImportAdvisories(ctx); err != nil {
		return AdvisoryState{}, err
	}
	return s.advisories.Import(ctx, source, r, size)
}

// AdvisoryState tells what was imported last.
func (s *Service) AdvisoryState(ctx context.Context) (AdvisoryState, error) {
	if err := s.authorize(ctx, "artifact.read", "default"); err != nil {
		return AdvisoryState{}, err
	}
	return s.advisories.State(ctx)
}

var advisoryName = regexp.MustCompile(`(?i)^(CVE-\d{4}-\d+|GHSA(-[0-9a-z]{4}){3}|GO-\d{4}-\d+|(OSV|PYSEC|RUSTSEC|MAL)-\d{4}-\d+)$`)

// IsAdvisory reports whether a text is the name of a vulnerability, such as CVE-2026-12345.
func IsAdvisory(text string) bool { return advisoryName.MatchString(text) }

// maxUses bounds how many artifacts are looked at for one package.
const maxUses = 1_000_000

// Affected is an artifact that contains a vulnerable version.
type Affected struct {
	Use
	Fixed string
}

// Ecosystems tells when the advisories of each ecosystem were last imported, by name.
func (s *Service) Ecosystems(ctx context.Context) ([]Ecosystem, error) {
	if err := s.authorize(ctx, "artifact.read", "default"); err != nil {
		return nil, err
	}
	all, err := s.advisories.Imported(ctx)
	out := make([]Ecosystem, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, Ecosystem{Name: name, Imported: all[name]})
	}
	return out, err
}

// Vulnerability tells of an advisory, by id or alias, and of the artifacts that
// contain what it affects.
func (s *Service) Vulnerability(ctx context.Context, name string) (vuln.Advisory, []Affected, error) {
	if err := s.authorize(ctx, "artifact.read", "default"); err != nil {
		return vuln.Advisory{}, nil, err
	}
	named, err := s.advisories.Named(ctx, name)
	if err != nil {
		return vuln.Advisory{}, nil, err
	}
	if len(named) == 0 {
		return vuln.Advisory{}, nil, fault.New(fault.NotFound, "There is no advisory %s among those that were imported. `weir vulnerability import FILE` takes in newer ones.", name)
	}
	first := named[0]
	first.Affected = nil
	var out []Affected
	seen := map[string]bool{}
	for _, adv := range named {
		for _, x := range adv.Affected {
			first.Affected = append(first.Affected, x)
			uses, err := s.index.Find(ctx, ComponentQuery{Name: component(x), Whole: true, Limit: maxUses})
			if err != nil {
				return first, nil, err
			}
			for _, u := range uses {
				ecosystem, pkg, version, ok := vuln.Package(u.PURL)
				if !ok || ecosystem != x.Ecosystem || pkg != x.Package || seen[string(u.ArtifactID)+u.PURL] {
					continue
				}
				if affected, fixed, _ := x.Affects(version); affected && !adv.Withdrawn {
					seen[string(u.ArtifactID)+u.PURL] = true
					out = append(out, Affected{u, fixed})
				}
			}
		}
	}
	return first, out, nil
}

// component is what an SBOM calls a package.
func component(x vuln.Affected) string {
	if x.Ecosystem == "Go" && x.Package == "stdlib" {
		return "std"
	}
	return x.Package
}
