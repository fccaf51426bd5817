package registry

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/artifactdb"
	"weir/internal/base/blob"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/id"
)

// uploadLife is how long an upload may be left alone.
const uploadLife = 24 * time.Hour

func uploadKey(given []byte) []byte {
	if len(given) > 0 {
		return given
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return key
}

// StartUpload begins a blob that comes in pieces. Nothing is stored before the first one: the id says by its signature that it was given
// out, and by its time how long it is good.
func (r *Registry) StartUpload(ctx context.Context, repository string) (artifact.Upload, error) {
	most, err := r.open(ctx, repository, 0)
	if err == nil && most <= 0 {
		err = r.room(ctx, r.db, repository, 1)
	}
	if err != nil {
		return artifact.Upload{}, err
	}
	u := artifact.Upload{ID: id.New("upload"), Repository: repository, Updated: time.Now()}
	u.ID += "." + r.signature(repository, u.ID)
	return u, nil
}

func (r *Registry) signature(repository, upload string) string {
	m := hmac.New(sha256.New, r.key)
	m.Write([]byte("weir upload 1\x00" + repository + "\x00" + upload))
	return hex.EncodeToString(m.Sum(nil)[:16])
}

// given reports whether an id was given out for a repository within the last day.
func (r *Registry) given(repository, upload string) (time.Time, bool) {
	name, mac, ok := strings.Cut(upload, ".")
	began, err := id.Time(name)
	if !ok || err != nil || !hmac.Equal([]byte(mac), []byte(r.signature(repository, name))) || time.Since(began) > uploadLife {
		return time.Time{}, false
	}
	return began, true
}

// Upload returns how far an upload has come, also after a restart.
func (r *Registry) Upload(ctx context.Context, repository, id string) (artifact.Upload, error) {
	return r.upload(ctx, r.db, repository, id)
}

// Append adds a piece at offset, which must be where the upload ends (-1 means
// there). Each piece is a blob of its own, so it is durable when Append returns
// and any replica may take the next one; only a small first piece may be held in
// memory where there are no other replicas.
func (r *Registry) Append(ctx context.Context, repository, id string, offset int64, body io.Reader) (artifact.Upload, error) {
	u, err := r.Upload(ctx, repository, id)
	if err != nil {
		return u, err
	}
	if offset >= 0 && offset != u.Size {
		return u, outOfOrder(u, offset)
	}
	// Other uploads on their way are not counted, so that the check when it arrives is the one that decides.
	most, err := r.open(ctx, repository, u.Size)
	if err != nil {
		return u, err
	}
	in := &limited{r: body, left: most}
	took, err := r.take(ctx, in)
	if err != nil {
		return u, r.explain(ctx, in, repository, u.Size+most, err)
	}
	if took.size == 0 {
		return u, nil
	}
	next := artifact.Upload{ID: id, Repository: repository, Size: u.Size + took.size, Updated: time.Now()}
	if r.hold(u, took) {
		return next, nil
	}
	err = r.db.Write(ctx, func(tx *db.Tx) error {
		now, err := r.upload(ctx, tx, repository, id)
		if err != nil {
			return err
		}
		if now.Size != u.Size { // another request was faster
			u = now
			return outOfOrder(now, u.Size)
		}
		if u.Size == 0 {
			err = r.rows.AddUpload(ctx, tx, u)
		} else {
			err = r.spill(ctx, tx, u)
		}
		if err != nil {
			return err
		}
		if err := r.keep(ctx, tx, took); err != nil {
			return err
		}
		return r.rows.AddChunk(ctx, tx, id, artifactdb.Chunk{At: u.Size, Size: took.size, Stored: took.stored}, next.Updated)
	})
	if err != nil {
		return u, err
	}
	r.held.drop(id)
	if took.head != nil {
		return next, nil // its bytes came with the row
	}
	return next, r.settled(ctx, took.stored, func(tx *db.Tx) error { return r.rows.RemoveUpload(ctx, tx, id, time.Now()) })
}

// Finish turns the pieces of an upload into a blob. Bytes that do not match the
// digest end the upload.
func (r *Registry) Finish(ctx context.Context, repository, id, digest string) (artifact.Descriptor, error) {
	if err := checkDigest(digest); err != nil {
		return artifact.Descriptor{}, err
	}
	u, err := r.Upload(ctx, repository, id)
	if err != nil {
		return artifact.Descriptor{}, err
	}
	if b, ok := r.held.get(repository, id); ok {
		return r.finishHeld(ctx, u, b, digest)
	}
	if err := r.lostPiece(u, digest); err != nil {
		return artifact.Descriptor{}, err
	}
	chunks, err := r.rows.Chunks(ctx, r.db, id)
	if err != nil {
		return artifact.Descriptor{}, err
	}
	b, t := artifactdb.Blob{Digest: digest, Size: u.Size}, taken{}
	if len(chunks) == 1 && string(chunks[0].Stored) == digest {
		b.Stored = chunks[0].Stored // one piece: it is the blob already
	} else if t, err = r.join(ctx, chunks, digest); err != nil {
		if artifact.CodeOf(err) == artifact.DigestInvalid {
			return artifact.Descriptor{}, errors.Join(err, r.Cancel(ctx, repository, id))
		}
		return artifact.Descriptor{}, err
	}
	if b.Stored == "" {
		b.Stored = t.stored
	}
	return r.add(ctx, repository, b, t, id)
}

// finishHeld is Finish for an upload of one piece, which is held.
func (r *Registry) finishHeld(ctx context.Context, u artifact.Upload, piece []byte, digest string) (artifact.Descriptor, error) {
	t, got, err := r.hashed(ctx, bytes.NewReader(piece), digest)
	if err == nil && got != digest {
		err = errors.Join(mismatch(digest, got), r.Cancel(ctx, u.Repository, u.ID))
	}
	if err != nil {
		return artifact.Descriptor{}, err
	}
	d, err := r.add(ctx, u.Repository, artifactdb.Blob{Digest: digest, Stored: t.stored, Size: t.size}, t, u.ID)
	if err == nil {
		r.held.drop(u.ID)
	}
	return d, err
}

// join copies chunks into one blob and checks its digest.
func (r *Registry) join(ctx context.Context, chunks []artifactdb.Chunk, digest string) (taken, error) {
	pieces := &pieceReader{ctx: ctx, blobs: r.blobs, rest: chunks}
	defer pieces.Close()
	t, got, err := r.hashed(ctx, pieces, digest)
	if err != nil {
		return t, fmt.Errorf("join pieces of %s: %w", digest, err)
	}
	if got != digest {
		r.drop(ctx, t)
		return t, mismatch(digest, got)
	}
	return t, nil
}

// Cancel forgets an upload.
func (r *Registry) Cancel(ctx context.Context, repository, id string) error {
	err := r.db.Write(ctx, func(tx *db.Tx) error {
		if _, err := r.upload(ctx, tx, repository, id); err != nil {
			return err
		}
		return r.rows.EndUpload(ctx, tx, repository, id, "", time.Now())
	})
	if err == nil {
		r.held.drop(id)
	}
	return err
}

func (r *Registry) upload(ctx context.Context, q db.Querier, repository, id string) (artifact.Upload, error) {
	if b, ok := r.held.get(repository, id); ok {
		return artifact.Upload{ID: id, Repository: repository, Size: int64(len(b)), Updated: time.Now()}, nil
	}
	u, found, err := r.rows.Upload(ctx, q, repository, id)
	if err == nil && !found {
		if began, ok := r.given(repository, id); ok {
			return artifact.Upload{ID: id, Repository: repository, Updated: began}, nil
		}
	}
	if err == nil && (!found || u.Size < 0) {
		err = artifact.Refuse(artifact.BlobUploadUnknown, fault.NotFound, "there is no upload %s in %s; it was finished, cancelled, or left alone for a day", id, repository)
	}
	return u, err
}

func outOfOrder(u artifact.Upload, offset int64) error {
	return fmt.Errorf("piece at %d of an upload that ends at %d: %w", offset, u.Size, artifact.ErrOutOfOrder)
}

// pieceReader reads pieces one after the other, with one of them open.
type pieceReader struct {
	ctx   context.Context // of the one call that the reader lives for
	blobs blob.Store
	rest  []artifactdb.Chunk
	open  io.ReadCloser
}

func (p *pieceReader) Read(b []byte) (int, error) {
	for {
		if p.open == nil {
			if len(p.rest) == 0 {
				return 0, io.EOF
			}
			rc, _, err := p.blobs.Open(p.ctx, p.rest[0].Stored)
			if err != nil {
				return 0, fmt.Errorf("open piece %s: %w", p.rest[0].Stored, err)
			}
			p.open, p.rest = rc, p.rest[1:]
		}
		n, err := p.open.Read(b)
		if err != io.EOF {
			return n, err
		}
		p.Close()
		if n > 0 {
			return n, nil
		}
	}
}

func (p *pieceReader) Close() {
	if p.open != nil {
		p.open.Close()
		p.open = nil
	}
}
