package kubepolicy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// tufYears is how long the metadata of an exported repository is good for. Its
// keys are forgotten as soon as it is made: there is no newer version of it but
// one with other keys, which whoever set it up replaces by hand.
const tufYears = 10

// Repository is a TUF repository (theupdateframework.github.io/specification)
// with one target, trusted_root.json: how cluster admission controllers take
// the keys to trust.
type Repository struct {
	Root  []byte            // what clients are given first
	Files map[string][]byte // by path, as a web server would serve them
}

// NewRepository makes a repository that serves a trusted_root.json.
func NewRepository(trustedRoot []byte, now time.Time) (Repository, error) {
	expires := now.AddDate(tufYears, 0, 0).UTC().Truncate(time.Second)
	targets, snapshot, timestamp, root := metadata.Targets(expires), metadata.Snapshot(expires), metadata.Timestamp(expires), metadata.Root(expires)
	file, err := metadata.TargetFile().FromBytes("trusted_root.json", trustedRoot, "sha256")
	if err != nil {
		return Repository{}, fmt.Errorf("describe trusted root: %w", err)
	}
	targets.Signed.Targets["trusted_root.json"] = file
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Repository{}, err
	}
	public, err := metadata.KeyFromPublicKey(private.Public())
	if err != nil {
		return Repository{}, fmt.Errorf("encode key: %w", err)
	}
	root.Signed.ConsistentSnapshot = false
	for _, role := range []string{"targets", "snapshot", "timestamp", "root"} {
		if err := root.Signed.AddKey(public, role); err != nil {
			return Repository{}, fmt.Errorf("add key of %s: %w", role, err)
		}
	}
	signer, err := signature.LoadSigner(private, crypto.Hash(0))
	if err != nil {
		return Repository{}, err
	}
	r := Repository{Files: map[string][]byte{"targets/trusted_root.json": trustedRoot}}
	add := func(name string, sign func(signature.Signer) (*metadata.Signature, error), encode func(bool) ([]byte, error)) error {
		if _, err := sign(signer); err != nil {
			return fmt.Errorf("sign %s: %w", name, err)
		}
		raw, err := encode(false)
		r.Files[name] = raw
		return err
	}
	if err := add("targets.json", targets.Sign, targets.ToBytes); err != nil {
		return r, err
	}
	if err := describe(snapshot.Signed.Meta, "targets.json", r.Files["targets.json"]); err != nil {
		return r, err
	}
	if err := add("snapshot.json", snapshot.Sign, snapshot.ToBytes); err != nil {
		return r, err
	}
	if err := describe(timestamp.Signed.Meta, "snapshot.json", r.Files["snapshot.json"]); err != nil {
		return r, err
	}
	if err := add("timestamp.json", timestamp.Sign, timestamp.ToBytes); err != nil {
		return r, err
	}
	if err := add("root.json", root.Sign, root.ToBytes); err != nil {
		return r, err
	}
	r.Root = r.Files["root.json"]
	r.Files["1.root.json"] = r.Root
	return r, nil
}

// describe names a metadata file by length and digest in the one that lists it.
func describe(meta map[string]*metadata.MetaFiles, name string, raw []byte) error {
	file, err := metadata.TargetFile().FromBytes(name, raw, "sha256")
	if err != nil {
		return fmt.Errorf("describe %s: %w", name, err)
	}
	meta[name] = &metadata.MetaFiles{Length: int64(len(raw)), Hashes: file.Hashes, Version: 1}
	return nil
}

// Archive is the repository as a compressed tar below the folder "repository".
func (r Repository) Archive() ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	t := tar.NewWriter(z)
	for _, dir := range []string{"repository", "repository/targets"} {
		if err := t.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			return nil, err
		}
	}
	for _, name := range r.names() {
		if err := t.WriteHeader(&tar.Header{Name: "repository/" + name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(r.Files[name]))}); err != nil {
			return nil, err
		}
		if _, err := t.Write(r.Files[name]); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (r Repository) names() []string {
	var all []string
	for name := range r.Files {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
