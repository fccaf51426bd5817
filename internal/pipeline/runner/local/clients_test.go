package local

import (
	"os"
	"path/filepath"
	"testing"

	"weir/internal/base/confine"
	"weir/internal/pipeline"
	"weir/internal/pipeline/runner/runnertest"
)

// GitHub's own clients of its cache (v2) and artifact (v4) protocols, as a JavaScript action uses them, in a sandbox without a network.
func TestGitHubsOwnClientsOfCachesAndArtifactsWork(t *testing.T) {
	dir := os.Getenv("WEIR_TEST_ACTIONS") // test/actions after npm ci; build/test-all sets it
	if dir == "" {
		t.Skip("WEIR_TEST_ACTIONS is not set")
	}
	modules, err := filepath.Abs(filepath.Join(dir, "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	main, err := os.ReadFile(filepath.Join(dir, "main.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range []confine.Network{confine.None, confine.Egress} {
		r, err := New(Config{Data: t.TempDir(), Network: network})
		if err != nil {
			t.Fatal(err)
		}
		r.show = []string{modules}
		h := &runnertest.Host{Files: map[string]string{"act/action.yml": "inputs: {stage: {}}\nruns: {using: node20, main: main.mjs}", "act/main.mjs": string(main), "package.json": "{}"}}
		j := uses(pipeline.StepPlan{Run: "ln -s " + modules + " node_modules; mkdir -p kept; echo by a built-in > kept/kept.txt"},
			pipeline.StepPlan{Uses: "upload-artifact", With: map[string]string{"name": "builtin", "path": "kept"}},
			pipeline.StepPlan{Uses: "./act", With: map[string]string{"stage": "first"}},
			pipeline.StepPlan{Uses: "download-artifact", With: map[string]string{"name": "made", "path": "again"}},
			pipeline.StepPlan{Run: "cat again/a.txt again/deep/b.txt; cmp again/big.bin out/big.bin && echo same"})
		res, log := runnertest.Attempt(t, r, h, j)
		want(t, res, log, pipeline.Success, "the official clients are content", "|one", "|two", "|same")
	}
}
