package registry_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
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
)

func open(t *testing.T, d *db.DB, l registry.Limits) (*registry.Registry, blob.Store) {
	t.Helper()
	if err := artifactdb.Migrate(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	blobs, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	most, err := small.Open(t.Context(), d, blobs)
	if err != nil {
		t.Fatal(err)
	}
	return registry.New(d, most, l), most
}

func digest(b []byte) string { s := sha256.Sum256(b); return "sha256:" + hex.EncodeToString(s[:]) }

func put(t *testing.T, r *registry.Registry, repository string, b []byte) artifact.Descriptor {
	t.Helper()
	d, err := r.PutBlob(t.Context(), repository, digest(b), bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func image(t *testing.T, r *registry.Registry, repository, content string) []byte {
	t.Helper()
	config, layer := put(t, r, repository, []byte("{}")), put(t, r, repository, []byte(content))
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": artifact.MediaManifest, "config": config, "layers": []any{layer}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestUploadGoesOnAfterARestart(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r, blobs := open(t, d, registry.Limits{})
		u, err := r.StartUpload(t.Context(), "shop/app")
		if err != nil {
			t.Fatal(err)
		}
		for _, piece := range []string{"hel", "lo "} { // a small first piece may be in memory, until the next one follows
			if u, err = r.Append(t.Context(), "shop/app", u.ID, -1, strings.NewReader(piece)); err != nil {
				t.Fatal(err)
			}
		}
		again := registry.New(d, blobs, registry.Limits{})
		if u, err = again.Upload(t.Context(), "shop/app", u.ID); err != nil || u.Size != 6 {
			t.Fatalf("Upload() after restart = %+v, %v; want 6 bytes", u, err)
		}
		if _, err := again.Append(t.Context(), "shop/app", u.ID, 3, strings.NewReader("world")); !errors.Is(err, artifact.ErrOutOfOrder) {
			t.Errorf("Append() out of order = %v; want it refused", err)
		}
		if _, err := again.Append(t.Context(), "shop/app", u.ID, 6, strings.NewReader("world")); err != nil {
			t.Fatal(err)
		}
		want := digest([]byte("hello world"))
		if _, err := again.Finish(t.Context(), "shop/app", u.ID, want); err != nil {
			t.Fatal(err)
		}
		rc, desc, err := again.OpenBlob(t.Context(), "shop/app", want)
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		if b, _ := io.ReadAll(rc); string(b) != "hello world" || desc.Size != 11 {
			t.Errorf("blob = %q of %d; want hello world", b, desc.Size)
		}
		if _, err := again.Upload(t.Context(), "shop/app", u.ID); artifact.CodeOf(err) != artifact.BlobUploadUnknown {
			t.Errorf("Upload() after Finish = %v; want it gone", err)
		}
	})
}

func TestManifestNeedsWhatItNames(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r, _ := open(t, d, registry.Limits{})
		raw := image(t, r, "shop/app", "layer")
		if _, err := r.PutManifest(t.Context(), "shop/other", "v1", artifact.MediaManifest, raw); artifact.CodeOf(err) != artifact.ManifestBlobUnknown {
			t.Errorf("PutManifest() in another repository = %v; want the blobs missed", err)
		}
		m, err := r.PutManifest(t.Context(), "shop/app", "v1", artifact.MediaManifest, raw)
		if err != nil || m.Digest != digest(raw) {
			t.Fatalf("PutManifest() = %v, %v", m.Digest, err)
		}
		got, err := r.Manifest(t.Context(), "shop/app", "v1")
		if err != nil || !bytes.Equal(got.Raw, raw) {
			t.Errorf("Manifest() = %q, %v; want it byte for byte", got.Raw, err)
		}
	})
}

