package sbom

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/dirhash"

	"weir/internal/artifact/layout"
	. "weir/internal/artifact/layout/layouttest"
)

const mit = `Copyright (c) 2020 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
`

func TestLicenceOfAModuleIsReadOnlyFromTheArchiveThatWasBuilt(t *testing.T) {
	cache := t.TempDir()
	dir := filepath.Join(cache, "cache", "download", "example.test", "!x", "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(licence string) string {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for name, text := range map[string]string{"LICENSE": licence, "x.go": "package x", "sub/LICENSE": "other"} {
			w, _ := z.Create("example.test/X@v1.0.0/" + name)
			w.Write([]byte(text))
		}
		z.Close()
		file := filepath.Join(dir, "v1.0.0.zip")
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		sum, err := dirhash.HashZip(file, dirhash.Hash1)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	m := &Modules{Caches: []string{t.TempDir(), cache}}
	sum := write("All rights reserved.")
	built := write(mit)
	if got := m.Licence("example.test/X", "v1.0.0", sum); got != "" {
		t.Errorf("Licence() of an archive with another sum = %q; a job could have put it there", got)
	}
	if got := m.Licence("example.test/X", "v1.0.0", built); got != "MIT" {
		t.Errorf("Licence() = %q; want MIT", got)
	}
	if got := m.Licence("../../x", "v1", built+"x"); got != "" {
		t.Errorf("Licence() of a path that leads out = %q", got)
	}
}

func TestPackagesOfADistributionNameTheirSource(t *testing.T) {
	for want, f := range map[string]finding{
		"pkg:deb/debian/libssl3@3.0.15-1~deb12u1?arch=amd64&distro=debian-12&upstream=openssl":          dpkg("", []byte("Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nSource: openssl\nVersion: 3.0.15-1~deb12u1\n")),
		"pkg:deb/debian/libgcc-s1@12.2.0-14+b1?arch=amd64&distro=debian-12&upstream=gcc-12%4012.2.0-14": dpkg("", []byte("Package: libgcc-s1\nStatus: install ok installed\nArchitecture: amd64\nSource: gcc-12 (12.2.0-14)\nVersion: 12.2.0-14+b1\n")),
		"pkg:deb/debian/curl@7.88.1-10?distro=debian-12":                                                dpkg("", []byte("Package: curl\nStatus: install ok installed\nSource: curl\nVersion: 7.88.1-10\n")),
		"pkg:deb/debian/a@1?distro=debian-12":                                                           dpkg("", []byte("Package: a\nSource: b&distro=x\nVersion: 1\n")),
		"pkg:apk/debian/libcrypto3@3.3.2-r0?arch=x86_64&distro=debian-12&upstream=openssl":              apk("", []byte("P:libcrypto3\nV:3.3.2-r0\nA:x86_64\no:openssl\n")),
		"pkg:apk/debian/musl@1.2.5-r0?arch=x86_64&distro=debian-12":                                     apk("", []byte("P:musl\nV:1.2.5-r0\nA:x86_64\no:musl\n")),
	} {
		if len(f.packages) != 1 || packageURL(f.packages[0], "debian-12") != want {
			t.Errorf("%+v; want %s", f, want)
		}
	}
}

