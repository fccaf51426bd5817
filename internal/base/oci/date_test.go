package oci_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/base/fault"
	"weir/internal/base/oci"
)

// builder writes an archive as buildah does.
type builder struct {
	t     testing.TB
	blobs map[string][]byte
}

func (b *builder) add(raw []byte) map[string]any {
	sum := sha256.Sum256(raw)
	digest := hex.EncodeToString(sum[:])
	b.blobs[digest] = raw
	return map[string]any{"digest": "sha256:" + digest, "size": len(raw)}
}

func (b *builder) json(v any) map[string]any {
	raw, err := json.Marshal(v)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.add(raw)
}

func layerOf(t testing.TB, when time.Time, name string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o640, Uid: 7, Size: 2, ModTime: when}); err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("hi"))
	w.Close()
	return out.Bytes()
}

func (b *builder) image(steps ...map[string]any) []byte {
	var layers, diffs, history []any
	for _, s := range steps {
		step := map[string]any{"created": s["created"], "created_by": s["by"]}
		if raw, ok := s["layer"].([]byte); ok {
			var z bytes.Buffer
			g := gzip.NewWriter(&z)
			g.Write(raw)
			g.Close()
			d := b.add(z.Bytes())
			d["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip"
			sum := sha256.Sum256(raw)
			layers, diffs = append(layers, d), append(diffs, "sha256:"+hex.EncodeToString(sum[:]))
		} else {
			step["empty_layer"] = true
		}
		history = append(history, step)
	}
	config := b.json(map[string]any{"created": "1970-01-01T00:00:00Z", "architecture": "amd64", "os": "linux", "x-kept": 1, "rootfs": map[string]any{"type": "layers", "diff_ids": diffs}, "history": history})
	config["mediaType"] = "application/vnd.oci.image.config.v1+json"
	m := b.json(map[string]any{"schemaVersion": 2, "config": config, "layers": layers, "annotations": map[string]string{"a": "b"}})
	m["mediaType"] = "application/vnd.oci.image.manifest.v1+json"
	index, _ := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{m}})
	return b.archive(index)
}

func (b *builder) archive(index []byte) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	put := func(name string, raw []byte) {
		w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(raw))})
		w.Write(raw)
	}
	put("index.json", index)
	for digest, raw := range b.blobs {
		put("blobs/sha256/"+digest, raw)
	}
	w.Close()
	return out.Bytes()
}

func TestAnImageGetsTheTimeOfItsSourceAndItsBaseKeepsItsOwn(t *testing.T) {
	start, base, commit := time.Unix(0, 0).UTC(), time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC)
	b := &builder{t: t, blobs: map[string][]byte{}}
	in := b.image(
		map[string]any{"created": base, "by": "/bin/sh -c #(nop) COPY dir:1 in /", "layer": layerOf(t, base, "base")},
		map[string]any{"created": start, "by": "/bin/sh -c #(nop) ENV A=b"},
		map[string]any{"created": start, "by": "/bin/sh -c #(nop) COPY file:2 in /src", "layer": layerOf(t, start, "copied")},
		map[string]any{"created": start, "by": "/bin/sh -c make", "layer": layerOf(t, start, "made")},
		map[string]any{"created": start, "by": "COPY x y # buildkit", "layer": layerOf(t, base, "with times of its own")})
	var out, again bytes.Buffer
	for _, w := range []*bytes.Buffer{&out, &again} {
		if err := oci.Date(bytes.NewReader(in), w, t.TempDir(), commit); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Error("the same image was dated in two ways")
	}
	dir := t.TempDir()
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := io.ReadAll(r)
		os.MkdirAll(filepath.Join(dir, filepath.Dir(h.Name)), 0o700)
		os.WriteFile(filepath.Join(dir, h.Name), raw, 0o600)
	}
	// It is read as any image, every digest checked on the way.
	s := open(t, oci.StoreConfig{})
	img, release, err := s.Pull(context.Background(), oci.Layout{Dir: dir}, oci.Reference{Repository: "x", Tag: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for i, want := range []struct {
		name string
		at   time.Time
	}{{"base", base}, {"copied", commit}, {"made", start}, {"with times of its own", base}} {
		info, err := os.Stat(filepath.Join(img.Layers[i], want.name))
		if err != nil || !info.ModTime().Equal(want.at) || info.Mode().Perm() != 0o640 {
			t.Errorf("%s is %v, %v; want it of %s", want.name, info, err, want.at)
		}
	}
	all, _ := filepath.Glob(dir + "/blobs/sha256/*")
	found := false
	for _, p := range all {
		raw, _ := os.ReadFile(p)
		if !strings.Contains(string(raw), `"rootfs"`) {
			continue
		}
		found = true
		var c struct {
			Created time.Time
			Kept    int `json:"x-kept"`
			History []struct{ Created time.Time }
		}
		if err := json.Unmarshal(raw, &c); err != nil || !c.Created.Equal(commit) || c.Kept != 1 || !c.History[0].Created.Equal(base) || !c.History[3].Created.Equal(commit) {
			t.Errorf("the configuration is %s, %v", raw, err)
		}
	}
	if !found {
		t.Error("there is no configuration")
	}
}

func TestWhatIsNotOneImageIsLeftAsItIs(t *testing.T) {
	b := &builder{t: t, blobs: map[string][]byte{}}
	in := b.archive([]byte(`{"schemaVersion":2,"manifests":[]}`))
	var out bytes.Buffer
	if err := oci.Date(bytes.NewReader(in), &out, t.TempDir(), time.Now()); err != nil || !bytes.Equal(in, out.Bytes()) {
		t.Errorf("Date() = %v, and %d bytes of %d", err, out.Len(), len(in))
	}
}

func FuzzDate(f *testing.F) {
	b := &builder{t: f, blobs: map[string][]byte{}}
	f.Add(b.image(map[string]any{"created": time.Unix(0, 0).UTC(), "by": "COPY a b", "layer": layerOf(f, time.Unix(0, 0), "a")}))
	f.Add(b.archive([]byte(`{"manifests":[{"digest":"sha256:x"}]}`)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		err := oci.Date(bytes.NewReader(raw), io.Discard, t.TempDir(), time.Unix(1, 0))
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("Date() = %v; want a sentence", err)
		}
	})
}
