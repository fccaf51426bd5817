package host

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"weir/internal/deploy/protocol"
)

func TestOfAnIndexTheImageForThisMachineRuns(t *testing.T) {
	reg := newFakeRegistry(t)
	mine := reg.pushApp(t, "mine")
	entry := func(arch, digest string) map[string]any {
		return map[string]any{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1, "platform": map[string]string{"os": "linux", "architecture": arch}}
	}
	index := func(entries ...map[string]any) string {
		b, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": entries})
		return reg.put(b)
	}
	r := start(t, config(t.TempDir(), reg))
	good := release("1.0.0", index(entry("riscv64", sum([]byte("other"))), entry(runtime.GOARCH, mine)), nil)
	r.apply(stable(good, 10000))
	if img, err := r.host.images.open(good.Digest); err != nil || img.config.Config.Entrypoint[0] != "/app" {
		t.Errorf("open(index) = %+v, %v", img, err)
	}
	if err := r.put(r.desire(stable(release("1.1.0", index(entry("riscv64", mine)), nil), 10000))); err != nil {
		t.Fatal(err)
	}
	e := r.settle("the failure", func(e protocol.Environment) bool { return e.Slots[len(e.Slots)-1].State == protocol.Failed })
	if got, want := e.Slots[len(e.Slots)-1].Reason, "it has no image for linux/"+runtime.GOARCH+", only for linux/riscv64"; !strings.Contains(got, want) {
		t.Errorf("reason %q; want %q", got, want)
	}
}

func TestAnIndexInAnIndexLeadsToTheImageForThisMachine(t *testing.T) {
	reg := newFakeRegistry(t)
	mine := reg.pushApp(t, "mine")
	index := func(entries ...map[string]any) string {
		b, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": entries})
		return reg.put(b)
	}
	image := func(arch, digest string) map[string]any {
		return map[string]any{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1, "platform": map[string]string{"os": "linux", "architecture": arch}}
	}
	inner := func(digest string) map[string]any {
		return map[string]any{"mediaType": ociIndex, "digest": digest, "size": 1}
	}
	empty, full := index(image("riscv64", mine)), index(image("riscv64", sum([]byte("x"))), image(runtime.GOARCH, mine))
	r := start(t, config(t.TempDir(), reg))
	good := release("1.0.0", index(inner(empty), inner(full)), nil)
	r.apply(stable(good, 10000))
	dir := r.host.images.path(good.Digest)
	if img, err := r.host.images.open(good.Digest); err != nil || img.config.Config.Entrypoint[0] != "/app" {
		t.Errorf("open(index of indexes) = %+v, %v", img, err)
	}
	raw, err := os.ReadFile(dir + "/index.1.json")
	if err != nil || sum(raw) != full {
		t.Errorf("the inner index is kept as %s, %v; want %s", sum(raw), err, full)
	}
	if err := os.WriteFile(dir+"/index.1.json", append(raw, ' '), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.host.images.open(good.Digest); err == nil {
		t.Error("an image whose inner index was changed is opened")
	}
	deep := full
	for range maxNesting {
		deep = index(inner(deep))
	}
	if err := r.put(r.desire(stable(release("1.1.0", deep, nil), 10000))); err != nil {
		t.Fatal(err)
	}
	e := r.settle("the failure", func(e protocol.Environment) bool { return e.Slots[len(e.Slots)-1].State == protocol.Failed })
	if got := e.Slots[len(e.Slots)-1].Reason; !strings.Contains(got, "indexes are nested more than 4 deep") {
		t.Errorf("reason %q", got)
	}
}

func TestALayerIsUnpackedHoweverItIsPackedAndItsDevicesStayAway(t *testing.T) {
	files := map[string]string{"etc/name": "zstd"}
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	for name, body := range files {
		must(t, w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}))
		_, err := w.Write([]byte(body))
		must(t, err)
	}
	for name, kind := range map[string]byte{"dev/null": tar.TypeChar, "dev/sda": tar.TypeBlock, "run/pipe": tar.TypeFifo} {
		must(t, w.WriteHeader(&tar.Header{Name: name, Typeflag: kind, Mode: 0o666, Devmajor: 1, Devminor: 3}))
	}
	must(t, w.Close())
	z, err := zstd.NewWriter(nil)
	must(t, err)
	packed := z.EncodeAll(raw.Bytes(), nil)
	dir := t.TempDir()
	d := descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+zstd", Digest: sum(packed), Size: int64(len(packed))}
	var u unpacking
	must(t, u.layer(dir, bytes.NewReader(packed), d, sum(raw.Bytes())))
	if b, err := os.ReadFile(dir + "/etc/name"); err != nil || string(b) != "zstd" {
		t.Errorf("etc/name is %q, %v", b, err)
	}
	for _, name := range []string{"dev/null", "dev/sda", "run/pipe"} {
		if _, err := os.Lstat(dir + "/" + name); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	bomb := z.EncodeAll(make([]byte, 32<<20), nil)
	u = unpacking{bytes: maxUnpacked - 1<<20}
	d.Digest, d.Size = sum(bomb), int64(len(bomb))
	if err := u.layer(t.TempDir(), bytes.NewReader(bomb), d, ""); err == nil {
		t.Error("a layer that unpacks to more than there is room for is taken")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestACommandOfTheServiceGoesToTheEntrypointOfItsImage(t *testing.T) {
	var i image
	i.config.Config.Entrypoint, i.config.Config.Cmd = []string{"node"}, []string{"server.js"}
	w := protocol.Workload{}
	if got, _ := i.command(w); strings.Join(got, " ") != "node server.js" {
		t.Errorf("command() = %q", got)
	}
	w.Command = []string{"worker.js"}
	if got, _ := i.command(w); strings.Join(got, " ") != "node worker.js" {
		t.Errorf("command(worker.js) = %q", got)
	}
	i.config.Config.Labels = map[string]string{"dev.weir.kind": "binary"}
	if got, _ := i.command(w); strings.Join(got, " ") != "node server.js" {
		t.Errorf("command of an image by Weir = %q; the arguments are in it", got)
	}
}
