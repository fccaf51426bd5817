package artifact

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
)

// Component is one thing that an image is made of, as its signed SBOM says.
type Component struct {
	Kind    string // library, file
	Name    string // module path, or path in the image
	Version string
	PURL    string // package URL; "" for a file
	Hash    string // sha256 of a file in hex, or Go's h1: sum of a module
	Licence string // SPDX expression, or what the component says; "" if it says nothing
}

// Components lists what an artifact is made of, by name, from its signed SBOM.
func (s *Service) Components(ctx context.Context, id ID) (Artifact, []Component, error) {
	d, err := s.Details(ctx, id)
	if err != nil {
		return Artifact{}, nil, err
	}
	for _, e := range d.Evidence {
		if e.PredicateType != evidence.SBOM {
			continue
		}
		list, err := components(e)
		return d.Artifact, list, err
	}
	return d.Artifact, nil, fault.New(fault.NotFound, "%s has no SBOM, so nobody knows what it is made of.", d.Image())
}

// Before finds the artifact of the same service that was admitted before a.
func (s *Service) Before(ctx context.Context, a Artifact) (ID, error) {
	list, err := s.List(ctx, Filter{ServiceID: a.ServiceID, Before: a.ID, Limit: 1})
	if err != nil {
		return "", err
	}
	if len(list) == 0 {
		return "", fault.New(fault.NotFound, "%s is the first artifact of %s; there is none before it.", a.Tag, a.Service)
	}
	return list[0].ID, nil
}

// components reads a CycloneDX document.
func components(e evidence.Evidence) ([]Component, error) {
	var bom struct {
		Components []struct {
			Type, Name, Version string
			PURL                string `json:"purl"`
			Hashes              []struct{ Alg, Content string }
			Properties          []struct{ Name, Value string }
			Licenses            []struct {
				Expression string
				License    struct{ ID, Name string }
			}
		} `json:"components"`
	}
	if err := e.Predicate(&bom); err != nil {
		return nil, fmt.Errorf("read SBOM %s: %w", e.ID, err)
	}
	list := make([]Component, 0, len(bom.Components))
	for _, c := range bom.Components {
		out := Component{Kind: c.Type, Name: c.Name, Version: c.Version, PURL: c.PURL}
		var licences []string
		for _, l := range c.Licenses {
			licences = append(licences, cmp.Or(l.Expression, l.License.ID, l.License.Name))
		}
		out.Licence = strings.Join(licences, " AND ")
		for _, h := range c.Hashes {
			out.Hash = h.Content
		}
		for _, p := range c.Properties {
			if p.Name == "go:sum" {
				out.Hash = p.Value
			}
		}
		list = append(list, out)
	}
	slices.SortFunc(list, func(a, b Component) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	return list, nil
}

// Changed is a component that is not the same in two artifacts. From or To is
// empty where it was added or removed; both are versions, or hashes where the
// version stayed or there is none. A change of licence is one of its own, of the
// kind licence; where one side does not say its licence there is none.
type Changed struct {
	Kind string
	Name string
	From string
	To   string
}

// licenceOf is the kind of a change of a component's licence.
const licenceOf = "licence"

// Compare says how what an artifact is made of differs from an earlier one, by
// name. Several versions of one name count each for themselves.
func Compare(before, after []Component) []Changed {
	type key struct{ kind, name string }
	group := func(list []Component) map[key][]Component {
		m := map[key][]Component{}
		for _, c := range list {
			m[key{c.Kind, c.Name}] = append(m[key{c.Kind, c.Name}], c)
		}
		return m
	}
	a, b := group(before), group(after)
	var out []Changed
	for k, olds := range a {
		news := b[k]
		if len(olds) == 1 && len(news) == 1 {
			old, now := olds[0], news[0]
			switch {
			case old.Version != now.Version:
				out = append(out, Changed{k.kind, k.name, old.Version, now.Version})
			case old.Hash != now.Hash:
				out = append(out, Changed{k.kind, k.name, old.Hash, now.Hash})
			}
			if old.Licence != now.Licence && old.Licence != "" && now.Licence != "" {
				out = append(out, Changed{licenceOf, k.name, old.Licence, now.Licence})
			}
			continue
		}
		for _, o := range olds {
			if !slices.Contains(news, o) {
				out = append(out, Changed{k.kind, k.name, cmp.Or(o.Version, o.Hash), ""})
			}
		}
		for _, n := range news {
			if !slices.Contains(olds, n) {
				out = append(out, Changed{k.kind, k.name, "", cmp.Or(n.Version, n.Hash)})
			}
		}
	}
	for k, news := range b {
		if len(a[k]) == 0 {
			for _, n := range news {
				out = append(out, Changed{k.kind, k.name, "", cmp.Or(n.Version, n.Hash)})
			}
		}
	}
	slices.SortFunc(out, func(a, b Changed) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	return out
}
