package app

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"weir/internal/artifact/layout/layouttest"
	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

func TestFilesTravelAsArtifacts(t *testing.T) {
	s := openSystem(t)
	srv := handlerOf(t, s)
	r := Registry{Server: srv.URL, Token: account(t, s, "main", identity.Maintainer)}
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	plain, page := file("notes.txt", "hello"), file("page", "<p>")
	out, err := r.Push(t.Context(), FilesPush{Files: []string{plain, page + ":text/html"}, Name: "shop/tools:1"})
	if err != nil || out.Type != "application/octet-stream" {
		t.Fatalf("Push() = %+v, %v", out, err)
	}
	to := filepath.Join(dir, "to")
	files, err := r.Pull(t.Context(), "shop/tools:1", to)
	if err != nil || len(files) != 2 {
		t.Fatalf("Pull() = %v, %v", files, err)
	}
	if b, _ := os.ReadFile(filepath.Join(to, "notes.txt")); string(b) != "hello" {
		t.Errorf("notes.txt is %q", b)
	}
	if _, err := r.Pull(t.Context(), "shop/tools:1", to); err == nil || !strings.Contains(fault.Sentence(err), "there is a file notes.txt already") {
		t.Errorf("Pull() over a file = %v", err)
	}

	chart := file("chart-1.0.0.tgz", string(layouttest.Gzip(layouttest.Tar(layouttest.File{Name: "chart/Chart.yaml", Body: "name: chart\nversion: 1.0.0\n"}))))
	if out, err = r.Push(t.Context(), FilesPush{Files: []string{chart}, Name: "shop/charts/chart:1.0.0"}); err != nil || out.Type != chartConfig {
		t.Errorf("Push(chart) = %+v, %v", out, err)
	}
	img, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(parseRef(t, srv, "shop/app:x"), img, remote.WithAuth(&authn.Basic{Username: "x", Password: r.Token})); err != nil {
		t.Fatal(err)
	}
	digest, _ := img.Digest()
	if out, err = r.Push(t.Context(), FilesPush{Files: []string{file("bom.json", `{"bomFormat":"CycloneDX"}`)}, Name: "shop/app", Subject: digest.String()}); err != nil || out.Type != "application/vnd.cyclonedx+json" {
		t.Errorf("Push(SBOM) = %+v, %v", out, err)
	}
	index, err := remote.Referrers(parseRef(t, srv, "shop/app").Context().Digest(digest.String()), remote.WithAuth(&authn.Basic{Username: "x", Password: r.Token}))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := index.IndexManifest(); err != nil || len(m.Manifests) != 1 || m.Manifests[0].Digest.String() != out.Digest {
		t.Errorf("referrers of the image: %+v, %v; want the SBOM", m, err)
	}

	evil := artifactManifest{SchemaVersion: 2, MediaType: "application/vnd.oci.image.manifest.v1+json"}
	l := bytesLayer("text/plain", []byte("x"))
	d := bytesLayer("application/vnd.oci.empty.v1+json", []byte("{}"))
	for _, b := range []*fileLayer{l, d} {
		if err := remote.WriteLayer(parseRef(t, srv, "shop/evil").Context(), b, remote.WithAuth(&authn.Basic{Username: "x", Password: r.Token})); err != nil {
			t.Fatal(err)
		}
	}
	raw, _ := json.Marshal(evil)
	text := strings.Replace(string(raw), `"layers":null`, `"layers":[{"mediaType":"text/plain","digest":"`+l.digest+`","size":1,"annotations":{"org.opencontainers.image.title":"../out"}}]`, 1)
	text = strings.Replace(text, `"config":{"mediaType":"","digest":"","size":0}`, `"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"`+d.digest+`","size":2}`, 1)
	if err := remote.Put(parseRef(t, srv, "shop/evil:1"), manifestBytes(text), remote.WithAuth(&authn.Basic{Username: "x", Password: r.Token})); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Pull(t.Context(), "shop/evil:1", to); err == nil || !strings.Contains(fault.Sentence(err), `names the file "../out", which is not a plain name`) {
		t.Errorf("Pull(evil) = %v", err)
	}
	if _, err := (Registry{Server: srv.URL}).Push(t.Context(), FilesPush{Files: []string{plain}, Name: "shop/x:1"}); err == nil {
		t.Error("a push without a token went through")
	}
	if _, err := r.Push(t.Context(), FilesPush{Files: []string{dir + "/nothing"}, Name: "shop/x:1"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("Push(nothing) = %v", err)
	}
}
