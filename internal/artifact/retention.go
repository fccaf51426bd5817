package artifact

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Stored is a manifest in a repository of the registry, with everything that retention looks at.
type Stored struct {
	Digest    string
	MediaType string
	Kind      string // artifact type, "" if none
	Size      int64  // of the manifest and of what it names itself
	Pushed    time.Time
	Tags      []StoredTag
	Release   string    // version, if it is a release
	Released  time.Time // when it was admitted
	Names     []string  // manifests that it names, if it is an index
	Subject   string    // what it refers to, "" if nothing
}

// StoredTag is a name of a manifest.
type StoredTag struct {
	Name  string
	Since time.Time
}

// Pin is a reason of somebody else's not to remove a manifest.
type Pin struct {
	Repository string
	Digest     string
	Why        string // "it runs in production of checkout"
	Where      string // the environment, "" if it is none
}

// KeepRule says how long a repository's manifests are kept. The longer of what applies wins.
type KeepRule struct {
	Releases int           // newest releases
	Age      time.Duration // of releases since they were admitted
	Tagged   time.Duration // of other tagged manifests, since the tag was set; 0 is for ever
	Untagged time.Duration // of manifests that have no tag, since they were pushed
}

// Verdict is what retention says of one manifest.
type Verdict struct {
	Digest string
	Keep   bool
	Why    []string // every reason to keep it, or the rules by which it goes
	With   string   // the manifest with which it stays or goes, "" if it stands for itself
}

// Keep decides about every manifest of a repository. It reads no clock and touches nothing.
//
// A manifest stands for itself unless it is named by an index of the repository or refers to a manifest of it. What stands for
// itself is kept by a rule or a pin; what an index names stays with the index; what refers to a manifest goes with it, unless it is
// pinned or tagged itself. Nothing that a kept manifest names ever goes.
func Keep(all []Stored, pins []Pin, rule KeepRule, now time.Time) []Verdict {
	k := keeper{rule: rule, now: now, at: make(map[string]int, len(all)), why: make([][]string, len(all)), with: make([]string, len(all)), all: all,
		named: map[string]bool{}, pins: map[string][]string{}, referrers: map[string][]int{}}
	for i, m := range all {
		k.at[m.Digest] = i
		for _, d := range m.Names {
			k.named[d] = true
		}
		if m.Subject != "" {
			k.referrers[m.Subject] = append(k.referrers[m.Subject], i)
		}
	}
	for _, p := range pins {
		if !slices.Contains(k.pins[p.Digest], p.Why) {
			k.pins[p.Digest] = append(k.pins[p.Digest], p.Why)
		}
	}
	k.newest()
	for i := range all {
		if why := k.itself(i); len(why) > 0 {
			k.keep(i, "", why)
		}
	}
	out := make([]Verdict, len(all))
	for i, m := range all {
		out[i] = Verdict{Digest: m.Digest, Keep: len(k.why[i]) > 0, Why: k.why[i], With: k.with[i]}
		if !out[i].Keep {
			out[i].Why, out[i].With = k.gone(i)
		}
	}
	return out
}

type keeper struct {
	rule      KeepRule
	now       time.Time
	all       []Stored
	at        map[string]int // digest to index
	named     map[string]bool
	pins      map[string][]string
	referrers map[string][]int
	rank      map[string]int // of releases, 1 is the newest
	tags      map[string]int // those that name a subject

	why  [][]string
	with []string
}

func (k *keeper) newest() {
	var releases []Stored
	for _, m := range k.all {
		if m.Release != "" {
			releases = append(releases, m)
		}
	}
	slices.SortFunc(releases, func(a, b Stored) int {
		return cmp.Or(b.Released.Compare(a.Released), strings.Compare(a.Digest, b.Digest))
	})
	k.rank = map[string]int{}
	for i, m := range releases {
		k.rank[m.Digest] = i + 1
	}
}

// itself lists why a manifest is kept whatever becomes of the others.
func (k *keeper) itself(i int) (why []string) {
	m := k.all[i]
	why = append(why, k.pins[m.Digest]...)
	for _, t := range m.Tags {
		switch {
		case m.Release != "" && IsReleaseTag(t.Name), followsTag(t.Name):
		case k.rule.Tagged == 0:
			why = append(why, "it has the tag "+t.Name)
		case k.now.Sub(t.Since) < k.rule.Tagged:
			why = append(why, fmt.Sprintf("its tag %s is younger than %s", t.Name, days(k.rule.Tagged)))
		}
	}
	if m.Release != "" {
		if k.rank[m.Digest] <= k.rule.Releases {
			why = append(why, fmt.Sprintf("it is number %d of the %d newest releases", k.rank[m.Digest], k.rule.Releases))
		}
		if k.now.Sub(m.Released) < k.rule.Age {
			why = append(why, fmt.Sprintf("it was released less than %s ago", days(k.rule.Age)))
		}
		return why
	}
	if !k.follows(m) && k.now.Sub(m.Pushed) < k.rule.Untagged {
		why = append(why, fmt.Sprintf("it was pushed less than %s ago", days(k.rule.Untagged)))
	}
	return why
}

