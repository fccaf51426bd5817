package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/base/oci/ocitest"
	"weir/internal/edge/api/client"
)

// pushImages puts images into the server's registry, as any client does.
func (w *world) pushImages(reg *ocitest.Registry, repositories ...string) {
	w.t.Helper()
	do := func(method, path, kind string, body []byte) string {
		req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+"/v2/"+path, bytes.NewReader(body))
		w.must(err)
		req.SetBasicAuth("maintainer", w.tokens["maintainer"])
		if kind != "" {
			req.Header.Set("Content-Type", kind)
		}
		res, err := http.DefaultClient.Do(req)
		w.must(err)
		defer res.Body.Close()
		said, _ := io.ReadAll(res.Body)
		if res.StatusCode/100 != 2 {
			w.t.Fatalf("%s %s: %s %s", method, path, res.Status, said)
		}
		return res.Header.Get("Location")
	}
	reg.Each(func(digest string, b []byte) {
		for _, name := range repositories {
			do("POST", name+"/blobs/uploads/?digest="+digest, "application/octet-stream", b)
		}
	}, func(name string, b []byte) {
		repository, tag, _ := strings.Cut(name, ":")
		do("PUT", repository+"/manifests/"+tag, "application/vnd.oci.image.manifest.v1+json", b)
	})
}

// containers is a server whose registry has images that jobs may run in.
func containers(t *testing.T, workflow string) *world {
	t.Helper()
	if _, err := exec.LookPath("runc"); err != nil {
		t.Skip("needs runc; `make deps` installs it")
	}
	img := ocitest.Busybox(t)
	var reg ocitest.Registry
	reg.Put(t, "base/busybox:1", img)
	img.Layers = append(img.Layers, []tar.Header{ocitest.File("serve", 0o755)})
	img.Body["serve"] = "#!/bin/sh\nexec nc -ll -p 7000 -e echo \"$NAME answers\"\n"
	img.Config = map[string]any{"Env": []string{"PATH=/bin"}, "Entrypoint": []string{"/serve"}, "ExposedPorts": map[string]any{"7000/tcp": map[string]any{}}}
	reg.Put(t, "base/service:1", img)
	w := &world{server: newServer(t, "registry: {readable: ['base/**']}"), tokens: map[string]string{}}
	w.work = filepath.Join(w.dir, "work")
	w.start()
	w.people()
	w.pushImages(&reg, "base/busybox", "base/service")
	w.init("tiny")
	w.commit("first", map[string]string{"file.txt": "checked out\n", ".github/workflows/ci.yml": workflow})
	return w
}

func TestContainersAndServicesRunOnTheServerAndOnAnAgent(t *testing.T) {
	for _, where := range []string{"ubuntu-latest", "[self-hosted, big]"} {
		w := containers(t, strings.ReplaceAll(`
on: [push, pull_request]
jobs:
  inside:
    runs-on: WHERE
    container: base/busybox:1
    services:
      db: {image: base/service:1, env: {NAME: database}}
    steps:
      - uses: actions/checkout@v4
      - run: |
          cat file.txt
          echo "db said $(nc db 7000 < /dev/null)"
          echo n=7 >> $GITHUB_OUTPUT
        id: one
      - uses: docker://base/busybox:1
        with: {entrypoint: sh, args: -c "echo beside $(cat file.txt) $(nc db 7000 < /dev/null)"}
      - run: test ${{ steps.one.outputs.n }} = 7 && test ! -e /etc/debian_version && echo all-good
`, "WHERE", where))
		if where != "ubuntu-latest" {
			w.agent("far", "big")
			w.connected("far", true)
		}
		run, job := w.far(w.push(), "success")
		for _, text := range []string{"db said database answers", "beside checked out database answers", "all-good"} {
			w.logHas(run.ID, job.ID, text)
		}
		if a := job.Attempts[len(job.Attempts)-1]; len(a.Images) != 3 || !strings.HasPrefix(a.Images[0].Digest, "sha256:") {
			t.Errorf("images %+v; want three by digest", a.Images)
		}
	}
}

