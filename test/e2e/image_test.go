package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"weir/internal/artifact/layout/layouttest"
	"weir/internal/edge/api/client"
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

// busybox pushes an image with Debian's static busybox to the server's registry
// and returns its digest.
func (w *world) busybox(repository string) string {
	w.t.Helper()
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		w.t.Skip("busybox-static is not installed (make deps installs it)")
	}
	files := []layouttest.File{{Name: "bin/busybox", Body: string(program), Mode: 0o755}}
	for _, tool := range []string{"sh", "echo", "cat", "mkdir", "httpd"} {
		files = append(files, layouttest.File{Name: "bin/" + tool, Type: '2', Link: "busybox"})
	}
	files = append(files, layouttest.File{Name: "var/lib/dpkg/status", Body: "Package: busybox-static\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:1.35.0-4\n"})
	raw := layouttest.Tar(files...)
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
	w.must(err)
	img, err := mutate.AppendLayers(empty.Image, layer)
	w.must(err)
	cf, err := img.ConfigFile()
	w.must(err)
	cf.OS, cf.Architecture, cf.Config.Env = "linux", "amd64", []string{"PATH=/bin"}
	img, err = mutate.ConfigFile(img, cf)
	w.must(err)
	ref, err := name.ParseReference(strings.TrimPrefix(w.url, "http://")+"/"+repository, name.Insecure)
	w.must(err)
	w.must(remote.Write(ref, img, remote.WithAuth(&authn.Basic{Username: "maintainer", Password: w.tokens["maintainer"]})))
	d, err := img.Digest()
	w.must(err)
	return d.String()
}

func TestADockerfileFromAnImageOfTheRegistryReachesProduction(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("buildah"); err != nil {
		t.Skip("buildah is not installed (make deps installs it)")
	}
	w := newWorld(t, "registry: {readable: [\"base/**\"]}\n")
	base := w.busybox("base/tools:1")
	files := tiny("", strings.Replace(tinyRules, "{go: .}", "{dockerfile: Dockerfile}", 1))
	files["Dockerfile"] = `ARG WEIR_REGISTRY
FROM ${WEIR_REGISTRY}/base/tools:1
RUN mkdir /www && echo "made by a Dockerfile" > /www/index.html
ENTRYPOINT ["httpd", "-f", "-p", "8080", "-h", "/www"]
`
	r := w.released(w.bootstrap(files))
	w.serves("production", r.Version)
	if got := w.says("production"); !strings.Contains(got, "made by a Dockerfile") {
		t.Errorf("production says %q", got)
	}
	var made []client.Artifact
	w.must(w.as("admin").Get(t.Context(), "/artifacts", &made))
	if p := w.statement(made[0].ID, "https://slsa.dev/provenance/v1"); !strings.Contains(p, "oci://weir/base/tools:1@"+base) {
		t.Errorf("the provenance does not name the base image %s: %s", base, p)
	}
	var parts []client.Component
	w.must(w.as("admin").Get(t.Context(), "/artifacts/"+made[0].ID+"/components", &parts))
	var names []string
	for _, c := range parts {
		names = append(names, c.Kind+" "+c.Name)
	}
	if got := strings.Join(names, ", "); got != "library busybox-static, container oci://weir/base/tools:1" {
		t.Errorf("the image is made of %s", got)
	}
}

// statement is what a piece of evidence about an artifact says.
func (w *world) statement(id, predicateType string) string {
	w.t.Helper()
	var a client.ArtifactDetails
	w.must(w.as("admin").Get(w.t.Context(), "/artifacts/"+id, &a))
	for _, e := range a.Evidence {
		if e.PredicateType != predicateType {
			continue
		}
		var bundle struct {
			DSSE struct{ Payload []byte } `json:"dsseEnvelope"`
		}
		w.must(json.Unmarshal(e.Bundle, &bundle))
		return string(bundle.DSSE.Payload)
	}
	w.t.Fatalf("there is no %s about %s", predicateType, id)
	return ""
}

func TestANodeServiceReachesProduction(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not installed")
		}
	}
	w := newWorld(t, "")
	files := map[string]string{
		"package.json": `{"name":"tiny","version":"0.0.0","private":true,"scripts":{"start":"node server.js","build":"node -e \"require('fs').writeFileSync('built.txt','built')\"","test":"node --test"},"dependencies":{"greet":"file:greet.tgz"}}`,
		"server.js": `const http = require("http"), fs = require("fs"), greet = require("greet");
const port = process.env.PORT || 3000;
http.createServer((req, res) => {
  if (req.url === "/healthz") return res.end("ok");
  res.end(greet(process.env.WEIR_ENVIRONMENT) + " " + fs.readFileSync("built.txt") + " as " + process.getuid());
}).listen(port);
`,
		"greet.tgz": string(layouttest.Gzip(layouttest.Tar(
			layouttest.File{Name: "package/package.json", Body: `{"name":"greet","version":"1.2.3","license":"MIT","main":"index.js"}`},
			layouttest.File{Name: "package/index.js", Body: "module.exports = (s) => `node says ${s}`;\n"}))),
		"server.test.js": "require('node:test')('it greets', () => { if (require('greet')('x') !== 'node says x') throw new Error('no'); });\n",
		"CODEOWNERS":     "* @maintainer\n",
		".gitignore":     "node_modules\n",
	}
	for name, text := range files {
		w.must(writeTo(w.work+"/"+name, text))
	}
	lock := exec.Command("npm", "install", "--package-lock-only", "--offline", "--no-audit", "--no-fund")
	lock.Dir = w.work
	if out, err := lock.CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	if out, stderr, status := weir(t, nil, "init", w.work); status != 0 {
		t.Fatal(out, stderr)
	}
	r := w.released(w.bootstrap(nil))
	w.serves("staging", r.Version)
	if got := w.says("staging"); !strings.Contains(got, "node says staging built as 65532") {
		t.Errorf("staging says %q", got)
	}
	if runs := w.runs(r.Revision); len(runs) != 1 || runs[0].Workflow != ".github/workflows/ci.yml" {
		t.Errorf("the revision has the runs %+v; want the workflow that init wrote", runs)
	}
	var made []client.Artifact
	w.must(w.as("admin").Get(t.Context(), "/artifacts", &made))
	if got := w.statement(made[0].ID, "https://cyclonedx.org/bom"); !strings.Contains(got, `pkg:npm/greet@1.2.3`) || !strings.Contains(got, "pkg:generic/node@") {
		t.Errorf("the SBOM lists neither the package nor Node: %.2000s", got)
	}
}

