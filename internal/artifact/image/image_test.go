package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/artifact/image"
	"weir/internal/artifact/sbom"
	"weir/internal/base/fault"
)

var in = image.Input{Name: "checkout", Revision: strings.Repeat("a", 40), Version: "1.4.0", Source: "https://weir.test/shop", Created: time.Unix(1700000000, 0)}

// build compiles a program with the flags that release jobs use.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range map[string]string{"go.mod": "module example.test/app\n\ngo 1.26\n", "main.go": "package main\n\nvar version string\n\nfunc main() { println(version) }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid= -X main.version=1.4.0", "-o", "out", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return filepath.Join(dir, "out")
}

func fromBinary(t *testing.T, name string) (image.Image, error) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.FromBinary(t.TempDir(), in, f, st.Size())
	if err == nil {
		t.Cleanup(img.Close)
	}
	return img, err
}

func TestTwoBuildsGiveOneDigest(t *testing.T) {
	one, err := fromBinary(t, build(t))
	if err != nil {
		t.Fatal(err)
	}
	two, err := fromBinary(t, build(t))
	if err != nil {
		t.Fatal(err)
	}
	if one.Digest != two.Digest {
		t.Errorf("digests %s and %s; want one", one.Digest, two.Digest)
	}
	var c image.Config
	if err := json.Unmarshal(one.Config, &c); err != nil {
		t.Fatal(err)
	}
	if c.Config.User != "65532:65532" || len(c.Config.Entrypoint) != 1 || c.Config.Entrypoint[0] != "/app/checkout" || c.Config.Labels["org.opencontainers.image.revision"] != in.Revision {
		t.Errorf("config = %s; want user, entrypoint and labels", one.Config)
	}
	names := contents(t, one.Layers[1])
	if len(names) != 2 || names[1] != "app/checkout" {
		t.Errorf("layer holds %v; want app/checkout", names)
	}
}

func contents(t *testing.T, l image.Layer) (names []string) {
	t.Helper()
	r, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.ModTime.Unix() != 0 {
			t.Errorf("%s belongs to %d and is of %v; want root and 1970", h.Name, h.Uid, h.ModTime)
		}
		if _, err := io.Copy(io.Discard, tr); err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

type member struct {
	name, body string
	kind       byte
}

func archive(t *testing.T, members ...member) *bytes.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		if m.kind == 0 {
			m.kind = tar.TypeReg
		}
		if err := w.WriteHeader(&tar.Header{Name: m.name, Typeflag: m.kind, Mode: 0o600, Size: int64(len(m.body)), Linkname: map[bool]string{true: "/etc/passwd"}[m.kind == tar.TypeSymlink], ModTime: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b.Bytes())
}

func TestOrderOfFilesDoesNotChangeTheDigest(t *testing.T) {
	a, b, c := member{name: "./index.html", body: "hello"}, member{name: "css/a.css", body: "a{}"}, member{name: "css-old", body: "x"}
	one, err := image.FromFiles(t.TempDir(), in, archive(t, a, b, c))
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	two, err := image.FromFiles(t.TempDir(), in, archive(t, c, member{name: "css/", kind: tar.TypeDir}, b, a))
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	if one.Digest != two.Digest {
		t.Errorf("digests %s and %s; want one", one.Digest, two.Digest)
	}
	if got := strings.Join(contents(t, two.Layers[0]), " "); got != "srv/ srv/css/ srv/css-old srv/css/a.css srv/index.html" {
		t.Errorf("layer holds %s", got)
	}
}

func TestOutputsThatCannotBecomeAnImageAreRefused(t *testing.T) {
	write := func(b string) string {
		name := filepath.Join(t.TempDir(), "out")
		if err := os.WriteFile(name, []byte(b), 0o700); err != nil {
			t.Fatal(err)
		}
		return name
	}
	_, script := fromBinary(t, write("#!/bin/sh\necho hi\n"))
	_, dynamic := fromBinary(t, "/bin/sh")
	files := func(m ...member) error {
		_, err := image.FromFiles(t.TempDir(), in, archive(t, m...))
		return err
	}
	_, garbage := image.FromFiles(t.TempDir(), in, strings.NewReader(strings.Repeat("no tar ", 200)))
	for _, c := range []struct {
		err error
		say string
	}{
		{script, "is not a Linux program"},
		{dynamic, "build with CGO_ENABLED=0"},
		{files(), "is empty"},
		{files(member{name: "../x", body: "x"}), "lies outside their folder"},
		{files(member{name: "/etc/x", body: "x"}), "lies outside their folder"},
		{files(member{name: "a", kind: tar.TypeSymlink}), "is a link, a device or sparse"},
		{garbage, "is not a readable tar archive"},
	} {
		if !fault.Is(c.err, fault.Invalid) || !strings.Contains(fault.Sentence(c.err), c.say) {
			t.Errorf("got %v; want %q", c.err, c.say)
		}
	}
}

func TestBinaryListsItsModules(t *testing.T) {
	f, err := os.Open(build(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := sbom.FromGo(sbom.Subject{Name: "checkout", Version: "1.4.0", Digest: "sha256:ab", Created: time.Unix(0, 0)}, f, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := doc.CycloneDX()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"specVersion":"1.6"`, `"pkg:golang/std@`, `"name":"checkout"`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("SBOM lacks %s: %s", want, raw)
		}
	}
}
