package ledger

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"weir/internal/base/fault"
)

// Key signs the checkpoints of one log. It never leaves the control plane.
type Key struct {
	Origin  string
	private ed25519.PrivateKey
}

// readKey reads a private key from its file.
func readKey(path, origin string) (*Key, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read log key: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fault.New(fault.Invalid, "The log key %s is not a PEM file. Restore it from a backup; the ledger cannot go on without it.", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := k.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fault.New(fault.Invalid, "The log key %s is not an Ed25519 private key. Restore it from a backup; the ledger cannot go on without it.", path)
	}
	return &Key{origin, private}, nil
}

func newKey(path, origin string) (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make log key: %w", err)
	}
	err = errors.Join(pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der}), f.Sync(), f.Close())
	if err != nil {
		return nil, fmt.Errorf("make log key: %w", err)
	}
	return &Key{origin, private}, nil
}

// Public returns the public key.
func (k *Key) Public() ed25519.PublicKey { return k.private.Public().(ed25519.PublicKey) }

// VerifierKey returns origin, key hash and public key in one string
// (golang.org/x/mod/sumdb/note).
func (k *Key) VerifierKey() string { return VerifierKey(k.Origin, k.Public()) }

// VerifierKey is the note verifier key of an Ed25519 key.
func VerifierKey(origin string, pub ed25519.PublicKey) string {
	key, err := note.NewEd25519VerifierKey(origin, pub)
	if err != nil {
		panic(err) // Only for a key of another length than Ed25519's.
	}
	return key
}

func (k *Key) signer() (note.Signer, error) {
	// A note signer key is PRIVATE+KEY+name+hash+base64(1, seed); hash is the verifier key's.
	parts := strings.SplitN(k.VerifierKey(), "+", 3)
	seed := append([]byte{1}, k.private.Seed()...)
	return note.NewSigner("PRIVATE+KEY+" + parts[0] + "+" + parts[1] + "+" + base64.StdEncoding.EncodeToString(seed))
}

// KeyID is the key hash that stands in checkpoints, 8 hexadecimal digits.
func (k *Key) KeyID() string { return strings.SplitN(k.VerifierKey(), "+", 3)[1] }

// Checkpoint is a signed statement of how long the log is and what its root is.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
	Note   string // as it was signed; "" for an empty log
}

func (k *Key) sign(size int64, root tlog.Hash) (Checkpoint, error) {
	s, err := k.signer()
	if err != nil {
		return Checkpoint{}, err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", k.Origin, size, base64.StdEncoding.EncodeToString(root[:]))
	signed, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("sign checkpoint: %w", err)
	}
	return Checkpoint{k.Origin, size, root, string(signed)}, nil
}

// ParseCheckpoint verifies a signed note (C2SP tlog-checkpoint) with the verifier keys of one log, of which one must have signed it.
func ParseCheckpoint(signed string, verifierKeys ...string) (Checkpoint, error) {
	cp, _, err := parseCheckpoint(signed, verifierKeys)
	return cp, err
}

// parseCheckpoint also says which of the keys has signed.
func parseCheckpoint(signed string, verifierKeys []string) (cp Checkpoint, by int, err error) {
	var all []note.Verifier
	for _, k := range verifierKeys {
		v, err := note.NewVerifier(k)
		if err != nil {
			return cp, 0, fault.Wrap(fault.Invalid, err, "The log's public key is not a note verifier key.")
		}
		all = append(all, v)
	}
	name := ""
	if len(all) > 0 {
		name = all[0].Name()
	}
	n, err := note.Open([]byte(signed), note.VerifierList(all...))
	if err != nil {
		return cp, 0, fault.Wrap(fault.Invalid, err, "The checkpoint is not signed by the log %s. Check that checkpoint and key belong to the same instance.", name)
	}
	for i, v := range all {
		if v.KeyHash() == n.Sigs[0].Hash && v.Name() == n.Sigs[0].Name {
			by = i
		}
	}
	lines := strings.Split(n.Text, "\n")
	bad := fault.New(fault.Invalid, "The checkpoint does not have the three lines origin, size and root.")
	if len(lines) < 4 || lines[0] != name {
		return cp, 0, bad
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return cp, 0, bad
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return cp, 0, bad
	}
	return Checkpoint{lines[0], size, tlog.Hash(root), signed}, by, nil
}
