package ledger

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"golang.org/x/mod/sumdb/tlog"

	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/id"
	"weir/internal/guard/identity"
)

//go:embed migrations
var migrations embed.FS

const (
	topicAppended  = "ledger:appended"
	topicSequenced = "ledger:sequenced"
	org            = "default"
)

// EntryType names the shape of an audit entry's leaf.
const EntryType = "weir.entry/v1"

// Log is the ledger of one instance.
type Log struct {
	db      *db.DB
	keys    *Keys
	anchors []Anchor
}

// Open brings the tables up to date and refuses a database that belongs to
// another log, or that is older than a checkpoint that was already signed.
func Open(ctx context.Context, d *db.DB, keys *Keys, anchors ...Anchor) (*Log, error) {
	if err := db.Migrate(ctx, d, "ledger", migrations); err != nil {
		return nil, err
	}
	l := &Log{db: d, keys: keys, anchors: anchors}
	if err := l.claim(ctx); err != nil {
		return nil, err
	}
	if err := l.follow(ctx, d); err != nil {
		return nil, err
	}
	return l, l.checkAnchors(ctx)
}

// claim writes origin and public key once, and afterwards insists on them.
func (l *Log) claim(ctx context.Context) error {
	pub := base64.StdEncoding.EncodeToString(l.keys.first())
	return l.db.Write(ctx, func(tx *db.Tx) error {
		var origin, known string
		err := tx.QueryRow(ctx, "select origin, public_key from ledger_identity where org = ?", org).Scan(&origin, &known)
		if errors.Is(err, sql.ErrNoRows) {
			_, err = tx.Exec(ctx, "insert into ledger_identity (org, origin, public_key) values (?, ?, ?)", org, l.keys.Origin, pub)
			return err
		}
		if err != nil {
			return err
		}
		if origin != l.keys.Origin || known != pub {
			return fault.New(fault.Conflict, "This database belongs to the log %q, signed with another key than the one in this data folder (%q). Start with the data folder that made the database, or copy its keys folder here.", origin, l.keys.Origin)
		}
		return nil
	})
}

// Origin names the log. It was fixed at first start.
func (l *Log) Origin() string { return l.keys.Origin }

// PublicKey verifies the checkpoints that the log signs now.
func (l *Log) PublicKey() ed25519.PublicKey { return l.keys.current().Public }

// VerifierKey is the public key in the form of golang.org/x/mod/sumdb/note.
func (l *Log) VerifierKey() string { return VerifierKey(l.keys.Origin, l.PublicKey()) }

// VerifierKeys are those of all generations, the one that signs now last.
func (l *Log) VerifierKeys() []string { return l.keys.verifiers() }

// Keys lists all generations of keys, the first one first, and last the one that is about to sign, if there is one.
func (l *Log) Keys() []PublicKey { return l.keys.list() }

// Entry is what was done, by whom, to what. Data is marshalled to JSON.
type Entry struct {
	Actor   identity.Actor
	Action  string // a dotted verb: "change.landed"
	Subject string // an id, a digest or a revision
	Data    any
}

// leaf is what an audit entry looks like in the tree.
type leaf struct {
	Type    string `json:"type"`
	ID      string `json:"id"`
	Org     string `json:"org"`
	Time    string `json:"time"`
	Actor   actor  `json:"actor"`
	Action  string `json:"action"`
	Subject string `json:"subject"`
	Data    any    `json:"data,omitempty"`
}

type actor struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Kind string `json:"kind"`
}

// Append records an action in the transaction that carries it out, and returns
// the id of the entry.
func (l *Log) Append(ctx context.Context, tx *db.Tx, e Entry) (string, error) {
	entryID, now := id.New("entry"), time.Now().UTC()
	raw, err := json.Marshal(leaf{
		Type: EntryType, ID: entryID, Org: org, Time: now.Format(time.RFC3339Nano),
		Actor:  actor{e.Actor.ID, e.Actor.Name, e.Actor.Kind},
		Action: e.Action, Subject: e.Subject, Data: e.Data,
	})
	if err != nil {
		return "", fmt.Errorf("ledger entry %s: %w", e.Action, err)
	}
	body, err := jsoncanonicalizer.Transform(raw)
	if err != nil {
		return "", fmt.Errorf("ledger entry %s: %w", e.Action, err)
	}
	return entryID, l.insert(ctx, tx, entryID, "entry", e.Actor.Name, e.Action, e.Subject, body, now)
}

