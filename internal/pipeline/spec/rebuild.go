package spec

import (
	"regexp"
	"slices"
	"strings"
)

// builds are commands that make what would be deployed.
var builds = regexp.MustCompile(`(?m)(?:^|[;&|(]|\s&&|\s\|\|)\s*(?:sudo\s+)?(docker\s+(?:buildx\s+)?build|docker\s+compose\s+build|docker\s+push|podman\s+build|buildah\s+(?:bud|build)|nerdctl\s+build|buildctl\s+build|ko\s+(?:build|publish|apply)|go\s+build|npm\s+run\s+build|yarn\s+build|pnpm\s+(?:run\s+)?build|mvn\s+\S*\s*package|\./gradlew\s+\S*\s*(?:build|assemble|bootJar)|gradle\s+(?:build|assemble)|cargo\s+build|skaffold\s+(?:build|run))\b`)

// buildActions are actions that do so.
var buildActions = []string{"docker/build-push-action@", "docker/bake-action@", "redhat-actions/buildah-build@", "ko-build/setup-ko@"}

// environmentKeys are names of a matrix that runs a job once for each environment.
var environmentKeys = []string{"environment", "environments", "env", "stage", "target_env", "deploy_env"}

// rebuild warns of a job that builds for an environment: what is deployed there would be other bytes than what was tested before.
func (c *checker) rebuild(j *Job) {
	where := ""
	switch {
	case j.Environment != nil:
		where = "has an environment:"
	case j.Matrix != nil:
		for _, k := range environmentKeys {
			if slices.ContainsFunc(j.Matrix.Rows, func(r Row) bool { return strings.EqualFold(r.Name, k) }) {
				where = "runs once for each " + k
			}
		}
	}
	if where == "" {
		return
	}
	for _, s := range j.Steps {
		what := ""
		if m := builds.FindStringSubmatch(s.Run.Value); m != nil {
			what = strings.Join(strings.Fields(m[1]), " ")
		}
		for _, a := range buildActions {
			if strings.HasPrefix(strings.ToLower(s.Uses), a) {
				what = s.Uses
			}
		}
		if what != "" {
			c.warnf(s.Pos, "the job %s %s and builds (%s): each environment would get other bytes than those that were tested. Let Weir build once, as weir.yaml says under artifact, and promote the digest", j.ID, where, what)
		}
	}
}
