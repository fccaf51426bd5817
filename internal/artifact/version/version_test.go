package version_test

import (
	"testing"

	"weir/internal/artifact"
	"weir/internal/artifact/version"
)

func tag(name string, distance int) artifact.GitTag {
	return artifact.GitTag{Name: name, Revision: name, Distance: distance}
}

func TestBaseIsTheHighestReleaseThatReaches(t *testing.T) {
	for _, c := range []struct {
		name   string
		tags   []artifact.GitTag
		prefix string
		want   string
	}{
		{"none", nil, "v", ""},
		{"highest, not nearest", []artifact.GitTag{tag("v1.2.0", 9), tag("v1.1.9", 1)}, "v", "1.2.0"},
		{"ten is more than nine", []artifact.GitTag{tag("v1.9.0", 2), tag("v1.10.0", 5)}, "v", "1.10.0"},
		{"own tag wins", []artifact.GitTag{tag("v2.0.0", 1), tag("v1.5.0", 0)}, "v", "1.5.0"},
		{"pre-releases and words do not count", []artifact.GitTag{tag("v2.0.0-rc.1", 1), tag("vacation", 1), tag("nightly", 0), tag("v1.0.0", 3)}, "v", "1.0.0"},
		{"only the service's own", []artifact.GitTag{tag("cart/v3.0.0", 1), tag("checkout/v1.0.0", 2), tag("v9.0.0", 1)}, "checkout/v", "1.0.0"},
		{"services' tags do not count for a single one", []artifact.GitTag{tag("cart/v3.0.0", 1)}, "v", ""},
		{"short tags", []artifact.GitTag{tag("v1", 1)}, "v", "1.0.0"},
	} {
		if got, _ := version.Base(c.tags, c.prefix); got != c.want {
			t.Errorf("%s: Base() = %q; want %q", c.name, got, c.want)
		}
	}
}

func TestCommitsDecideHowMuchAVersionGrows(t *testing.T) {
	for _, c := range []struct {
		base     string
		messages []artifact.Commit
		want     string
	}{
		{"", nil, "0.1.0"},
		{"", []artifact.Commit{{Subject: "feat!: all new"}}, "0.1.0"},
		{"1.0.0", nil, "1.0.1"},
		{"1.0.0", []artifact.Commit{{Subject: "typo"}}, "1.0.1"},
		{"1.0.3", []artifact.Commit{{Subject: "fix: a"}, {Subject: "feat(cart): b"}}, "1.1.0"},
		{"1.1.3", []artifact.Commit{{Subject: "refactor(api)!: drop v1"}, {Subject: "feat: b"}}, "2.0.0"},
		{"1.1.3", []artifact.Commit{{Subject: "fix: a", Body: "why\n\nBREAKING CHANGE: the flag is gone"}}, "2.0.0"},
		{"1.1.3", []artifact.Commit{{Subject: "fix: a", Body: "no BREAKING CHANGE: here"}}, "1.1.4"},
		{"1.1.3", []artifact.Commit{{Subject: "feature: not a type of its own"}}, "1.1.4"},
		{"1.1.3", []artifact.Commit{{Subject: "Feat: upper case"}}, "1.2.0"},
	} {
		if got := version.Next(c.base, c.messages); got != c.want {
			t.Errorf("Next(%q, %v) = %q; want %q", c.base, c.messages, got, c.want)
		}
	}
}
