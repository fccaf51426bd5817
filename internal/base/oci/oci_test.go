package oci_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"weir/internal/base/fault"
	"weir/internal/base/oci"
	"weir/internal/base/oci/ocitest"
)

func open(t *testing.T, cfg oci.StoreConfig) *oci.Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "images")
	}
	s, err := oci.Open(cfg)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}

func ref(t *testing.T, name string) oci.Reference {
	t.Helper()
	r, err := oci.Parse(name)
	if err != nil {
		t.Fatalf("Parse(%q): %v", name, err)
	}
	return r
}

func TestNamesAreReadAsEveryToolReadsThem(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for name, want := range map[string]oci.Reference{
		"postgres":                 {Repository: "postgres", Tag: "latest"},
		"postgres:16":              {Repository: "postgres", Tag: "16"},
		"team/app":                 {Repository: "team/app", Tag: "latest"},
		"ghcr.io/team/app:1":       {Host: "ghcr.io", Repository: "team/app", Tag: "1"},
		"localhost:5000/app":       {Host: "localhost:5000", Repository: "app", Tag: "latest"},
		"app@" + digest:            {Repository: "app", Digest: digest},
		"app:1@" + digest:          {Repository: "app", Tag: "1", Digest: digest},
		"[::1]:5000/app:v1.2-rc.1": {Host: "[::1]:5000", Repository: "app", Tag: "v1.2-rc.1"},
	} {
		got, err := oci.Parse(name)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", name, got, err, want)
		}
	}
	for _, name := range []string{"", "../x", "a//b", "UPPER", "a:", "a@sha256:1", "a b", "-x", "a:$(id)", strings.Repeat("a", 600), "http://x/y"} {
		if got, err := oci.Parse(name); !fault.Is(err, fault.Invalid) {
			t.Errorf("Parse(%q) = %+v, %v; want a refusal", name, got, err)
		}
	}
}

func TestALayerIsUnpackedOnceAndShared(t *testing.T) {
	var reg ocitest.Registry
	base := []tar.Header{ocitest.Dir("etc", 0o750), ocitest.File("etc/name", 0o640)}
	body := map[string]string{"etc/name": "base", "etc/more": "more"}
	reg.Put(t, "one:1", ocitest.Image{Layers: [][]tar.Header{base}, Body: body})
	reg.Put(t, "two:1", ocitest.Image{Layers: [][]tar.Header{base, {ocitest.File("etc/more", 0o4755), {Name: "etc/.wh.name", Typeflag: tar.TypeReg}}}, Body: body})
	s := open(t, oci.StoreConfig{})
	one, release, err := s.Pull(t.Context(), &reg, ref(t, "one:1"))
	if err != nil {
		t.Fatalf("Pull: %v", err)
	}
	defer release()
	asked := reg.Asked
	two, release, err := s.Pull(t.Context(), &reg, ref(t, "two:1"))
	if err != nil {
		t.Fatalf("Pull: %v", err)
	}
	defer release()
	if one.Layers[0] != two.Layers[0] || reg.Asked != asked+2 {
		t.Errorf("layers %v and %v, %d blobs fetched; want the first shared", one.Layers, two.Layers, reg.Asked-asked)
	}
	if b, _ := os.ReadFile(filepath.Join(one.Layers[0], "etc/name")); string(b) != "base" {
		t.Errorf("etc/name = %q; want base", b)
	}
	// The folder that the second layer does not name looks as below.
	if info, err := os.Stat(filepath.Join(two.Layers[1], "etc")); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("etc of the second layer: %v, %v; want 0750", info, err)
	}
	if info, err := os.Stat(filepath.Join(two.Layers[1], "etc/more")); err != nil || info.Mode()&os.ModeSetuid == 0 {
		t.Errorf("etc/more: %v, %v; want it setuid", info, err)
	}
	info, err := os.Lstat(filepath.Join(two.Layers[1], "etc/name"))
	if err != nil || info.Mode()&os.ModeCharDevice == 0 || info.Sys().(*syscall.Stat_t).Rdev != 0 {
		t.Errorf("whiteout: %v, %v; want a 0/0 device", info, err)
	}
}

func TestAFolderThatALayerReplacesHidesTheOneBelow(t *testing.T) {
	for name, entries := range map[string][]tar.Header{
		"marked":             {ocitest.Dir("d", 0o755), {Name: "d/.wh..wh..opq", Typeflag: tar.TypeReg}},
		"deleted before":     {{Name: ".wh.d", Typeflag: tar.TypeReg}, ocitest.Dir("d", 0o755)},
		"deleted afterwards": {ocitest.Dir("d", 0o755), {Name: ".wh.d", Typeflag: tar.TypeReg}},
	} {
		var reg ocitest.Registry
		reg.Put(t, "x:1", ocitest.Image{Layers: [][]tar.Header{entries}})
		img, release, err := open(t, oci.StoreConfig{}).Pull(t.Context(), &reg, ref(t, "x:1"))
		if err != nil {
			t.Fatalf("%s: Pull: %v", name, err)
		}
		defer release()
		var v [8]byte
		if n, err := unix.Getxattr(filepath.Join(img.Layers[0], "d"), "user.overlay.opaque", v[:]); err != nil || string(v[:n]) != "y" {
			t.Errorf("%s: opaque = %q, %v; want y", name, v[:max(n, 0)], err)
		}
	}
}

