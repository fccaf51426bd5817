package layout_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"weir/internal/artifact"
	"weir/internal/artifact/layout"
	. "weir/internal/artifact/layout/layouttest"
	"weir/internal/base/fault"
)

var layer = Tar(File{Name: "app/", Type: tar.TypeDir, Mode: 0o755}, File{Name: "app/run", Body: "hello", Mode: 0o755}, File{Name: "app/now", Type: tar.TypeSymlink, Link: "/app/run"})

func open(raw []byte) (*layout.Layout, error) {
	l, err := layout.Open("shop", bytes.NewReader(raw))
	if err == nil {
		err = l.Check()
	}
	return l, err
}

func TestAnImageIsReadWhole(t *testing.T) {
	b := New()
	l, err := open(b.Archive(b.Image("amd64", []string{"/app/run"}, layer)))
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Images) != 1 || l.Index() || l.Top.MediaType != artifact.MediaManifest || l.Images[0].Config.Config.Entrypoint[0] != "/app/run" {
		t.Errorf("Open() = %+v", l)
	}
	var blobs, files []string
	l.Each(func(d artifact.Descriptor) error { blobs = append(blobs, d.Digest); return nil })
	err = l.Files(l.Images[0], func(_ int, e layout.Entry, body io.Reader) error {
		b, err := io.ReadAll(body)
		files = append(files, e.Path+"="+string(b))
		return err
	})
	if err != nil || len(blobs) != 2 || !slices.Equal(files, []string{"app=", "app/run=hello", "app/now="}) {
		t.Errorf("blobs %v, files %v, %v", blobs, files, err)
	}
}

func TestAnIndexIsTakenWholeWithWhatItsBuilderAdds(t *testing.T) {
	b := New()
	amd, arm := b.Image("amd64", []string{"/a"}, layer), b.Image("arm64", []string{"/a"}, layer)
	note := b.JSON(artifact.MediaManifest, map[string]any{"schemaVersion": 2, "config": b.Add("application/vnd.oci.empty.v1+json", []byte("{}")),
		"layers": []artifact.Descriptor{b.Add("application/vnd.in-toto+json", []byte(`{"a":1}`))}})
	entry := func(d artifact.Descriptor, os, arch string) map[string]any {
		return map[string]any{"mediaType": d.MediaType, "digest": d.Digest, "size": d.Size, "platform": map[string]string{"os": os, "architecture": arch}}
	}
	list := []map[string]any{entry(amd, "linux", "amd64"), entry(arm, "linux", "arm64"), entry(note, "unknown", "unknown")}
	index := map[string]any{"schemaVersion": 2, "mediaType": artifact.MediaIndex, "manifests": list}
	top := b.JSON(artifact.MediaIndex, index)
	l, err := open(b.Archive(top))
	if err != nil || len(l.Images) != 2 || len(l.Others) != 1 || l.Top.Digest != top.Digest || !l.Index() {
		t.Errorf("Open(index) = %+v, %v", l, err)
	}
	raw, _ := json.Marshal(index)
	if l, err = open(b.With(raw)); err != nil || l.Top.Digest != artifact.Describe("", raw).Digest {
		t.Errorf("Open(several in index.json) = %+v, %v; want index.json itself", l, err)
	}
}

