package evidence

import (
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

	"weir/internal/base/fault"
)

// Keys are all generations of keys that an installation has signed with. The
// last one signs. Those before it have no private keys any more, and are still
// trusted for what they signed in their time.
//
// The first generation lies in the folder itself, the others in folders below
// it that are named by their numbers.
type Keys struct {
	dir string

	mu  sync.RWMutex
	all []*Authority // by number, from 1
}

// Places are where private keys are: each a key in a key management service as NAME://KEY, or "" for a file in the key folder.
type Places struct {
	Issuing    string // of the certificate authority
	Timestamps string // of the timestamp authority
}

// Generation describes one generation of keys.
type Generation struct {
	Number  int       `json:"generation"`
	KeyID   string    `json:"key_id" doc:"Digest of the certificate authority's public key."`
	Created time.Time `json:"created"`
	KMS     string    `json:"kms,omitempty" doc:"Where the issuing key is, if it is not a file on the server."`
	TimeKMS string    `json:"timestamp_kms,omitempty" doc:"Where the key of timestamps is, if it is not a file on the server."`
	Retired time.Time `json:"retired,omitzero" doc:"When the next one took over."`
	Revoked time.Time `json:"revoked,omitzero" doc:"What it signed from then on is not trusted."`
	Reason  string    `json:"reason,omitempty" doc:"Why it was replaced or revoked."`
}

// OpenKeys loads the keys in dir, or makes the first ones when dir does not
// exist. issuer is an https URL; "" accepts the one that the keys were made for.
// in says where the keys of the first generation are.
func OpenKeys(dir, issuer string, in Places, now time.Time) (*Keys, error) {
	issuer = strings.TrimRight(issuer, "/")
	k := &Keys{dir: dir}
	err := k.load()
	if errors.Is(err, fs.ErrNotExist) {
		if _, statErr := os.Stat(dir); statErr == nil {
			return nil, fault.New(fault.Invalid, "the signing keys in %s are incomplete; restore the folder from a backup, or move it away to start with new keys that nobody trusts yet", dir)
		}
		if err := createAuthority(dir, authorityMeta{Number: 1, Issuer: issuer, KMS: in.Issuing, TimeKMS: in.Timestamps}, now); err != nil {
			return nil, err
		}
		err = k.load()
	}
	if err != nil {
		return nil, fmt.Errorf("open signing keys in %s: %w", dir, err)
	}
	if first := k.all[0].meta; issuer != "" && issuer != first.Issuer {
		return nil, fault.New(fault.Conflict, "the configured issuer is %s, but this installation has signed as %s since %s; set the issuer back, because every verifier knows that name",
			issuer, first.Issuer, first.Created.Format(time.DateOnly))
	}
	return k, nil
}

func (k *Keys) folder(number int) string {
	if number == 1 {
		return k.dir
	}
	return filepath.Join(k.dir, strconv.Itoa(number))
}

func (k *Keys) load() error {
	var all []*Authority
	for n := 1; ; n++ {
		a, err := loadAuthority(k.folder(n))
		if n > 1 && errors.Is(err, fs.ErrNotExist) {
			if _, statErr := os.Stat(k.folder(n)); statErr != nil {
				break
			}
		}
		if err != nil {
			return err
		}
		if a.meta.Number = n; n > 1 && a.meta.Issuer != all[0].meta.Issuer {
			return fault.New(fault.Invalid, "the keys in %s were made for %s, not for %s; restore the folder from a backup", k.folder(n), a.meta.Issuer, all[0].meta.Issuer)
		}
		all = append(all, a)
	}
	k.all = all
	return nil
}

// retire takes the private keys from every generation but the last, once each
// has handed trust on.
func (k *Keys) retire() error {
	last := len(k.all) - 1
	for i, a := range k.all[:last] {
		if a.meta.Retired.IsZero() {
			m := a.meta
			m.Retired = k.all[i+1].meta.Created
			if err := k.save(m); err != nil {
				return err
			}
			retired := *a
			retired.meta, retired.issuingKey, retired.tsaKey, retired.ctKey = m, nil, nil, nil
			k.all[i] = &retired
		}
		for _, name := range []string{"issuing", "tsa", "ct", "root", "tsa-root"} {
			if err := os.Remove(filepath.Join(k.folder(i+1), name+".key")); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove retired key: %w", err)
			}
		}
	}
	return nil
}

// save replaces the description of a generation.
func (k *Keys) save(m authorityMeta) error {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	dir, tmp := k.folder(m.Number), authorityFile+".new"
	_ = os.Remove(filepath.Join(dir, tmp))
	if err := writeFile(dir, tmp, raw); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, tmp), filepath.Join(dir, authorityFile)); err != nil {
		return fmt.Errorf("save %s: %w", authorityFile, err)
	}
	return syncDir(dir)
}

// Current is the generation that signs.
func (k *Keys) Current() *Authority {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.all[len(k.all)-1]
}

// List describes all generations, the first one first.
func (k *Keys) List() []Generation {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var out []Generation
	for _, a := range k.all {
		m := a.meta
		out = append(out, Generation{m.Number, a.keyID, m.Created, m.KMS, m.TimeKMS, m.Retired, m.Revoked, m.Reason})
	}
	return out
}

// next is k with one generation more, which exists in its folder and which k
// itself does not use yet.
func (k *Keys) next(in Places, reason string, now time.Time) (*Keys, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	n := len(k.all) + 1
	if left, err := filepath.Glob(filepath.Join(k.dir, newKeys+"*")); err == nil { // of a crash
		for _, dir := range left {
			_ = os.RemoveAll(dir)
		}
	}
	if err := createAuthority(k.folder(n), authorityMeta{Number: n, Issuer: k.all[0].meta.Issuer, KMS: in.Issuing, TimeKMS: in.Timestamps, Reason: reason}, now); err != nil {
		return nil, err
	}
	a, err := loadAuthority(k.folder(n))
	if err != nil {
		return nil, fmt.Errorf("open the new signing keys in %s: %w", k.folder(n), err)
	}
	return &Keys{dir: k.dir, all: append(slices.Clone(k.all), a)}, nil
}

// revoked is k with one generation distrusted from since on, not saved yet.
func (k *Keys) revoked(number int, since time.Time, reason string) (*Keys, authorityMeta, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	switch {
	case number < 1 || number > len(k.all):
		return nil, authorityMeta{}, fault.New(fault.NotFound, "There is no generation %d of signing keys; there are %d.", number, len(k.all))
	case number == len(k.all):
		return nil, authorityMeta{}, fault.New(fault.Conflict, "Generation %d signs now. Rotate the keys first, then revoke it.", number)
	}
	all := slices.Clone(k.all)
	a := *all[number-1]
	if !a.meta.Revoked.IsZero() && !since.Before(a.meta.Revoked) {
		return nil, authorityMeta{}, fault.New(fault.Conflict, "Generation %d has been revoked since %s already; only an earlier time can be set.", number, a.meta.Revoked.UTC().Format(time.RFC3339))
	}
	a.meta.Revoked, a.meta.Reason = since.UTC().Truncate(time.Second), reason
	all[number-1] = &a
	return &Keys{dir: k.dir, all: all}, a.meta, nil
}

// take makes k what other is.
func (k *Keys) take(other *Keys) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all = other.all
}
