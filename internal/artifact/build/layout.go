package build

import (
	"path"

	"weir/internal/artifact"
	"weir/internal/pipeline"
)

// layoutScript hands over an image layout as one tar, as it is: taking it in
// reads it with suspicion.
const layoutScript = `set -eu
out="$PWD/$WEIR_OUTPUT"
mkdir -p "$(dirname "$out")"
cd -- "./$WEIR_PATH"
if [ -n "$WEIR_MAKE" ]; then
	bash -eo pipefail -c "$WEIR_MAKE"
fi
if [ -d "$WEIR_LAYOUT" ]; then
	tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$out" -C "$WEIR_LAYOUT" .
elif [ -f "$WEIR_LAYOUT" ]; then
	cp -- "$WEIR_LAYOUT" "$out"
else
	echo "weir.yaml says that there is an image layout at $WEIR_LAYOUT, and there is none. What is here:" >&2
	ls -1A | head -50 >&2
	exit 1
fi
`

// taken is where an artifact of the run is put.
const taken = ".weir/in"

// fromLayout completes the build of a service whose image a job makes itself.
func fromLayout(b *pipeline.Build, s artifact.Spec) error {
	layout, err := inside(s, "artifact.build.layout", s.Layout)
	if err != nil {
		return err
	}
	b.Script, b.Env["WEIR_MAKE"], b.Env["WEIR_LAYOUT"] = layoutScript, s.Make, "./"+layout
	if s.From != "" {
		b.Env["WEIR_PATH"] = path.Join(taken, s.Service)
		b.Before = []pipeline.StepPlan{{Name: "Take the image layout", Uses: "download-artifact", With: map[string]string{"name": s.From, "path": b.Env["WEIR_PATH"]}}}
	}
	return nil
}
