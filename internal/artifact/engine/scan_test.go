package engine_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/custody"
	"weir/internal/artifact/engine"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/journal"
	"weir/internal/check/vuln"
	"weir/internal/guard/evidence"
)

// found is a scan that finds vulnerabilities of std.
func found(names ...string) artifact.Findings {
	f := artifact.Findings{Compared: 1, Uncompared: 2, At: time.Now(), Database: artifact.AdvisoryState{Advisories: 10, Imported: time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)}}
	for _, n := range names {
		f.List = append(f.List, artifact.Finding{ID: n, Severity: vuln.High, Score: 7.5, Component: "std", Version: "1.26.8"})
	}
	return f
}

func (w *world) scans(t *testing.T, digest string) []evidence.Evidence {
	t.Helper()
	all, err := w.evidence.About(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(e evidence.Evidence) bool { return e.PredicateType != evidence.Scan })
}

func TestWhatAScanFoundIsSignedAndAPartOfTheChain(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.findings = found("CVE-2026-1", "CVE-2026-2")
	a := w.released(t)
	r, err := custody.VerifyChain(t.Context(), w.serve(t, nil)+"/"+a.Image(), w.evidence.TrustedRoot(), custody.Options{})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(r.Links, func(l custody.Link) bool { return l.Name == "scan" })
	if i < 0 || r.Links[i].Says != "2 high; 1 of 3 components compared, with data of 2026-11-20" || !strings.HasSuffix(r.Links[i].Signer, "/control-plane") {
		t.Errorf("links = %+v", r.Links)
	}
	d, err := w.service.Details(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	says := ""
	for _, l := range w.service.Chain(t.Context(), d, w.evidence.TrustedRoot()) {
		if l.Kind == "scan" {
			says = string(l.State) + " " + l.Says
		}
	}
	if says != "verified 2 high; 1 of 3 components compared, with data of 2026-11-20" {
		t.Errorf("the chain says %q", says)
	}
	var p artifact.ScanPredicate
	if err := w.scans(t, a.Digest)[0].Predicate(&p); err != nil || p.Scanner.Result.Summary["high"] != 2 || len(p.Scanner.Result.Findings) != 2 || p.Scanner.DB.Version != "2026-11-20T08:00:00Z" {
		t.Errorf("predicate = %+v, %v", p, err)
	}
}

func TestWhileNothingWasImportedNoScanIsSigned(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	a := w.released(t)
	if n := len(w.scans(t, a.Digest)); n != 0 {
		t.Errorf("%d scans are signed", n)
	}
	d, err := w.service.Details(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range w.service.Chain(t.Context(), d, w.evidence.TrustedRoot()) {
		if l.Kind == "scan" && (l.State != artifact.Absent || l.Says != "It was not compared with published vulnerabilities when it was admitted.") {
			t.Errorf("the chain says %+v", l)
		}
	}
}

func TestAnImportSignsAgainWhatItChanged(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.findings = found()
	a := w.released(t)
	again := engine.Rescan{Scan: func(context.Context, evidence.Evidence) (artifact.Findings, error) { return w.findings, nil }, Signer: w.evidence, Attach: w.service.Attach,
		Running: func(context.Context) ([]string, error) {
			return []string{"gone@sha256:" + strings.Repeat("0", 64), a.Image()}, nil
		}}
	imported := func(id string) int {
		t.Helper()
		f := artifact.AdvisoriesImported("sha256:1", "all.zip", nil, 10, time.Now())
		f.ID = id
		if err := again.Handle(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		return len(w.scans(t, a.Digest))
	}
	if n := imported("fact_1"); n != 1 {
		t.Errorf("an import that changes nothing leaves %d scans", n)
	}
	w.findings = found("CVE-2026-1")
	if n := imported("fact_2"); n != 2 {
		t.Errorf("an import that changes something leaves %d scans", n)
	}
	if n := imported("fact_2"); n != 2 {
		t.Errorf("the same fact again leaves %d scans", n)
	}
	w.findings.At = time.Now().Add(8 * 24 * time.Hour)
	if n := imported("fact_3"); n != 3 {
		t.Errorf("after a week there are %d scans", n)
	}
	if err := again.Handle(t.Context(), journal.Fact{Type: artifact.FactAdmitted}); err != nil {
		t.Error(err)
	}
	refs, err := w.images.Referrers(t.Context(), a.Repository, a.Digest, "")
	n := 0
	for _, d := range refs {
		if d.Annotations["dev.sigstore.bundle.predicateType"] == evidence.Scan {
			n++
		}
	}
	if err != nil || n != 3 {
		t.Errorf("%d scans are attached, %v", n, err)
	}
}
