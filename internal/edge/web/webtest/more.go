package webtest

import (
	"context"
	"strings"
	"time"

	"weir/internal/base/fault"
	"weir/internal/edge/web"
)

// Changes implements web.Data.
func (d *Data) Changes(ctx context.Context, state string) ([]web.ChangeRow, error) {
	if d.Empty {
		return nil, nil
	}
	c, err := d.Change(ctx, "change_1")
	two := c.ChangeRow
	two.ID, two.Number, two.Title, two.State = "change_2", 14, "Cache voucher lookups", st("run", "Checks run")
	return []web.ChangeRow{two, c.ChangeRow}, err
}

// Change implements web.Data.
func (d *Data) Change(_ context.Context, id string) (web.Change, error) {
	if id != "change_1" {
		return web.Change{}, fault.New(fault.NotFound, "There is no change %s.", id)
	}
	now := d.at()
	return web.Change{
		ChangeRow: web.ChangeRow{ID: id, Repository: d.name("checkout"), Title: d.name("Reserve stock atomically when a cart is paid"), Number: 12, State: st("block", "Blocked by 1 rule"), Author: d.name("Maya Lindqvist"), Branch: d.name("maya/atomic-reserve"), Target: "main", Revision: revision, Created: now.Add(-5 * time.Hour)},
		Open:      true, Patchset: 3, CanReview: true, Why: "One rule blocks it; see below.",
		Rules: []web.Rule{
			{Name: "code-owners", Message: d.name("db/migrations/0107_stock.sql needs the approval of its owners."), Source: "weir.yaml of main, repository.reviews.code_owners", Missing: []string{"an approval of this revision by ines or kofi"}, Who: []string{"ines", "kofi"}},
			{Name: "reviews", Message: "2 of 1 reviews by people who did not write it.", Source: "weir.yaml of main, repository.reviews.required", Allow: true},
			{Name: "required-checks", Message: "ci.yml/test and ci.yml/lint passed on this revision.", Source: "weir.yaml of main, repository.required_checks", Allow: true},
			{Name: "fast-forward", Message: "main can be moved to this revision.", Source: "built in", Allow: true}},
		Checks:  []web.Check{{Name: "ci.yml/test", State: st("ok", "Passed"), Href: "/runs/run_0", Summary: "1 m 02 s"}, {Name: "ci.yml/lint", State: st("ok", "Passed"), Href: "/runs/run_0", Summary: "19 s"}, {Name: "ci.yml/integration", State: st("run", "Running"), Href: "/runs/run_1"}},
		Reviews: []web.Review{{By: "Jonas Weber", State: st("ok", "Approved"), Current: true, At: now.Add(-20 * time.Minute)}, {By: "Tomás Ferreira", State: st("ok", "Approved"), At: now.Add(-52 * time.Minute), Comment: d.name("Good, but say why the index is partial.")}},
		Commits: []web.Commit{{Revision: revision, Subject: d.name("Take stock in one statement"), Author: "Maya Lindqvist", At: now.Add(-time.Hour)}, {Revision: strings.Replace(revision, "c07d9e2", "51ba7f0", 1), Subject: "Add reserved column, expand only", Author: "Maya Lindqvist", At: now.Add(-3 * time.Hour)}},
		Diff:    "diff --git a/db/migrations/0107_stock.sql b/db/migrations/0107_stock.sql\nnew file mode 100644\n--- /dev/null\n+++ b/db/migrations/0107_stock.sql\n@@ -0,0 +1,2 @@\n+-- weir:phase expand\n+ALTER TABLE stock ADD COLUMN reserved integer NOT NULL DEFAULT 0;\ndiff --git a/internal/cart/reserve.go b/internal/cart/reserve.go\n--- a/internal/cart/reserve.go\n+++ b/internal/cart/reserve.go\n@@ -88,4 +88,4 @@ func (s *Store) Reserve\n func (s *Store) Reserve(ctx context.Context, sku string, n int) error {\n-\tfree, err := s.free(ctx, sku)\n-\tif err != nil || free < n {\n+\ttag, err := s.db.Exec(ctx, reserveSQL, sku, n) // check and take at once\n+\tif err != nil || tag.RowsAffected() == 0 {\n \t\treturn ErrOutOfStock\n",
	}, nil
}

// Artifacts implements web.Data.
func (d *Data) Artifacts(ctx context.Context, query string) (web.ArtifactList, error) {
	l := web.ArtifactList{Query: query}
	if d.Empty || query == "nothing" {
		return l, nil
	}
	a, err := d.Artifact(ctx, "artifact_1")
	l.Rows = []web.ArtifactRow{a.ArtifactRow}
	if query == "CVE-2025-22872" {
		l.Advisory = &web.Advisory{Name: query, ID: "GO-2025-3595", Severity: "high", Summary: d.name("Incorrect neutralisation of input in x/net"), URL: "https://pkg.go.dev/vuln/GO-2025-3595"}
	}
	if query != "" {
		l.Uses = []web.ComponentUse{{Name: d.name("golang.org/x/net"), Version: "v0.47.0", ArtifactID: "artifact_1", Service: d.name("checkout"), Tag: a.Tag, Runs: []string{"staging", d.name("production")}, Admitted: a.Created},
			{Name: "golang.org/x/net", Version: "v0.46.0", ArtifactID: "artifact_0", Service: "checkout", Tag: "1.0.0-0f3e1c2", Admitted: a.Created}}
		l.MoreUses = true
	}
	return l, err
}

