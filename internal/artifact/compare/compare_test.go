package compare_test

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"

	"weir/internal/artifact"
	"weir/internal/artifact/compare"
	. "weir/internal/artifact/layout/layouttest"
)

func image(config string, layers ...[]byte) compare.Image {
	img := compare.Image{Config: []byte(config)}
	for _, l := range layers {
		packed := Gzip(l)
		img.Layers = append(img.Layers, compare.Layer{MediaType: artifact.MediaLayer, Digest: artifact.Describe("", packed).Digest,
			Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed)), nil }})
	}
	return img
}

func TestEachDifferenceHasItsPlaceAndItsTwoSides(t *testing.T) {
	was := image(`{"created":"a","config":{"Env":["A=1","B=2"]},"rootfs":{"diff_ids":["x"]}}`,
		Tar(File{Name: "same"}),
		Tar(File{Name: "app", Body: "one", Mode: 0o755}, File{Name: "gone"}, File{Name: "l", Type: tar.TypeSymlink, Link: "a"}))
	is := image(`{"created":"b","config":{"Env":["A=1"]},"rootfs":{"diff_ids":["y"]}}`,
		Tar(File{Name: "same"}),
		Tar(File{Name: "app", Body: "two", Mode: 0o644}, File{Name: "l", Type: tar.TypeSymlink, Link: "b"}, File{Name: "new"}),
		Tar(File{Name: "more"}))
	all, err := compare.Images(was, is)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range all {
		got = append(got, d.String())
	}
	for _, want := range []string{
		`configuration, config.Env[1]: value was "B=2", is not there`, `configuration, created: value was "a", is "b"`,
		"layer 2, app: bytes was 3 bytes sha256:7692c3", "layer 2, app: mode was 0755, is 0644", "layer 2, gone: presence was file, is not there",
		"layer 2, l: link was a, is b", "layer 2, new: presence was not there, is file", "layer 3: presence was not there, is sha256:",
	} {
		if !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("no difference says %q", want)
		}
	}
	if len(got) != 8 {
		t.Errorf("%d differences:\n%s", len(got), strings.Join(got, "\n"))
	}
}

func TestLayersWithTheSameFilesSayWhyTheyDiffer(t *testing.T) {
	a := Tar(File{Name: "a"}, File{Name: "b"})
	was := image("{}", a)
	plain := was
	plain.Layers = []compare.Layer{{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: "other", Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(a)), nil }}}
	for what, is := range map[string]compare.Image{"compression": plain, "order": image("{}", Tar(File{Name: "b"}, File{Name: "a"})), "": was} {
		all, err := compare.Images(was, is)
		switch {
		case err != nil || what == "" && len(all) != 0:
			t.Errorf("Images() = %v, %v", all, err)
		case what != "" && (len(all) != 1 || all[0].What != what):
			t.Errorf("Images() = %v; want %s", all, what)
		}
	}
	if _, err := compare.Images(was, image("{}", []byte("no tar"))); err == nil {
		t.Error("a layer that cannot be read compares as if it could")
	}
}