// bad are layouts that must be refused, with a part of the sentence.
func bad() map[string][]byte {
	out := map[string][]byte{}
	image := func(b *Builder, files ...File) artifact.Descriptor {
		return b.Image("amd64", []string{"/a"}, Tar(files...))
	}
	manifest := func(b *Builder, change func(m map[string]any)) []byte {
		d := image(b, File{Name: "a"})
		var m map[string]any
		json.Unmarshal(b.Blobs[d.Digest], &m)
		change(m)
		return b.Archive(b.JSON(artifact.MediaManifest, m))
	}
	b := New()
	good := image(b, File{Name: "a"})
	with := func(name string, f File) { b := New(); out[name] = b.Archive(image(b, f)) }

	out["it is no tar archive"] = []byte("hello, this is not a tar archive at all")
	out["it has no oci-layout and index.json"] = Tar(File{Name: "image/oci-layout", Body: "{}"})
	out["lies outside"] = b.With([]byte(`{}`), File{Name: "../x"})
	out["is not a plain file"] = b.With([]byte(`{}`), File{Name: "blobs/sha256", Type: tar.TypeSymlink, Link: "/etc"})
	out["is not named by a sha256 digest"] = b.With([]byte(`{}`), File{Name: "blobs/sha256/zz"})
	out["holds the blob "+good.Digest+" twice"] = b.With([]byte(`{}`), File{Name: "blobs/" + strings.Replace(good.Digest, ":", "/", 1)})
	out["names no image"] = b.Archive()
	out["names 2 images without saying for which platform"] = b.Archive(good, good)
	out["does not hold it"] = b.Archive(artifact.Describe(artifact.MediaManifest, []byte("x")))
	small := good
	small.Size--
	out["is said to have"] = b.Archive(small)
	wrong := good
	wrong.MediaType = "application/x-thing"
	out["neither an image nor an index"] = b.Archive(wrong)
	confused := good
	confused.MediaType = artifact.MediaIndex
	out["is referred to as"] = b.Archive(confused)
	lying := New()
	d := image(lying, File{Name: "a"})
	lying.Blobs[d.Digest] = bytes.Replace(lying.Blobs[d.Digest], []byte(`"schemaVersion":2`), []byte(`"schemaVersion":3`), 1)
	out["has the digest"] = lying.Archive(d)
	out["an image and an index at once"] = manifest(New(), func(m map[string]any) { m["manifests"] = []any{} })
	out["has no configuration"] = manifest(New(), func(m map[string]any) { delete(m, "config") })
	out[`has a member "Layers" where "layers" is meant`] = manifest(New(), func(m map[string]any) { m["Layers"] = m["layers"]; delete(m, "layers") })
	out["the schemaVersion 1"] = manifest(New(), func(m map[string]any) { m["schemaVersion"] = 1 })
	out["so it is no image"] = manifest(New(), func(m map[string]any) {
		m["config"].(map[string]any)["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
	})
	out["lies elsewhere"] = manifest(New(), func(m map[string]any) {
		m["layers"].([]any)[0].(map[string]any)["urls"] = []string{"https://example.test/x"}
	})
	out["layers are tar, plain or with gzip or zstd"] = manifest(New(), func(m map[string]any) {
		m["layers"].([]any)[0].(map[string]any)["mediaType"] = "application/vnd.oci.image.layer.v1.tar+lz4"
	})
	out["cannot be read (invalid input: magic number mismatch)"] = manifest(New(), func(m map[string]any) {
		m["layers"].([]any)[0].(map[string]any)["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd"
	})
	out["names the content of 1"] = manifest(New(), func(m map[string]any) { l := m["layers"].([]any); m["layers"] = append(l, l[0]) })
	out["has 129 layers"] = manifest(New(), func(m map[string]any) { m["layers"] = slices.Repeat(m["layers"].([]any), 129) })
	twice := New()
	twice.Add("", []byte("x"))
	dup := []byte(`{"schemaVersion":2,"schemaVersion":2,"manifests":[]}`)
	out[`the member "schemaVersion" twice`] = twice.With(dup)
	out["nests deeper"] = twice.With([]byte(`{"schemaVersion":2,"manifests":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`))
	win := New()
	out["linux/amd64 and linux/arm64 can be run"] = win.Archive(win.Image("riscv64", []string{"/a"}, layer))
	nested := New()
	in := nested.Image("amd64", nil, layer)
	for range 5 {
		in = nested.Index(map[string]artifact.Descriptor{"amd64": in})
	}
	out["names indexes more than 4 deep"] = nested.Archive(in)
	astray := New()
	out["says that all in"] = astray.Archive(astray.Index(map[string]artifact.Descriptor{"arm64": astray.Index(map[string]artifact.Descriptor{"amd64": astray.Image("amd64", nil, layer)})}))
	both := New()
	one, two := both.Image("amd64", nil, layer), both.Image("amd64", []string{"/b"}, layer)
	out["two images for linux/amd64"] = both.Archive(both.JSON(artifact.MediaIndex, map[string]any{"schemaVersion": 2, "manifests": []artifact.Descriptor{
		both.Index(map[string]artifact.Descriptor{"amd64": one}), both.Index(map[string]artifact.Descriptor{"amd64": two})}}))
	says := New()
	out["the image says linux/arm64"] = says.Archive(says.Index(map[string]artifact.Descriptor{"amd64": says.Image("arm64", nil, layer)}))

	with("leads out of the image", File{Name: "../../etc/passwd"})
	with("links out of the image", File{Name: "a", Type: tar.TypeLink, Link: "../../etc/passwd"})
	with("none of the things that an image may hold", File{Name: "a", Type: tar.TypeCont})
	raw := New()
	e := raw.Image("amd64", nil, layer)
	var m map[string]any
	json.Unmarshal(raw.Blobs[e.Digest], &m)
	m["layers"] = []artifact.Descriptor{raw.Add(artifact.MediaLayer, []byte("not gzip"))}
	out["is not compressed with gzip"] = raw.Archive(raw.JSON(artifact.MediaManifest, m))
	m["layers"] = []artifact.Descriptor{raw.Add(artifact.MediaLayer, Gzip(Tar(File{Name: "other"})))}
	out["has the content"] = raw.Archive(raw.JSON(artifact.MediaManifest, m))
	return out
}

func TestWrongLayoutsAreRefusedWithASentence(t *testing.T) {
	for want, raw := range bad() {
		_, err := open(raw)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), want) || !strings.HasPrefix(fault.Sentence(err), "The image layout of shop cannot be taken: ") {
			t.Errorf("Open() = %v; want it refused: ... %s", err, want)
		}
	}
}

func TestALayerThatGrowsWithoutEndIsRefused(t *testing.T) {
	bomb := Tar(File{Name: "zeros", Body: strings.Repeat("\x00", 2<<20)})
	for media, packed := range map[string][]byte{artifact.MediaLayer: Gzip(bomb), zstdLayer: Zstd(bomb)} {
		b := layout.Budget{Most: 1 << 20}
		_, err := layout.Walk(media, bytes.NewReader(packed), &b, func(layout.Entry, io.Reader) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "unpacks to more than 1048576 bytes") {
			t.Errorf("Walk(bomb as %s) = %v; want it refused", media, err)
		}
	}
}

