package artifact

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"weir/internal/check/vuln"
	"weir/internal/guard/evidence"
)

// Finding is a vulnerability of a component.
type Finding struct {
	ID        string   // of the advisory
	Aliases   []string // its other names, and those of advisories about the same
	Severity  vuln.Severity
	Score     float64
	Summary   string
	URL       string
	Published time.Time // zero if that is not known
	Component string
	Version   string
	Fixed     string // the first later version without it, "" if there is none
}

// Name is how people call it: the CVE, if there is one.
func (f Finding) Name() string {
	for _, a := range append([]string{f.ID}, f.Aliases...) {
		if strings.HasPrefix(a, "CVE-") {
			return a
		}
	}
	return f.ID
}

// Findings is a comparison of what something is made of with what is known now.
type Findings struct {
	List       []Finding // the worst first
	Compared   int       // components that could be compared
	Uncompared int       // components that could not: of no ecosystem, of one without data, of an odd version
	Ecosystems []Ecosystem
	Database   AdvisoryState
	At         time.Time
}

// Ecosystem is where components come from, with the data that there are about it.
type Ecosystem struct {
	Name       string
	Components int
	Imported   time.Time // zero: no advisories of it were imported
}

// Count counts the findings of a severity.
func (f Findings) Count(s vuln.Severity) (n int) {
	for _, x := range f.List {
		if x.Severity == s {
			n++
		}
	}
	return n
}

// Vulnerabilities compares what an artifact is made of with the vulnerabilities
// that are known now. It does not look whether vulnerable code is called.
func (s *Service) Vulnerabilities(ctx context.Context, id ID) (Artifact, Findings, error) {
	a, components, err := s.Components(ctx, id)
	if err != nil {
		return a, Findings{}, err
	}
	f, err := s.scan(ctx, components)
	return a, f, err
}

// Scan compares what a signed SBOM lists, whose signature the caller has verified.
func (s *Service) Scan(ctx context.Context, sbom evidence.Evidence) (Findings, error) {
	list, err := components(sbom)
	if err != nil {
		return Findings{}, err
	}
	return s.scan(ctx, list)
}

func (s *Service) scan(ctx context.Context, list []Component) (f Findings, err error) {
	f.At = time.Now().UTC()
	if f.Database, err = s.advisories.State(ctx); err != nil {
		return f, err
	}
	imported, err := s.advisories.Imported(ctx)
	if err != nil {
		return f, err
	}
	type part struct {
		Component
		name, version string // as its ecosystem knows it
	}
	parts := map[string][]part{} // by ecosystem
	type key struct{ ecosystem, name, version, component string }
	seen := map[key]bool{} // programs of one image share modules, and its platforms packages
	for _, c := range list {
		if c.Kind == "file" {
			continue
		}
		ecosystem, name, version, ok := vuln.Package(c.PURL)
		if k := (key{ecosystem, name, version, c.Name + "@" + c.Version}); seen[k] {
			continue
		} else {
			seen[k] = true
		}
		if !ok {
			f.Uncompared++
			continue
		}
		parts[ecosystem] = append(parts[ecosystem], part{c, name, version})
	}
	for _, ecosystem := range slices.Sorted(maps.Keys(parts)) {
		of := parts[ecosystem]
		f.Ecosystems = append(f.Ecosystems, Ecosystem{Name: ecosystem, Components: len(of), Imported: imported[ecosystem]})
		names := make([]string, len(of))
		for i, p := range of {
			names[i] = p.name
		}
		slices.Sort(names)
		about, err := s.advisories.About(ctx, ecosystem, slices.Compact(names))
		if err != nil {
			return f, fmt.Errorf("advisories of %s: %w", ecosystem, err)
		}
		for _, p := range of {
			found, known := match(p.Component, p.version, about[p.name])
			if f.List = append(f.List, found...); known && !imported[ecosystem].IsZero() {
				f.Compared++
			} else {
				f.Uncompared++
			}
		}
	}
	if err := s.rate(ctx, f.List); err != nil {
		return f, err
	}
	slices.SortStableFunc(f.List, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(slices.Index(vuln.Severities, a.Severity), slices.Index(vuln.Severities, b.Severity)), cmp.Compare(b.Score, a.Score), cmp.Compare(a.Component, b.Component), cmp.Compare(a.ID, b.ID))
	})
	return f, nil
}

// rate gives findings that nobody has rated the severity of other advisories
// about the same: Go's own have none, GitHub's of the same name do.
func (s *Service) rate(ctx context.Context, list []Finding) error {
	var names []string
	for _, f := range list {
		if f.Severity == vuln.Unknown {
			names = append(names, f.Aliases...)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	rated, err := s.advisories.Rated(ctx, slices.Compact(names))
	if err != nil {
		return fmt.Errorf("ratings of advisories: %w", err)
	}
	for i := range list {
		if list[i].Severity != vuln.Unknown {
			continue
		}
		var r Rating
		for _, name := range list[i].Aliases {
			r = r.Worse(rated[strings.ToUpper(name)])
		}
		if r.Severity != "" {
			list[i].Severity, list[i].Score = r.Severity, r.Score
		}
	}
	return nil
}

// match lists the findings of one component. Advisories about the same become
// one finding. It is pure.
func match(c Component, version string, about []vuln.Advisory) (found []Finding, known bool) {
	known = true
	for _, adv := range about {
		if adv.Withdrawn {
			continue
		}
		for _, x := range adv.Affected {
			affected, fixed, ok := x.Affects(version)
			known = known && ok
			if affected {
				found = join(found, Finding{ID: adv.ID, Aliases: adv.Aliases, Severity: adv.Severity, Score: adv.Score, Summary: adv.Summary, URL: adv.URL, Published: adv.Published,
					Component: c.Name, Version: c.Version, Fixed: fixed})
				break
			}
		}
	}
	return found, known
}

// join adds a finding, or what it knows more to the one of the same vulnerability.
func join(found []Finding, f Finding) []Finding {
	names := append([]string{f.ID}, f.Aliases...)
	for i, old := range found {
		if old.ID != f.ID && !slices.Contains(names, old.ID) && !slices.ContainsFunc(old.Aliases, func(a string) bool { return slices.Contains(names, a) }) {
			continue
		}
		m := &found[i]
		m.Aliases = slices.Clone(m.Aliases)
		for _, n := range names {
			if n != m.ID && !slices.Contains(m.Aliases, n) {
				m.Aliases = append(m.Aliases, n)
			}
		}
		if slices.Index(vuln.Severities, f.Severity) < slices.Index(vuln.Severities, m.Severity) {
			m.Severity, m.Score = f.Severity, f.Score
		}
		if m.Published.IsZero() || !f.Published.IsZero() && f.Published.Before(m.Published) {
			m.Published = f.Published
		}
		m.Summary, m.URL, m.Fixed = cmp.Or(m.Summary, f.Summary), cmp.Or(m.URL, f.URL), cmp.Or(m.Fixed, f.Fixed)
		return found
	}
	return append(found, f)
}