func TestHostileImagesAreRefusedAndLeaveNothing(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	layer := func(h ...tar.Header) ocitest.Image {
		return ocitest.Image{Layers: [][]tar.Header{h}, Body: map[string]string{"x/pwned": "x", "../pwned": "x", "a": "x"}}
	}
	for name, c := range map[string]struct {
		img  ocitest.Image
		want string
	}{
		"leads out":                {layer(ocitest.File("../pwned", 0o644)), "leads out of the image"},
		"through a link":           {layer(ocitest.Link("x", outside), ocitest.File("x/pwned", 0o644)), "cannot be unpacked inside"},
		"through a relative link":  {layer(ocitest.Link("x", "../../.."), ocitest.File("x/pwned", 0o644)), "cannot be unpacked inside"},
		"hard link out":            {layer(tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}), "leads out of the image"},
		"hard link through a link": {layer(ocitest.Link("x", "/etc"), tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "x/passwd"}), "cannot be unpacked inside"},
		"deletes its parent":       {layer(tar.Header{Name: "d/.wh...", Typeflag: tar.TypeReg}), "which is no name"},
		"wrong platform":           {ocitest.Image{Layers: [][]tar.Header{{ocitest.Dir("a", 0o755)}}, Architecture: "s390x"}, "it is for linux/s390x"},
		"bomb":                     {ocitest.Image{Layers: [][]tar.Header{{ocitest.File("a", 0o644)}}, Body: map[string]string{"a": strings.Repeat("0", 3<<20)}}, "unpacks to more than 2 MiB"},
	} {
		var reg ocitest.Registry
		reg.Put(t, "x:1", c.img)
		dir := filepath.Join(t.TempDir(), "images")
		_, _, err := open(t, oci.StoreConfig{Dir: dir, Most: 2 << 20}).Pull(t.Context(), &reg, ref(t, "x:1"))
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), c.want) {
			t.Errorf("%s: %v; want a refusal with %q", name, err, c.want)
		}
		left, _ := os.ReadDir(dir)
		for _, d := range left {
			if !strings.HasSuffix(d.Name(), "lock") {
				t.Errorf("%s: left %v", name, d)
			}
		}
	}
	if _, err := os.Stat(outside); err == nil {
		t.Error("something was written outside")
	}
}

func TestWhatIsNotWhatItsDigestSaysIsRefused(t *testing.T) {
	var reg ocitest.Registry
	reg.Put(t, "x:1", ocitest.Image{Layers: [][]tar.Header{{ocitest.File("a", 0o644)}}, Body: map[string]string{"a": strings.Repeat("abc", 10_000)}})
	good, err := reg.Manifest(t.Context(), "x", "1")
	if err != nil {
		t.Fatal(err)
	}
	reg.Corrupt(1) // the configuration, too
	if _, _, err := open(t, oci.StoreConfig{}).Pull(t.Context(), &reg, ref(t, "x:1")); !fault.Is(err, fault.Invalid) {
		t.Errorf("corrupt image: %v; want a refusal", err)
	}
	if _, _, err := open(t, oci.StoreConfig{}).Pull(t.Context(), liar{good.Raw}, ref(t, "x@sha256:"+strings.Repeat("0", 64))); err == nil || !strings.Contains(fault.Sentence(err), "sent something else") {
		t.Errorf("another manifest: %v; want a refusal", err)
	}
}

type liar struct{ raw []byte }

func (l liar) Manifest(context.Context, string, string) (oci.Manifest, error) {
	return oci.Manifest{Raw: l.raw}, nil
}
func (l liar) Blob(context.Context, string, string) (io.ReadCloser, error) { panic("not asked") }

func TestAnIndexGivesTheImageForThisMachine(t *testing.T) {
	var reg ocitest.Registry
	want := reg.Put(t, "x:here", ocitest.Image{Layers: [][]tar.Header{{ocitest.Dir("a", 0o755)}}})
	entry := func(digest, arch string) map[string]any {
		return map[string]any{"digest": digest, "platform": map[string]string{"os": "linux", "architecture": arch}}
	}
	reg.PutManifest(t, "x:1", map[string]any{"manifests": []any{entry("sha256:"+strings.Repeat("1", 64), "s390x"), entry(want, runtime.GOARCH)}})
	reg.PutManifest(t, "x:2", map[string]any{"manifests": []any{entry("sha256:"+strings.Repeat("1", 64), "s390x")}})
	s := open(t, oci.StoreConfig{})
	img, release, err := s.Pull(t.Context(), &reg, ref(t, "x:1"))
	if err != nil || img.Digest != want {
		t.Fatalf("Pull = %s, %v; want %s", img.Digest, err, want)
	}
	release()
	if _, _, err := s.Pull(t.Context(), &reg, ref(t, "x:2")); err == nil || !strings.Contains(fault.Sentence(err), "it is for linux/s390x") {
		t.Errorf("an image for others: %v; want a sentence", err)
	}
}

