package build

import (
	"cmp"
	"path"

	"weir/internal/artifact"
	"weir/internal/pipeline"
)

// fromDockerfile completes the build of a service that has a Dockerfile. The
// runner itself builds it: no script of the job could do what it needs.
func fromDockerfile(b *pipeline.Build, s artifact.Spec) error {
	file, err := inside(s, "artifact.build.dockerfile", s.Dockerfile)
	if err != nil {
		return err
	}
	folder, err := inside(s, "artifact.build.context", cmp.Or(s.Context, "."))
	if err != nil {
		return err
	}
	dir := b.Env["WEIR_PATH"]
	b.Before = []pipeline.StepPlan{{Name: "Build " + s.Service, Uses: "build-image", With: map[string]string{
		"context": path.Join(dir, folder), "dockerfile": path.Join(dir, file), "target": s.Target, "output": b.Output, "created": b.Env["SOURCE_DATE_EPOCH"]}}}
	b.Env = nil
	return nil
}
