package local

import (
	"context"
	"maps"
	"strings"
)

// reports is where test runners leave their reports.
const reports = "**/junit*.xml\n**/*junit.xml\n**/TEST-*.xml\n**/test-results/**/*.xml\n**/test-reports/**/*.xml\n**/surefire-reports/*.xml\n!**/node_modules/**"

// testResults is weir/test-results: it uploads reports as an artifact under a name by which the server knows them.
func (j *job) testResults(ctx context.Context, with, outputs map[string]string) error {
	with = maps.Clone(with)
	if with == nil {
		with = map[string]string{}
	}
	if with["path"] == "" {
		with["path"] = reports
	}
	if with["name"] == "" {
		with["name"] = j.Plan.Key
	}
	if !strings.Contains(with["name"], "test-results") {
		with["name"] = "test-results-" + strings.NewReplacer("/", "-", "\\", "-", ":", "-", `"`, "", "<", "", ">", "", "|", "-", "*", "", "?", "").Replace(with["name"])
	}
	with["overwrite"] = "true"
	return j.upload(ctx, with, outputs)
}
