//go:build conformance

package ocid_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"weir/internal/artifact/registry"
)

// TestConformanceOfTheRegistry runs the upstream suite, which sees the registry
// as a user who may do everything.
func TestConformanceOfTheRegistry(t *testing.T) {
	host := serveWith(t, false, registry.Limits{Foreign: true}) // one of its images has layers elsewhere
	tool := filepath.Join(t.TempDir(), "conformance")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", tool, "github.com/opencontainers/distribution-spec/conformance")
	build.Dir = filepath.Join("..", "..", "..", "test", "conformance")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the suite: %v\n%s", err, out)
	}
	results := t.TempDir()
	cmd := exec.CommandContext(t.Context(), tool)
	cmd.Dir = results
	cmd.Env = append(os.Environ(), "OCI_REGISTRY="+host, "OCI_TLS=disabled", "OCI_VERSION=1.1", "OCI_REPO1=shop/one", "OCI_REPO2=shop/two",
		"OCI_USERNAME=ann", "OCI_PASSWORD=token-ann", "OCI_RESULTS_DIR="+results)
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err != nil {
		t.Errorf("suite: %v", err)
	}
	failed := regexp.MustCompile(`(?mi)^.*: (fail|error)$`).FindAllString(text, 40)
	passed := strings.Count(text, ": Pass\n")
	if len(failed) > 0 || passed < 600 {
		t.Errorf("%d passed, %d failed; want 600 or more and none:\n%s", passed, len(failed), strings.Join(failed, "\n"))
	}
	t.Logf("%d passed", passed)
	if name := os.Getenv("WEIR_CONFORMANCE_LOG"); name != "" {
		_ = os.WriteFile(name, out, 0o600)
	}
}
