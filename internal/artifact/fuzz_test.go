package artifact

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
)

// Every list of components compares with itself as the same.
func FuzzComponents(f *testing.F) {
	for _, s := range []string{`{}`, `{"components":[{"type":"library","name":"a","version":"1","purl":"pkg:npm/a@1","hashes":[{"alg":"SHA-256","content":"00"}],"licenses":[{"license":{"id":"MIT"}},{"expression":"A OR B"}],"properties":[{"name":"go:sum","value":"h1:x"}]}]}`,
		`{"components":[{"name":"a"},{"name":"a"},{"name":"a","version":"2"}]}`, `{"components":null}`, `[]`, `{"components":[{"licenses":[{}]}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, predicate []byte) {
		if !json.Valid(predicate) {
			return
		}
		statement, err := json.Marshal(map[string]any{"predicate": json.RawMessage(predicate)})
		if err != nil {
			t.Fatal(err)
		}
		list, err := components(evidence.Evidence{ID: "ev_1", Statement: statement})
		if err != nil {
			return
		}
		if c := Compare(list, list); len(c) != 0 {
			t.Errorf("a list differs from itself by %+v", c)
		}
	})
}

// What may name something in the registry is safe as a path and in a URL.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"shop/app", "a", "-", "a..b", "a/../b", "A", "sha256:" + strings.Repeat("a", 64), "sha512:" + strings.Repeat("0", 128), "1.4.0-ab12cd3", "latest", "x\n", strings.Repeat("a/", 200)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if ValidRepository(s) && (strings.Contains(s, "..") || strings.HasPrefix(s, "/") || strings.ContainsAny(s, "\\\x00%?#\n ") || strings.ToLower(s) != s) {
			t.Errorf("%q may name a repository", s)
		}
		if (ValidTag(s) || ValidDigest(s)) && strings.ContainsAny(s, "/\\\x00%?#\n ") {
			t.Errorf("%q may name a manifest", s)
		}
		if ValidTag(s) && ValidDigest(s) {
			t.Errorf("%q is a tag and a digest", s)
		}
		if IsReleaseTag(s) && !ValidTag(s) {
			t.Errorf("%q is a release tag and no tag", s)
		}
		if name, err := RegistryName(s, s); err == nil && !ValidRepository(name) {
			t.Errorf("RegistryName(%q) = %q", s, name)
		} else if err != nil && fault.KindOf(err) == "" {
			t.Errorf("RegistryName(%q) = %v; want a sentence", s, err)
		}
	})
}

// A job never gets at what is not its own, whatever patterns an admin writes and whatever it asks for.
func FuzzAccess(f *testing.F) {
	f.Add("base/**", "base/x")
	f.Add("**", "shop/app")
	f.Add("{a,b}/[c", "a/c")
	f.Add("shop/*", "shop/app/x")
	f.Fuzz(func(t *testing.T, pattern, repository string) {
		rules := AccessRules{Readable: []string{pattern}, Rules: []AccessRule{{Repositories: []string{pattern}, Push: []string{"role:maintainer"}}}}
		if rules.Check() != nil {
			return
		}
		who := Asker{Job: &JobScope{Own: []string{"own"}, Landed: true}}
		if err := rules.job(who, Push, repository); err == nil && repository != "own" {
			t.Errorf("with %q a job pushes to %q", pattern, repository)
		}
		if err := rules.job(Asker{Job: &JobScope{}}, Push, repository); err == nil {
			t.Errorf("with %q a job of a change pushes to %q", pattern, repository)
		}
		if err := rules.job(who, Pull, repository); err == nil && repository != "own" && !matches(slices.Clone(rules.Readable), repository) {
			t.Errorf("with %q a job pulls %q", pattern, repository)
		}
	})
}
