package e2e

import (
	"strings"
	"testing"
)

// layoutScript makes an image layout by hand, from a shell: what any tool may do.
const layoutScript = `set -eu
mkdir -p tree/bin out/blobs/sha256
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o tree/bin/tiny .
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf layer.tar -C tree bin
diff=$(sha256sum < layer.tar | cut -d' ' -f1)
keep() { n=$(sha256sum < "$1" | cut -d' ' -f1); cp "$1" "out/blobs/sha256/$n"; echo "$n"; }
gzip -n -1 layer.tar
layer=$(keep layer.tar.gz)
arch=$(go env GOARCH)
printf '{"architecture":"%s","os":"linux","config":{"Env":["FLAVOUR=layout"],"Entrypoint":["/bin/tiny"],"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$arch" "$diff" > config
config=$(keep config)
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:%s","size":%s}]}' \
	"$config" "$(stat -c %s config)" "$layer" "$(stat -c %s layer.tar.gz)" > manifest
printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s}]}' "$(keep manifest)" "$(stat -c %s manifest)" > out/index.json
printf '{"imageLayoutVersion":"1.0.0"}' > out/oci-layout
`

func TestAnImageLayoutOfAJobReachesProduction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	files := tiny("layout", strings.Replace(tinyRules, "{go: .}", "{layout: out, run: sh image.sh}", 1))
	files["image.sh"] = layoutScript
	r := w.released(w.bootstrap(files))
	w.serves("production", r.Version)
	if got := w.says("production"); !strings.Contains(got, "layout hello production") {
		t.Errorf("production says %q", got)
	}

	// The same layout, made by a job of the workflow and kept as an artifact.
	files = tiny("layout from a job", strings.Replace(tinyRules, "{go: .}", "{layout: image.tar, from: image}", 1))
	files["image.sh"] = layoutScript
	files[".github/workflows/ci.yml"] = strings.Replace(tinyWorkflow, `      - run: "true"
`, `      - uses: actions/checkout@v4
      - run: sh image.sh && tar -cf image.tar -C out .
      - uses: actions/upload-artifact@v4
        with: {name: image, path: image.tar}
`, 1)
	second := w.commit("feat: an image from a job", files)
	w.landed(w.propose("second"))
	w.serves("production", w.released(second).Version)
	if got := w.says("production"); !strings.Contains(got, "layout from a job hello production") {
		t.Errorf("production says %q", got)
	}
}
