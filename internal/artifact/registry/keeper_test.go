package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/artifactdb"
	"weir/internal/artifact/registry"
	"weir/internal/base/blob"
	"weir/internal/base/blob/dir"
	"weir/internal/base/blob/small"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

var errBoom = errors.New("boom")

// yard is a registry with a keeper whose clock and pins a test moves.
type yard struct {
	*testing.T
	*registry.Registry
	keeper *registry.Keeper
	root   string
	now    time.Time
	pins   []artifact.Pin
	rule   artifact.KeepRule

	record artifact.Ledger
	mu     sync.Mutex
	ledger []artifact.Entry
	fail   func(artifact.Entry) error
}

const day = 24 * time.Hour

func newYard(t *testing.T, d *db.DB, l registry.Limits) *yard {
	t.Helper()
	if err := artifactdb.Migrate(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	y := &yard{T: t, root: t.TempDir(), now: time.Now(), rule: artifact.KeepRule{Releases: 1, Age: day, Untagged: day, Tagged: 10 * day}}
	blobs, err := dir.Open(y.root)
	if err != nil {
		t.Fatal(err)
	}
	record := func(_ context.Context, _ *db.Tx, e artifact.Entry) error {
		y.mu.Lock()
		defer y.mu.Unlock()
		if y.fail != nil {
			if err := y.fail(e); err != nil {
				return err
			}
		}
		y.ledger = append(y.ledger, e)
		return nil
	}
	y.record = record
	y.over(d, blobs, l)
	y.keeper = &registry.Keeper{Registry: y.Registry, Ledger: record, Holder: "test", Now: func() time.Time { return y.now },
		Pins:      func(context.Context) ([]artifact.Pin, error) { return y.pins, nil },
		Rule:      func(context.Context, string) (artifact.KeepRule, error) { return y.rule, nil },
		Authorize: func(ctx context.Context, action, _ string) error { return identity.Check(ctx, action, "default") }}
	return y
}

// over puts the registry over another store.
func (y *yard) over(d *db.DB, blobs blob.Store, l registry.Limits) {
	y.Registry = registry.New(d, blobs, l).Record(y.record)
	if y.keeper != nil {
		y.keeper.Registry = y.Registry
	}
}

func (y *yard) as(roles ...string) context.Context {
	return identity.With(y.Context(), identity.Actor{ID: "user_ann", Name: "ann", Kind: identity.User, Roles: roles})
}

func (y *yard) pushed(repository, tag, content string) string {
	y.Helper()
	return y.manifest(repository, tag, image(y.T, y.Registry, repository, content))
}

func (y *yard) manifest(repository, tag string, raw []byte) string {
	y.Helper()
	if tag == "" {
		tag = digest(raw)
	}
	m, err := y.PutManifest(y.Context(), repository, tag, "", raw)
	if err != nil {
		y.Fatal(err)
	}
	return m.Digest
}

func (y *yard) referrer(repository, subject, content string) string {
	y.Helper()
	return y.manifest(repository, "", must(json.Marshal(map[string]any{"mediaType": artifact.MediaManifest, "config": put(y.T, y.Registry, repository, []byte("{}")),
		"layers": []any{put(y.T, y.Registry, repository, []byte(content))}, "subject": artifact.Descriptor{MediaType: artifact.MediaManifest, Digest: subject, Size: 2}})))
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func (y *yard) collect(dry bool) artifact.Collected {
	y.Helper()
	c, err := y.keeper.Collect(y.as(identity.Admin), "", dry)
	if err != nil {
		y.Fatal(err)
	}
	return c
}

func (y *yard) has(repository, reference string) bool {
	y.Helper()
	_, err := y.Manifest(y.Context(), repository, reference)
	if err != nil && !fault.Is(err, fault.NotFound) {
		y.Fatal(err)
	}
	return err == nil
}

func TestCollectRemovesWhatItSaidItWould(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		y := newYard(t, d, registry.Limits{})
		old := y.pushed("shop/app", "", "old")
		sig := y.referrer("shop/app", old, "signature of old")
		tagged := y.pushed("shop/app", "latest", "new")
		child := y.pushed("shop/app", "", "child")
		index := y.manifest("shop/app", "multi", must(json.Marshal(map[string]any{"mediaType": artifact.MediaIndex, "manifests": []any{map[string]any{"mediaType": artifact.MediaManifest, "digest": child, "size": 1}}})))
		held := y.pushed("shop/app", "", "held")
		runs := y.pushed("shop/app", "", "runs")
		y.pins = []artifact.Pin{{Repository: "shop/app", Digest: runs, Why: "it runs in production of app"}, {Repository: "other", Digest: old, Why: "no business of shop/app"}}
		if got, err := y.keeper.Hold(y.as(identity.Auditor), "shop/app", held, "case 4711"); err != nil || got != held {
			t.Fatal(got, err)
		}
		y.now = y.now.Add(2 * day)

		dry := y.collect(true)
		gone := func(c artifact.Collected) (out []string) {
			for _, g := range c.Gone {
				out = append(out, g.Digest)
			}
			slices.Sort(out)
			return out
		}
		want := []string{old, sig}
		slices.Sort(want)
		if !slices.Equal(gone(dry), want) || dry.Kept != 5 {
			t.Fatalf("would remove %v and keep %d; want %v and 5", dry.Gone, dry.Kept, want)
		}
		if !y.has("shop/app", old) {
			t.Fatal("a dry run has removed something")
		}
		if real := y.collect(false); !slices.Equal(gone(real), want) {
			t.Errorf("removed %v; want %v", gone(real), want)
		}
		for what, d := range map[string]string{"tagged": tagged, "index": index, "child": child, "held": held, "runs": runs} {
			if !y.has("shop/app", d) {
				t.Errorf("the %s one is gone", what)
			}
		}
		if y.has("shop/app", old) || y.has("shop/app", sig) {
			t.Error("what goes is still there")
		}
		var entries []string
		for _, e := range y.ledger {
			if e.Action == "registry.removed" {
				entries = append(entries, fmt.Sprint(e.Subject, " ", e.Data))
			}
		}
		if len(entries) != 2 || !strings.Contains(strings.Join(entries, "\n"), "shop/app@"+old) || !strings.Contains(entries[0], "it has no tag and was pushed more than 1 day ago") {
			t.Errorf("the ledger says %q", entries)
		}
		// Their blobs stay for a day, and then go; "{}" is still named by the others.
		if c := y.collect(false); c.Blobs != 0 {
			t.Errorf("%d blobs went at once", c.Blobs)
		}
		y.now = y.now.Add(25 * time.Hour)
		if dry := y.collect(true); dry.Blobs != 2 || dry.Bytes != int64(len("old")+len("signature of old")) {
			t.Errorf("would free %d blobs, %d bytes", dry.Blobs, dry.Bytes)
		}
		if c := y.collect(false); c.Blobs != 2 {
			t.Errorf("freed %d blobs; want 2", c.Blobs)
		}
		if _, err := y.Blob(t.Context(), "shop/app", digest([]byte("{}"))); err != nil {
			t.Errorf("a blob that is still named: %v", err)
		}
	})
}

