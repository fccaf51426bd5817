package e2e

import (
	"archive/zip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// advisories writes a database of Go's ecosystem that says of the standard
// library what severity it is given; "" says nothing of it.
func (w *world) advisories(name, severity string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	f, err := os.Create(path)
	w.must(err)
	defer f.Close()
	z := zip.NewWriter(f)
	put := func(id, pkg, severity string) {
		e, err := z.Create(id + ".json")
		w.must(err)
		_, err = fmt.Fprintf(e, `{"id":%q,"aliases":["CVE-2026-4711"],"summary":"a reader never ends","published":"2026-01-02T03:04:05Z","modified":"2026-01-02T03:04:05Z","database_specific":{"severity":%q},
			"affected":[{"package":{"ecosystem":"Go","name":%q},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"99.0.0"}]}]}]}`, id, severity, pkg)
		w.must(err)
	}
	put("GO-2026-0001", "example.com/elsewhere", "LOW")
	if severity != "" {
		put("GO-2026-0002", "stdlib", severity)
	}
	w.must(z.Close())
	return path
}

// TestWhatIsTooVulnerableGoesNoFurther takes the published vulnerabilities of a
// service from none, over harmless ones, to one that is over the limit.
func TestWhatIsTooVulnerableGoesNoFurther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	limited := strings.Replace(tinyRules, "  production:\n", "  production:\n    vulnerabilities: {block: high}\n", 1)
	ok := func(who string, args ...string) string {
		t.Helper()
		out, errs, code := w.cli(who, args...)
		if code != 0 {
			t.Fatalf("weir %s: exit status %d\n%s%s", strings.Join(args, " "), code, out, errs)
		}
		return out
	}
	becomes := func(what, want string, args ...string) {
		t.Helper()
		out := ""
		if err := tryAwait(60*time.Second, what, func() bool { out, _, _ = w.cli("author", args...); return strings.Contains(out, want) }); err != nil {
			t.Fatalf("%v: weir %s says %s", err, strings.Join(args, " "), out)
		}
	}

	first := w.released(w.bootstrap(tiny("first", limited)))
	w.serves("staging", "1.0.0")
	becomes("production to miss data", "No published vulnerabilities of Go", "release", "list", "tiny")
	becomes("the reason by rule", "no  environment.vulnerabilities", "release", "why", "tiny", "1.0.0")

	ok("admin", "vulnerability", "import", w.advisories("Go.zip", ""))
	w.serves("production", "1.0.0")
	if out := ok("author", "vulnerability", "state"); !strings.Contains(out, "Advisories known: 1.") || !strings.Contains(out, "Go ") {
		t.Errorf("what is known: %s", out)
	}
	if out := ok("author", "artifact", "vulnerabilities", first.Digest); !strings.Contains(out, "production lets it through") {
		t.Errorf("a release without vulnerabilities: %s", out)
	}

	// What runs is judged again, and goes on running; what comes next waits.
	ok("admin", "vulnerability", "import", w.advisories("Go.zip", "CRITICAL"))
	becomes("production to be exposed", "tiny 1.0.0 in production", "vulnerability", "exposed")
	if out := ok("author", "artifact", "vulnerabilities", first.Digest); !strings.Contains(out, "production refuses it. 1 vulnerability is over the limit of production (high or worse, or not rated): CVE-2026-4711 in std") {
		t.Errorf("a release with a vulnerability: %s", out)
	}
	if out := ok("reviewer", "audit", "list", "--action", "policy.denied"); !strings.Contains(out, first.Digest[:19]) {
		t.Errorf("the ledger does not know that production is exposed: %s", out)
	}
	w.serves("production", "1.0.0")

	// What was found travels with the image, and so does what policy decided.
	root := filepath.Join(w.dir, "root.json")
	w.must(os.WriteFile(root, []byte(ok("author", "audit", "trusted-root")), 0o600))
	image := w.listen + "/tiny@" + first.Digest
	becomes("the new scan to be signed", "1 critical", "verify", image, "--trusted-root", root)
	becomes("the decision to be signed", "policy let it into production", "verify", image, "--trusted-root", root)
	archive := filepath.Join(w.dir, "tiny.tar")
	ok("author", "evidence", "tiny", "1.0.0", "--output", archive)
	if out := ok("author", "evidence", "verify", archive, "--trusted-root", root); !strings.Contains(out, "1 critical") {
		t.Errorf("the archive does not tell of the scan: %s", out)
	}
	w.commit("fix: second", map[string]string{"main.go": strings.Replace(tinyMain, "FLAVOUR", "second", 1)})
	c := w.propose("second")
	w.must(w.review("reviewer", c.Change.ID, "approve"))
	w.landed(c)
	second := w.released(c.Change.Revision)
	w.serves("staging", second.Version)
	becomes("the second release to wait", "1 vulnerability is over the limit of production", "release", "why", "tiny", second.Version)

	// An exception is a reviewed change, with a reason and an end.
	until := time.Now().UTC().AddDate(0, 0, 2).Format(time.DateOnly)
	w.commit("fix: the reader is not used", map[string]string{"weir.yaml": strings.Replace(limited, "{block: high}",
		"{block: high, ignore: [{id: CVE-2026-4711, justification: vulnerable_code_not_in_execute_path, reason: no reader here, until: "+until+"}]}", 1)})
	c = w.propose("excepted")
	w.must(w.review("reviewer", c.Change.ID, "approve"))
	w.landed(c)
	third := w.released(c.Change.Revision)
	w.serves("production", third.Version)
	becomes("the exception to be told", "is excepted until "+until+": no reader here", "release", "why", "tiny", third.Version)
	becomes("the exception to be signed", "exception    GO-2026-0002: not affected, no reader here (looked at until "+until+")", "verify", w.listen+"/tiny@"+third.Digest, "--trusted-root", root)
	becomes("nothing to be exposed", "Nothing runs with vulnerabilities over a limit.", "vulnerability", "exposed")
}
