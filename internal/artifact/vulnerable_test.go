package artifact

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/base/fault"
	"weir/internal/check/vuln"
)

// known are advisories in memory, as vulndb gives them.
type known []vuln.Advisory

func (k known) Import(context.Context, string, io.ReaderAt, int64) (AdvisoryState, error) {
	return AdvisoryState{}, nil
}
func (k known) State(context.Context) (AdvisoryState, error) {
	return AdvisoryState{Advisories: int64(len(k))}, nil
}
func (k known) Imported(context.Context) (map[string]time.Time, error) {
	all := map[string]time.Time{}
	for _, a := range k {
		for _, x := range a.Affected {
			all[x.Ecosystem] = time.Unix(1, 0)
		}
	}
	return all, nil
}
func (k known) About(_ context.Context, ecosystem string, names []string) (map[string][]vuln.Advisory, error) {
	out := map[string][]vuln.Advisory{}
	for _, a := range k {
		for _, x := range a.Affected {
			if x.Ecosystem == ecosystem && slices.Contains(names, x.Package) {
				out[x.Package] = append(out[x.Package], a)
			}
		}
	}
	return out, nil
}
func (k known) Rated(_ context.Context, names []string) (map[string]Rating, error) {
	out := map[string]Rating{}
	for _, a := range k {
		for _, n := range append([]string{a.ID}, a.Aliases...) {
			if a.Severity != vuln.Unknown && slices.Contains(names, n) {
				out[n] = out[n].Worse(Rating{a.Severity, a.Score})
			}
		}
	}
	return out, nil
}
func (k known) Named(_ context.Context, name string) (out []vuln.Advisory, _ error) {
	for _, a := range k {
		if a.ID == name || slices.Contains(a.Aliases, name) {
			out = append(out, a)
		}
	}
	return out, nil
}

type uses []Use

func (u uses) Find(_ context.Context, q ComponentQuery) (out []Use, _ error) {
	for _, x := range u {
		if strings.Contains(x.Name, q.Name) {
			out = append(out, x)
		}
	}
	return out, nil
}

func TestAVulnerabilityIsFoundInWhatContainsIt(t *testing.T) {
	span := func(pkg, fixed string) []vuln.Affected {
		return []vuln.Affected{{Ecosystem: "Go", Package: pkg, Spans: []vuln.Span{{Introduced: "0", Fixed: fixed}}}}
	}
	advisories := known{
		{ID: "GO-1", Aliases: []string{"GHSA-1", "CVE-2026-1"}, Severity: vuln.Medium, Score: 5, Affected: span("golang.org/x/net", "0.38.0")},
		{ID: "GO-2", Severity: vuln.Critical, Score: 9.8, Affected: span("stdlib", "1.26.9")},
		{ID: "GO-3", Severity: vuln.High, Withdrawn: true, Affected: span("golang.org/x/net", "9.0.0")},
	}
	net := Component{Kind: "library", Name: "golang.org/x/net", Version: "v0.37.0", PURL: "pkg:golang/golang.org/x/net@v0.37.0"}
	std := Component{Kind: "library", Name: "std", Version: "1.26.8", PURL: "pkg:golang/std@1.26.8"}
	netter := net
	netter.Name, netter.PURL = "golang.org/x/netter", "pkg:golang/golang.org/x/netter@v0.37.0"
	fixed := net
	fixed.Version, fixed.PURL = "v0.38.0", "pkg:golang/golang.org/x/net@v0.38.0"
	s := &Service{authorize: func(context.Context, string, string) error { return nil }, advisories: advisories,
		index: uses{{Component: net, ArtifactID: "artifact_1"}, {Component: netter, ArtifactID: "artifact_2"}, {Component: fixed, ArtifactID: "artifact_3"}, {Component: std, ArtifactID: "artifact_1"}}}

	found, ok := match(net, "v0.37.0", advisories[:1])
	if !ok || len(found) != 1 || found[0].Name() != "CVE-2026-1" || found[0].Fixed != "0.38.0" {
		t.Errorf("match() = %+v, %v", found, ok)
	}
	if found, ok := match(net, "(devel)", advisories[:1]); ok || len(found) != 0 {
		t.Errorf("a version that cannot be compared: %+v, %v", found, ok)
	}
	if found, _ := match(net, "v0.37.0", advisories[2:]); len(found) != 0 {
		t.Errorf("a withdrawn advisory counts: %+v", found)
	}
	for name, want := range map[string]string{"CVE-2026-1": "artifact_1", "GO-2": "artifact_1", "GO-3": ""} {
		_, affected, err := s.Vulnerability(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, a := range affected {
			ids = append(ids, string(a.ArtifactID))
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s affects %q, want %q", name, got, want)
		}
	}
	if _, _, err := s.Vulnerability(t.Context(), "CVE-2000-1"); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.Sentence(err), "weir vulnerability import") {
		t.Errorf("an advisory that is not known: %v", err)
	}
	for text, want := range map[string]bool{"CVE-2026-1": true, "ghsa-fp9f-44c2-cw27": true, "go-2024-2428": true, "golang.org/x/net": false, "go-cmp": false, "go-2024": false, "checkout": false} {
		if IsAdvisory(text) != want {
			t.Errorf("IsAdvisory(%s) = %v", text, !want)
		}
	}
}