func TestReleaseTagNeverMoves(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r, _ := open(t, d, registry.Limits{})
		one, two := image(t, r, "shop/app", "one"), image(t, r, "shop/app", "two")
		tag := func(name string, raw []byte) error {
			_, err := r.PutManifest(t.Context(), "shop/app", name, artifact.MediaManifest, raw)
			return err
		}
		for range 2 {
			if err := tag("1.4.0-ab12cd3", one); err != nil {
				t.Fatal(err)
			}
		}
		say := func(what string, err error, sentence string) {
			t.Helper()
			if err == nil || !strings.Contains(fault.Sentence(err), sentence) {
				t.Errorf("%s = %v; want %q", what, err, sentence)
			}
		}
		say("moving", tag("1.4.0-ab12cd3", two), "the release tag 1.4.0-ab12cd3 of shop/app names sha256:")
		say("deleting the tag", r.DeleteManifest(t.Context(), "shop/app", "1.4.0-ab12cd3"), "cannot be deleted")
		say("deleting the digest", r.DeleteManifest(t.Context(), "shop/app", digest(one)), "is the release 1.4.0-ab12cd3 of shop/app")
		if tag("latest", one) != nil || tag("latest", two) != nil {
			t.Error("another tag does not move; want it to")
		}
		if err := r.DeleteManifest(t.Context(), "shop/app", digest(two)); err != nil {
			t.Error(err)
		}
		if _, err := r.Manifest(t.Context(), "shop/app", "latest"); !fault.Is(err, fault.NotFound) {
			t.Errorf("tag of a deleted manifest = %v; want it gone", err)
		}
	})
}

func TestReferrersAreFoundBySubjectAndType(t *testing.T) {
	r, _ := open(t, dbtest.SQLite(t), registry.Limits{})
	subject := digest([]byte("not here yet"))
	empty := put(t, r, "shop/app", []byte("{}"))
	for i, kind := range []string{"a/sbom", "a/sbom", "a/signature"} {
		raw, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": artifact.MediaManifest, "artifactType": kind, "config": empty,
			"layers": []any{}, "subject": map[string]any{"mediaType": artifact.MediaManifest, "digest": subject, "size": 12}, "annotations": map[string]string{"n": fmt.Sprint(i)}})
		if m, err := r.PutManifest(t.Context(), "shop/app", digest(raw), artifact.MediaManifest, raw); err != nil || m.Subject != subject {
			t.Fatalf("PutManifest() = %q, %v", m.Subject, err)
		}
	}
	for kind, want := range map[string]int{"": 3, "a/sbom": 2, "a/none": 0} {
		got, err := r.Referrers(t.Context(), "shop/app", subject, kind)
		if err != nil || len(got) != want {
			t.Errorf("Referrers(%q) = %d, %v; want %d", kind, len(got), err, want)
		}
	}
}

func TestRegistryRefuses(t *testing.T) {
	r, _ := open(t, dbtest.SQLite(t), registry.Limits{Blob: 10, Manifest: 1000, Quota: 10})
	put(t, r, "shop/full", []byte("0123456789"))
	blobErr := func(repository, d, body string) error {
		_, err := r.PutBlob(t.Context(), repository, d, strings.NewReader(body))
		return err
	}
	manifestErr := func(tag, raw string) error {
		_, err := r.PutManifest(t.Context(), "shop/app", tag, "", []byte(raw))
		return err
	}
	for _, c := range []struct {
		name string
		err  error
		say  string
	}{
		{"damaged bytes", blobErr("shop/app", digest([]byte("a")), "b"), "as announced"},
		{"bad digest", blobErr("shop/app", "sha256:xyz", "b"), "is not a digest"},
		{"too large", blobErr("shop/app", digest([]byte("12345678901")), "12345678901"), "larger than 10 bytes"},
		{"over quota", blobErr("shop/full", digest([]byte("a")), "a"), "10 bytes of its quota of 10 bytes in use, so it is full"},
		{"large manifest", manifestErr("v1", strings.Repeat(" ", 1001)), "at most 1000 are taken"},
		{"no manifest", manifestErr("v1", "[]"), "is not JSON of the shape"},
		{"bad tag", manifestErr("-v1", "{}"), "cannot be a tag"},
		{"another digest", manifestErr(digest([]byte("x")), "{}"), "as announced"},
	} {
		if c.err == nil || !strings.Contains(fault.Sentence(c.err), c.say) {
			t.Errorf("%s: %v; want %q", c.name, c.err, c.say)
		}
	}
	if err := blobErr("shop/app", digest([]byte("1234567890")), "1234567890"); err != nil {
		t.Errorf("a blob of exactly the limit: %v", err)
	}
}

