package ledger

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

// PublicKey is one generation of the log's key: the public half, and the part of the log whose checkpoints it signs.
type PublicKey struct {
	Number  int               `json:"number"`
	Public  ed25519.PublicKey `json:"public"`
	Start   int64             `json:"start"` // it signs checkpoints of more entries than these
	Created time.Time         `json:"created,omitzero"`
	Reason  string            `json:"reason,omitempty"`
	// Handover is what the key before it signed. The first one has none: it is what everything else rests on.
	Handover []byte `json:"handover,omitempty"`
}

// handover is what a key signs to hand the log to its successor.
func (k PublicKey) handover(origin string) []byte {
	return fmt.Appendf(nil, "weir log key handover v1\n%s\n%d\n%d\n%s\n", origin, k.Number, k.Start, base64.StdEncoding.EncodeToString(k.Public))
}

// Keys are all generations of keys that a log has signed with. The last one signs. Private halves of former ones are gone.
//
// log.key is the private key of the first generation, log-N.key that of generation N, and log-keys.json lists the public ones once there are several. Which
// one signs stands in the database, so that all servers change at the same entry; that it may is signed by the one before it.
type Keys struct {
	Origin string
	path   string // of log.key

	mu      sync.RWMutex
	all     []PublicKey
	private map[int]*Key
}

// LoadKey reads the keys of a log beside the file of the first one, or makes that (mode 0600) if there is none.
func LoadKey(path, origin string) (*Keys, error) {
	k := &Keys{Origin: origin, path: path, private: map[int]*Key{}}
	raw, err := os.ReadFile(k.listFile())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		first, err := readKey(path, origin)
		if errors.Is(err, fs.ErrNotExist) {
			first, err = newKey(path, origin)
		}
		if err != nil {
			return nil, err
		}
		k.all, k.private[1] = []PublicKey{{Number: 1, Public: first.Public()}}, first
	case err != nil:
		return nil, fmt.Errorf("read log keys: %w", err)
	default:
		if err := json.Unmarshal(raw, &k.all); err != nil || len(k.all) == 0 {
			return nil, fault.New(fault.Invalid, "The list of log keys %s is damaged. Restore it from a backup; the ledger cannot go on without it.", k.listFile())
		}
		for i, p := range k.all {
			if p.Number != i+1 || len(p.Public) != ed25519.PublicKeySize || i > 0 && !ed25519.Verify(k.all[i-1].Public, p.handover(origin), p.Handover) {
				return nil, fault.New(fault.Invalid, "The list of log keys %s is damaged: generation %d was not signed by the one before it. Restore it from a backup; the ledger cannot go on without it.", k.listFile(), i+1)
			}
		}
	}
	return k, k.loadPrivate()
}

func (k *Keys) listFile() string { return filepath.Join(filepath.Dir(k.path), "log-keys.json") }

func (k *Keys) file(number int) string {
	if number == 1 {
		return k.path
	}
	return filepath.Join(filepath.Dir(k.path), "log-"+strconv.Itoa(number)+".key")
}

// loadPrivate reads the private key that signs, and the one that is to sign next, where they are there.
func (k *Keys) loadPrivate() error {
	for n := len(k.all); n <= len(k.all)+1; n++ {
		if k.private[n] != nil {
			continue
		}
		key, err := readKey(k.file(n), k.Origin)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if n == len(k.all) && !key.Public().Equal(k.all[n-1].Public) {
			return fault.New(fault.Invalid, "The log key %s is another one than the generation %d that signs the ledger. Restore it from a backup; the ledger cannot go on without it.", k.file(n), n)
		}
		k.private[n] = key
	}
	return nil
}

func (k *Keys) first() ed25519.PublicKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.all[0].Public
}

func (k *Keys) current() PublicKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.all[len(k.all)-1]
}

func (k *Keys) verifiers() (out []string) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, p := range k.all {
		out = append(out, VerifierKey(k.Origin, p.Public))
	}
	return out
}

// list is all generations, and the one that is about to sign.
func (k *Keys) list() []PublicKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := slices.Clone(k.all)
	if next := k.private[len(k.all)+1]; next != nil {
		out = append(out, PublicKey{Number: len(k.all) + 1, Public: next.Public()})
	}
	return out
}

// parse verifies a checkpoint of the log: by the key whose part of the log it is about. A former key, whoever has it now, signs nothing newer.
func (k *Keys) parse(signed string) (Checkpoint, ed25519.PublicKey, error) {
	cp, by, err := parseCheckpoint(signed, k.verifiers())
	if err != nil {
		return cp, nil, err
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if by > 0 && cp.Size <= k.all[by].Start || by+1 < len(k.all) && cp.Size > k.all[by+1].Start {
		return cp, nil, fault.New(fault.Denied, "The checkpoint of %d entries is signed by generation %d of the log's keys, which does not sign that part of the log.", cp.Size, by+1)
	}
	return cp, k.all[by].Public, nil
}

// save stores the list of public keys.
func (k *Keys) save(all []PublicKey) error {
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(k.path), ".log-keys-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(raw)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("save log keys: %w", err)
	}
	return os.Rename(tmp.Name(), k.listFile())
}

// errLacks says that the private key is on another server.
var errLacks = errors.New("this server lacks the key")

