//go:build clients

package app

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"weir/internal/guard/identity"
)

// TestStockClientsSpeakWithTheRegistry runs the programs that people have, as they run them.
func TestStockClientsSpeakWithTheRegistry(t *testing.T) {
	s := openSystem(t)
	srv := handlerOf(t, s)
	host := strings.TrimPrefix(srv.URL, "http://")
	token := account(t, s, "mia", identity.Maintainer)
	reader := account(t, s, "dev", identity.Developer)
	tools, home := t.TempDir(), t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", tools, "github.com/google/go-containerregistry/cmd/crane", "oras.land/oras/cmd/oras", "helm.sh/helm/v3/cmd/helm")
	build.Dir = filepath.Join("..", "..", "test", "clients")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the clients: %v\n%s", err, out)
	}
	dir := t.TempDir()
	run := func(as, name string, args ...string) (string, error) {
		t.Helper()
		path := filepath.Join(tools, name)
		if _, err := os.Stat(path); err != nil {
			path = name
		}
		cmd := exec.CommandContext(t.Context(), path, args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(as)
		cmd.Env = append(os.Environ(), "HOME="+home, "DOCKER_CONFIG="+home, "XDG_RUNTIME_DIR="+home, "REGISTRY_AUTH_FILE="+home+"/config.json", "HELM_REGISTRY_CONFIG="+home+"/helm.json", "HELM_CONFIG_HOME="+home+"/helm", "HELM_CACHE_HOME="+home+"/helmcache", "HELM_DATA_HOME="+home+"/helmdata")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	ok := func(as, name string, args ...string) string {
		t.Helper()
		out, err := run(as, name, args...)
		if err != nil {
			t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return out
	}
	no := func(want, as, name string, args ...string) {
		t.Helper()
		if out, err := run(as, name, args...); err == nil || !strings.Contains(strings.ToLower(out), strings.ToLower(want)) {
			t.Errorf("%s %s: %v\n%s\nwant a refusal with %q", name, strings.Join(args, " "), err, out, want)
		}
	}
	content := bytes.Repeat([]byte("weir "), 100_000)
	if err := os.WriteFile(filepath.Join(dir, "file.bin"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "tar", "-C", dir, "-cf", filepath.Join(dir, "layer.tar"), "file.bin").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}

	// crane
	no("sign in with a token", "", "crane", "manifest", "--insecure", host+"/shop/app:v1")
	ok(token, "crane", "auth", "login", host, "-u", "mia", "--password-stdin")
	ok("", "crane", "append", "--insecure", "-f", "layer.tar", "-t", host+"/shop/app:v1")
	ok("", "crane", "copy", "--insecure", host+"/shop/app:v1", host+"/shop/other:v1")
	ok("", "crane", "tag", "--insecure", host+"/shop/app:v1", "v2")
	if out := ok("", "crane", "ls", "--insecure", host+"/shop/app"); strings.Join(strings.Fields(out), " ") != "v1 v2" {
		t.Errorf("crane ls: %q", out)
	}
	ok("", "crane", "index", "append", "--insecure", "-m", host+"/shop/app:v1", "-t", host+"/shop/app:multi")
	ok("", "crane", "validate", "--insecure", "--remote", host+"/shop/app:multi")
	no("release tags such as", "", "crane", "tag", "--insecure", host+"/shop/app:v1", "1.2.3-abcdef0")

	// oras
	ok(token, "oras", "login", "--plain-http", host, "-u", "mia", "--password-stdin")
	ok("", "oras", "push", "--plain-http", "--artifact-type", "application/x.test", host+"/shop/files:1", "file.bin:application/octet-stream")
	ok("", "oras", "attach", "--plain-http", "--artifact-type", "application/x.sbom", host+"/shop/files:1", "layer.tar")
	if out := ok("", "oras", "discover", "--plain-http", host+"/shop/files:1"); !strings.Contains(out, "application/x.sbom") {
		t.Errorf("oras discover: %s", out)
	}
	ok("", "oras", "copy", "-r", "--from-plain-http", "--to-plain-http", host+"/shop/files:1", host+"/shop/copy:1")
	ok("", "oras", "pull", "--plain-http", "-o", "pulled", host+"/shop/copy:1")
	if got, err := os.ReadFile(filepath.Join(dir, "pulled", "file.bin")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("oras pulled something else: %v", err)
	}

	// helm
	ok("", "helm", "create", "chart")
	ok("", "helm", "package", "chart", "--version", "0.3.0")
	ok(token, "helm", "registry", "login", host, "--plain-http", "-u", "mia", "--password-stdin")
	ok("", "helm", "push", "--plain-http", "chart-0.3.0.tgz", "oci://"+host+"/charts")
	ok("", "helm", "pull", "--plain-http", "oci://"+host+"/charts/chart", "--version", "0.3.0", "-d", home)

	// Debian's, where they are installed.
	if _, err := exec.LookPath("skopeo"); err == nil {
		ok(token, "skopeo", "login", "--tls-verify=false", "-u", "mia", "--password-stdin", host)
		ok("", "skopeo", "copy", "--src-tls-verify=false", "docker://"+host+"/shop/app:v1", "oci:"+dir+"/layout:v1")
		ok("", "skopeo", "copy", "--dest-tls-verify=false", "oci:"+dir+"/layout:v1", "docker://"+host+"/shop/skopeo:v1")
		ok("", "skopeo", "inspect", "--tls-verify=false", "--raw", "docker://"+host+"/shop/skopeo:v1")
		ok("", "skopeo", "delete", "--tls-verify=false", "docker://"+host+"/shop/skopeo:v1")
		no("manifest unknown", "", "skopeo", "inspect", "--tls-verify=false", "--raw", "docker://"+host+"/shop/skopeo:v1")
	} else {
		t.Log("skopeo is not installed")
	}
	if _, err := exec.LookPath("buildah"); err == nil {
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY file.bin /file.bin\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		storage := []string{"--storage-driver", "vfs", "--root", home + "/storage", "--runroot", home + "/run"}
		ok("", "buildah", append(storage, "build", "--isolation", "chroot", "-t", host+"/shop/built:v1", ".")...)
		ok("", "buildah", append(storage, "push", "--tls-verify=false", "--creds", "mia:"+token, host+"/shop/built:v1")...)
		ok("", "buildah", append(storage, "pull", "--tls-verify=false", "--creds", "mia:"+token, host+"/shop/built:v1")...)
	} else {
		t.Log("buildah is not installed")
	}

	// Who may only read.
	ok(reader, "crane", "auth", "login", host, "-u", "dev", "--password-stdin")
	ok("", "crane", "manifest", "--insecure", host+"/shop/app:v1")
	no("registry.push is not among the permissions", "", "crane", "tag", "--insecure", host+"/shop/app:v1", "v3")
}
