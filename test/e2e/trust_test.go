package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKeysAreRotatedBetweenTwoDeliveries rotates the signing keys of a running
// server: the host follows, what was signed before verifies, and who kept the
// old root can follow as well. Then the artifacts are asked for what is in them.
func TestKeysAreRotatedBetweenTwoDeliveries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	ok := func(who string, args ...string) string {
		t.Helper()
		out, errs, code := w.cli(who, args...)
		if code != 0 {
			t.Errorf("weir %s: exit status %d\n%s%s", strings.Join(args, " "), code, out, errs)
		}
		return out
	}
	says := func(out string, want ...string) {
		t.Helper()
		for _, s := range want {
			if !strings.Contains(out, s) {
				t.Errorf("%q does not say %q", out, s)
			}
		}
	}
	file := func(name, text string) string {
		path := filepath.Join(w.dir, name)
		w.must(os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	first := w.bootstrap(tiny("first", tinyRules))
	w.serves("production", "1.0.0")
	before := file("before.json", ok("author", "audit", "trusted-root"))

	_, errs, code := w.cli("maintainer", "keys", "rotate", "--reason", "x")
	refuses(t, "rotating without the role", errs, code, 6, "maintainer")
	_, errs, code = w.cli("admin", "keys", "rotate")
	refuses(t, "rotating without a reason", errs, code, 5, "Say why")
	_, errs, code = w.cli("admin", "keys", "revoke", "1", "--since", "yesterday", "--reason", "x")
	refuses(t, "revoking since no time", errs, code, 2, "--since must be a time")
	says(ok("admin", "keys", "rotate", "--reason", "yearly"), "Generation 2 signs now")
	_, errs, code = w.cli("maintainer", "keys", "rotate", "--ledger", "--reason", "x")
	refuses(t, "rotating the ledger's key without the role", errs, code, 6, "maintainer")
	_, errs, code = w.cli("admin", "keys", "rotate", "--ledger", "--kms", "a://b", "--reason", "x")
	refuses(t, "the ledger's key in a service", errs, code, 2, "the ledger's key is a file")
	says(ok("admin", "keys", "rotate", "--ledger", "--reason", "monthly"), "Generation 2 of the ledger's key signs from entry")
	says(ok("admin", "keys", "list"), "trusted for what it signed", "signs", "yearly", "monthly", "trusted up to entry")

	w.commit("feat: second", map[string]string{"main.go": strings.Replace(tinyMain, "FLAVOUR", "second", 1)})
	c := w.propose("second")
	w.must(w.review("reviewer", c.Change.ID, "approve"))
	w.landed(c)
	w.serves("production", "1.1.0") // by a host that trusted only the first keys
	old, fresh := w.released(first), w.released(c.Change.Revision)
	after := file("after.json", ok("author", "audit", "trusted-root", "--follow", before))
	for _, r := range []string{old.Digest, fresh.Digest} {
		says(ok("author", "verify", w.listen+"/tiny@"+r, "--trusted-root", after), "signature")
	}
	says(ok("author", "verify", w.listen+"/tiny@"+old.Digest, "--trusted-root", before), "signature")
	_, errs, code = w.cli("author", "verify", w.listen+"/tiny@"+fresh.Digest, "--trusted-root", before)
	refuses(t, "verify new evidence with the old root", errs, code, 6, "does not")
	if _, err := os.Stat(filepath.Join(w.hostDir(), "trusted_root.followed.json")); err != nil {
		t.Errorf("the host did not follow: %v", err)
	}

	says(ok("admin", "keys", "revoke", "1", "--since", "2020-01-02T03:04:05Z", "--reason", "the disk was stolen"), "not trusted any more")
	revoked := file("revoked.json", ok("author", "audit", "trusted-root", "--follow", before))
	_, errs, code = w.cli("author", "verify", w.listen+"/tiny@"+old.Digest, "--trusted-root", revoked)
	refuses(t, "verify what revoked keys signed", errs, code, 6, "does not")
	says(ok("author", "verify", w.listen+"/tiny@"+fresh.Digest, "--trusted-root", revoked), "signature")

	w.audit()

	// What is in them, and what is known to be wrong with that.
	await(t, 20*time.Second, "the components to be indexed", func() bool {
		out, _, _ := w.cli("author", "artifact", "where", "std")
		return strings.Count(out, "1.") >= 2 && strings.Contains(out, "production")
	})
	says(ok("author", "artifact", "vulnerabilities", fresh.Digest), "no vulnerabilities were imported yet")
	advisory := file("advisory.json", `{"id":"GO-2026-0001","aliases":["CVE-2026-0001"],"summary":"a reader never ends","modified":"2026-01-02T03:04:05Z",
		"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}],
		"affected":[{"package":{"ecosystem":"Go","name":"stdlib"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"99.0.0"}]}]}]}`)
	_, errs, code = w.cli("author", "vulnerability", "import", advisory)
	refuses(t, "importing without the role", errs, code, 6, "author")
	_, errs, code = w.cli("admin", "vulnerability", "import", before)
	refuses(t, "importing what is no database", errs, code, 5, "neither a zip of advisories")
	says(ok("admin", "vulnerability", "import", advisory), "Advisories known now: 1")
	says(ok("author", "artifact", "vulnerabilities", fresh.Digest), "high 7.5", "GO-2026-0001", "99.0.0", "Findings: 1")
	says(ok("author", "vulnerability", "show", "cve-2026-0001"), "a reader never ends", "tiny", "production")
	_, errs, code = w.cli("author", "vulnerability", "show", "CVE-1999-1")
	refuses(t, "a vulnerability that nobody knows", errs, code, 3, "weir vulnerability import")

	// Policies for a cluster's own admission controllers.
	says(ok("author", "policy", "export", "policy-controller", "--registry", "weir.example.com"), "ClusterImagePolicy", "verification_summary", "weir.example.com/**")
	tuf := filepath.Join(w.dir, "tuf")
	says(ok("author", "policy", "export", "tuf", "--output", tuf), "Wrote a TUF repository")
	says(ok("author", "policy", "export", "kyverno", "--registry", "weir.example.com", "--mirror", "https://tuf.example.com"), "ClusterPolicy", "SigstoreBundle")
	_, errs, code = w.cli("author", "policy", "export", "tuf", "--output", tuf)
	refuses(t, "a repository over another", errs, code, 4, "is not empty")
	_, errs, code = w.cli("author", "policy", "export", "opa")
	refuses(t, "a kind of policy that there is not", errs, code, 5, "choose policy-controller, kyverno or tuf")
}
