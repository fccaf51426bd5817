// Package registry is an OCI registry (distribution 1.1) over a blob store and
// rows: blobs, manifests, tags, referrers. The protocol is edge/ocid's.
//
// Promises: what a method has acknowledged survives power loss, also a piece of
// an upload; a manifest is stored byte for byte and only when everything it
// names is there; a release tag, once set, names the same digest for ever, and
// that digest cannot be deleted; a blob is readable only through a repository
// that it was pushed or mounted to.
//
// The blob store belongs to the artifact layer: Sweep removes from it what no
// row of the layer needs.
package registry

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/artifactdb"
	"weir/internal/base/blob"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

// Limits bound what a client may send.
type Limits struct {
	Blob     int64        // bytes; 0 means 10 GiB
	Manifest int64        // bytes; 0 means 4 MiB
	Key      []byte       // with which ids of uploads are signed, the same on all replicas; random if empty
	Room     func() error // refuses while there is no room for more bytes; nil never does
	Foreign  bool         // whether layers may stay elsewhere, named by urls
	Quota    int64        // bytes of a repository for which none was set; 0 means no limit
	// ReferrersPage is how many bytes of JSON one answer lists of what refers to a manifest; 0 means 3 MiB.
	ReferrersPage int
}

// Registry holds images. Its methods are safe for concurrent use.
type Registry struct {
	rows   artifactdb.Registry
	db     *db.DB
	blobs  blob.Store
	limits Limits
	key    []byte // of upload ids
	ledger artifact.Ledger
	held   held
}

// Record has every deletion written down.
func (r *Registry) Record(l artifact.Ledger) *Registry {
	r.ledger = l
	return r
}

func (r *Registry) record(ctx context.Context, tx *db.Tx, action, subject string, data map[string]any) error {
	if r.ledger == nil {
		return nil
	}
	return r.ledger(ctx, tx, artifact.Entry{Actor: identity.From(ctx).Name, Action: action, Subject: subject, Data: data})
}

// New returns the registry of a database and a blob store.
func New(d *db.DB, blobs blob.Store, l Limits) *Registry {
	if l.Blob == 0 {
		l.Blob = 10 << 30
	}
	if l.Manifest == 0 {
		l.Manifest = 4 << 20
	}
	if l.ReferrersPage == 0 {
		l.ReferrersPage = 3 << 20 // clients read no more than a manifest may have
	}
	return &Registry{rows: artifactdb.Registry{DB: d}, db: d, blobs: blobs, limits: l, key: uploadKey(l.Key), held: held{began: time.Now()}}
}

// MaxManifest is the largest manifest that may be put.
func (r *Registry) MaxManifest() int64 { return r.limits.Manifest }

// Blob describes a blob of a repository.
func (r *Registry) Blob(ctx context.Context, repository, digest string) (artifact.Descriptor, error) {
	b, err := r.find(ctx, r.db, repository, digest)
	return descriptor(b), err
}

// OpenBlob opens a blob of a repository. The caller closes.
func (r *Registry) OpenBlob(ctx context.Context, repository, digest string) (io.ReadSeekCloser, artifact.Descriptor, error) {
	b, err := r.find(ctx, r.db, repository, digest)
	if err != nil {
		return nil, artifact.Descriptor{}, err
	}
	rc, _, err := r.blobs.Open(ctx, b.Stored)
	if err != nil {
		return nil, artifact.Descriptor{}, r.lost(ctx, artifact.BlobUnknown, "the blob "+digest, b.Stored, err)
	}
	return rc, descriptor(b), nil
}

// Want is OpenBlob for somebody who only asks whether the blob is there: a client that is about to name it in a manifest. One that no
// manifest names stays for a day from then.
func (r *Registry) Want(ctx context.Context, repository, digest string) (artifact.Descriptor, error) {
	b, err := r.find(ctx, r.db, repository, digest)
	if err != nil {
		return artifact.Descriptor{}, err
	}
	if _, err := r.blobs.Stat(ctx, b.Stored); err != nil {
		return artifact.Descriptor{}, r.lost(ctx, artifact.BlobUnknown, "the blob "+digest, b.Stored, err)
	}
	return descriptor(b), r.rows.Want(ctx, repository, digest, time.Now(), wantedEvery)
}

