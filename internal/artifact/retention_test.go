package artifact_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/artifact"
)

var day = 24 * time.Hour

func hexDigest(n int) string { return fmt.Sprintf("sha256:%064x", n) }

func TestKeepSaysWhyEachStaysOrGoes(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	rule := artifact.KeepRule{Releases: 2, Age: 100 * day, Untagged: 7 * day}
	ago := func(n int) time.Time { return now.Add(-time.Duration(n) * day) }
	release := func(n, age int) artifact.Stored {
		v := fmt.Sprintf("1.%d.0", n)
		return artifact.Stored{Digest: hexDigest(n), Pushed: ago(age), Release: v, Released: ago(age), Tags: []artifact.StoredTag{{Name: v + "-abcdef0", Since: ago(age)}}}
	}
	d := hexDigest
	for what, c := range map[string]struct {
		all  []artifact.Stored
		pins []artifact.Pin
		rule *artifact.KeepRule
		want map[string]string // digest: a part of why it is kept, or "-" and a part of why it goes
	}{
		"the newest releases": {
			all:  []artifact.Stored{release(1, 400), release(2, 300), release(3, 200)},
			want: map[string]string{d(3): "number 1 of the 2 newest releases", d(2): "number 2 of the 2", d(1): "-not among the 2 newest releases, was released more than 100 days ago, and runs nowhere"},
		},
		"the young ones, however many": {
			all:  []artifact.Stored{release(1, 99), release(2, 50), release(3, 10), release(4, 1)},
			want: map[string]string{d(1): "less than 100 days ago", d(2): "less than 100 days", d(3): "number 2", d(4): "number 1"},
		},
		"what runs somewhere": {
			all:  []artifact.Stored{release(1, 400), release(2, 300), release(3, 200)},
			pins: []artifact.Pin{{Digest: d(1), Why: "it runs in production of app"}},
			want: map[string]string{d(1): "it runs in production of app"},
		},
		"referrers go and stay with their subject": {
			all: []artifact.Stored{release(1, 400), release(2, 300), release(3, 200), {Digest: d(11), Subject: d(1), Pushed: ago(1)}, {Digest: d(12), Subject: d(11), Pushed: ago(1)},
				{Digest: d(21), Subject: d(2), Pushed: ago(300)}, {Digest: d(22), Subject: d(21), Pushed: ago(300)}},
			want: map[string]string{d(11): "-what it refers to goes", d(12): "-what it refers to goes", d(21): "refers to sha256:000000000000, which is kept", d(22): "which is kept"},
		},
		"a held referrer stays without its subject": {
			all:  []artifact.Stored{release(1, 400), release(2, 300), release(3, 200), {Digest: d(11), Subject: d(1), Pushed: ago(400)}},
			pins: []artifact.Pin{{Digest: d(11), Why: "ann holds it"}},
			want: map[string]string{d(11): "ann holds it", d(1): "-not among"},
		},
		"what an index names": {
			all: []artifact.Stored{{Digest: d(1), Names: []string{d(2), d(3)}, Tags: []artifact.StoredTag{{Name: "latest", Since: ago(900)}}, Pushed: ago(900)},
				{Digest: d(2), Pushed: ago(900)}, {Digest: d(3), Pushed: ago(900), Names: []string{d(4)}}, {Digest: d(4), Pushed: ago(900)},
				{Digest: d(5), Names: []string{d(6)}, Pushed: ago(900)}, {Digest: d(6), Pushed: ago(1)}},
			want: map[string]string{d(1): "it has the tag latest", d(2): "the index sha256:000000000000 names it", d(4): "names it", d(5): "-it has no tag and was pushed more than 7 days ago", d(6): "-that names it goes"},
		},
		"an index and a referrer that name each other": {
			all:  []artifact.Stored{{Digest: d(1), Names: []string{d(2)}, Pushed: ago(900)}, {Digest: d(2), Names: []string{d(1)}, Subject: d(1), Pushed: ago(900)}},
			want: map[string]string{d(1): "-", d(2): "-"},
		},
		"the same, held": {
			all:  []artifact.Stored{{Digest: d(1), Names: []string{d(2)}, Pushed: ago(900)}, {Digest: d(2), Names: []string{d(1)}, Subject: d(1), Pushed: ago(900)}},
			pins: []artifact.Pin{{Digest: d(2), Why: "held"}},
			want: map[string]string{d(1): "names it", d(2): "held"},
		},
		"tags that say what they are about": {
			all: []artifact.Stored{release(1, 400), release(2, 300), release(3, 200), {Digest: d(31), Pushed: ago(300), Tags: []artifact.StoredTag{{Name: strings.Replace(d(3), ":", "-", 1) + ".sig", Since: ago(300)}}},
				{Digest: d(32), Pushed: ago(1), Tags: []artifact.StoredTag{{Name: strings.Replace(d(1), ":", "-", 1), Since: ago(1)}}}},
			want: map[string]string{d(31): "its tag says that it is about", d(32): "-what it refers to goes"},
		},
		"no tag, young and old": {
			all:  []artifact.Stored{{Digest: d(1), Pushed: ago(6)}, {Digest: d(2), Pushed: ago(8)}, {Digest: d(3), Subject: d(99), Pushed: ago(8)}},
			want: map[string]string{d(1): "pushed less than 7 days ago", d(2): "-it has no tag", d(3): "-it has no tag"},
		},
		"tags that grow old": {
			rule: &artifact.KeepRule{Tagged: 30 * day, Untagged: day},
			all:  []artifact.Stored{{Digest: d(1), Pushed: ago(90), Tags: []artifact.StoredTag{{Name: "a", Since: ago(29)}}}, {Digest: d(2), Pushed: ago(90), Tags: []artifact.StoredTag{{Name: "b", Since: ago(31)}}}},
			want: map[string]string{d(1): "its tag a is younger than 30 days", d(2): "-none of its tags is younger than 30 days"},
		},
	} {
		r := rule
		if c.rule != nil {
			r = *c.rule
		}
		got := map[string]artifact.Verdict{}
		for _, v := range artifact.Keep(c.all, c.pins, r, now) {
			got[v.Digest] = v
			if len(v.Why) == 0 {
				t.Errorf("%s: nothing is said of %s", what, v.Digest)
			}
		}
		for digest, want := range c.want {
			v := got[digest]
			part, goes := strings.CutPrefix(want, "-")
			if v.Keep == goes || !strings.Contains(strings.Join(v.Why, "; "), part) {
				t.Errorf("%s: %s: keep %v, %q; want keep %v, %q", what, digest[60:], v.Keep, v.Why, !goes, part)
			}
		}
	}
}