// follow takes in the keys to which the log was handed on, in the database's words and only by signatures of keys that are known already.
func (l *Log) follow(ctx context.Context, q db.Querier) error {
	rows, err := q.Query(ctx, "select number, public_key, start, created, reason, handover from ledger_key where org = ? order by number", org)
	type row struct {
		PublicKey
		public, handover string
	}
	all, err := db.Collect(rows, err, func(r *sql.Rows) (x row, err error) {
		var created int64
		err = r.Scan(&x.Number, &x.public, &x.Start, &created, &x.Reason, &x.handover)
		x.Created = db.Time(created)
		return x, err
	})
	if err != nil {
		return fmt.Errorf("read log keys: %w", err)
	}
	k := l.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	known := slices.Clone(k.all)
	for _, x := range all {
		if x.Number <= len(known) {
			continue
		}
		var err1, err2 error
		x.Public, err1 = base64.StdEncoding.DecodeString(x.public)
		x.Handover, err2 = base64.StdEncoding.DecodeString(x.handover)
		last := known[len(known)-1]
		if errors.Join(err1, err2) != nil || x.Number != last.Number+1 || len(x.Public) != ed25519.PublicKeySize || x.Start < last.Start || !ed25519.Verify(last.Public, x.PublicKey.handover(k.Origin), x.Handover) {
			return fault.New(fault.Denied, "The database names a key of the ledger, generation %d, that the key before it has not signed. Somebody else wrote it; the ledger does not go on.", x.Number)
		}
		known = append(known, x.PublicKey)
	}
	if len(known) == len(k.all) {
		return nil
	}
	if err := k.save(known); err != nil {
		return err
	}
	k.all = known
	for n := range k.private {
		if n < len(known) {
			delete(k.private, n)
		}
	}
	for n := 1; n < len(known); n++ {
		if err := os.Remove(k.file(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove former log key: %w", err)
		}
	}
	return k.loadPrivate()
}

// signer is the key that signs now, as the transaction sees it.
func (l *Log) signer(ctx context.Context, tx *db.Tx) (*Key, error) {
	var newest int
	if err := tx.QueryRow(ctx, "select coalesce(max(number), 1) from ledger_key where org = ?", org).Scan(&newest); err != nil {
		return nil, err
	}
	if newest > l.keys.current().Number {
		if err := l.follow(ctx, tx); err != nil {
			return nil, err
		}
	}
	l.keys.mu.Lock()
	defer l.keys.mu.Unlock()
	n := len(l.keys.all)
	if l.keys.private[n] == nil {
		if err := l.keys.loadPrivate(); err != nil { // it may have come meanwhile
			return nil, err
		}
	}
	if key := l.keys.private[n]; key != nil {
		return key, nil
	}
	return nil, fault.Wrap(fault.Unavailable, errLacks, "This server has not the private half of generation %d of the ledger's keys, so it cannot sign checkpoints. Copy %s from a server that has it.", n, l.keys.file(n))
}

// Prepare makes the next key, or returns the one that was made before. Nothing signs with it until Switch, so that others can be told to trust it first.
func (l *Log) Prepare() (PublicKey, error) {
	k := l.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	n := len(k.all) + 1
	if k.private[n-1] == nil {
		return PublicKey{}, fault.New(fault.Conflict, "This server has not the key that signs the ledger now, and only that one can sign the next. Rotate on a server that has it.")
	}
	if k.private[n] == nil {
		key, err := newKey(k.file(n), k.Origin)
		if err != nil {
			return PublicKey{}, err
		}
		k.private[n] = key
	}
	return PublicKey{Number: n, Public: k.private[n].Public()}, nil
}

// Next is the private key that was prepared, as its file has it.
func (l *Log) Next() ([]byte, error) {
	l.keys.mu.RLock()
	defer l.keys.mu.RUnlock()
	return os.ReadFile(l.keys.file(len(l.keys.all) + 1))
}

// Install takes a private key over that another server made.
func (l *Log) Install(number int, file []byte) error {
	k := l.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	if number < len(k.all) || k.private[number] != nil {
		return nil
	}
	if err := os.WriteFile(k.file(number)+".new", file, 0o600); err != nil {
		return fmt.Errorf("keep log key: %w", err)
	}
	if err := os.Rename(k.file(number)+".new", k.file(number)); err != nil {
		return fmt.Errorf("keep log key: %w", err)
	}
	return k.loadPrivate()
}

// Switch makes the prepared key the one that signs, from the next entry on. The key before it signs that, and its private half is then removed.
func (l *Log) Switch(ctx context.Context, reason string) (PublicKey, error) {
	next, err := l.Prepare()
	if err != nil {
		return next, err
	}
	next.Created, next.Reason = time.Now().UTC().Truncate(time.Microsecond), strings.TrimSpace(reason)
	err = l.db.Write(ctx, func(tx *db.Tx) error {
		old, err := l.signer(ctx, tx)
		if err != nil {
			return err
		}
		var newest int
		if err := tx.QueryRow(ctx, "select coalesce(max(number), 1), (select coalesce(max(size), 0) from ledger_checkpoint) from ledger_key where org = ?", org).Scan(&newest, &next.Start); err != nil {
			return err
		}
		if newest != next.Number-1 {
			return fault.New(fault.Conflict, "Another server has changed the ledger's key meanwhile. Look at weir keys list, and try again if it is still wanted.")
		}
		next.Handover = ed25519.Sign(old.private, next.handover(l.keys.Origin))
		if _, err := tx.Exec(ctx, "insert into ledger_key (org, number, public_key, start, created, reason, handover) values (?, ?, ?, ?, ?, ?, ?)", org, next.Number,
			base64.StdEncoding.EncodeToString(next.Public), next.Start, db.Micros(next.Created), next.Reason, base64.StdEncoding.EncodeToString(next.Handover)); err != nil {
			return err
		}
		_, err = l.Append(ctx, tx, Entry{Actor: identity.From(ctx), Action: "ledger.key_rotated", Subject: VerifierKey(l.keys.Origin, next.Public), Data: next})
		return err
	})
	if err != nil {
		return next, err
	}
	return next, l.follow(ctx, l.db)
}