// DeleteBlob takes a blob out of a repository, unless a manifest names it.
func (r *Registry) DeleteBlob(ctx context.Context, repository, digest string) error {
	return r.db.Write(ctx, func(tx *db.Tx) error {
		b, err := r.find(ctx, tx, repository, digest)
		if err != nil {
			return err
		}
		parents, err := r.rows.Parents(ctx, tx, repository, digest, false)
		if err != nil {
			return err
		}
		if len(parents) > 0 {
			return artifact.Refuse(artifact.Denied, fault.Denied, "the manifest %s of %s names the blob %s, so it cannot be deleted; delete the manifest first", parents[0], repository, digest)
		}
		if err := r.record(ctx, tx, "registry.deleted", repository+"@"+digest, map[string]any{"what": "blob", "size": b.Size}); err != nil {
			return err
		}
		return r.rows.RemoveBlob(ctx, tx, repository, b, time.Now())
	})
}

// Mount puts a blob of another repository into this one. The caller has asked
// whether the actor may read the other one. It reports false if there is no
// such blob.
func (r *Registry) Mount(ctx context.Context, repository, from, digest string) (bool, error) {
	if err := checkDigest(digest); err != nil {
		return false, err
	}
	mounted := false
	err := r.db.Write(ctx, func(tx *db.Tx) error {
		b, found, err := r.rows.Blob(ctx, tx, from, digest)
		mounted = found
		if err != nil || !found {
			return err
		}
		return r.mount(ctx, tx, repository, b)
	})
	return mounted, err
}

// addBlob puts a blob that was just stored into a repository, if it has room.
func (r *Registry) addBlob(ctx context.Context, tx *db.Tx, repository string, b artifactdb.Blob) error {
	if err := r.healed(ctx, tx, b.Stored); err != nil {
		return err
	}
	return r.mount(ctx, tx, repository, b)
}

// mount puts a blob that is stored into a repository, if it has room.
func (r *Registry) mount(ctx context.Context, tx *db.Tx, repository string, b artifactdb.Blob) error {
	_, found, err := r.rows.Blob(ctx, tx, repository, b.Digest)
	if err != nil {
		return err
	}
	if !found {
		if err := r.room(ctx, tx, repository, b.Size); err != nil {
			return err
		}
	}
	return r.rows.AddBlob(ctx, tx, repository, b, time.Now())
}

// PutBlob stores a blob in one go.
func (r *Registry) PutBlob(ctx context.Context, repository, digest string, body io.Reader) (artifact.Descriptor, error) {
	if err := checkDigest(digest); err != nil {
		return artifact.Descriptor{}, err
	}
	most, err := r.open(ctx, repository, 0)
	if err != nil {
		return artifact.Descriptor{}, err
	}
	if _, found, err := r.rows.Blob(ctx, r.db, repository, digest); err != nil || found {
		most = r.limits.Blob // it is in the quota already
	}
	in := &limited{r: body, left: most}
	t, got, err := r.hashed(ctx, in, digest)
	if err != nil {
		return artifact.Descriptor{}, r.explain(ctx, in, repository, most, err)
	}
	if got != digest {
		r.drop(ctx, t)
		return artifact.Descriptor{}, mismatch(digest, got)
	}
	return r.add(ctx, repository, artifactdb.Blob{Digest: digest, Stored: t.stored, Size: t.size}, t, "")
}

