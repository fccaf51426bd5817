package componentdb_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/componentdb"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/base/lease"
)

// indexed admits artifacts and returns the index once it has seen them all.
func indexed(t *testing.T, d *db.DB, made map[artifact.ID][]artifact.Component) *componentdb.Index {
	t.Helper()
	for _, migrate := range []func(context.Context, *db.DB) error{lease.Migrate, journal.Migrate, componentdb.Migrate} {
		if err := migrate(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	j := journal.New(d)
	seen := make(chan artifact.ID, 10)
	x := &componentdb.Index{DB: d, Journal: j, Holder: "test", Components: func(_ context.Context, id artifact.ID) (artifact.Artifact, []artifact.Component, error) {
		seen <- id
		if made[id] == nil {
			return artifact.Artifact{}, nil, fault.New(fault.NotFound, "%s has no SBOM.", id)
		}
		return artifact.Artifact{ID: id, Org: "default", Service: "checkout", Tag: "tag-" + string(id), Digest: "sha256:" + string(id), Created: time.Unix(int64(len(id)), 0)}, made[id], nil
	}}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{}, 2)
	go func() { _ = j.Sequence(ctx, "test"); done <- struct{}{} }()
	go func() { _ = x.Run(ctx); done <- struct{}{} }()
	t.Cleanup(func() { stop(); <-done; <-done })
	for id := range made {
		err := d.Write(ctx, func(tx *db.Tx) error {
			return j.Append(ctx, tx, artifact.Artifact{ID: id, Org: "default", Created: time.Now()}.Announce())
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for range made {
		<-seen
	}
	// One more fact: when it is looked at, those before it are stored.
	if err := d.Write(ctx, func(tx *db.Tx) error {
		return j.Append(ctx, tx, artifact.Artifact{ID: "artifact_last", Org: "default", Created: time.Now()}.Announce())
	}); err != nil {
		t.Fatal(err)
	}
	<-seen
	return x
}

func TestArtifactsAreFoundByWhatTheyContain(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		many := []artifact.Component{}
		for i := range 1200 {
			many = append(many, artifact.Component{Kind: "file", Name: fmt.Sprintf("usr/share/f%04d", i)})
		}
		x := indexed(t, d, map[artifact.ID][]artifact.Component{
			"artifact_1":   {{Kind: "library", Name: "golang.org/x/net", Version: "v0.46.0", PURL: "pkg:golang/golang.org/x/net@v0.46.0"}, {Kind: "library", Name: "github.com/A/b_c", Version: "v1"}},
			"artifact_22":  {{Kind: "library", Name: "golang.org/x/net", Version: "v0.47.0"}},
			"artifact_333": append(many, artifact.Component{Kind: "library", Name: "golang.org/x/net", Version: "v0.47.0"}),
			"artifact_4":   nil,
			"artifact_55":  {{Kind: "library", Name: "libssl3", Version: "3.0.15-1", PURL: "pkg:deb/debian/libssl3@3.0.15-1?distro=debian-12&upstream=openssl"}},
		})
		find := func(q artifact.ComponentQuery) string {
			t.Helper()
			uses, err := x.Find(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, u := range uses {
				out = append(out, string(u.ArtifactID)+" "+u.Version)
			}
			return strings.Join(out, ", ")
		}
		for want, q := range map[string]artifact.ComponentQuery{
			"artifact_1 v0.46.0, artifact_333 v0.47.0, artifact_22 v0.47.0": {Name: "X/Net"},
			"artifact_333 v0.47.0, artifact_22 v0.47.0":                     {Name: "golang.org/x/net", Version: "v0.47.0"},
			"artifact_1 v1":                {Name: "a/B_c"},
			"":                             {Name: "bXc"},
			"artifact_333 , artifact_333 ": {Name: "f119", Limit: 2},
		} {
			if got := find(q); got != want {
				t.Errorf("Find(%+v) = %q, want %q", q, got, want)
			}
		}
		if got := find(artifact.ComponentQuery{Name: "golang.org/x/ne", Whole: true}); got != "" {
			t.Errorf("a part of a name finds %q", got)
		}
		if got := find(artifact.ComponentQuery{Name: "GitHub.com/a/b_c", Whole: true}); got != "artifact_1 v1" {
			t.Errorf("a whole name finds %q", got)
		}
		if got := find(artifact.ComponentQuery{Name: "openssl", Whole: true}); got != "artifact_55 3.0.15-1" {
			t.Errorf("the source package that advisories name finds %q", got)
		}
		if got := find(artifact.ComponentQuery{Name: "%"}); got != "" {
			t.Errorf("a percent sign finds %q", got)
		}
	})
}
