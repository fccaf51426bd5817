package vuln

import "testing"

func FuzzPackage(f *testing.F) {
	for _, s := range []string{"pkg:golang/golang.org/x/net@v0.1.0", "pkg:npm/%40a/b@1", "pkg:deb/debian/libc6@2.36?arch=amd64&distro=debian-12&upstream=glibc@2.36-9", "pkg:apk/alpine/busybox@1.36?distro=alpine-3.19", "pkg:", "pkg:npm/", "pkg:maven/a/b@1#x", "pkg:npm/%zz@1", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, purl string) {
		ecosystem, name, _, ok := Package(purl)
		if ok && (ecosystem == "" || name == "") {
			t.Errorf("Package(%q) = %q, %q and is known", purl, ecosystem, name)
		}
	})
}