// add stores the row of a blob and ends its upload, if there was one.
func (r *Registry) add(ctx context.Context, repository string, b artifactdb.Blob, t taken, upload string) (artifact.Descriptor, error) {
	err := r.db.Write(ctx, func(tx *db.Tx) error {
		if err := r.keep(ctx, tx, t); err != nil {
			return err
		}
		if _, held := r.held.get(repository, upload); held {
			if err := r.rows.MarkEnded(ctx, tx, repository, upload, time.Now()); err != nil {
				return err
			}
		} else if upload != "" {
			if err := r.rows.EndUpload(ctx, tx, repository, upload, b.Stored, time.Now()); err != nil {
				return err
			}
		}
		return r.addBlob(ctx, tx, repository, b)
	})
	if artifact.CodeOf(err) == artifact.Denied {
		r.drop(ctx, t)
	}
	if err != nil {
		return artifact.Descriptor{}, fmt.Errorf("store blob %s of %s: %w", b.Digest, repository, err)
	}
	if t.head != nil {
		return descriptor(b), nil // they came with the row
	}
	return descriptor(b), r.settled(ctx, b.Stored, func(tx *db.Tx) error { return r.rows.RemoveBlob(ctx, tx, repository, b, time.Now()) })
}

// Repositories lists the names of all repositories.
func (r *Registry) Repositories(ctx context.Context) ([]string, error) {
	return r.rows.Repositories(ctx)
}

// UsedBytes is what a repository takes of its quota.
func (r *Registry) UsedBytes(ctx context.Context, repository string) (int64, error) {
	return r.rows.Used(ctx, r.db, repository)
}

func (r *Registry) find(ctx context.Context, q db.Querier, repository, digest string) (artifactdb.Blob, error) {
	if err := checkDigest(digest); err != nil {
		return artifactdb.Blob{}, err
	}
	b, found, err := r.rows.Blob(ctx, q, repository, digest)
	if err == nil && !found {
		err = artifact.Refuse(artifact.BlobUnknown, fault.NotFound, "the repository %s has no blob %s", repository, digest)
	}
	return b, err
}

// hashed takes a body and returns its digest by the algorithm of like. It is hashed twice only if that is not the store's own.
func (r *Registry) hashed(ctx context.Context, body io.Reader, like string) (taken, string, error) {
	if strings.HasPrefix(like, "sha256:") {
		t, err := r.take(ctx, body)
		return t, string(t.stored), err
	}
	h := hasher(like)
	t, err := r.take(ctx, io.TeeReader(body, h))
	return t, name(like, h), err
}

// drop gives up what was taken.
func (r *Registry) drop(ctx context.Context, t taken) {
	if t.head == nil && t.stored != "" {
		r.discard(ctx, t.stored)
	}
}

// discard lists bytes as garbage whose push was refused.
func (r *Registry) discard(ctx context.Context, stored blob.Digest) {
	_ = r.db.Write(context.WithoutCancel(ctx), func(tx *db.Tx) error {
		return r.rows.Discard(ctx, tx, stored, time.Now())
	})
}

// Sweep forgets uploads nobody has touched for a day and removes bytes that
// nothing has needed for an hour. It returns how many blobs it removed. Only
// one replica sweeps at a time; the caller holds a lease.
func (r *Registry) Sweep(ctx context.Context, now time.Time) (removed int, err error) {
	r.held.forget(now.Add(-uploadLife))
	stale, err := r.rows.StaleUploads(ctx, now.Add(-24*time.Hour), 1000)
	if err != nil {
		return 0, err
	}
	for _, id := range stale {
		if err := r.db.Write(ctx, func(tx *db.Tx) error { return r.rows.RemoveUpload(ctx, tx, id, now) }); err != nil {
			return 0, err
		}
	}
	garbage, err := r.rows.Garbage(ctx, now.Add(-time.Hour), 1000)
	if err != nil {
		return 0, err
	}
	for _, stored := range garbage {
		gone, err := r.remove(ctx, stored)
		if err != nil {
			return removed, fmt.Errorf("remove blob %s: %w", stored, err)
		}
		if gone {
			removed++
		}
	}
	return removed, nil
}

