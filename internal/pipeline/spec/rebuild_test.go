package spec_test

import (
	"strings"
	"testing"

	"weir/internal/pipeline/spec"
)

func TestAJobThatBuildsForAnEnvironmentIsWarnedOf(t *testing.T) {
	job := func(more, step string) string {
		return "on: push\njobs:\n  deploy:\n    runs-on: ubuntu-latest\n" + more + "    steps:\n      - " + step + "\n"
	}
	const env, matrix = "    environment: production\n", "    strategy: {matrix: {environment: [staging, production]}}\n"
	for _, c := range []struct{ file, want string }{
		{job(env, "run: docker build -t shop . && docker push shop"), "the job deploy has an environment: and builds (docker build)"},
		{job(env, "run: |\n          set -e\n          CGO_ENABLED=0; go build ./..."), "builds (go build)"},
		{job(matrix, "run: npm ci && npm run build"), "runs once for each environment and builds (npm run build)"},
		{job(env, "run: docker push shop"), "builds (docker push)"},
		{job("", "run: docker build ."), ""},
		{job(env, "run: echo go build is done elsewhere"), ""},
		{job(env, "run: kubectl apply -f x.yaml"), ""},
	} {
		found := ""
		for _, d := range spec.Check("ci.yml", []byte(c.file)) {
			if strings.Contains(d.Message, "Let Weir build once") {
				found = d.Message
			}
			if d.Severity == "error" {
				t.Errorf("Check(%q) = %v", c.file, d)
			}
		}
		if c.want == "" && found != "" || !strings.Contains(found, c.want) {
			t.Errorf("Check(%q) warns %q; want %q", c.file, found, c.want)
		}
	}
}
