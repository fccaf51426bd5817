package registry

import (
	"context"
	"io"

	"weir/internal/base/blob"
	"weir/internal/base/db"
)

// inTx is a store that can put small blobs in the transaction which needs them.
type inTx interface {
	PutIn(ctx context.Context, tx *db.Tx, b []byte) (blob.Digest, error)
}

// taken is a body that was read: bytes that are stored, or small ones that a transaction will store.
type taken struct {
	head   []byte // of a small one
	stored blob.Digest
	size   int64
}

// take reads a body.
func (r *Registry) take(ctx context.Context, body io.Reader) (taken, error) {
	if _, ok := r.blobs.(inTx); ok {
		head, rest, err := blob.Head(body)
		if err != nil {
			return taken{}, err
		}
		if rest == nil {
			return taken{head: head, size: int64(len(head)), stored: blob.Digest(sumOf("sha256:", head))}, nil
		}
		body = rest
	}
	stored, size, err := r.blobs.Put(ctx, body)
	return taken{stored: stored, size: size}, err
}

// keep stores small bytes; others are stored already.
func (r *Registry) keep(ctx context.Context, tx *db.Tx, t taken) error {
	if t.head == nil {
		return nil
	}
	_, err := r.blobs.(inTx).PutIn(ctx, tx, t.head)
	return err
}