// AppendRaw makes body a leaf as it is: the log entry of a signature.
func (l *Log) AppendRaw(ctx context.Context, tx *db.Tx, kind string, body []byte) (string, error) {
	entryID := id.New("entry")
	return entryID, l.insert(ctx, tx, entryID, kind, "", "", "", body, time.Now().UTC())
}

func (l *Log) insert(ctx context.Context, tx *db.Tx, entryID, kind, actor, action, subject string, body []byte, at time.Time) error {
	_, err := tx.Exec(ctx, "insert into ledger_entry (org, id, kind, actor, action, subject, leaf, at) values (?, ?, ?, ?, ?, ?, ?, ?)",
		org, entryID, kind, actor, action, subject, string(body), at.UnixMicro())
	if err != nil {
		return fmt.Errorf("append ledger entry %s: %w", action, err)
	}
	tx.Wake(topicAppended)
	return nil
}

// Proof shows that an entry is in the tree that a checkpoint signs.
type Proof struct {
	Index    int64    // position of the entry, from 0
	TreeSize int64    // entries that the checkpoint covers
	RootHash []byte   // 32 bytes
	Hashes   [][]byte // RFC 6962 inclusion path, leaf to root
	// Checkpoint is the signed note, and Key is whose signature it has.
	Checkpoint string
	Key        ed25519.PublicKey
}

// Await waits until an entry has a position and a checkpoint covers it.
func (l *Log) Await(ctx context.Context, entryID string) (Proof, error) {
	sequenced, cancel := l.db.Subscribe(topicSequenced)
	defer cancel()
	for {
		p, err := l.Prove(ctx, entryID)
		if err == nil || !errors.Is(err, errUnsequenced) {
			return p, err
		}
		select {
		case <-ctx.Done():
			return Proof{}, ctx.Err()
		case <-sequenced:
		case <-time.After(time.Second):
		}
	}
}

var errUnsequenced = fault.New(fault.Unavailable, "The entry is recorded but has no place in the tree yet. Ask again in a moment.")

// Prove returns the inclusion proof of an entry under the newest checkpoint.
func (l *Log) Prove(ctx context.Context, entryID string) (Proof, error) {
	var position sql.NullInt64
	err := l.db.QueryRow(ctx, "select position from ledger_entry where id = ?", entryID).Scan(&position)
	if errors.Is(err, sql.ErrNoRows) {
		return Proof{}, fault.New(fault.NotFound, "The ledger has no entry %s.", entryID)
	}
	if err != nil {
		return Proof{}, err
	}
	if !position.Valid {
		return Proof{}, errUnsequenced
	}
	cp, by, err := l.head(ctx, l.db)
	if err != nil {
		return Proof{}, err
	}
	path, err := tlog.ProveRecord(cp.Size, position.Int64, hashReader{ctx, l.db})
	if err != nil {
		return Proof{}, fmt.Errorf("prove entry %s: %w", entryID, err)
	}
	p := Proof{Index: position.Int64, TreeSize: cp.Size, RootHash: cp.Root[:], Checkpoint: cp.Note, Key: by}
	for _, h := range path {
		p.Hashes = append(p.Hashes, h[:])
	}
	return p, nil
}

// Head returns the newest checkpoint; its size is 0 before the first entry.
func (l *Log) Head(ctx context.Context) (Checkpoint, error) {
	cp, _, err := l.head(ctx, l.db)
	return cp, err
}

func (l *Log) head(ctx context.Context, q db.Querier) (Checkpoint, ed25519.PublicKey, error) {
	var note string
	err := q.QueryRow(ctx, "select note from ledger_checkpoint order by size desc limit 1").Scan(&note)
	if errors.Is(err, sql.ErrNoRows) {
		return Checkpoint{Origin: l.keys.Origin}, nil, nil
	}
	if err != nil {
		return Checkpoint{}, nil, err
	}
	cp, by, err := l.keys.parse(note)
	if err != nil { // another server may have gone over to a new key
		if ferr := l.follow(ctx, q); ferr != nil {
			return Checkpoint{}, nil, ferr
		}
		cp, by, err = l.keys.parse(note)
	}
	return cp, by, err
}

// hashReader reads the stored hashes of the tree.
type hashReader struct {
	ctx context.Context
	q   db.Querier
}

func (r hashReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, idx := range indexes {
		var text string
		if err := r.q.QueryRow(r.ctx, "select hash from ledger_hash where idx = ?", idx).Scan(&text); err != nil {
			return nil, fmt.Errorf("read tree hash %d: %w", idx, err)
		}
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != tlog.HashSize {
			return nil, fmt.Errorf("tree hash %d is not a hash", idx)
		}
		copy(hashes[i][:], b)
	}
	return hashes, nil
}
