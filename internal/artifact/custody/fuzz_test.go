package custody

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"weir/internal/base/fault"
)

// An archive of evidence comes by mail: whatever it is, it is refused with a sentence or is whole.
func FuzzArchive(f *testing.F) {
	pack := func(files map[string]string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for name, text := range files {
			w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))})
			w.Write([]byte(text))
		}
		w.Close()
		return b.Bytes()
	}
	const empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" // of {}
	index := `{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha256:` + empty + `","size":2,"annotations":{"` + refAnnotation + `":"shop@sha256:` + empty + `"}}]}`
	f.Add(pack(map[string]string{indexFile: index, "blobs/sha256/" + empty: "{}"}))
	f.Add(pack(map[string]string{indexFile: index}))
	f.Add(pack(map[string]string{indexFile: index, "blobs/sha256/" + empty: "{ }"}))
	f.Add(pack(map[string]string{indexFile: `{"manifests":[]}`}))
	f.Add([]byte("no archive"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file := filepath.Join(t.TempDir(), "a.tar")
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := openArchive(file)
		if err == nil {
			defer a.f.Close()
			err = a.whole()
		}
		if err != nil && fault.KindOf(err) == "" {
			t.Errorf("%v; want a sentence", err)
		}
	})
}