// SBOM implements web.Data.
func (d *Data) SBOM(ctx context.Context, id string) ([]byte, string, error) {
	a, err := d.Artifact(ctx, id)
	return []byte(`{"bomFormat":"CycloneDX"}`), a.Service + ".cdx.json", err
}

// Artifact implements web.Data.
func (d *Data) Artifact(_ context.Context, id string) (web.Artifact, error) {
	if id != "artifact_1" {
		return web.Artifact{}, fault.New(fault.NotFound, "There is no artifact %s.", id)
	}
	now := d.at()
	ev := func(kind string, index int64) web.Evidence {
		return web.Evidence{ID: kind, Kind: kind, About: digest, Signer: d.name("https://weir.internal/checkout/.github/workflows/ci.yml@refs/heads/main"), Index: index, State: st("ok", "Valid"), At: now.Add(-3 * time.Hour)}
	}
	return web.Artifact{
		ArtifactRow: web.ArtifactRow{ID: id, Service: d.name("checkout"), Version: "1.1.0", Tag: "1.1.0-c07d9e2", Digest: digest, Revision: revision, Size: 7340032, Created: now.Add(-3 * time.Hour)},
		Image:       "localhost:7400/checkout/checkout@" + digest, Author: d.name("Maya Lindqvist"), RunID: "run_0", Verify: "weir verify localhost:7400/checkout/checkout@" + digest + " --trusted-root trusted_root.json",
		Chain: []web.ChainLink{
			{Kind: "commit", Title: "Commit", State: st("ok", "Verified"), Verified: true, Says: d.name("Landed as change #12 by maya"), Href: "/changes/change_1", Link: "the change", Index: 48071},
			{Kind: "review", Title: "Review", State: st("ok", "Verified"), Verified: true, Says: d.name("approve by sofia"), Href: "/changes/change_1", Link: "the change", Index: 48084},
			{Kind: "build", Title: "Build", State: st("ok", "Verified"), Verified: true, Says: "Confined, no network", Href: "/runs/run_0", Link: "the run", Index: 48097},
			{Kind: "tests", Title: "Tests", State: st("ok", "Verified"), Verified: true, Says: d.name("2 passed: ci.yml/test, ci.yml/lint"), Index: 48099},
			{Kind: "sbom", Title: "SBOM", State: st("ok", "Verified"), Verified: true, Says: "Lists 3 components", Index: 48098},
			{Kind: "signature", Title: "Signature", State: st("bad", "Does not hold"), Says: d.name("The evidence does not verify: it was changed after signing."), Index: 48096},
			{Kind: "admission", Title: "Admission", State: st("off", "None"), Says: "No admission is signed.", Index: -1},
			{Kind: "rollout", Title: d.name("Staging"), State: st("ok", "Verified"), Verified: true, Says: "Same digest; completed", Href: "/rollouts/rollout_live", Link: "the rollout", Index: 48117},
		},
		Evidence:  []web.Evidence{ev("https://sigstore.dev/cosign/sign/v1", 48096), ev("https://slsa.dev/provenance/v1", 48097), ev("https://cyclonedx.org/bom", 48098), ev("https://in-toto.io/attestation/test-result/v0.1", 48099), ev("https://weir.dev/review/v1", 48084)},
		Referrers: []web.Referrer{{Digest: strings.Replace(digest, "9f2c", "a41f", 1), Type: "application/vnd.dev.sigstore.bundle.v0.3+json", Size: 5210}},
		Decisions: []web.Decision{{ID: "decision_1", Action: "release.promote", Allow: true, At: now.Add(-12 * time.Minute), Rules: []web.Rule{{Name: "approvals", Message: "1 of 1 approvals by people who did not write it.", Source: "weir.yaml of main, environments.production.approvals", Allow: true}}},
			{ID: "decision_0", Action: "artifact.admit", Allow: false, At: now.Add(-3 * time.Hour), Rules: []web.Rule{{Name: "landed", Message: d.name("The revision has not landed."), Source: "built in", Missing: []string{"a landing of c07d9e2"}}}}},
		Components: []web.Component{{Kind: "library", Name: d.name("golang.org/x/net"), Version: "v0.47.0", Licence: "BSD-3-Clause"}, {Kind: "library", Name: "golang.org/x/text", Version: "v0.31.0"}, {Kind: "library", Name: "std", Version: "1.26.8"}},
		Changes:    []web.ComponentChange{{Kind: "library", Name: d.name("golang.org/x/net"), From: "v0.46.0", To: "v0.47.0"}, {Kind: "library", Name: "golang.org/x/sys", From: "v0.38.0"}, {Kind: "library", Name: "golang.org/x/text", To: "v0.31.0"}},
		Since:      "1.0.0-0f3e1c2",
		Vulns: web.Vulnerabilities{Known: 4291, Imported: now.Add(-time.Hour), Compared: 3, Uncompared: 1, Findings: []web.Finding{
			{Name: "CVE-2025-22872", ID: "GO-2025-3595", Severity: "high", Score: 7.5, Summary: d.name("Incorrect neutralisation of input in x/net"), URL: "https://pkg.go.dev/vuln/GO-2025-3595", Component: d.name("golang.org/x/net"), Version: "v0.37.0", Fixed: "v0.38.0", Due: st("bad", "Over the limit"), DueNote: "of production"},
			{Name: "GO-2025-1", ID: "GO-2025-1", Severity: "unknown", Summary: "Something else", Component: "example.com/other", Version: "v1.0.0", Due: st("ok", "Excepted until 31 Dec 2026"), DueNote: d.name("never called")}},
			Without: []string{"npm"}, Limits: []web.Limit{{Where: "staging", Words: "critical", Says: "No vulnerability is over the limit of staging (critical).", Allow: true, Counts: map[string]bool{"critical": true}},
				{Where: "production", Words: "high or worse", Says: "1 vulnerability is over the limit of production (high or worse): " + d.name("CVE-2025-22872") + ".", Counts: map[string]bool{"critical": true, "high": true}}}},
		Kept: web.Keeping{Known: true, Stays: true, Why: []string{d.name("it runs in staging of checkout"), "it is one of the 20 newest releases"}, Hold: d.name("audit of 2026"), Damaged: 1},
		Copies: []web.Copy{{Place: "registry.example/shop/checkout", State: st("ok", "Verified"), Note: "read back whole, with 7 pieces of evidence", Verified: now.Add(-time.Hour)},
			{Place: d.name("registry.example/other"), State: st("warn", "Behind"), Note: d.name("sha256:9f2c was not copied to registry.example/other: no answer."), Verified: now.Add(-2 * time.Hour)}},
		Where: []web.Where{{Environment: "production", State: st("run", "Rolling out"), Note: "25% of the traffic", Href: "/rollouts/rollout_live"}, {Environment: "staging", State: st("ok", "Healthy"), Note: "for 3 h"}},
	}, nil
}