// remove condemns bytes, deletes them, and takes them off the list. After a crash
// in between, the next sweep finds them on the list again.
func (r *Registry) remove(ctx context.Context, stored string) (bool, error) {
	condemned, err := r.rows.Condemn(ctx, stored)
	if err != nil || !condemned {
		return false, err
	}
	if err := r.blobs.Delete(ctx, blob.Digest(stored)); err != nil {
		return false, err
	}
	return true, r.rows.Forget(ctx, stored)
}

// settled looks whether bytes are still there after their row was stored. They
// are gone if a sweep on another replica ran from end to end between the two;
// then undo removes the row and the client pushes again.
func (r *Registry) settled(ctx context.Context, stored blob.Digest, undo func(*db.Tx) error) error {
	_, err := r.blobs.Stat(ctx, stored)
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	return errors.Join(fault.New(fault.Unavailable, "the same bytes were being removed at this moment; push again"), r.db.Write(ctx, undo))
}

func descriptor(b artifactdb.Blob) artifact.Descriptor {
	return artifact.Descriptor{MediaType: "application/octet-stream", Digest: b.Digest, Size: b.Size}
}

func checkDigest(d string) error {
	if !artifact.ValidDigest(d) {
		return artifact.Refuse(artifact.DigestInvalid, fault.Invalid, "%q is not a digest; write sha256: and 64 hexadecimal digits, or sha512: and 128", d)
	}
	return nil
}

func mismatch(want, got string) error {
	return artifact.Refuse(artifact.DigestInvalid, fault.Invalid, "the bytes have digest %s, not %s as announced; they were damaged on the way or the digest is of something else", got, want)
}

func hasher(digest string) hash.Hash {
	if strings.HasPrefix(digest, "sha512:") {
		return sha512.New()
	}
	return sha256.New()
}

// name is the digest of what h has seen, by the algorithm of like.
func name(like string, h hash.Hash) string {
	alg, _, _ := strings.Cut(like, ":")
	return alg + ":" + hex.EncodeToString(h.Sum(nil))
}

// limited reads at most left bytes and remembers whether there were more.
type limited struct {
	r    io.Reader
	left int64
	over bool
	err  error // the client's, if reading from it failed
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		var one [1]byte
		n, err := l.r.Read(one[:])
		if n > 0 {
			l.over = true
			return 0, io.ErrUnexpectedEOF
		}
		return 0, err
	}
	p = p[:min(int64(len(p)), l.left)]
	n, err := l.r.Read(p)
	l.left -= int64(n)
	if err != nil && err != io.EOF {
		l.err = err
	}
	return n, err
}

// explain is in's, unless it is the quota that most comes from.
func (r *Registry) explain(ctx context.Context, in *limited, repository string, most int64, err error) error {
	if in.over && most < r.limits.Blob {
		if err := r.room(ctx, r.db, repository, most+1); err != nil {
			return err
		}
	}
	return in.explain(err, r.limits.Blob)
}

func (l *limited) explain(err error, limit int64) error {
	switch {
	case l.over:
		return artifact.Refuse(artifact.SizeInvalid, fault.Invalid, "the upload is larger than %d bytes, the most this registry takes for one blob", limit)
	case l.err != nil:
		return artifact.Refuse(artifact.BlobUploadInvalid, fault.Invalid, "the upload broke off before its end; send it again")
	}
	return fmt.Errorf("store blob: %w", err)
}

// Tags lists up to n tags after last (n < 0: all) in ASCII order, and whether
// there are more.
func (r *Registry) Tags(ctx context.Context, repository, last string, n int) ([]string, bool, error) {
	exists, err := r.rows.Exists(ctx, repository)
	if err != nil {
		return nil, false, err
	}
	if !exists {
		return nil, false, artifact.Refuse(artifact.NameUnknown, fault.NotFound, "there is no repository %s", repository)
	}
	tags, err := r.rows.Tags(ctx, repository)
	if err != nil {
		return nil, false, err
	}
	slices.Sort(tags)
	at, found := slices.BinarySearch(tags, last)
	if found {
		at++
	}
	tags = tags[at:]
	if n >= 0 && n < len(tags) {
		return tags[:n], true, nil
	}
	return tags, false, nil
}
