package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"weir/internal/base/fault"
)

// Kinds of what servers of one installation share.
const (
	SharedKeys = "evidence"
	SharedLog  = "log"
)

// Shared is a generation of keys on its way to the other servers of an installation. Private is missing once it is too old to be handed out.
type Shared struct {
	Kind    string
	Number  int
	Public  map[string][]byte // files that anybody may see
	Private map[string][]byte // key files
}

// files splits the folder of a generation into what anybody may see and keys.
func (k *Keys) files(number int) (public, private map[string][]byte, err error) {
	public, private = map[string][]byte{}, map[string][]byte{}
	dir := k.folder(number)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !sharedFile(e.Name()) {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, nil, err
		}
		if strings.HasSuffix(e.Name(), ".key") {
			private[e.Name()] = raw
		} else {
			public[e.Name()] = raw
		}
	}
	return public, private, nil
}

// sharedFile are the files that a generation consists of. Those that come from another server are no others.
func sharedFile(name string) bool {
	return name == authorityFile || name == "ct.pub" ||
		slices.Contains([]string{"root.crt", "issuing.crt", "tsa-root.crt", "tsa.crt", "issuing.key", "tsa.key", "ct.key"}, name)
}

// share hands a generation to the other servers.
func (s *Service) share(ctx context.Context, number int) error {
	if s.Share == nil {
		return nil
	}
	return s.shareFrom(ctx, number)
}

// ShareAll hands out what was made before the other servers could be told.
func (s *Service) ShareAll(ctx context.Context) error {
	s.rotating.Lock()
	defer s.rotating.Unlock()
	for _, g := range s.keys.List()[1:] {
		if err := s.share(ctx, g.Number); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) shareFrom(ctx context.Context, number int) error {
	public, private, err := s.keys.files(number)
	if err != nil {
		return fmt.Errorf("read generation %d of the signing keys: %w", number, err)
	}
	return s.Share(ctx, Shared{Kind: SharedKeys, Number: number, Public: public, Private: private})
}

// Receive takes in generations of keys that other servers of this installation made or changed, oldest first, and uses them. It changes nothing when it is
// told the same again.
func (s *Service) Receive(ctx context.Context, all []Shared) error {
	s.rotating.Lock()
	defer s.rotating.Unlock()
	changed, lacks := false, ""
	for _, x := range all {
		if x.Kind != SharedKeys {
			continue
		}
		got, err := s.keys.receive(x)
		if err != nil {
			return err
		}
		changed = changed || got
		if x.Number > len(s.keys.List()) && !got {
			lacks = fmt.Sprintf("Another server made generation %d of the signing keys, which this one does not have. Copy the folder %s from there; until then nothing is signed here.", x.Number, s.keys.folder(x.Number))
		}
	}
	s.mu.Lock()
	s.lacks = lacks
	s.mu.Unlock()
	if !changed {
		root, err := s.keys.TrustedRoot(s.log) // the ledger may have another key
		if err != nil || string(root.json) == string(s.TrustedRoot().json) {
			return err
		}
		return s.trust(s.keys)
	}
	fresh := &Keys{dir: s.keys.dir}
	if err := fresh.load(); err != nil {
		return fmt.Errorf("open signing keys of another server: %w", err)
	}
	if err := s.trust(fresh); err != nil {
		return err
	}
	return s.succeed(ctx)
}

// ready refuses to sign with keys that another server has replaced.
func (s *Service) ready() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.lacks != "" {
		return fault.New(fault.Unavailable, "%s", s.lacks)
	}
	return nil
}

// receive writes one generation into the folder, and reports whether something is new.
func (k *Keys) receive(x Shared) (changed bool, err error) {
	for name := range x.Public {
		if !sharedFile(name) || strings.HasSuffix(name, ".key") {
			return false, fault.New(fault.Invalid, "Another server shares %q as a part of the signing keys, which it cannot be.", name)
		}
	}
	var theirs authorityMeta
	if err := json.Unmarshal(x.Public[authorityFile], &theirs); err != nil || theirs.Number != x.Number {
		return false, fault.New(fault.Invalid, "Generation %d of the signing keys, which another server shares, is damaged.", x.Number)
	}
	k.mu.RLock()
	have := len(k.all)
	var ours *Authority
	var mine authorityMeta
	if x.Number <= have {
		ours = k.all[x.Number-1]
		mine = ours.meta
	}
	k.mu.RUnlock()
	if x.Number <= have {
		if b, _ := pem.Decode(x.Public["issuing.crt"]); b == nil || !bytes.Equal(b.Bytes, ours.issuing.Raw) {
			return false, fault.New(fault.Conflict, "Another server has other keys as generation %d of the signing keys. Decide which are right, and copy the keys folder of that server to the other.", x.Number)
		}
		if theirs.Revoked.IsZero() || !mine.Revoked.IsZero() && !theirs.Revoked.Before(mine.Revoked) {
			return false, nil // an end only comes earlier; retiring is done by each server itself
		}
		mine.Revoked, mine.Reason = theirs.Revoked, theirs.Reason
		return true, k.save(mine)
	}
	if x.Number != have+1 || len(x.Private) == 0 {
		return false, nil
	}
	tmp, err := os.MkdirTemp(k.dir, newKeys)
	if err != nil {
		return false, fmt.Errorf("make key folder: %w", err)
	}
	defer os.RemoveAll(tmp)
	for _, files := range []map[string][]byte{x.Public, x.Private} {
		for name, raw := range files {
			if !sharedFile(name) {
				return false, fault.New(fault.Invalid, "Another server shares %q as a part of the signing keys, which it cannot be.", name)
			}
			if err := writeFile(tmp, name, raw); err != nil {
				return false, err
			}
		}
	}
	if err := syncDir(tmp); err != nil {
		return false, err
	}
	if err := os.Rename(tmp, k.folder(x.Number)); err != nil && !errors.Is(err, fs.ErrExist) {
		return false, fmt.Errorf("put keys in place: %w", err)
	}
	return true, syncDir(k.dir)
}
