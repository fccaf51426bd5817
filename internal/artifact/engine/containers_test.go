package engine

import (
	"strings"
	"testing"

	"weir/internal/pipeline"
)

func TestImagesOfAllJobsThatSucceededAreDependenciesOfTheRelease(t *testing.T) {
	d := "sha256:" + strings.Repeat("a", 64)
	job := func(state pipeline.State, images ...pipeline.Image) pipeline.Job {
		return pipeline.Job{Attempts: []pipeline.Attempt{{Number: 1, State: state, Images: images}}}
	}
	run := pipeline.Run{Jobs: []pipeline.Job{
		job(pipeline.Success, pipeline.Image{Name: "base/go:1", Digest: d, Use: "container"}, pipeline.Image{Name: "base/pg@" + d, Digest: d, Use: "service db"}),
		job(pipeline.Success, pipeline.Image{Name: "base/go:1", Digest: d, Use: "container"}, pipeline.Image{Name: "./act (Dockerfile)", Digest: d, Use: "action ./act"}),
		job(pipeline.Failure, pipeline.Image{Name: "base/other:1", Digest: d}),
		{},
	}}
	got := containers(run)
	if len(got) != 2 || got[0].URI != "oci://weir/base/go:1@"+d || got[1].URI != "oci://weir/base/pg@"+d || got[0].Digest["sha256"] != strings.TrimPrefix(d, "sha256:") {
		t.Errorf("containers = %+v", got)
	}
}

func TestActionsOfOtherRepositoriesAreDependenciesOfTheRelease(t *testing.T) {
	a, b := strings.Repeat("a", 40), strings.Repeat("b", 40)
	run := pipeline.Run{Plan: pipeline.Plan{Actions: map[string]string{"o/x@v1": "o/x@" + a, "o/x@main": "o/x@" + a, "o/y/sub@v2": "o/y/sub@" + b}}}
	got := actions(run)
	if len(got) != 2 || got[0].URI != "git+mirror://o/x@"+a || got[1].URI != "git+mirror://o/y/sub@"+b || got[1].Digest["gitCommit"] != b || got[1].Name != "uses o/y/sub@v2" {
		t.Errorf("actions = %+v", got)
	}
}
