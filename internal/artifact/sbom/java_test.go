package sbom

import (
	"archive/zip"
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/artifact/layout"
	. "weir/internal/artifact/layout/layouttest"
)

func zipped(t testing.TB, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		w, err := z.Create(f[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pomOf(group, name, version string) [2]string {
	return [2]string{"META-INF/maven/" + group + "/" + name + "/pom.properties", "#made by Maven\ngroupId=" + group + "\nartifactId=" + name + "\nversion=" + version + "\n"}
}

func TestArchivesOfJavaAndGemsSayWhatTheyAre(t *testing.T) {
	log4j := zipped(t, pomOf("org.apache.logging.log4j", "log4j-core", "2.14.1"))
	app := zipped(t, pomOf("com.acme", "shop", "1.0.0"), [2]string{"BOOT-INF/lib/log4j-core-2.14.1.jar", string(log4j)}, [2]string{"BOOT-INF/lib/broken.jar", "PK no archive"}, pomOf("bad group", "x", "1"))
	b := New()
	raw := b.Archive(b.Image("amd64", []string{"/x"}, Tar(
		File{Name: "app/shop.jar", Body: string(app)},
		File{Name: "app/none.jar", Body: "not an archive"},
		File{Name: "usr/lib/ruby/gems/3.3.0/specifications/rack-3.1.0.gemspec", Body: "# -*- encoding: utf-8 -*-\n# stub: rack 3.1.0 ruby lib\n\nGem::Specification.new do |s|\n  s.licenses = [\"MIT\".freeze]\nend\n"},
		File{Name: "usr/lib/ruby/gems/3.3.0/specifications/odd.gemspec", Body: "# stub: ../odd 1\n"},
	)))
	l, err := layout.Open("shop", bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := FromLayout(Subject{Name: "shop", Version: "1.0.0", Digest: l.Top.Digest, Created: time.Unix(0, 0)}, l, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := doc.CycloneDX()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"`, `"pkg:maven/com.acme/shop@1.0.0"`, `"pkg:gem/rack@3.1.0"`, `"MIT"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the SBOM does not list %s: %s", want, out)
		}
	}
	for _, not := range []string{"odd", "bad group", "broken"} {
		if strings.Contains(string(out), not) {
			t.Errorf("the SBOM lists %s", not)
		}
	}
}

func TestAnArchiveOfArchivesIsReadOnlySoDeepAndSoFar(t *testing.T) {
	inner := zipped(t, pomOf("g", "deepest", "1"))
	for range 4 {
		inner = zipped(t, [2]string{"x.jar", string(inner)})
	}
	w := &within{jars: 10, bytes: 1 << 20}
	if all := w.archive(bytes.NewReader(inner), int64(len(inner)), 0); len(all) != 0 {
		t.Errorf("an archive four deep is read: %+v", all)
	}
	many := zipped(t, [2]string{"a.jar", string(zipped(t, pomOf("g", "a", "1")))}, [2]string{"b.jar", string(zipped(t, pomOf("g", "b", "1")))})
	w = &within{jars: 1, bytes: 1 << 20}
	if all := w.archive(bytes.NewReader(many), int64(len(many)), 0); len(all) != 1 {
		t.Errorf("of two archives where one may be read: %+v", all)
	}
	w = &within{jars: 10, bytes: 100}
	large := zipped(t, [2]string{"META-INF/maven/g/a/pom.properties", strings.Repeat("x", 1000)}, [2]string{"a.jar", strings.Repeat("\x00", 1<<20)})
	if all := w.archive(bytes.NewReader(large), int64(len(large)), 0); len(all) != 0 || w.bytes < -1 {
		t.Errorf("more is read than may be: %+v, %d left", all, w.bytes)
	}
}

func TestAnArchiveThatIsAllListIsNotRead(t *testing.T) {
	raw := zipped(t, pomOf("g", "a", "1"))
	if !listed(bytes.NewReader(raw), int64(len(raw))) {
		t.Error("an ordinary archive is not read")
	}
	at := bytes.LastIndex(raw, []byte("PK\x05\x06"))
	hostile := append(append(slices.Clone(raw[:at]), make([]byte, maxList)...), raw[at:]...)
	for name, b := range map[string][]byte{"a long list": hostile, "nothing": nil, "no end": raw[:at], "a cut end": raw[:at+10]} {
		if listed(bytes.NewReader(b), int64(len(b))) {
			t.Errorf("%s is read", name)
		}
	}
}

func FuzzJava(f *testing.F) {
	f.Add(zipped(f, pomOf("g", "a", "1")))
	f.Add(zipped(f, [2]string{"x.jar", string(zipped(f, pomOf("g", "a", "1")))}))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := &within{jars: 10, bytes: 1 << 20}
		for _, p := range w.archive(bytes.NewReader(b), int64(len(b)), 0) {
			if strings.ContainsAny(packageURL(p, ""), " \n?#") {
				t.Errorf("%+v", p)
			}
		}
		gemspec("x", b)
	})
}
