package evidence

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"

	"weir/internal/base/db"
	"weir/internal/guard/ledger"
)

// Log is what signing needs from the ledger, an RFC 6962 tree whose checkpoints
// are signed notes.
type Log interface {
	// Origin names the log; it is a host name and never changes.
	Origin() string
	PublicKey() ed25519.PublicKey
	// AppendRaw makes body a future leaf, in the caller's transaction.
	AppendRaw(ctx context.Context, tx *db.Tx, kind string, body []byte) (entryID string, err error)
	// Await waits until the entry has a position and a checkpoint covers it.
	Await(ctx context.Context, entryID string) (Proof, error)
}

// Rotating is a log whose key can be replaced.
type Rotating interface {
	Log
	// Prepare makes the next key, or returns the one that was made before. Keys lists it from then on.
	Prepare() (LogKey, error)
	// Next is the prepared private key, as its file has it.
	Next() ([]byte, error)
	// Switch makes the prepared key sign.
	Switch(ctx context.Context, reason string) (LogKey, error)
	// Keys lists all generations, the first one first.
	Keys() []LogKey
}

// LogKey is one generation of the log's key.
type LogKey = ledger.PublicKey

// logKeys lists the keys of a log.
func logKeys(log Log) []LogKey {
	if r, ok := log.(Rotating); ok {
		return r.Keys()
	}
	return []LogKey{{Number: 1, Public: log.PublicKey()}}
}

// Proof shows that an entry is in the log.
type Proof = ledger.Proof

// logID is how a bundle names the log: the C2SP key id, not shortened.
func logID(origin string, key ed25519.PublicKey) []byte {
	h := sha256.New()
	h.Write([]byte(origin + "\n\x01"))
	h.Write(key)
	return h.Sum(nil)
}
