package local

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"weir/internal/base/confine"
	"weir/internal/pipeline"
	"weir/internal/pipeline/runner"
	"weir/internal/pipeline/runner/runnertest"
)

// program is what the test's images run: it needs nothing of its image.
func program(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(`package main

import ("fmt"; "os")

func main() {
	os.Mkdir("/made", 0o755)
	if err := os.WriteFile("/made/by-run", []byte("run"), 0o644); err != nil { fmt.Println(err); os.Exit(1) }
	fmt.Println("it ran as", os.Getuid())
	if _, err := os.ReadFile("/etc/passwd"); err == nil { fmt.Println("it sees the machine") }
}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", "p", "main.go")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	b, err := os.ReadFile(filepath.Join(dir, "p"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func imageJob(id string) runner.Job {
	j := runnertest.Steps()
	b := pipeline.Build{Job: "release-shop", Service: "shop", ServiceID: "service_1", Version: "1.0.0", Output: ".weir/out/shop",
		Before: []pipeline.StepPlan{{Name: "Build shop", Uses: "build-image", With: map[string]string{"context": "svc", "dockerfile": "svc/Dockerfile", "output": ".weir/out/shop", "created": "1764000000"}}}}
	j.JobID, j.Plan = pipeline.JobID(id), pipeline.ReleaseJob(b, nil)
	j.Trust = pipeline.Landed
	return j
}

const dockerfile = `FROM scratch AS made
COPY program /program
RUN ["/program"]

FROM scratch
COPY --from=made /program /made /app/
COPY --chown=1000:1000 . /src/
USER 1000
ENTRYPOINT ["/app/program"]
`

func buildahHere(t *testing.T) {
	t.Helper()
	if look("buildah") == "" {
		t.Skip("buildah is not installed (make deps installs it)")
	}
}

func TestADockerfileBecomesTheSameImageWhereverItIsBuilt(t *testing.T) {
	buildahHere(t)
	files := map[string]string{"svc/Dockerfile": dockerfile, "svc/program": program(t), "svc/main.js": "1", "svc/.git/index": "differs", "svc/.dockerignore": "secret\n", "svc/secret": "x"}
	var first []byte
	for n, r := range []*Runner{open(t), open(t)} {
		h := &runnertest.Host{Files: files}
		res, log := runnertest.Attempt(t, r, h, imageJob("job_1"))
		want(t, res, log, pipeline.Success, "it ran as 0")
		if strings.Contains(log, "it sees the machine") {
			t.Error("a command of the Dockerfile sees the machine's files")
		}
		if n == 0 {
			first = h.Outputs["shop"]
			res, log = runnertest.Attempt(t, r, h, imageJob("job_2"))
			want(t, res, log, pipeline.Success, "Using cache")
			if strings.Contains(log, "it ran as") {
				t.Error("a step whose layer is kept ran again")
			}
		}
		if !bytes.Contains(h.Outputs["shop"], []byte(`"created":"2025-11-24T16:00:00Z"`)) {
			t.Error("the image has not the time of its revision")
		}
		if !bytes.Equal(blobs(t, first), blobs(t, h.Outputs["shop"])) {
			t.Errorf("build %d gave other blobs:\n%s\nthan the first:\n%s", n, blobs(t, h.Outputs["shop"]), blobs(t, first))
		}
		files["svc/.git/index"] = "otherwise" // as a checkout in another folder has it
	}
}

// blobs names what is in an image layout.
func blobs(t *testing.T, layout []byte) []byte {
	t.Helper()
	var names []string
	for r := tar.NewReader(bytes.NewReader(layout)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return []byte(strings.Join(names, "\n"))
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func TestWhatIsWrongWithADockerfileIsSaid(t *testing.T) {
	buildahHere(t)
	for name, c := range map[string]struct{ file, want string }{
		"unknown":   {"FROM scratch\nCOPPY a b\n", "the Dockerfile was not built: buildah ended with exit code"},
		"no source": {"FROM scratch\nCOPY nothing /\n", "the Dockerfile was not built: buildah ended with exit code"},
		"escape":    {"FROM scratch\nCOPY ../../../../etc/passwd /\n", "the Dockerfile was not built: buildah ended with exit code"},
	} {
		t.Run(name, func(t *testing.T) {
			res, log := runnertest.Attempt(t, open(t), &runnertest.Host{Files: map[string]string{"svc/Dockerfile": c.file}}, imageJob("job_1"))
			want(t, res, log, pipeline.Failure, c.want)
		})
	}
	res, log := runnertest.Attempt(t, open(t), &runnertest.Host{Files: map[string]string{"svc/x": ""}}, imageJob("job_1"))
	want(t, res, log, pipeline.Failure, "weir.yaml says that the image is built from svc/Dockerfile, and there is no such file")
}

func TestBuildKitIsAskedWhereItIsConfigured(t *testing.T) {
	r, err := New(Config{Data: t.TempDir(), Network: confine.None, BuildKit: "tcp://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if look("buildctl") != "" {
		t.Skip("this machine has a buildctl")
	}
	res, log := runnertest.Attempt(t, r, &runnertest.Host{Files: map[string]string{"svc/Dockerfile": "FROM scratch\n"}}, imageJob("job_1"))
	want(t, res, log, pipeline.Failure, "runner.buildkit names the daemon tcp://127.0.0.1:1, and this runner has no buildctl")
}