func TestBothFormatsSayTheSame(t *testing.T) {
	b := New()
	raw := b.Archive(b.Image("amd64", []string{"/x"}, Tar(
		File{Name: "lib/apk/db/installed", Body: "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\n\n"},
		File{Name: "etc/os-release", Body: "ID=alpine\nVERSION_ID=3.20.1\n"},
		File{Name: "usr/lib/python3/site-packages/flask-3.1.0.dist-info/METADATA", Body: "Metadata-Version: 2.4\nName: Flask\nVersion: 3.1.0\nLicense-Expression: BSD-3-Clause\n\ntext"},
		File{Name: "app/requirements.txt", Body: "requests==2.32.0 \\\n  --hash=sha256:" + strings.Repeat("ab", 32) + "\nrange>=1\n"},
		File{Name: "app/node_modules/a/package.json", Body: `{"name":"a","version":"1.0.0","license":"SEE LICENSE IN README"}`},
		File{Name: "app/node_modules/a/lib/package.json", Body: `{"type":"module"}`},
		File{Name: "app/node_modules/bad/package.json", Body: `{"name":"bad\nname","version":"1"}`},
	)))
	l, err := layout.Open("shop", bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := FromLayout(Subject{Name: "shop", Version: "1.0.0", Digest: l.Top.Digest, Created: time.Unix(0, 0), Bases: []Base{{"oci://weir/base:1", "sha256:" + strings.Repeat("cd", 32)}}}, l, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	one, err := doc.CycloneDX()
	if err != nil {
		t.Fatal(err)
	}
	two, err := doc.SPDX()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1", "pkg:pypi/flask@3.1.0", "pkg:pypi/requests@2.32.0", "pkg:npm/a@1.0.0", "oci://weir/base:1", strings.Repeat("ab", 32), "BSD-3-Clause", "SEE LICENSE IN README"} {
		if !strings.Contains(string(one), want) || !strings.Contains(string(two), want) {
			t.Errorf("%q is in CycloneDX: %v, in SPDX: %v", want, strings.Contains(string(one), want), strings.Contains(string(two), want))
		}
	}
	var s struct {
		SPDXVersion   string
		Packages      []struct{ SPDXID, LicenseDeclared string }
		Relationships []struct{ RelationshipType string }
	}
	if err := json.Unmarshal(two, &s); err != nil || s.SPDXVersion != "SPDX-2.3" || len(s.Packages) != 6 || len(s.Relationships) != 6 {
		t.Errorf("SPDX has %d packages and %d relationships, %v:\n%s", len(s.Packages), len(s.Relationships), err, two)
	}
	again, _ := FromLayout(Subject{Name: "shop", Version: "1.0.0", Digest: l.Top.Digest, Created: time.Unix(0, 0), Bases: []Base{{"oci://weir/base:1", "sha256:" + strings.Repeat("cd", 32)}}}, l, t.TempDir(), nil)
	if b, _ := again.SPDX(); !bytes.Equal(b, two) {
		t.Error("the same image gives two documents")
	}
}

func FuzzPackages(f *testing.F) {
	for i := range readers {
		f.Add(i, "x/node_modules/a/package.json", []byte(`{"name":"a","version":"1"}`))
	}
	f.Fuzz(func(t *testing.T, i int, path string, b []byte) {
		r := readers[(i%len(readers)+len(readers))%len(readers)]
		tr := tree{found: map[string]finding{path: r.read(path, b)}, inside: map[string]int{}}
		doc := &Document{document(Subject{Name: "x", Digest: "sha256:ab"}, "app:x", tr.components())}
		if _, err := doc.CycloneDX(); err != nil {
			t.Error(err)
		}
		if raw, err := doc.SPDX(); err != nil || !json.Valid(raw) {
			t.Error(err)
		}
	})
}

func TestTheListSaysWhichDevicesOfAnImageAreNotMade(t *testing.T) {
	b := New()
	l, err := layout.Open("shop", bytes.NewReader(b.Archive(b.Image("amd64", []string{"/a"}, Tar(File{Name: "dev/null", Type: tar.TypeChar}, File{Name: "a", Body: "x"})))))
	if err != nil {
		t.Fatal(err)
	}
	d, err := FromLayout(Subject{Name: "shop", Digest: "sha256:1"}, l, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := d.CycloneDX(); err != nil || !strings.Contains(string(raw), `"weir:not-made"`) || !strings.Contains(string(raw), `"/dev/null"`) {
		t.Errorf("the list says nothing of /dev/null: %s, %v", raw, err)
	}
}