func TestHoldIsAPersonsWordWithAReason(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		y := newYard(t, d, registry.Limits{})
		y.pushed("shop/app", "v1", "x")
		for _, c := range []struct {
			ctx       context.Context
			ref, why  string
			say       string
			of        string
			releasing bool
		}{
			{y.as(identity.Maintainer), "v1", "because", "registry.hold is not among", "shop/app", false},
			{y.as(identity.Admin), "v1", "  ", "Say why", "shop/app", false},
			{y.as(identity.Admin), "v9", "because", "has no manifest v9", "shop/app", false},
			{y.as(identity.Admin), "v1", "because", "There is no repository shop/none", "shop/none", false},
			{y.as(identity.Admin), "v1", "because", "Nobody holds", "shop/app", true},
			{y.as(identity.Developer), "v1", "because", "registry.hold is not among", "shop/app", true},
		} {
			do := y.keeper.Hold
			if c.releasing {
				do = y.keeper.ReleaseHold
			}
			if _, err := do(c.ctx, c.of, c.ref, c.why); err == nil || !strings.Contains(fault.Sentence(err), c.say) {
				t.Errorf("%+v: %v; want %q", c, err, c.say)
			}
		}
		digest, err := y.keeper.Hold(y.as(identity.Auditor), "shop/app", "v1", "case 4711")
		if err != nil {
			t.Fatal(err)
		}
		y.now = y.now.Add(100 * day)
		all, err := y.keeper.Contents(y.as(), "shop/app")
		if err != nil || len(all) != 1 || !all[0].Keep || all[0].Hold != "case 4711" || !strings.Contains(all[0].Why[0], "ann holds it since "+y.now.Add(-100*day).Format(time.DateOnly)+": case 4711") {
			t.Errorf("Contents() = %+v, %v", all, err)
		}
		if c := y.collect(false); len(c.Gone) != 0 {
			t.Errorf("what is held was removed: %+v", c.Gone)
		}
		if err := y.DeleteManifest(y.as(identity.Admin), "shop/app", digest); !fault.Is(err, fault.Denied) || !strings.Contains(fault.Sentence(err), "is held and cannot be deleted: case 4711") {
			t.Errorf("DeleteManifest() = %v", err)
		}
		if _, err := y.keeper.ReleaseHold(y.as(identity.Admin), "shop/app", digest, "case closed"); err != nil {
			t.Fatal(err)
		}
		if c := y.collect(false); len(c.Gone) != 1 || c.Gone[0].Tags[0] != "v1" {
			t.Errorf("after the hold: %+v", c.Gone)
		}
		var said []string
		for _, e := range y.ledger {
			said = append(said, e.Action)
		}
		if !slices.Equal(said, []string{"registry.held", "registry.hold_released", "registry.removed"}) {
			t.Errorf("the ledger says %v", said)
		}
	})
}