// Whatever the graph: what a kept manifest names is kept, what refers to a kept one is kept, and what is pinned is kept.
func TestKeepLeavesNothingDangling(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		n := 1 + rnd.IntN(30)
		all := make([]artifact.Stored, n)
		var pins []artifact.Pin
		for i := range all {
			m := artifact.Stored{Digest: hexDigest(i), Pushed: now.Add(-time.Duration(rnd.IntN(20)) * day)}
			for range rnd.IntN(3) {
				m.Names = append(m.Names, hexDigest(rnd.IntN(n+2)))
			}
			if rnd.IntN(3) == 0 {
				m.Subject = hexDigest(rnd.IntN(n + 2))
			}
			switch rnd.IntN(6) {
			case 0:
				m.Release, m.Released = "1.0.0", m.Pushed
			case 1:
				m.Tags = []artifact.StoredTag{{Name: "t", Since: m.Pushed}}
			case 2:
				pins = append(pins, artifact.Pin{Digest: m.Digest, Why: "pinned"})
			}
			all[i] = m
		}
		kept := map[string]bool{}
		for _, v := range artifact.Keep(all, pins, artifact.KeepRule{Releases: 2, Age: 5 * day, Tagged: 9 * day, Untagged: 3 * day}, now) {
			kept[v.Digest] = v.Keep
		}
		for _, m := range all {
			pinned := slices.ContainsFunc(pins, func(p artifact.Pin) bool { return p.Digest == m.Digest })
			if pinned && !kept[m.Digest] {
				t.Fatalf("seed %d: pinned %s goes", seed, m.Digest)
			}
			if _, ok := kept[m.Subject]; ok && kept[m.Subject] && !kept[m.Digest] {
				t.Fatalf("seed %d: %s goes while its subject stays", seed, m.Digest)
			}
			for _, d := range m.Names {
				if _, ok := kept[d]; ok && kept[m.Digest] && !kept[d] {
					t.Fatalf("seed %d: %s is kept, and %s that it names goes", seed, m.Digest, d)
				}
			}
		}
	}
}
