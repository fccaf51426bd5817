package evidence

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

// ImageKey signs images beside their certified signature, for verifiers that
// take a public key and no certificates (`cosign verify --key`). It says who has
// the key, and nothing about the workflow; Weir itself never relies on it.
type ImageKey struct {
	signer crypto.Signer
	public []byte // DER
}

// bareIdentity begins the signer of what an image key signed.
const bareIdentity = "key:"

// OpenImageKey loads the key in a file of dir, or makes it when where is
// "file"; or reaches it in a key management service by its URI. With "" there is none.
func OpenImageKey(dir, where string) (*ImageKey, error) {
	if where == "" {
		return nil, nil
	}
	var signer crypto.Signer
	var err error
	if where == "file" {
		signer, err = imageKeyFile(dir)
	} else {
		signer, err = openKMS(where)
	}
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("encode image key: %w", err)
	}
	return &ImageKey{signer, der}, nil
}

func imageKeyFile(dir string) (crypto.Signer, error) {
	const name = "image.key"
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make image key: %w", err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			return nil, fmt.Errorf("encode image key: %w", err)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make key folder: %w", err)
		}
		tmp := name + ".new"
		_ = os.Remove(filepath.Join(dir, tmp))
		if err := writeFile(dir, tmp, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
			return nil, err
		}
		if err := os.Rename(filepath.Join(dir, tmp), path); err != nil {
			return nil, fmt.Errorf("make image key: %w", err)
		}
		if err := syncDir(dir); err != nil {
			return nil, err
		}
	}
	if err := checkMode(path); err != nil {
		return nil, err
	}
	der, err := readPEM(dir, name)
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	ec, ok := k.(*ecdsa.PrivateKey)
	if err != nil || !ok || ec.Curve != elliptic.P256() {
		return nil, fault.New(fault.Invalid, "the image key %s is no ECDSA key on P-256 in PEM (PKCS #8); restore it from a backup", path)
	}
	return ec, nil
}

// PEM is the public key for `cosign verify --key`.
func (k *ImageKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.public})
}

func (k *ImageKey) hint() string {
	sum := sha256.Sum256(k.public)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// ImageKeyPEM is the public image key, or NotFound if there is none.
func (s *Service) ImageKeyPEM(ctx context.Context) ([]byte, error) {
	if err := identity.Check(ctx, "artifact.read", "default"); err != nil {
		return nil, err
	}
	if s.ImageKey == nil {
		return nil, fault.New(fault.NotFound, "Images are not signed with a bare key here. Set identity.image_key in the server's configuration to have one.")
	}
	return s.ImageKey.PEM(), nil
}

// SignBare signs st with the image key. It reports false if there is none.
func (s *Service) SignBare(ctx context.Context, st Statement) (Evidence, bool, error) {
	if s.ImageKey == nil {
		return Evidence{}, false, nil
	}
	st, err := st.normal(s.Issuer())
	if err != nil {
		return Evidence{}, false, err
	}
	k := s.ImageKey
	st.Key += "#" + k.hint() // another key signs again
	r, found, err := s.store.Lookup(ctx, st.Org, st.PredicateType, st.subject(), st.Key)
	if err != nil {
		return Evidence{}, false, fmt.Errorf("look up evidence %s about %s: %w", st.PredicateType, st.subject(), err)
	}
	if !found {
		payload, err := st.payload()
		if err != nil {
			return Evidence{}, false, err
		}
		a := s.keys.Current()
		sig, err := a.signBare(k, payload, s.now())
		if err != nil {
			return Evidence{}, false, err
		}
		st.Identity = bareIdentity + k.hint()
		if r, err = s.keep(ctx, a, st, sig); err != nil {
			return Evidence{}, false, err
		}
	}
	e, err := s.finish(ctx, r)
	return e, true, err
}

func (a *Authority) signBare(k *ImageKey, payload []byte, now time.Time) (signature, error) {
	sum := sha256.Sum256(preAuth(payloadType, payload))
	sig, err := k.signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return signature{}, fmt.Errorf("sign with the image key: %w", err)
	}
	stamp, err := a.timestamp(sig, now)
	if err != nil {
		return signature{}, fmt.Errorf("timestamp signature: %w", err)
	}
	entry, err := hashedRekord(sum[:], sig, "publicKey", k.public)
	if err != nil {
		return signature{}, fmt.Errorf("encode log entry: %w", err)
	}
	return signature{Payload: payload, Sig: sig, Timestamp: stamp, Entry: entry, Time: now.UTC().Truncate(time.Second)}, nil
}

// bare reports whether evidence was signed by a key without a certificate.
func bare(e Evidence) bool { return strings.HasPrefix(e.Identity, bareIdentity) }
