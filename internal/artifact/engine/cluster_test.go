package engine_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/artifact/kubepolicy"
	"weir/internal/base/db/dbtest"
	"weir/internal/guard/evidence"
	"weir/internal/guard/evidence/evidencetest"
)

// TestStockPolicyControllerAdmitsWhatWeirAdmitted runs where
// test/admission, policy-controller as a program, is installed.
func TestStockPolicyControllerAdmitsWhatWeirAdmitted(t *testing.T) {
	tester, err := exec.LookPath("policy-controller-judge")
	if err != nil {
		t.Skip("policy-controller-judge is not installed; make test-all builds it")
	}
	w := newWorld(t, dbtest.SQLite(t))
	a := w.released(t)
	dir := t.TempDir()
	check := func(name, image string, trust evidence.TrustedRoot) (string, error) {
		t.Helper()
		host, _, _ := strings.Cut(image, "/")
		raw, err := kubepolicy.PolicyController(kubepolicy.Input{Registry: host, TrustedRoot: trust}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		docs := strings.SplitN(string(raw), "\n---\n", 2)
		if len(docs) != 2 {
			t.Fatalf("the policy has %d documents", len(docs))
		}
		files := []string{filepath.Join(dir, name+"-root.yaml"), filepath.Join(dir, name+"-policy.yaml")}
		for i, d := range docs {
			if err := os.WriteFile(files[i], []byte(d), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.CommandContext(t.Context(), tester, files[0], files[1], image).CombinedOutput()
		return string(out), err
	}
	trust := w.evidence.TrustedRoot()
	if out, err := check("honest", w.serve(t, nil)+"/"+a.Image(), trust); err != nil {
		t.Errorf("what Weir admitted does not run: %v\n%s", err, out)
	}
	if out, err := check("unadmitted", w.only(t, a, evidence.CosignSignature, evidence.Provenance, evidence.SBOM)+"/"+a.Image(), trust); err == nil {
		t.Errorf("an image without an admission runs\n%s", out)
	}
	stranger := evidencetest.New(t, dbtest.SQLite(t), nil).TrustedRoot()
	if out, err := check("stranger", w.serve(t, nil)+"/"+a.Image(), stranger); err == nil {
		t.Errorf("an image that somebody else admitted runs\n%s", out)
	}
}