func TestDeletesLeaveNothingDanglingAndAreWrittenDown(t *testing.T) {
	y := newYard(t, dbtest.SQLite(t), registry.Limits{})
	child := y.pushed("shop/app", "", "child")
	index := y.manifest("shop/app", "multi", must(json.Marshal(map[string]any{"mediaType": artifact.MediaIndex, "manifests": []any{map[string]any{"mediaType": artifact.MediaManifest, "digest": child, "size": 1}}})))
	for want, err := range map[string]error{
		"names " + child + ", so it cannot be deleted": y.DeleteManifest(y.as(), "shop/app", child),
		"so it cannot be deleted; delete the manifest": y.DeleteBlob(y.as(), "shop/app", digest([]byte("child"))),
	} {
		if !fault.Is(err, fault.Denied) || !strings.Contains(fault.Sentence(err), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	for _, ref := range []string{"multi", index, child} {
		if err := y.DeleteManifest(y.as(), "shop/app", ref); err != nil {
			t.Errorf("delete %s: %v", ref, err)
		}
	}
	if err := y.DeleteBlob(y.as(), "shop/app", digest([]byte("child"))); err != nil {
		t.Error(err)
	}
	var said []string
	for _, e := range y.ledger {
		said = append(said, e.Actor+" "+e.Action+" "+e.Subject)
	}
	if len(said) != 4 || said[0] != "ann registry.deleted shop/app:multi" || said[3] != "ann registry.deleted shop/app@"+digest([]byte("child")) {
		t.Errorf("the ledger says %q", said)
	}
}

// A removal either happens with its ledger entry or not at all, and the next look finishes what a crash has cut off.
func TestCollectIsWholeWhereverItStops(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		y := newYard(t, d, registry.Limits{})
		var olds []string
		for n := range 5 {
			old := y.pushed("shop/app", "", fmt.Sprint("old ", n))
			olds = append(olds, old)
			y.referrer("shop/app", old, fmt.Sprint("signature ", n))
		}
		y.now = y.now.Add(2 * day)
		for stop := 1; ; stop++ {
			n := 0
			y.fail = func(e artifact.Entry) error {
				if n++; n == stop {
					return errBoom
				}
				return nil
			}
			before := len(y.ledger)
			_, err := y.keeper.Collect(y.as(identity.Admin), "", false)
			gone := 0
			for _, old := range olds {
				if !y.has("shop/app", old) {
					gone++
				}
			}
			if stop == 1 && gone != 0 {
				t.Errorf("a removal without its entry happened")
			}
			if err == nil {
				if gone != len(olds) {
					t.Errorf("%d of %d are gone", gone, len(olds))
				}
				break
			}
			if !errors.Is(err, errBoom) {
				t.Fatal(err)
			}
			_ = before
		}
		seen := map[string]int{}
		for _, e := range y.ledger {
			if e.Action == "registry.removed" {
				seen[e.Subject]++
			}
		}
		for _, old := range olds {
			if seen["shop/app@"+old] < 1 {
				t.Errorf("the ledger does not say that %s is gone", old)
			}
		}
	})
}