func TestAnIndexInAnIndexLeadsToTheImageAndNoFurtherThanItMay(t *testing.T) {
	var reg ocitest.Registry
	want := reg.Put(t, "x:here", ocitest.Image{Layers: [][]tar.Header{{ocitest.Dir("a", 0o755)}}})
	image := func(digest, arch string) map[string]any {
		return map[string]any{"digest": digest, "platform": map[string]string{"os": "linux", "architecture": arch}}
	}
	inner := func(digest string) map[string]any {
		return map[string]any{"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest}
	}
	other := reg.PutManifest(t, "x:other", map[string]any{"manifests": []any{image("sha256:"+strings.Repeat("1", 64), "s390x")}})
	mine := reg.PutManifest(t, "x:mine", map[string]any{"manifests": []any{image(want, runtime.GOARCH)}})
	reg.PutManifest(t, "x:1", map[string]any{"manifests": []any{inner(other), inner(mine)}})
	reg.PutManifest(t, "x:2", map[string]any{"manifests": []any{inner(other), inner(other)}})
	deep := mine
	for range 4 {
		deep = reg.PutManifest(t, "x:deep", map[string]any{"manifests": []any{inner(deep)}})
	}
	s := open(t, oci.StoreConfig{})
	img, release, err := s.Pull(t.Context(), &reg, ref(t, "x:1"))
	if err != nil || img.Digest != want {
		t.Fatalf("Pull = %s, %v; want %s", img.Digest, err, want)
	}
	release()
	for name, want := range map[string]string{"x:2": "it is for linux/s390x", "x:deep": "names indexes more than 4 deep"} {
		if _, _, err := s.Pull(t.Context(), &reg, ref(t, name)); err == nil || !strings.Contains(fault.Sentence(err), want) {
			t.Errorf("Pull(%s) = %v; want %q", name, err, want)
		}
	}
}

func TestALayerIsPlainOnlyAsItsTypeSays(t *testing.T) {
	for media, want := range map[string]string{"application/vnd.oci.image.layer.v1.tar+lz4": "layers are tar, plain or with gzip or zstd", "application/vnd.oci.image.layer.v1.tar+gzip": "is not compressed with gzip"} {
		if _, err := oci.Plain(media, strings.NewReader("hello")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Plain(%s) = %v; want %q", media, err, want)
		}
	}
	r, err := oci.Plain("application/vnd.oci.image.layer.v1.tar+zstd", strings.NewReader("hello, this is not zstd"))
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if err == nil {
		t.Error("what is not zstd is read as zstd")
	}
}

func TestTheLongestUnusedGoesFirstAndNothingThatIsInUse(t *testing.T) {
	var reg ocitest.Registry
	for _, name := range []string{"a", "b", "c"} {
		reg.Put(t, name+":1", ocitest.Image{Layers: [][]tar.Header{{ocitest.File("f", 0o644)}}, Body: map[string]string{"f": strings.Repeat(name, 1<<20)}})
	}
	s := open(t, oci.StoreConfig{Keep: 1 << 20})
	a, releaseA, err := s.Pull(t.Context(), &reg, ref(t, "a:1"))
	if err != nil {
		t.Fatal(err)
	}
	b, releaseB, err := s.Pull(t.Context(), &reg, ref(t, "b:1"))
	if err != nil {
		t.Fatal(err)
	}
	releaseB()
	_, releaseC, err := s.Pull(t.Context(), &reg, ref(t, "c:1"))
	if err != nil {
		t.Fatal(err)
	}
	releaseC()
	if _, err := os.Stat(a.Layers[0]); err != nil {
		t.Errorf("an image in use was removed: %v", err)
	}
	if _, err := os.Stat(b.Layers[0]); err == nil {
		t.Error("the longest unused image is still there")
	}
	releaseA()
}

func TestALayoutIsASource(t *testing.T) {
	var reg ocitest.Registry
	want := reg.Put(t, "team/x:1", ocitest.Image{Layers: [][]tar.Header{{ocitest.Dir("a", 0o755)}}})
	dir := t.TempDir()
	reg.Layout(t, dir)
	s := open(t, oci.StoreConfig{})
	img, release, err := s.Pull(t.Context(), oci.Layout{Dir: dir}, ref(t, "team/x:1"))
	if err != nil || img.Digest != want {
		t.Fatalf("Pull = %s, %v; want %s", img.Digest, err, want)
	}
	release()
	if _, _, err := s.Pull(t.Context(), oci.Layout{Dir: dir}, ref(t, "y:1")); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.Sentence(err), "it has team/x:1") {
		t.Errorf("another image: %v; want a sentence that says what there is", err)
	}
}

func FuzzLayer(f *testing.F) {
	for _, h := range []tar.Header{ocitest.File("a", 0o644), ocitest.Link("x", "/etc"), {Name: ".wh.a", Typeflag: tar.TypeReg}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "a"}} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		w.WriteHeader(&h)
		w.Close()
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, layer []byte) {
		oci.UnpackForTest(layer, t.TempDir())
	})
}
