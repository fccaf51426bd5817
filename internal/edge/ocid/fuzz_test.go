package ocid

import (
	"strings"
	"testing"

	"weir/internal/artifact"
)

func FuzzPath(f *testing.F) {
	for _, s := range []string{"/v2/", "/v2/a/b/manifests/latest", "/v2/a/blobs/uploads/x", "/v2/a/blobs/uploads/blobs/uploads/", "/v2/../manifests/x", "/v2/manifests/manifests/manifests", "/v2/a/tags/list"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		repository, kind, rest := parse(path)
		if kind == "" {
			return
		}
		if !strings.HasPrefix(path, "/v2/"+repository+"/") || !strings.HasSuffix(path, rest) {
			t.Errorf("parse(%q) = %q, %q, %q, which is not what it says", path, repository, kind, rest)
		}
		if artifact.ValidRepository(repository) && (strings.Contains(repository, "..") || strings.ContainsAny(repository, "\\\x00%") || strings.HasPrefix(repository, "/")) {
			t.Errorf("%q may name a repository", repository)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"", "0-4", "bytes=0-4", "bytes 0-4/5", "5-4", "9223372036854775807-1", "-1-5", "a-b", "0-", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		offset, length, ok := piece(s)
		if ok && s != "" && (offset < 0 || length < 0 || offset+length < offset) {
			t.Errorf("piece(%q) = %d, %d", s, offset, length)
		}
	})
}
