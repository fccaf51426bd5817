package engine_test

import (
	"archive/tar"
	"strings"
	"testing"

	"weir/internal/artifact"
	"weir/internal/artifact/custody"
	. "weir/internal/artifact/layout/layouttest"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/guard/evidence"
)

// node is the file tree of a small Node service on Debian, in two layers: the
// second one takes a package away and replaces one.
var node = [][]byte{
	Tar(
		File{Name: "etc/os-release", Body: "ID=debian\nVERSION_ID=\"12\"\n"},
		File{Name: "var/lib/dpkg/status", Body: "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nVersion: 3.0.15-1~deb12u1\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n"},
		File{Name: "usr/share/doc/libssl3/copyright", Body: "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: Apache-2.0\n"},
		File{Name: "app/node_modules/left-pad/package.json", Body: `{"name":"left-pad","version":"1.3.0","license":"WTFPL"}`},
		File{Name: "app/node_modules/old/package.json", Body: `{"name":"old","version":"0.0.1"}`},
	),
	Tar(
		File{Name: "app/node_modules/.wh.old", Body: ""},
		File{Name: "app/node_modules/@acme/", Type: tar.TypeDir, Mode: 0o755},
		File{Name: "app/node_modules/@acme/log/package.json", Body: `{"name":"@acme/log","version":"2.0.0","license":"SEE LICENSE IN README"}`},
		File{Name: "app/node_modules/.package-lock.json", Body: `{"packages":{"node_modules/left-pad":{"integrity":"sha512-AAAA"}}}`},
	),
}

func TestAnImageLayoutBecomesAProvenImageAsItIs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.spec.Go, w.spec.Layout = "", "out"
		b := New()
		top := b.Index(map[string]artifact.Descriptor{"amd64": b.Image("amd64", []string{"/usr/bin/node", "/app"}, node...), "arm64": b.Image("arm64", []string{"/usr/bin/node", "/app"}, node...)})
		w.put(t, b.Archive(top))
		if _, err := w.engine.Work(t.Context(), nil, later()); err != nil {
			t.Fatal(err)
		}
		list, err := w.service.List(t.Context(), artifact.Filter{})
		if err != nil || len(list) != 1 || list[0].Digest != top.Digest {
			t.Fatalf("List() = %v, %v (%+v); want %s", list, err, w.intake(t), top.Digest)
		}
		m, err := w.images.Manifest(t.Context(), list[0].Repository, list[0].Tag)
		if err != nil || m.MediaType != artifact.MediaIndex || string(m.Raw) != string(b.Blobs[top.Digest]) {
			t.Errorf("Manifest(%s) = %+v, %v; want the index as it was handed in", list[0].Tag, m, err)
		}
		_, components, err := w.service.Components(t.Context(), list[0].ID)
		var got []string
		for _, c := range components {
			got = append(got, c.PURL+" "+c.Hash)
		}
		want := "pkg:npm/%40acme/log@2.0.0 |pkg:npm/left-pad@1.3.0 000000|pkg:deb/debian/libssl3@3.0.15-1~deb12u1?arch=amd64&distro=debian-12 "
		if strings.Join(got, "|") != want {
			t.Errorf("Components() = %q, %v; want %q", got, err, want)
		}
		if _, err := custody.VerifyChain(t.Context(), w.serve(t, nil)+"/"+list[0].Image(), w.evidence.TrustedRoot(), custody.Options{}); err != nil {
			t.Error(err)
		}
		if found, err := w.evidence.Find(t.Context(), evidence.Query{Subject: top.Digest, PredicateType: evidence.Provenance}); err != nil || len(found) != 1 {
			t.Errorf("provenance of the index: %v, %v", found, err)
		}
	})
}

func TestALayoutThatCannotRunEndsWithASentence(t *testing.T) {
	for want, image := range map[string]func(b *Builder) []byte{
		"names no program to run": func(b *Builder) []byte { return b.Archive(b.Image("amd64", nil, Tar(File{Name: "a"}))) },
		"leads out of the image": func(b *Builder) []byte {
			return b.Archive(b.Image("amd64", []string{"/a"}, Tar(File{Name: "../a"})))
		},
	} {
		w := newWorld(t, dbtest.SQLite(t))
		w.spec.Go, w.spec.Layout = "", "out"
		w.put(t, image(New()))
		if _, err := w.engine.Work(t.Context(), nil, later()); err != nil {
			t.Fatal(err)
		}
		if i := w.intake(t); i.State != artifact.Refused || !strings.Contains(i.Failure, want) {
			t.Errorf("intake is %s: %s; want refused, %s", i.State, i.Failure, want)
		}
	}
}