func TestLongDigestsAreServedFromTheSameBytes(t *testing.T) {
	r, _ := open(t, dbtest.SQLite(t), registry.Limits{})
	sum := sha512.Sum512([]byte("bytes"))
	d := "sha512:" + hex.EncodeToString(sum[:])
	if _, err := r.PutBlob(t.Context(), "shop/app", d, strings.NewReader("bytes")); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Blob(t.Context(), "shop/app", d); err != nil || got.Size != 5 {
		t.Errorf("Blob() = %+v, %v", got, err)
	}
}

func TestSweepRemovesOnlyWhatNothingNeeds(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r, blobs := open(t, d, registry.Limits{})
		shared, gone := put(t, r, "shop/a", []byte("shared")), put(t, r, "shop/a", []byte("gone"))
		if ok, err := r.Mount(t.Context(), "shop/b", "shop/a", shared.Digest); err != nil || !ok {
			t.Fatal(ok, err)
		}
		u, err := r.StartUpload(t.Context(), "shop/a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Append(t.Context(), "shop/a", u.ID, -1, strings.NewReader("left alone")); err != nil {
			t.Fatal(err)
		}
		for _, b := range []artifact.Descriptor{shared, gone} {
			if err := r.DeleteBlob(t.Context(), "shop/a", b.Digest); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := r.Sweep(t.Context(), time.Now()); err != nil || n != 0 {
			t.Errorf("Sweep() at once = %d, %v; want a grace time", n, err)
		}
		if n, err := r.Sweep(t.Context(), time.Now().Add(2*time.Hour)); err != nil || n != 1 {
			t.Errorf("Sweep() = %d, %v; want 1", n, err)
		}
		if _, err := blobs.Stat(t.Context(), blob.Digest(gone.Digest)); !fault.Is(err, fault.NotFound) {
			t.Errorf("deleted blob: %v; want it gone", err)
		}
		if _, err := blobs.Stat(t.Context(), blob.Digest(shared.Digest)); err != nil {
			t.Errorf("mounted blob: %v; want it kept", err)
		}
		for range 2 { // the upload first, its pieces an hour later
			if _, err := r.Sweep(t.Context(), time.Now().Add(30*time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		// Its id is as good as new by this clock, which is where it was given out; what it had is gone.
		if got, err := r.Upload(t.Context(), "shop/a", u.ID); err != nil || got.Size != 0 {
			t.Errorf("stale upload: %+v, %v; want nothing of it", got, err)
		}
	})
}

func TestASmallPieceThatARestartLostIsAnUnknownUpload(t *testing.T) {
	d := dbtest.SQLite(t)
	r, blobs := open(t, d, registry.Limits{Key: []byte("key")})
	pushed := func(r *registry.Registry, text string) string {
		t.Helper()
		u, err := r.StartUpload(t.Context(), "shop/app")
		if err != nil {
			t.Fatal(err)
		}
		if u, err = r.Append(t.Context(), "shop/app", u.ID, 0, strings.NewReader(text)); err != nil || u.Size != int64(len(text)) {
			t.Fatalf("Append() = %+v, %v", u, err)
		}
		return u.ID
	}
	lost := pushed(r, "hello")
	if _, err := r.Finish(t.Context(), "shop/app", lost, digest([]byte("other"))); artifact.CodeOf(err) != artifact.DigestInvalid {
		t.Errorf("a wrong digest: %v", err)
	}
	if _, err := r.Upload(t.Context(), "shop/app", lost); artifact.CodeOf(err) != artifact.BlobUploadUnknown {
		t.Errorf("Upload() after a wrong digest: %v", err)
	}
	lost = pushed(r, "hello")
	again := registry.New(d, blobs, registry.Limits{Key: []byte("key")})
	_, err := again.Finish(t.Context(), "shop/app", lost, digest([]byte("hello")))
	if artifact.CodeOf(err) != artifact.BlobUploadUnknown || !strings.Contains(err.Error(), "because the server was started again; begin it again") {
		t.Errorf("Finish() of what a restart lost: %v", err)
	}
	if u, err := again.Upload(t.Context(), "shop/app", lost); err != nil || u.Size != 0 {
		t.Errorf("Upload() = %+v, %v; a client goes on from nothing", u, err)
	}
	if _, err := again.Append(t.Context(), "shop/app", lost, 0, strings.NewReader("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Finish(t.Context(), "shop/app", lost, digest([]byte("hello"))); err != nil {
		t.Errorf("Finish() once it was sent again: %v", err)
	}
	for range 1100 { // more than are held
		pushed(again, "x")
	}
	last := pushed(again, "y")
	if _, err := again.Finish(t.Context(), "shop/app", last, digest([]byte("y"))); err != nil {
		t.Errorf("Finish() of a piece that found no room in memory: %v", err)
	}
	if _, err := again.Append(t.Context(), "shop/app", pushed(again, "x"), 0, strings.NewReader("y")); !errors.Is(err, artifact.ErrOutOfOrder) {
		t.Errorf("a second first piece: %v", err)
	}
}

func TestAnUploadIsOnlyWhatWasGivenOutAndIsNotOver(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		r, _ := open(t, d, registry.Limits{Key: []byte("key")})
		again := r
		if d.Engine() == "postgres" {
			again, _ = open(t, d, registry.Limits{Key: []byte("key")})
		}
		start := func() string {
			t.Helper()
			u, err := r.StartUpload(t.Context(), "shop/app")
			if err != nil {
				t.Fatal(err)
			}
			return u.ID
		}
		unknown := func(what, repository, id string) {
			t.Helper()
			if _, err := r.Append(t.Context(), repository, id, -1, strings.NewReader("x")); artifact.CodeOf(err) != artifact.BlobUploadUnknown {
				t.Errorf("%s: Append() = %v", what, err)
			}
			if _, err := r.Upload(t.Context(), repository, id); artifact.CodeOf(err) != artifact.BlobUploadUnknown {
				t.Errorf("%s: Upload() = %v", what, err)
			}
		}
		good := start()
		if u, err := again.Append(t.Context(), "shop/app", good, 0, strings.NewReader("x")); err != nil || u.Size != 1 {
			t.Errorf("another replica: %+v, %v", u, err)
		}
		unknown("of another repository", "shop/other", good)
		name, _, _ := strings.Cut(good, ".")
		unknown("without a signature", "shop/app", name)
		unknown("with another signature", "shop/app", name+"."+strings.Repeat("0", 32))
		unknown("a path", "shop/app", "../../x")
		cancelled := start()
		if err := r.Cancel(t.Context(), "shop/app", cancelled); err != nil {
			t.Fatal(err)
		}
		unknown("cancelled", "shop/app", cancelled)
		if _, err := r.Finish(t.Context(), "shop/app", good, digest([]byte("x"))); err != nil {
			t.Fatal(err)
		}
		unknown("finished", "shop/app", good)
		if _, err := r.Finish(t.Context(), "shop/app", good, digest([]byte("x"))); artifact.CodeOf(err) != artifact.BlobUploadUnknown {
			t.Errorf("finished twice: %v", err)
		}
		empty := start()
		if _, err := r.Finish(t.Context(), "shop/app", empty, digest(nil)); err != nil {
			t.Errorf("an empty blob: %v", err)
		}
		unknown("finished empty", "shop/app", empty)
	})
}