// What a push was told is stored is there when the push is done, however often retention runs beside it.
func TestPushesAndRetentionDoNotHurtEachOther(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		y := newYard(t, d, registry.Limits{})
		large, err := dir.Open(y.root)
		if err != nil {
			t.Fatal(err)
		}
		most, err := small.Open(t.Context(), d, large)
		if err != nil {
			t.Fatal(err)
		}
		y.over(d, most, registry.Limits{})
		// The keeper lives three days ahead: everything without a tag is due at once, and blobs that nothing names as well.
		y.now = y.now.Add(3 * day)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		collected := 0
		wg.Go(func() {
			for ctx.Err() == nil {
				c, err := y.keeper.Collect(identity.With(ctx, identity.System("registry")), "", false)
				if err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				collected += len(c.Gone) + c.Blobs
				if _, err := y.Sweep(ctx, time.Now().Add(3*time.Hour)); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
		var pushers sync.WaitGroup
		for p := range 4 {
			pushers.Go(func() {
				for n := range 12 {
					if err := pushOnce(y, fmt.Sprintf("tag-%d", p), strings.Repeat(fmt.Sprintf("content %d of %d ", n%3, p), 1+n%2*1000)); err != nil {
						t.Errorf("pusher %d: %v", p, err)
						return
					}
				}
			})
		}
		pushers.Wait()
		stop()
		wg.Wait()
		for p := range 4 {
			m, err := y.Manifest(t.Context(), "shop/app", fmt.Sprintf("tag-%d", p))
			if err != nil {
				t.Fatal(err)
			}
			var c struct{ Layers []artifact.Descriptor }
			if err := json.Unmarshal(m.Raw, &c); err != nil {
				t.Fatal(err)
			}
			rc, _, err := y.OpenBlob(t.Context(), "shop/app", c.Layers[0].Digest)
			if err != nil {
				t.Fatalf("a tagged image lost its layer: %v", err)
			}
			rc.Close()
		}
		if collected == 0 {
			t.Log("retention found nothing to do")
		}
	})
}

// pushOnce pushes an image as a stock client does: it goes back to the blobs when the manifest is refused, and tries again when told.
func pushOnce(y *yard, tag, content string) error {
	ctx := y.Context()
	var last error
	for range 5000 { // the keeper gives it no time at all
		last = func() error {
			var ds []artifact.Descriptor
			for _, b := range []string{"{}", content} {
				d, err := y.Want(ctx, "shop/app", digest([]byte(b)))
				if fault.Is(err, fault.NotFound) {
					d, err = y.PutBlob(ctx, "shop/app", digest([]byte(b)), bytes.NewReader([]byte(b)))
				}
				if err != nil {
					return err
				}
				ds = append(ds, d)
			}
			raw := must(json.Marshal(map[string]any{"mediaType": artifact.MediaManifest, "config": ds[0], "layers": ds[1:]}))
			_, err := y.PutManifest(ctx, "shop/app", tag, "", raw)
			return err
		}()
		if last == nil {
			return nil
		}
		if !fault.Is(last, fault.Unavailable) && artifact.CodeOf(last) != artifact.ManifestBlobUnknown {
			return last
		}
	}
	return last
}

func TestQuotaIsExactUnderConcurrentPushes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		y := newYard(t, d, registry.Limits{Quota: 1000})
		if _, err := y.keeper.SetQuota(y.as(identity.Maintainer), "shop/app", 50); !fault.Is(err, fault.Denied) {
			t.Errorf("a maintainer sets a quota: %v", err)
		}
		if _, err := y.keeper.SetQuota(y.as(identity.Admin), "Shop", 50); !fault.Is(err, fault.Invalid) {
			t.Errorf("a quota of no repository: %v", err)
		}
		if _, err := y.keeper.SetQuota(y.as(identity.Admin), "shop/app", -1); !fault.Is(err, fault.Invalid) {
			t.Errorf("a negative quota: %v", err)
		}
		if u, err := y.keeper.SetQuota(y.as(identity.Admin), "shop/app", 50); err != nil || u.Quota != 50 || !u.Own {
			t.Fatal(u, err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		stored := 0
		for n := range 20 {
			wg.Go(func() {
				b := []byte(fmt.Sprintf("%010d", n))
				_, err := y.PutBlob(t.Context(), "shop/app", digest(b), bytes.NewReader(b))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					stored++
				} else if artifact.CodeOf(err) != artifact.Denied || !strings.Contains(fault.Sentence(err), "quota of 50 bytes") {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if used, err := y.UsedBytes(t.Context(), "shop/app"); err != nil || used != 50 || stored != 5 {
			t.Errorf("%d pushes of 10 bytes went into a quota of 50; %d bytes are used, %v", stored, used, err)
		}
		// What is there already takes nothing more; the others have the server's default.
		for n := range 20 {
			b := []byte(fmt.Sprintf("%010d", n))
			if _, err := y.Blob(t.Context(), "shop/app", digest(b)); err == nil {
				put(t, y.Registry, "shop/app", b)
			}
			put(t, y.Registry, "shop/other", b)
		}
		if _, err := y.StartUpload(t.Context(), "shop/app"); artifact.CodeOf(err) != artifact.Denied {
			t.Errorf("an upload into a full repository: %v", err)
		}
		if ok, err := y.Mount(t.Context(), "shop/app", "shop/other", digest([]byte("0000000019"))); artifact.CodeOf(err) != artifact.Denied && !ok {
			t.Errorf("Mount() = %v, %v", ok, err)
		}
		u, err := y.keeper.Repositories(y.as())
		if err != nil || len(u) != 2 || u[0].Bytes != 50 || u[0].Quota != 50 || u[1].Quota != 1000 || u[1].Own {
			t.Errorf("Repositories() = %+v, %v", u, err)
		}
	})
}

func flip(t *testing.T, root, d string) {
	t.Helper()
	hex := strings.TrimPrefix(d, "sha256:")
	path := filepath.Join(root, "sha256", hex[:2], hex)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestScrubFindsDamageNamesWhatItHitsAndAPushHealsIt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		y := newYard(t, d, registry.Limits{})
		bad, good := y.pushed("shop/app", "v1", "layer one"), y.pushed("shop/app", "v2", "layer two")
		y.pins = []artifact.Pin{{Repository: "shop/app", Digest: bad, Why: "it runs in production of app", Where: "production"}}
		scrub := registry.Scrubber{Keeper: y.keeper}
		layer := digest([]byte("layer one"))
		flip(t, y.root, layer)
		if err := scrub.Read(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		st, err := y.keeper.Scrub(y.as(), false)
		if err != nil || st.Running || st.Last.Checked != st.Total || st.Last.Damaged != 1 || len(st.Damage) != 1 {
			t.Fatalf("Scrub() = %+v, %v", st, err)
		}
		hit := st.Damage[0]
		if hit.Stored != layer || !strings.Contains(hit.Why, "the 9 bytes have the digest") || len(hit.Images) != 1 || hit.Images[0].Digest != bad || hit.Images[0].Tags[0] != "v1" ||
			!slices.Equal(hit.Environments, []string{"it runs in production of app"}) {
			t.Errorf("damage: %+v", hit)
		}
		if _, _, err := y.OpenBlob(t.Context(), "shop/app", layer); artifact.CodeOf(err) != artifact.BlobUnknown || !strings.Contains(fault.Sentence(err), "are damaged, as was found on") {
			t.Errorf("OpenBlob() = %v", err)
		}
		if _, err := y.Want(t.Context(), "shop/app", layer); !fault.Is(err, fault.NotFound) {
			t.Errorf("Want() = %v; a client must push it again", err)
		}
		if !y.has("shop/app", good) {
			t.Error("another image is hit")
		}
		kept, err := y.keeper.Contents(y.as(), "shop/app")
		if err != nil || !slices.ContainsFunc(kept, func(k artifact.Kept) bool { return k.Stored.Digest == bad && slices.Equal(k.Damaged, []string{layer}) }) {
			t.Errorf("Contents() = %+v, %v", kept, err)
		}
		// A second reading says the same once; a push heals.
		if err := scrub.Read(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		put(t, y.Registry, "shop/app", []byte("layer one"))
		rc, _, err := y.OpenBlob(t.Context(), "shop/app", layer)
		if err != nil {
			t.Fatal(err)
		}
		rc.Close()
		if err := scrub.Read(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if st, err := y.keeper.Scrub(y.as(), false); err != nil || len(st.Damage) != 0 || st.Last.Damaged != 0 {
			t.Errorf("after the push: %+v, %v", st, err)
		}
		// A damaged manifest heals the same way, and so does one that is gone.
		raw := must(os.ReadFile(blobPath(y.root, bad)))
		flip(t, y.root, bad)
		if err := os.Remove(blobPath(y.root, good)); err != nil {
			t.Fatal(err)
		}
		if err := scrub.Read(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if _, err := y.Manifest(t.Context(), "shop/app", "v1"); artifact.CodeOf(err) != artifact.ManifestUnknown || !strings.Contains(fault.Sentence(err), "are damaged") {
			t.Errorf("Manifest() = %v", err)
		}
		if st, err := y.keeper.Scrub(y.as(), false); err != nil || len(st.Damage) != 2 {
			t.Errorf("%+v, %v", st, err)
		}
		y.manifest("shop/app", "v1", raw)
		if !y.has("shop/app", "v1") {
			t.Error("a manifest did not heal")
		}
		var said []string
		for _, e := range y.ledger {
			said = append(said, e.Action)
		}
		if got := strings.Join(said, " "); got != "registry.damage_found registry.damage_healed registry.damage_found registry.damage_found registry.damage_healed" {
			t.Errorf("the ledger says %v", got)
		}
		if _, err := os.Stat(filepath.Join(y.root, "damaged", strings.TrimPrefix(layer, "sha256:"))); err != nil {
			t.Errorf("the damaged bytes were not put aside: %v", err)
		}
	})
}

func blobPath(root, d string) string {
	hex := strings.TrimPrefix(d, "sha256:")
	return filepath.Join(root, "sha256", hex[:2], hex)
}

func TestScrubGoesOnWhereItStopped(t *testing.T) {
	y := newYard(t, dbtest.SQLite(t), registry.Limits{})
	for n := range 150 {
		put(t, y.Registry, "shop/app", []byte(fmt.Sprint("blob ", n)))
	}
	y.keeper.ScrubRate = 200 // a few seconds for all of them, so that it is cut off
	scrub := registry.Scrubber{Keeper: y.keeper}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- scrub.Read(ctx, false) }()
	for {
		st, err := y.keeper.Scrub(y.as(), false)
		if err != nil {
			t.Fatal(err)
		}
		if st.Checked >= 64 {
			break
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("Read() = %v", err)
	}
	before, err := y.keeper.Scrub(y.as(), false)
	if err != nil || !before.Running || before.Checked < 64 {
		t.Fatalf("%+v, %v", before, err)
	}
	y.keeper.ScrubRate = 1 << 30
	if err := scrub.Read(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if st, err := y.keeper.Scrub(y.as(), false); err != nil || st.Running || st.Last.Checked != 150 {
		t.Errorf("%+v, %v; want 150 blobs, each once", st, err)
	}
	if _, err := y.keeper.Scrub(y.as(identity.Developer), true); !fault.Is(err, fault.Denied) {
		t.Errorf("a developer starts one: %v", err)
	}
	if st, err := y.keeper.Scrub(y.as(identity.Admin), true); err != nil || st.Asked.IsZero() {
		t.Errorf("%+v, %v", st, err)
	}
}

// faulty is a store whose reads of one blob end in an error.
type faulty struct {
	blob.Store
	digest string
	err    error
}

func (f faulty) Open(ctx context.Context, d blob.Digest) (io.ReadSeekCloser, int64, error) {
	r, n, err := f.Store.Open(ctx, d)
	if err == nil && string(d) == f.digest {
		return broken{r, f.err}, n, nil
	}
	return r, n, err
}

type broken struct {
	io.ReadSeekCloser
	err error
}

func (b broken) Read([]byte) (int, error) { return 0, b.err }

func TestScrubTellsDamageFromAFaultOnTheWay(t *testing.T) {
	for what, c := range map[string]struct {
		err     error
		damaged int64
	}{
		"the network":         {io.ErrUnexpectedEOF, 0},
		"a time limit":        {os.ErrDeadlineExceeded, 0},
		"a checksum":          {fmt.Errorf("%w: x", blob.ErrDamaged), 1},
		"a sector of a disk":  {&os.PathError{Op: "read", Path: "x", Err: syscall.EIO}, 1},
		"nothing, of a blob ": {nil, 0},
	} {
		d := dbtest.SQLite(t)
		y := newYard(t, d, registry.Limits{})
		y.pushed("shop/app", "v1", "layer one")
		good, err := dir.Open(y.root)
		if err != nil {
			t.Fatal(err)
		}
		if c.err != nil {
			y.over(d, faulty{good, digest([]byte("layer one")), c.err}, registry.Limits{})
		}
		if err := (registry.Scrubber{Keeper: y.keeper}).Read(t.Context(), true); err != nil {
			t.Errorf("%s: Read() = %v", what, err)
		}
		st, err := y.keeper.Scrub(y.as(), false)
		if err != nil || st.Last.Damaged != c.damaged || st.Last.Checked != st.Total {
			t.Errorf("%s: %+v, %v; want %d damaged", what, st.Last, err, c.damaged)
		}
		if _, err := good.Stat(t.Context(), blob.Digest(digest([]byte("layer one")))); c.damaged == 0 && err != nil {
			t.Errorf("%s: good bytes were put aside: %v", what, err)
		}
	}
}

// Rows from before what a manifest names was kept in rows.
func TestManifestsFromBeforeAreReadOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		y := newYard(t, d, registry.Limits{})
		tagged := y.pushed("shop/app", "latest", "layer")
		index := y.manifest("shop/app", "multi", must(json.Marshal(map[string]any{"mediaType": artifact.MediaIndex, "manifests": []any{map[string]any{"mediaType": artifact.MediaManifest, "digest": tagged, "size": 1}}})))
		if err := d.Write(t.Context(), func(tx *db.Tx) error {
			for _, q := range []string{"delete from registry_edge", "update registry_manifest set indexed = 0"} {
				if _, err := tx.Exec(t.Context(), q); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		y.now = y.now.Add(5 * day) // blobs that nothing names would go
		if c := y.collect(false); len(c.Gone) != 0 || c.Blobs != 0 {
			t.Errorf("something went: %+v", c)
		}
		if err := y.DeleteManifest(y.as(), "shop/app", tagged); !fault.Is(err, fault.Denied) || !strings.Contains(fault.Sentence(err), "the index "+index) {
			t.Errorf("DeleteManifest() = %v", err)
		}
		if _, err := y.Blob(t.Context(), "shop/app", digest([]byte("layer"))); err != nil {
			t.Error(err)
		}
	})
}

func TestAnUploadIsCutOffWhereTheQuotaOrTheDiskEnds(t *testing.T) {
	full := fault.New(fault.Unavailable, "The disk is nearly full.")
	room := error(nil)
	y := newYard(t, dbtest.SQLite(t), registry.Limits{Quota: 100_000, Room: func() error { return room }})
	u, err := y.StartUpload(t.Context(), "shop/app")
	if err != nil {
		t.Fatal(err)
	}
	if u, err = y.Append(t.Context(), "shop/app", u.ID, 0, strings.NewReader(strings.Repeat("x", 60_000))); err != nil {
		t.Fatal(err)
	}
	endless := strings.NewReader(strings.Repeat("y", 10<<20))
	if _, err := y.Append(t.Context(), "shop/app", u.ID, -1, endless); artifact.CodeOf(err) != artifact.Denied || !strings.Contains(fault.Sentence(err), "of its quota of") {
		t.Errorf("Append() = %v", err)
	}
	if read := 10<<20 - endless.Len(); read > 1<<20 {
		t.Errorf("%d bytes were read of what does not fit", read)
	}
	big := []byte(strings.Repeat("z", 200_000))
	if _, err := y.PutBlob(t.Context(), "shop/app", digest(big), bytes.NewReader(big)); artifact.CodeOf(err) != artifact.Denied {
		t.Errorf("PutBlob() = %v", err)
	}
	room = full
	for what, err := range map[string]error{
		"upload": second(y.StartUpload(t.Context(), "shop/app")),
		"append": second(y.Append(t.Context(), "shop/app", u.ID, -1, strings.NewReader("x"))),
		"blob":   second(y.PutBlob(t.Context(), "shop/app", digest([]byte("x")), strings.NewReader("x"))),
	} {
		if !errors.Is(err, full) {
			t.Errorf("%s: %v; want the disk's refusal", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