func TestContainersEndWithAServerThatIsKilled(t *testing.T) {
	w := containers(t, `
on: [push, pull_request]
jobs:
  inside:
    runs-on: ubuntu-latest
    container: base/busybox:1
    services:
      db: {image: base/service:1, env: {NAME: database}}
    steps:
      - run: |
          echo up on attempt $GITHUB_RUN_ATTEMPT
          test $GITHUB_RUN_ATTEMPT = 2 || sleep 1000
`)
	run, job := w.far(w.push(), "running")
	w.logHas(run.ID, job.ID, "up on attempt 1")
	if len(w.runtimes()) != 2 {
		t.Errorf("containers %v; want two", w.runtimes())
	}
	w.kill()
	await(t, 20*time.Second, "the containers' end", func() bool { return len(w.runtimes()) == 0 })
	w.start()
	w.eventually("the second attempt", func() bool {
		return w.as("maintainer").Get(context.Background(), "/runs/"+run.ID, &run) == nil && run.Jobs[0].State == "success"
	})
	left, _ := filepath.Glob(filepath.Join(w.data, "work", "*.boxes"))
	if len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// runtimes are the processes of the container runtime that work for this server.
func (w *world) runtimes() (pids []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		raw, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(raw), "runc") && strings.Contains(string(raw), w.dir) {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

func TestImagesThatAJobMayNotRunInAreRefusedWithASentence(t *testing.T) {
	for image, want := range map[string]string{
		"base/none:1":              "There is no image base/none:1 in Weir's registry",
		"secret/thing:1":           "registry.readable",
		"docker.io/library/redis":  "skopeo copy docker://docker.io/library/redis",
		"base/busybox@sha256:beef": "is no name of an image",
	} {
		w := containers(t, fmt.Sprintf("on: [push, pull_request]\njobs:\n  a:\n    runs-on: ubuntu-latest\n    container: ${{ '%s' }}\n    steps: [{run: 'true'}]\n", image))
		_, job := w.far(w.push(), "failure")
		if !strings.Contains(job.Reason, want) {
			t.Errorf("%s: %s; want %q", image, job.Reason, want)
		}
		if !long {
			return
		}
	}
}

// postgresImage is Debian's PostgreSQL of this machine with the libraries that it needs, and a script that starts it as other images do.
func postgresImage(t *testing.T) ocitest.Image {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 || os.Getuid() != 0 {
		t.Skip("needs root, and PostgreSQL of Debian; `make deps` installs it")
	}
	home := filepath.Dir(filepath.Dir(found[0]))
	img := ocitest.Busybox(t)
	var entries []tar.Header
	add := func(path string) {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			return
		}
		name := strings.TrimPrefix(path, "/")
		if _, ok := img.Body[name]; ok {
			return
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		img.Body[name] = string(b)
		entries = append(entries, ocitest.File(name, int64(info.Mode().Perm())))
	}
	for _, dir := range []string{home, strings.Replace(home, "/lib/", "/share/", 1)} {
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !strings.Contains(path, "/bitcode/") && !strings.Contains(path, "llvmjit") {
				add(path)
			}
			return nil
		})
	}
	_ = filepath.WalkDir("/usr/share/zoneinfo/Etc", func(path string, _ os.DirEntry, _ error) error { add(path); return nil })
	for _, program := range []string{"postgres", "initdb", "pg_isready", "psql"} {
		out, err := exec.Command("ldd", filepath.Join(home, "bin", program)).Output()
		if err != nil {
			t.Fatalf("ldd %s: %v", program, err)
		}
		for f := range strings.FieldsSeq(string(out)) {
			if strings.HasPrefix(f, "/") {
				add(f)
			}
		}
	}
	img.Body["etc/passwd"] += "postgres:x:101:101::/data:/bin/sh\n"
	img.Body["start"] = "#!/bin/sh\nset -e\ntest -s /data/db/PG_VERSION || initdb -D /data/db -U postgres --auth=trust --locale=C -E UTF8 > /dev/null\n" +
		"echo \"listen_addresses = '*'\" >> /data/db/postgresql.conf\necho 'host all all 0.0.0.0/0 trust' >> /data/db/pg_hba.conf\nexec postgres -D /data/db -k /tmp\n"
	entries = append(entries, ocitest.File("start", 0o755), tar.Header{Name: "data/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 101, Gid: 101})
	img.Layers = append(img.Layers, entries)
	img.Config = map[string]any{"User": "postgres", "Env": []string{"PATH=" + home + "/bin:/bin"}, "Entrypoint": []string{"/start"}, "ExposedPorts": map[string]any{"5432/tcp": map[string]any{}}}
	return img
}

// TestPostgreSQLIsAService is the case that most workflows have. It takes an image of 60 MB, so it is one of the long ones.
func TestPostgreSQLIsAService(t *testing.T) {
	if !long {
		t.Skip("set WEIR_TEST_LONG=1")
	}
	img := postgresImage(t)
	w := containers(t, `
on: [push, pull_request]
jobs:
  machine:
    runs-on: ubuntu-latest
    services:
      db:
        image: base/postgres:15
        ports: [5432]
        options: --health-cmd "pg_isready -h 127.0.0.1" --health-interval 1s
    steps:
      - run: psql -h localhost -p ${{ job.services.db.ports['5432'] }} -U postgres -Atc 'select 6*7' | grep 42
  inside:
    runs-on: ubuntu-latest
    container: {image: "base/postgres:15", options: --user 0}
    services:
      db:
        image: base/postgres:15
        options: --health-cmd "pg_isready -h 127.0.0.1" --health-interval 1s
      older: {image: "base/postgres:15"}
    steps:
      - run: |
          psql -h db -U postgres -c 'create table t as select generate_series(1, 1000) n'
          test "$(psql -h db -U postgres -Atc 'select sum(n) from t')" = 500500
          until pg_isready -h older; do sleep 0.2; done
          psql -h older -U postgres -Atc "select to_regclass('t') is null" | grep t
`)
	var reg ocitest.Registry
	reg.Put(t, "base/postgres:15", img)
	w.pushImages(&reg, "base/postgres")
	revision := w.push()
	w.eventually("the run's end", func() bool {
		all := w.runs(revision)
		if len(all) == 0 {
			return false
		}
		var run client.Run
		if w.as("maintainer").Get(context.Background(), "/runs/"+all[0].ID, &run) == nil && run.State == "failure" {
			t.Fatalf("the run failed: %+v", run.Jobs)
		}
		return run.State == "success"
	})
}

func TestAServiceSaysWhatItsJobsMayReach(t *testing.T) {
	w := &world{server: newServer(t, ""), tokens: map[string]string{}}
	w.work = filepath.Join(w.dir, "work")
	w.start()
	w.people()
	w.init("tiny")
	w.commit("first", map[string]string{
		"weir.yaml":                    "weir: 1\nservices:\n  tiny:\n    pipeline: {workflows: [closed.yml], network: none}\n",
		".github/workflows/closed.yml": "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: 'env | grep -i http_proxy && exit 1; echo closed'}]\n",
		".github/workflows/other.yml":  "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: 'env | grep HTTP_PROXY'}]\n",
	})
	revision := w.push()
	w.eventually("both runs", func() bool {
		done := 0
		for _, r := range w.runs(revision) {
			var run client.Run
			if w.as("maintainer").Get(context.Background(), "/runs/"+r.ID, &run) != nil || run.State != "success" || len(run.Jobs) == 0 {
				continue
			}
			want := "egress"
			if strings.HasSuffix(run.Workflow, "closed.yml") {
				want = "none"
			}
			if a := run.Jobs[0].Attempts[0]; a.Network == want {
				done++
			}
		}
		return done == 2
	})
}
