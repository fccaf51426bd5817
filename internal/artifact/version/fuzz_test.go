package version_test

import (
	"testing"

	"weir/internal/artifact"
	"weir/internal/artifact/version"
)

// Whatever people write into tags and commits, the next version is a version and not an older one.
func FuzzNext(f *testing.F) {
	f.Add("v1.2.3", "feat!: x", "BREAKING CHANGE: y")
	f.Add("shop-v1.2.3", "fix: x", "")
	f.Add("v18446744073709551615.0.0", "feat: x", "")
	f.Add("", "", "")
	f.Fuzz(func(t *testing.T, tag, subject, body string) {
		base, _ := version.Base([]artifact.GitTag{{Name: tag, Revision: "a"}}, version.Prefix("shop", false))
		next := version.Next(base, []artifact.Commit{{Subject: subject, Body: body}})
		if again := version.Bump(next, version.Patch); next == "" || again == next {
			t.Errorf("from %q by %q to %q, and then to %q", tag, subject, next, again)
		}
	})
}
