package engine_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/artifactdb"
	"weir/internal/artifact/engine"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
)

// otherRegistry copies whatever refers to an image in the rows.
type otherRegistry struct {
	rows artifactdb.Copies
	db   *db.DB
	down error
	sent int
}

func (o *otherRegistry) Copy(ctx context.Context, repository, digest, _ string, to []string) error {
	if o.down != nil {
		return o.down
	}
	o.sent++
	referrers, err := artifactdb.Registry{DB: o.db}.Referrers(ctx, repository, digest)
	if err != nil {
		return err
	}
	var all []string
	for _, m := range referrers {
		all = append(all, m.Digest)
	}
	return o.rows.Copied(ctx, artifact.Copy{Digest: digest, Repository: repository, To: to[0], Verified: time.Now()}, all)
}

func TestWhatIsSignedLaterFollowsTheImageToOtherRegistries(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		if err := artifactdb.Migrate(ctx, d); err != nil {
			t.Fatal(err)
		}
		var said []artifact.Entry
		rows := artifactdb.Copies{DB: d, Ledger: func(_ context.Context, _ *db.Tx, e artifact.Entry) error { said = append(said, e); return nil }}
		other := &otherRegistry{rows: rows, db: d}
		keeper := &engine.CopyKeeper{DB: d, Rows: rows, Copies: other, Holder: "test"}
		push := func(digest, subject string) {
			t.Helper()
			if err := d.Write(ctx, func(tx *db.Tx) error {
				_, err := tx.Exec(ctx, "insert into registry_manifest (org, repository, digest, stored, media_type, artifact_type, size, subject, annotations, created) values ('default', 'shop', ?, ?, 'm', '', 1, ?, '{}', 1)", digest, digest, subject)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		pass := func(now time.Time) int {
			t.Helper()
			n, err := keeper.Pass(ctx, now)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		now := time.Now()
		push("sha256:image", "")
		push("sha256:sbom", "sha256:image")
		if n := pass(now); n != 0 {
			t.Errorf("%d copies were made of an image that lies nowhere else", n)
		}
		if err := other.Copy(ctx, "shop", "sha256:image", "", []string{"registry.example/shop"}); err != nil {
			t.Fatal(err)
		}
		if n := pass(now); n != 0 {
			t.Errorf("%d copies were made again with nothing new", n)
		}
		push("sha256:rollout", "sha256:image")
		other.down = fault.New(fault.Unavailable, "registry.example does not answer.")
		if n := pass(now); n != 0 {
			t.Error("a copy to a registry that is down counts as made")
		}
		cs, err := rows.Of(ctx, "sha256:image")
		if err != nil || len(cs) != 1 || cs[0].Failure != "registry.example does not answer." || !cs[0].Next.After(now) {
			t.Errorf("the copy is %+v, %v; want the failure and when it is tried again", cs, err)
		}
		other.down = nil
		if n := pass(now); n != 0 {
			t.Error("a registry that was down is asked again before its time")
		}
		if n := pass(now.Add(time.Hour)); n != 1 {
			t.Errorf("%d copies were brought up to date; want one", n)
		}
		if cs, err := rows.Of(ctx, "sha256:image"); err != nil || len(cs) != 1 || cs[0].Failure != "" || cs[0].Evidence != 2 {
			t.Errorf("the copy is %+v, %v", cs, err)
		}
		// The ledger has the copy, and then what was new, and no repetition.
		if err := other.Copy(ctx, "shop", "sha256:image", "", []string{"registry.example/shop"}); err != nil {
			t.Fatal(err)
		}
		var words []string
		for _, e := range said {
			data := e.Data.(map[string]any)
			words = append(words, e.Action+" "+strings.Join(data["referrers"].([]string), "+"))
		}
		if want := []string{"artifact.copied sha256:sbom", "artifact.copied sha256:rollout"}; !slices.Equal(words, want) {
			t.Errorf("the ledger says %q; want %q", words, want)
		}
	})
}
