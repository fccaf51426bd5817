package host

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// An index leads to a manifest by digests alone, in a number of steps that is bounded.
func FuzzIndex(f *testing.F) {
	leaf := []byte(`{"config":{}}`)
	for _, s := range []string{`{}`, `{"manifests":[{"digest":"` + sum(leaf) + `","platform":{"os":"linux","architecture":"` + runtime.GOARCH + `"}}]}`, `{"mediaType":"` + ociIndex + `"}`,
		`{"manifests":[{"mediaType":"` + ociIndex + `","digest":"` + sum(leaf) + `"}]}`, `{"manifests":[{"digest":"../x","platform":{"os":"linux","architecture":"` + runtime.GOARCH + `"}}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		asked := 0
		indexes, manifest, err := route(raw, func(digest string) ([]byte, error) {
			asked++
			switch digest {
			case sum(leaf):
				return leaf, nil
			case sum(raw):
				return raw, nil
			}
			return nil, errors.New("there is no such thing")
		})
		if asked > maxIndexes+1 {
			t.Errorf("%d documents were asked for", asked)
		}
		if err != nil || manifest == nil {
			return
		}
		if got, err := along(sum(raw), indexes, manifest); err != nil || got != sum(manifest) {
			t.Errorf("along() = %s, %v; want %s", got, err, sum(manifest))
		}
	})
}

// Nothing that a layer says is written outside of its folder, and nothing but files, folders and links comes to be.
func FuzzLayer(f *testing.F) {
	add := func(entries ...tar.Header) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range entries {
			if w.WriteHeader(&h) == nil {
				w.Write(make([]byte, h.Size))
			}
		}
		w.Close()
		f.Add(b.Bytes())
	}
	add(tar.Header{Name: "a/b", Typeflag: tar.TypeReg, Size: 3, Mode: 0o755}, tar.Header{Name: "a/.wh.b", Typeflag: tar.TypeReg}, tar.Header{Name: "a/.wh..wh..opq", Typeflag: tar.TypeReg})
	add(tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."}, tar.Header{Name: "l/x", Typeflag: tar.TypeReg}, tar.Header{Name: "../x", Typeflag: tar.TypeReg})
	add(tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}, tar.Header{Name: "dev/sda", Typeflag: tar.TypeBlock}, tar.Header{Name: "p", Typeflag: tar.TypeFifo})
	add(tar.Header{Name: ".wh...", Typeflag: tar.TypeReg}, tar.Header{Name: ".wh.", Typeflag: tar.TypeReg}, tar.Header{Name: "/abs", Typeflag: tar.TypeDir})
	f.Fuzz(func(t *testing.T, layer []byte) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "root")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		var u unpacking
		_ = u.layer(dir, bytes.NewReader(layer), descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: sum(layer), Size: int64(len(layer))}, "")
		all, err := os.ReadDir(outer)
		if err != nil || len(all) != 1 {
			t.Errorf("beside the folder are %v, %v", all, err)
		}
		_ = filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
			if err == nil && e.Type()&(os.ModeDevice|os.ModeNamedPipe|os.ModeSocket) != 0 {
				t.Errorf("%s is a %s", strings.TrimPrefix(p, dir), e.Type())
			}
			return nil
		})
	})
}
