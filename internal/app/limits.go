package app

import (
	"context"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/fault"
	"weir/internal/catalog"
	"weir/internal/guard/policy"
)

// limit is a declared limit in policy's words.
func limit(l catalog.Vulnerabilities) policy.Limit {
	out := policy.Limit{Block: l.Block, FixableOnly: l.FixableOnly, GraceSeconds: int64(l.Grace.Std().Seconds()), DataWithinSeconds: int64(l.DataWithin.Std().Seconds()),
		UnratedPass: l.Unrated == "allow", WithoutDataPass: l.WithoutData == "allow"}
	for _, x := range l.Ignore {
		out.Ignore = append(out.Ignore, policy.Ignored{ID: x.ID, Component: x.Component, Justification: x.Justification, Reason: x.Reason, Ends: x.Until.Ends()})
	}
	return out
}

// vulnerable holds findings beside a limit, as policy looks at them: those that
// the limit is about, in the order of the findings.
func vulnerable(l catalog.Vulnerabilities, f artifact.Findings) *policy.Vulnerable {
	v := &policy.Vulnerable{Limit: limit(l), Uncompared: f.Uncompared, Data: []policy.VulnerabilityData{}, Findings: []policy.Vulnerability{}}
	for _, e := range f.Ecosystems {
		v.Data = append(v.Data, policy.VulnerabilityData{Ecosystem: e.Name, Components: e.Components, Imported: e.Imported})
	}
	for _, x := range f.List {
		if v.Limit.Counts(string(x.Severity)) {
			v.Findings = append(v.Findings, policy.Vulnerability{ID: x.ID, Aliases: x.Aliases, Severity: string(x.Severity), Component: x.Component, Version: x.Version, Fixed: x.Fixed, Published: x.Published})
		}
	}
	return v
}

// vulnerable compares what an image's verified SBOM lists with what is published
// now. Without a limit nothing is compared, and without an SBOM nothing is known.
func (s *System) vulnerable(ctx context.Context, known proven, l *catalog.Vulnerabilities) (*policy.Vulnerable, error) {
	switch {
	case l == nil:
		return nil, nil
	case known.sbom == nil:
		return &policy.Vulnerable{Limit: limit(*l), Problem: "it has no verified SBOM."}, nil
	}
	f, err := s.artifact.Scan(ctx, *known.sbom)
	if err != nil {
		return nil, err
	}
	return vulnerable(*l, f), nil
}

// admissionLimit is the limit of a service's artifacts, as its trunk declares it
// now: what lands there may set free what waits.
func (s *System) admissionLimit(ctx context.Context, serviceID string) (*catalog.Vulnerabilities, error) {
	d, err := s.catalog.Declared(ctx, serviceID)
	if fault.Is(err, fault.NotFound) {
		return nil, nil // nothing of it can be deployed
	}
	return d.Artifact.Vulnerabilities, err
}

// against tells how findings stand against each limit of their service.
func (s *System) against(ctx context.Context, serviceID string, f artifact.Findings) (out []policy.Against, err error) {
	d, err := s.catalog.Declared(ctx, serviceID)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if l := d.Artifact.Vulnerabilities; l != nil {
		out = append(out, vulnerable(*l, f).Against("admission", now))
	}
	for _, name := range d.Order {
		if l := d.Limit(name); l != nil {
			out = append(out, vulnerable(*l, f).Against(name, now))
		}
	}
	return out, nil
}
