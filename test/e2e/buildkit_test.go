//go:build buildkit

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/edge/api/client"
)

// buildkit starts a daemon that knows the world's registry, and puts its client where runners look for tools.
func (w *world) buildkit(socket string) (prune func()) {
	w.t.Helper()
	if os.Getuid() != 0 {
		w.t.Skip("the daemon is started as root")
	}
	tools := os.Getenv("WEIR_TEST_BUILDKIT") // a folder with both programs
	if tools == "" {
		tools = w.dir + "/tools"
		w.must(os.Mkdir(tools, 0o755))
		for _, name := range []string{"buildkitd", "buildctl"} {
			build := exec.Command("go", "build", "-o", tools, "github.com/moby/buildkit/cmd/"+name)
			build.Dir, build.Env = "../buildkit", append(os.Environ(), "GOFLAGS=-trimpath", "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				w.t.Fatalf("%v: %s", err, out)
			}
		}
	}
	const place = "/usr/local/bin/buildctl"
	if _, err := os.Lstat(place); err != nil {
		raw, err := os.ReadFile(tools + "/buildctl")
		w.must(err)
		w.must(os.WriteFile(place, raw, 0o755))
		w.t.Cleanup(func() { _ = os.Remove(place) })
	}
	conf := filepath.Join(filepath.Dir(socket), "buildkitd.toml")
	w.must(os.WriteFile(conf, []byte("[registry.\""+strings.TrimPrefix(w.url, "http://")+"\"]\n  http = true\n"), 0o600))
	log, err := os.Create(w.dir + "/buildkitd.log")
	w.must(err)
	cmd := exec.Command(tools+"/buildkitd", "--addr", "unix://"+socket, "--root", w.dir+"/buildkit", "--config", conf, "--oci-worker-snapshotter", "native", "--oci-worker-net", "host", "--containerd-worker=false", "--oci-cni-pool-size", "0")
	cmd.Stdout, cmd.Stderr = log, log
	w.must(cmd.Start())
	w.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if w.t.Failed() {
			raw, _ := os.ReadFile(log.Name())
			w.t.Logf("%s", raw)
		}
	})
	ctl := func(args ...string) error {
		return exec.Command(place, append([]string{"--addr", "unix://" + socket}, args...)...).Run()
	}
	await(w.t, 60*time.Second, "BuildKit to answer", func() bool { return ctl("debug", "workers") == nil })
	return func() { w.must(ctl("prune", "--all")) }
}

func TestBuildKitBuildsWhatIsReleasedAndTheSameAgain(t *testing.T) {
	dir, err := os.MkdirTemp("", "bk") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := dir + "/s"
	w := newWorld(t, "registry: {readable: [\"base/**\"]}\nrunner: {buildkit: \"unix://"+socket+"\"}\n")
	prune := w.buildkit(socket)
	w.busybox("base/tools:1")
	files := tiny("", strings.Replace(tinyRules, "{go: .}", "{dockerfile: Dockerfile}", 1))
	files["Dockerfile"] = `ARG WEIR_REGISTRY
FROM ${WEIR_REGISTRY}/base/tools:1 AS made
COPY page /www/page
RUN mkdir -p /www/more && echo "made by BuildKit" > /www/index.html

FROM scratch
COPY --from=made / /
COPY --chown=1000:1000 page /owned
ENTRYPOINT ["httpd", "-f", "-p", "8080", "-h", "/www"]
`
	files["page"] = "copied"
	head := w.bootstrap(files)
	r := w.released(head)
	w.serves("production", r.Version)
	if got := w.says("production"); !strings.Contains(got, "made by BuildKit") {
		t.Errorf("production says %q", got)
	}
	prune()
	// In another folder, with nothing kept: the same bytes.
	out, stderr, status := w.cli("author", "artifact", "rebuild", "--compare", r.Digest, "--dir", w.work, "--buildkit", "unix://"+socket)
	if status != 0 || !strings.Contains(out, "The same") {
		t.Errorf("rebuild: status %d\n%s\n%s", status, out, stderr)
	}
	var made []client.Artifact
	w.must(w.as("admin").Get(t.Context(), "/artifacts", &made))
	if len(made) != 1 || made[0].Digest != r.Digest {
		t.Errorf("artifacts %+v", made)
	}
}