func TestAdvisoriesAboutTheSameAreOneFindingWithTheWorstKnownSeverity(t *testing.T) {
	span := []vuln.Span{{Introduced: "0", Fixed: "1.1.0"}}
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	advisories := known{
		{ID: "GO-1", Aliases: []string{"CVE-2026-1"}, Severity: vuln.Unknown, Published: day(9), Summary: "of Go", Affected: []vuln.Affected{{Ecosystem: "Go", Package: "example.com/a", Spans: span}}},
		{ID: "GHSA-1", Aliases: []string{"CVE-2026-1"}, Severity: vuln.High, Score: 8, Published: day(3), Summary: "of GitHub", Affected: []vuln.Affected{{Ecosystem: "Go", Package: "example.com/a", Spans: span}}},
		{ID: "GO-2", Aliases: []string{"CVE-2026-2"}, Severity: vuln.Unknown, Affected: []vuln.Affected{{Ecosystem: "Go", Package: "example.com/b", Spans: span}}},
		{ID: "GHSA-2", Aliases: []string{"CVE-2026-2"}, Severity: vuln.Critical, Score: 9.1, Affected: []vuln.Affected{{Ecosystem: "npm", Package: "b", Spans: span}}},
	}
	s := &Service{advisories: advisories}
	f, err := s.scan(t.Context(), []Component{
		{Kind: "library", Name: "example.com/a", Version: "v1.0.0", PURL: "pkg:golang/example.com/a@v1.0.0"},
		{Kind: "library", Name: "example.com/b", Version: "v1.0.0", PURL: "pkg:golang/example.com/b@v1.0.0"},
		{Kind: "library", Name: "example.com/b", Version: "v1.0.0", PURL: "pkg:golang/example.com/b@v1.0.0"}, // of another program
		{Kind: "library", Name: "rack", Version: "1.0.0", PURL: "pkg:gem/rack@1.0.0"},
		{Kind: "library", Name: "openssl", Version: "3.0", PURL: "pkg:generic/openssl@3.0"},
		{Kind: "file", Name: "etc/passwd"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(f.List) != 2 || f.List[0].ID != "GO-2" || f.List[0].Severity != vuln.Critical || f.List[1].ID != "GO-1" || f.List[1].Severity != vuln.High || f.List[1].Published != day(3) || !slices.Contains(f.List[1].Aliases, "GHSA-1") {
		t.Errorf("findings = %+v", f.List)
	}
	if f.List[1].Name() != "CVE-2026-1" {
		t.Errorf("name = %s", f.List[1].Name())
	}
	// RubyGems has no data, and openssl is of no ecosystem: neither counts as clean.
	if f.Compared != 2 || f.Uncompared != 2 || len(f.Ecosystems) != 2 || f.Ecosystems[1].Name != "RubyGems" || !f.Ecosystems[1].Imported.IsZero() || f.Ecosystems[0].Imported.IsZero() {
		t.Errorf("compared %d, not %d, of %+v", f.Compared, f.Uncompared, f.Ecosystems)
	}
}

func TestPackagesOfADistributionAreComparedByTheirSource(t *testing.T) {
	advisories := known{{ID: "DSA-1", Aliases: []string{"CVE-2026-3"}, Severity: vuln.High, Affected: []vuln.Affected{{Ecosystem: "Debian:12", Package: "openssl", Spans: []vuln.Span{{Introduced: "0", Fixed: "3.0.15-1~deb12u2"}}}}}}
	s := &Service{advisories: advisories}
	libssl := Component{Kind: "library", Name: "libssl3", Version: "3.0.15-1~deb12u1", PURL: "pkg:deb/debian/libssl3@3.0.15-1~deb12u1?arch=amd64&distro=debian-12&upstream=openssl"}
	other := Component{Kind: "library", Name: "libssl3", Version: "3.0.15-1~deb12u1", PURL: "pkg:deb/debian/libssl3@3.0.15-1~deb12u1?arch=amd64&distro=debian-13&upstream=openssl"}
	f, err := s.scan(t.Context(), []Component{libssl, other})
	if err != nil {
		t.Fatal(err)
	}
	if len(f.List) != 1 || f.List[0].Component != "libssl3" || f.List[0].Fixed != "3.0.15-1~deb12u2" || f.Compared != 1 || f.Uncompared != 1 || len(f.Ecosystems) != 2 {
		t.Errorf("scan = %+v", f)
	}
}