// follows reports whether another manifest of the repository decides about m.
func (k *keeper) follows(m Stored) bool {
	_, subject := k.at[k.subject(m)]
	return k.named[m.Digest] || subject
}

// subject is what m refers to: by its field, or by a tag of the form that clients use with registries that know no referrers.
func (k *keeper) subject(m Stored) string {
	if m.Subject != "" {
		return m.Subject
	}
	for _, t := range m.Tags {
		if d, ok := tagSubject(t.Name); ok {
			return d
		}
	}
	return ""
}

func followsTag(t string) bool { _, ok := tagSubject(t); return ok }

// tagSubject is the digest in "sha256-<hex>" and "sha256-<hex>.sig".
func tagSubject(t string) (string, bool) {
	hex, ok := strings.CutPrefix(t, "sha256-")
	if !ok || len(hex) < 64 || len(hex) > 64 && hex[64] != '.' {
		return "", false
	}
	d := "sha256:" + hex[:64]
	return d, ValidDigest(d)
}

// keep marks a manifest and what stays with it. Every manifest is walked once, so that cycles end.
func (k *keeper) keep(i int, with string, why []string) {
	type step struct {
		i    int
		with string
		why  []string
	}
	for todo := []step{{i, with, why}}; len(todo) > 0; {
		s := todo[0]
		todo = todo[1:]
		seen := len(k.why[s.i]) > 0
		if s.with == "" || !seen {
			k.why[s.i] = append(k.why[s.i], s.why...)
			k.with[s.i] = s.with
		}
		if seen {
			continue
		}
		m := k.all[s.i]
		for _, d := range m.Names {
			if at, ok := k.at[d]; ok {
				todo = append(todo, step{at, m.Digest, []string{"the index " + short(m.Digest) + " names it"}})
			}
		}
		for _, at := range k.referrers[m.Digest] {
			todo = append(todo, step{at, m.Digest, []string{"it refers to " + short(m.Digest) + ", which is kept"}})
		}
		for _, tag := range []string{"", ".sig", ".att", ".sbom"} {
			if at, ok := k.byTag("sha256-" + strings.TrimPrefix(m.Digest, "sha256:") + tag); ok {
				todo = append(todo, step{at, m.Digest, []string{"its tag says that it is about " + short(m.Digest) + ", which is kept"}})
			}
		}
	}
}

func (k *keeper) byTag(name string) (int, bool) {
	if k.tags == nil {
		k.tags = map[string]int{}
		for i, m := range k.all {
			for _, t := range m.Tags {
				if followsTag(t.Name) {
					k.tags[t.Name] = i
				}
			}
		}
	}
	i, ok := k.tags[name]
	return i, ok
}

// gone says by which rules a manifest goes.
func (k *keeper) gone(i int) (why []string, with string) {
	m := k.all[i]
	switch {
	case m.Release != "":
		why = []string{fmt.Sprintf("it is not among the %d newest releases, was released more than %s ago, and runs nowhere", k.rule.Releases, days(k.rule.Age))}
	case k.named[m.Digest]:
		for _, o := range k.all {
			if slices.Contains(o.Names, m.Digest) {
				return []string{"the index " + short(o.Digest) + " that names it goes"}, o.Digest
			}
		}
	case k.follows(m):
		return []string{"what it refers to goes"}, k.subject(m)
	case len(m.Tags) > 0:
		why = []string{fmt.Sprintf("none of its tags is younger than %s", days(k.rule.Tagged))}
	default:
		why = []string{fmt.Sprintf("it has no tag and was pushed more than %s ago", days(k.rule.Untagged))}
	}
	return why, ""
}

func days(d time.Duration) string {
	if d == 24*time.Hour {
		return "1 day"
	}
	if d%(24*time.Hour) != 0 {
		return d.String()
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

func short(digest string) string {
	alg, hex, _ := strings.Cut(digest, ":")
	return alg + ":" + hex[:min(12, len(hex))]
}
