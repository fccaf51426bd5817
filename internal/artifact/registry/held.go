package registry

import (
	"bytes"
	"context"
	"sync"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/artifactdb"
	"weir/internal/base/db"
	"weir/internal/base/fault"
)

// maxHeld bounds how many pieces are held, of at most blob.Small bytes each.
const maxHeld = 1024

// held keeps the first piece of an upload in memory if it is a small one and no other replica could be asked for the next: most
// blobs are small and come in one piece, and storing it with its blob saves one of two waits for the disk. What is held is lost with
// the process; the client is then told that its upload is unknown, and begins it again.
type held struct {
	began time.Time // of this process
	mu    sync.Mutex
	byID  map[string]heldPiece
}

type heldPiece struct {
	repository string
	bytes      []byte
	since      time.Time
}

func (h *held) get(repository, id string) ([]byte, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.byID[id]
	return p.bytes, ok && p.repository == repository
}

// put holds a piece, unless there are too many or the upload has one.
func (h *held) put(repository, id string, b []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, taken := h.byID[id]; taken || len(h.byID) >= maxHeld {
		return false
	}
	if h.byID == nil {
		h.byID = map[string]heldPiece{}
	}
	h.byID[id] = heldPiece{repository, b, time.Now()}
	return true
}

func (h *held) drop(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.byID, id)
}

// forget drops what was held before a time.
func (h *held) forget(before time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, p := range h.byID {
		if p.since.Before(before) {
			delete(h.byID, id)
		}
	}
}

// hold reports whether a first piece was taken into memory.
func (r *Registry) hold(u artifact.Upload, t taken) bool {
	return t.head != nil && u.Size == 0 && r.db.Ordered() && r.held.put(u.Repository, u.ID, t.head)
}

// spill stores the piece that is held of an upload, before the next one follows.
func (r *Registry) spill(ctx context.Context, tx *db.Tx, u artifact.Upload) error {
	b, ok := r.held.get(u.Repository, u.ID)
	if !ok {
		return nil
	}
	t, err := r.take(ctx, bytes.NewReader(b))
	if err != nil {
		return err
	}
	if err := r.rows.AddUpload(ctx, tx, artifact.Upload{ID: u.ID, Repository: u.Repository, Updated: u.Updated}); err != nil {
		return err
	}
	if err := r.keep(ctx, tx, t); err != nil {
		return err
	}
	return r.rows.AddChunk(ctx, tx, u.ID, artifactdb.Chunk{Size: t.size, Stored: t.stored}, u.Updated)
}

// lostPiece refuses to end an upload of which nothing is known and whose first piece this process may have lost by being started
// again.
func (r *Registry) lostPiece(u artifact.Upload, digest string) error {
	if u.Size > 0 || !r.db.Ordered() || !u.Updated.Before(r.held.began) || digest == name(digest, hasher(digest)) {
		return nil
	}
	return artifact.Refuse(artifact.BlobUploadUnknown, fault.NotFound, "nothing is left of the upload %s in %s, because the server was started again; begin it again", u.ID, u.Repository)
}