// Audit implements web.Data.
func (d *Data) Audit(_ context.Context, f web.AuditFilter) (web.Audit, error) {
	now := d.at()
	root := "XB56s/BCnYhh5MdbL6kNN2ix5cKXT6Btg74cV6kvQNk="
	a := web.Audit{Origin: "log.weir.internal", State: st("ok", "Signed"), Size: 48219, Root: root, Note: "log.weir.internal\n48219\n" + root + "\n\n— log.weir.internal 5c1e7ab3Aw==\n", KeyID: "5c1e7ab3", Anchor: "not anchored off this machine"}
	if f.Actor == "nobody" || d.Empty {
		return a, nil
	}
	hash := "uEoW59A/klxhqLhKFufQP5JcYai4ShYn0D+SXGGouEo="
	for i, e := range []struct{ actor, action, subject, href string }{
		{"deploy", "deploy.verdict", "rollout_live", "/rollouts/rollout_live"}, {"deploy", "deploy.step_entered", "rollout_live", "/rollouts/rollout_live"}, {"sofia", "release.approved", digest, ""},
		{"maya", "change.landed", revision, ""}, {"artifact", "artifact.admitted", "artifact_1", "/artifacts/artifact_1"}, {"", "hashedrekord", "", ""}} {
		a.Entries = append(a.Entries, web.Entry{ID: "entry_" + string(rune('a'+i)), Position: 48218 - int64(i), At: now.Add(-time.Duration(i*i) * time.Minute), Actor: d.name(e.actor), System: i != 2 && i != 3, Action: d.name(e.action), Subject: d.name(e.subject), Href: e.href, Kind: "entry", Hash: hash})
	}
	a.Older = 48213
	if f.Open != "" {
		a.Proof = &web.Proof{Entry: a.Entries[2], Leaf: `{"type":"weir.entry/v1","actor":"` + d.name("sofia") + `"}`, Index: 48216, TreeSize: 48219, Root: root, Hashes: []string{hash, root, hash}}
	}
	return a, nil
}

// Find implements web.Data.
func (d *Data) Find(_ context.Context, words string) ([]web.Hit, error) {
	if words == "checkout" {
		return []web.Hit{{Kind: "service", Title: d.name("checkout"), Note: "service", Href: "/#matrix"}, {Kind: "change", Title: "#12 Reserve stock", Note: "change of checkout", Href: "/changes/change_1"}}, nil
	}
	return nil, nil
}