func TestAMemberOfAnNpmWorkspaceReachesProduction(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not installed")
		}
	}
	w := newWorld(t, "")
	pack := func(name, version string) string {
		return string(layouttest.Gzip(layouttest.Tar(layouttest.File{Name: "package/package.json", Body: `{"name":"` + name + `","version":"` + version + `","license":"MIT","main":"index.js"}`},
			layouttest.File{Name: "package/index.js", Body: "module.exports = '" + name + " " + version + "';\n"})))
	}
	files := map[string]string{
		"package.json":            `{"name":"root","private":true,"workspaces":["libs/*","apps/*"]}`,
		"libs/greet/package.json": `{"name":"@shop/greet","version":"0.1.0","main":"dist.js","scripts":{"build":"node -e \"require('fs').writeFileSync('dist.js','module.exports = s => require(\\'dep\\') + \\' says \\' + s')\""},"dependencies":{"dep":"file:../../dep.tgz"}}`,
		"libs/other/package.json": `{"name":"@shop/other","version":"0.1.0"}`,
		"apps/shop/package.json":  `{"name":"shop","version":"0.0.0","private":true,"scripts":{"build":"node -e \"require('fs').writeFileSync('built.txt', require('@shop/greet')('the build'))\""},"dependencies":{"@shop/greet":"*"},"devDependencies":{"dev":"file:../../dev.tgz"}}`,
		"apps/shop/server.js": `const http = require("http"), fs = require("fs"), greet = require("@shop/greet"); let dev = "without dev"; try { dev = require("dev"); } catch {}
http.createServer((req, res) => res.end(greet(process.env.GREETING) + ", " + fs.readFileSync("built.txt") + ", " + dev)).listen(process.env.PORT);`,
		"dep.tgz": pack("dep", "1.2.3"), "dev.tgz": pack("dev", "3.2.1"),
		".gitignore":               "node_modules\n",
		".github/workflows/ci.yml": tinyWorkflow,
		"weir.yaml":                strings.Replace(strings.Replace(tinyRules, "{go: .}", "{node: server.js}", 1), "name: tiny\n", "name: tiny\npath: apps/shop\n", 1),
	}
	for name, text := range files {
		w.must(writeTo(w.work+"/"+name, text))
	}
	lock := exec.Command("npm", "install", "--package-lock-only", "--offline", "--no-audit", "--no-fund")
	lock.Dir = w.work
	if out, err := lock.CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	r := w.released(w.bootstrap(nil))
	w.serves("production", r.Version)
	if got := w.says("production"); got != "dep 1.2.3 says hello production, dep 1.2.3 says the build, without dev" {
		t.Errorf("production says %q", got)
	}
	var made []client.Artifact
	w.must(w.as("admin").Get(t.Context(), "/artifacts", &made))
	if got := w.statement(made[0].ID, "https://cyclonedx.org/bom"); !strings.Contains(got, `pkg:npm/dep@1.2.3`) || strings.Contains(got, "pkg:npm/dev@") {
		t.Errorf("the SBOM lacks the package, or has one that is not in the image: %.2000s", got)
	}
}

func TestAnArtifactIsBuiltAgainToTheByte(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	files := tiny("again", strings.Replace(tinyRules, "{go: .}", "{layout: out, run: sh image.sh}", 1))
	files["image.sh"] = layoutScript
	files["image.sh"] = strings.Replace(files["image.sh"], "CGO_ENABLED=0", "date +%N > tree/bin/now\nCGO_ENABLED=0", 1)
	r := w.released(w.bootstrap(files))
	plain := w.commit("feat: reproducible", map[string]string{"image.sh": layoutScript})
	w.landed(w.propose("second"))
	again := w.released(plain)

	digest := func(revision string) string {
		var all []client.Artifact
		w.must(w.as("author").Get(t.Context(), "/artifacts?revision="+revision, &all))
		return all[0].Digest
	}
	out, stderr, status := w.cli("author", "artifact", "rebuild", "--compare", digest(again.Revision), "--dir", w.work)
	if status != 0 || !strings.Contains(out, "The same: "+plain[:12]) {
		t.Errorf("rebuild of a reproducible revision: status %d\n%s\n%s", status, out, stderr)
	}
	out, stderr, status = w.cli("author", "artifact", "rebuild", "--compare", digest(r.Revision), "--dir", w.work)
	if status != 1 || !strings.Contains(out, "layer 1, bin/now: bytes was ") || strings.Contains(out, "bin/tiny") {
		t.Errorf("rebuild of one that writes the time: status %d\n%s\n%s", status, out, stderr)
	}
	if _, stderr, status = w.cli("author", "artifact", "rebuild", "--compare", digest(r.Revision), "--dir", w.dir); status != 3 || !strings.Contains(stderr, "is no clone that has the revision") {
		t.Errorf("rebuild without a clone: status %d %s", status, stderr)
	}
}
