package image

import (
	"archive/tar"
	"bytes"
	"path/filepath"
	"testing"

	"weir/internal/base/fault"
)

// What a release job hands in stays in its folder.
func FuzzTree(f *testing.F) {
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
	add(tar.Header{Name: "app/server.js", Typeflag: tar.TypeReg, Size: 3}, tar.Header{Name: "app/l", Typeflag: tar.TypeSymlink, Linkname: "server.js"})
	add(tar.Header{Name: "../x", Typeflag: tar.TypeReg})
	add(tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../../etc"}, tar.Header{Name: "d", Typeflag: tar.TypeBlock})
	f.Fuzz(func(t *testing.T, raw []byte) {
		index, err := listTree("shop", bytes.NewReader(raw))
		if err != nil {
			if fault.KindOf(err) == "" {
				t.Errorf("listTree() = %v; want a sentence", err)
			}
			return
		}
		for name, e := range index {
			if !filepath.IsLocal(name) || e.link != "" && !filepath.IsLocal(filepath.Join(filepath.Dir(name), e.link)) {
				t.Errorf("it holds %q, a link to %q", name, e.link)
			}
		}
	})
}
