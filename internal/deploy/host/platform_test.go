package host

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

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