const zstdLayer = "application/vnd.oci.image.layer.v1.tar+zstd"

func TestAZstdLayerIsReadAsAnyOther(t *testing.T) {
	b := New()
	l, err := open(b.Archive(b.Packed(zstdLayer, Zstd(layer), layer)))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := l.Files(l.Images[0], func(int, layout.Entry, io.Reader) error { n++; return nil }); err != nil || n != 3 {
		t.Errorf("%d files, %v; want 3", n, err)
	}
	// A frame that says it needs 1 GiB to be read: the magic, no sizes, a window of 2^30.
	b = New()
	if _, err := open(b.Archive(b.Packed(zstdLayer, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa0, 0x01, 0x00, 0x00}, nil))); err == nil || !strings.Contains(err.Error(), "window size") {
		t.Errorf("a layer that asks for 1 GiB of memory = %v; want it refused", err)
	}
}

func TestIndexesInIndexesAreTakenWithEveryDocumentOnTheWay(t *testing.T) {
	b := New()
	amd, arm := b.Index(map[string]artifact.Descriptor{"amd64": b.Image("amd64", []string{"/a"}, layer)}), b.Index(map[string]artifact.Descriptor{"arm64": b.Image("arm64", []string{"/a"}, layer)})
	top := b.JSON(artifact.MediaIndex, map[string]any{"schemaVersion": 2, "mediaType": artifact.MediaIndex, "manifests": []artifact.Descriptor{amd, arm, amd}})
	l, err := open(b.Archive(top))
	if err != nil || len(l.Images) != 2 || len(l.Inner) != 2 || l.Inner[0].Digest != amd.Digest || l.Top.Digest != top.Digest {
		t.Errorf("Open(index of indexes) = %+v, %v", l, err)
	}
}

func TestDevicesAndPipesAreNamedAndNothingMore(t *testing.T) {
	b := New()
	l, err := open(b.Archive(b.Image("amd64", []string{"/a"}, Tar(File{Name: "dev/null", Type: tar.TypeChar}, File{Name: "dev/sda", Type: tar.TypeBlock}, File{Name: "run/p", Type: tar.TypeFifo}, File{Name: "a", Body: "x"}))))
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	err = l.Files(l.Images[0], func(_ int, e layout.Entry, _ io.Reader) error {
		if e.Left() {
			left = append(left, e.Path)
		}
		return nil
	})
	if want := []string{"dev/null", "dev/sda", "run/p"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("left %v, %v; want %v", left, err, want)
	}
}

func FuzzWalk(f *testing.F) {
	for _, media := range []string{artifact.MediaLayer, zstdLayer, "tar"} {
		pack := map[string]func([]byte) []byte{artifact.MediaLayer: Gzip, zstdLayer: Zstd, "tar": func(b []byte) []byte { return b }}[media]
		f.Add(media, pack(layer))
		f.Add(media, pack(Tar(File{Name: "zeros", Body: strings.Repeat("\x00", 1<<20)})))
		f.Add(media, pack(Tar(File{Name: "../../a"}, File{Name: "dev/x", Type: tar.TypeChar})))
	}
	f.Fuzz(func(t *testing.T, media string, packed []byte) {
		b, read := layout.Budget{Most: 1 << 20}, int64(0)
		_, _ = layout.Walk(media, bytes.NewReader(packed), &b, func(e layout.Entry, body io.Reader) error {
			if strings.HasPrefix(e.Path, "/") || strings.HasPrefix(e.Path, "../") || e.Path == ".." {
				t.Errorf("a layer holds %q", e.Path)
			}
			n, err := io.Copy(io.Discard, body)
			read += n
			return err
		})
		if read > 1<<20 {
			t.Errorf("%d bytes were read of a layer that may have %d", read, 1<<20)
		}
	})
}

func TestASparseFileIsRefusedBecauseItsSizeIsALie(t *testing.T) {
	dir := t.TempDir()
	if err := os.Truncate(touch(t, dir+"/huge"), 1<<40); err != nil {
		t.Fatal(err)
	}
	raw, err := exec.Command("tar", "--format=pax", "--sparse", "-C", dir, "-cf", "-", "huge").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, err = layout.Walk("tar", bytes.NewReader(raw), &layout.Budget{}, func(layout.Entry, io.Reader) error { return nil })
	if err == nil || !strings.Contains(err.Error(), `holds "huge" as a sparse file`) {
		t.Errorf("Walk(sparse) = %v; want it refused", err)
	}
}

func touch(t *testing.T, p string) string {
	t.Helper()
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func FuzzOpen(f *testing.F) {
	b := New()
	f.Add(b.Archive(b.Image("amd64", []string{"/app/run"}, layer)))
	for _, raw := range bad() {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := layout.Open("shop", bytes.NewReader(raw))
		if err == nil {
			err = l.Check()
		}
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("Open() = %v; want a sentence", err)
		}
	})
}
