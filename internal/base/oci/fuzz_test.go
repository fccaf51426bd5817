package oci_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"weir/internal/base/fault"
	"weir/internal/base/oci"
)

// Whatever is taken for a name is said back as the same name.
func FuzzReference(f *testing.F) {
	for _, s := range []string{"postgres", "ghcr.io/team/app:1", "localhost:5000/app@sha256:" + strings.Repeat("a", 64), "app:1@sha256:0", "[::1]:5000/x", "../x", "a//b", "x\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		r, err := oci.Parse(name)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("Parse(%q) = %v; want a sentence", name, err)
			}
			return
		}
		if again, err := oci.Parse(r.String()); err != nil || again != r {
			t.Errorf("Parse(%q) is %+v, which is written %q and read %+v, %v", name, r, r.String(), again, err)
		}
		if strings.Contains(r.Repository, "..") || strings.HasPrefix(r.Repository, "/") {
			t.Errorf("Parse(%q) names the repository %q", name, r.Repository)
		}
	})
}

// hostile answers every question with the same bytes.
type hostile []byte

func (h hostile) Manifest(context.Context, string, string) (oci.Manifest, error) {
	return oci.Manifest{Raw: h}, nil
}
func (h hostile) Blob(context.Context, string, string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(string(h))), nil
}

func FuzzIndex(f *testing.F) {
	for _, s := range []string{`{}`, `{"manifests":[{"digest":"sha256:x","platform":{"os":"linux","architecture":"amd64"}}]}`, `{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:` + strings.Repeat("0", 64) + `"}]}`,
		`{"config":{"digest":"x"},"layers":[{"digest":"x"}]}`, `[`, `{"layers":null,"config":null}`} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	s, err := oci.Open(oci.StoreConfig{Dir: dir})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, release, err := s.Pull(t.Context(), hostile(raw), oci.Reference{Repository: "x", Tag: "1"})
		if err == nil {
			release()
		} else if fault.KindOf(err) == "" {
			t.Errorf("Pull() = %v; want a sentence", err)
		}
	})
}
