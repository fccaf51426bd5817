// Package evidencetest lets tests sign evidence with real keys and a real
// Merkle log that lives in memory.
package evidencetest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"weir/internal/base/db"
	"weir/internal/base/id"
	"weir/internal/guard/evidence"
	"weir/internal/guard/evidence/evidencedb"
)

// Issuer is the installation that tests sign as.
const Issuer = "https://weir.test"

// New returns a service over d with fresh keys and an in-memory log.
func New(t testing.TB, d *db.DB, now func() time.Time) *evidence.Service {
	t.Helper()
	return With(t, d, NewLog(t), filepath.Join(t.TempDir(), "keys"), now)
}

// With returns a service over d, log and the keys in dir.
func With(t testing.TB, d *db.DB, log evidence.Log, dir string, now func() time.Time) *evidence.Service {
	t.Helper()
	if err := evidencedb.Migrate(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if now != nil {
		start = now()
	}
	a, err := evidence.OpenKeys(dir, Issuer, evidence.Places{}, start)
	if err != nil {
		t.Fatal(err)
	}
	s, err := evidence.New(evidencedb.New(d), log, a, now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Log is an RFC 6962 log in memory that gives positions at once.
type Log struct {
	signer note.Signer
	public ed25519.PublicKey

	mu      sync.Mutex
	hashes  []tlog.Hash // stored hashes, as tlog lays them out
	size    int64
	index   map[string]int64 // by entry id
	Awaited func() error     // called by Await when not nil; an error is passed on
}

// Origin names the log.
func (l *Log) Origin() string { return "log.weir.test" }

// PublicKey is the key of the log's checkpoints.
func (l *Log) PublicKey() ed25519.PublicKey { return l.public }

// NewLog returns an empty log with a fresh key.
func NewLog(t testing.TB) *Log {
	t.Helper()
	private, verifier, err := note.GenerateKey(rand.Reader, "log.weir.test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(verifier[len("log.weir.test+01234567+"):])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(raw[1:])); err != nil {
		t.Fatal(err)
	}
	return &Log{signer: signer, public: raw[1:], index: map[string]int64{}}
}

// Size is how many entries the log has.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// AppendRaw adds body. Unlike the ledger it does not wait for the commit, so an
// entry of a transaction that fails stays in the log.
func (l *Log) AppendRaw(_ context.Context, _ *db.Tx, _ string, body []byte) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	more, err := tlog.StoredHashes(l.size, body, l)
	if err != nil {
		return "", err
	}
	entry := id.New("entry")
	l.index[entry] = l.size
	l.hashes = append(l.hashes, more...)
	l.size++
	return entry, nil
}

// ReadHashes implements tlog.HashReader.
func (l *Log) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		out[i] = l.hashes[at]
	}
	return out, nil
}

// Await returns the proof of an entry in the tree as it is now.
func (l *Log) Await(_ context.Context, entry string) (evidence.Proof, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Awaited != nil {
		if err := l.Awaited(); err != nil {
			return evidence.Proof{}, err
		}
	}
	at, ok := l.index[entry]
	if !ok {
		return evidence.Proof{}, fmt.Errorf("no entry %s", entry)
	}
	proof, err := tlog.ProveRecord(l.size, at, l)
	if err != nil {
		return evidence.Proof{}, err
	}
	root, err := tlog.TreeHash(l.size, l)
	if err != nil {
		return evidence.Proof{}, err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", l.Origin(), l.size, base64.StdEncoding.EncodeToString(root[:]))
	checkpoint, err := note.Sign(&note.Note{Text: text}, l.signer)
	if err != nil {
		return evidence.Proof{}, err
	}
	p := evidence.Proof{Index: at, TreeSize: l.size, RootHash: root[:], Checkpoint: string(checkpoint)}
	for _, h := range proof {
		p.Hashes = append(p.Hashes, h[:])
	}
	return p, nil
}
