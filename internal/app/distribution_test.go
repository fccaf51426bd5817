//go:build distribution

package app

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// distribution starts the registry of that name, from its Go module or from WEIR_TEST_DISTRIBUTION.
func distribution(t *testing.T) string {
	t.Helper()
	program := os.Getenv("WEIR_TEST_DISTRIBUTION")
	if program == "" {
		program = filepath.Join(t.TempDir(), "registry")
		build := exec.Command("go", "build", "-o", program, "github.com/distribution/distribution/v3/cmd/registry")
		build.Dir, build.Env = "../../test/registry", append(os.Environ(), "GOFLAGS=")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(config, []byte("version: 0.1\nstorage: {filesystem: {rootdirectory: "+dir+"/data}}\nhttp: {addr: \""+address+"\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if res, err := http.Get("http://" + address + "/v2/"); err == nil {
			res.Body.Close()
			return address
		}
	}
	t.Fatal("distribution does not answer")
	return ""
}

func TestDistributionTakesACopyWithItsEvidence(t *testing.T) {
	src := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(src.Close)
	img, err := random.Image(1<<20, 2)
	if err != nil {
		t.Fatal(err)
	}
	digest, _ := img.Digest()
	from, _ := name.NewDigest(strings.TrimPrefix(src.URL, "http://")+"/shop@"+digest.String(), name.Insecure)
	if err := remote.Write(from, img); err != nil {
		t.Fatal(err)
	}
	desc, err := remote.Head(from)
	if err != nil {
		t.Fatal(err)
	}
	small, err := random.Image(32, 1)
	if err != nil {
		t.Fatal(err)
	}
	note := mutate.Subject(small, *desc).(v1.Image)
	h, _ := note.Digest()
	if err := remote.Write(from.Context().Digest(h.String()), note); err != nil {
		t.Fatal(err)
	}
	repo, _ := name.NewRepository(distribution(t)+"/copy/shop", name.Insecure)
	for range 2 {
		if err := copyImage(from, nil, repo, nil, "1.0.0-abcdef0"); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := remote.Get(repo.Tag("1.0.0-abcdef0")); err != nil || d.Digest != digest {
		t.Errorf("the copy is %v, %v; want %s", d, err, digest)
	}
}
