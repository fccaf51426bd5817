package evidence

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"weir/internal/base/fault"
)

var kmsForm = regexp.MustCompile(`^[a-z][a-z0-9-]*://\S+$`)

// kmsTime bounds one call of a plug-in.
const kmsTime = 30 * time.Second

// openKMS returns a key in a key management service. It is reached through
// sigstore's plug-in protocol: the URI NAME://KEY is handled by the program
// sigstore-kms-NAME, which is run once for each signature. The key must be on
// the curve P-256, and exists already.
func openKMS(uri string) (crypto.Signer, error) {
	if !kmsForm.MatchString(uri) {
		return nil, fault.New(fault.Invalid, "%q is not a key in a key management service; write NAME://KEY, where the program sigstore-kms-NAME is installed on the server", uri)
	}
	name, _, _ := strings.Cut(uri, "://")
	ctx, cancel := context.WithTimeout(context.Background(), kmsTime)
	defer cancel()
	// The protocol carries the deadline along, so each call has a client of its own.
	client, err := cliplugin.LoadSignerVerifier(ctx, uri, crypto.SHA256)
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fault.New(fault.Unavailable, "the key %s needs the program sigstore-kms-%s, which is not installed on this server", uri, name)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the key %s cannot be reached through sigstore-kms-%s", uri, name)
	}
	public, err := client.PublicKey(options.WithContext(ctx))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the public key of %s cannot be read: %v", uri, err)
	}
	ec, ok := public.(*ecdsa.PublicKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, fault.New(fault.Invalid, "the key %s is of another kind than ECDSA on P-256; make one of that kind", uri)
	}
	return kmsKey{uri, ec}, nil
}

// kmsKey signs through its plug-in.
type kmsKey struct {
	uri    string
	public *ecdsa.PublicKey
}

// Public implements crypto.Signer.
func (k kmsKey) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer.
func (k kmsKey) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), kmsTime)
	defer cancel()
	client, err := cliplugin.LoadSignerVerifier(ctx, k.uri, crypto.SHA256)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the key %s cannot be reached; nothing was signed", k.uri)
	}
	sig, err := client.SignMessage(strings.NewReader(""), options.WithContext(ctx), options.WithDigest(digest), options.WithCryptoSignerOpts(crypto.SHA256))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the key %s did not sign: %v", k.uri, err)
	}
	if !ecdsa.VerifyASN1(k.public, digest, sig) {
		return nil, fmt.Errorf("sign with %s: the answer is no signature by that key", k.uri)
	}
	return sig, nil
}
