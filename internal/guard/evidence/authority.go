package evidence

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"weir/internal/base/fault"
)

const (
	authorityYears = 10
	authorityFile  = "authority.json"
	newKeys        = ".new-keys-" // begins the name of a folder that is not complete yet
)

// Authority holds one generation of the keys that vouch for a signer: the
// certificate authority, the timestamp authority and the key of certificate
// timestamps. Its issuer is fixed when the keys are made and never follows a
// listen address. A generation that was replaced has no private keys any more.
type Authority struct {
	meta authorityMeta

	root, issuing   *x509.Certificate
	tsaRoot, tsa    *x509.Certificate
	issuingKey      crypto.Signer
	tsaKey          crypto.Signer
	ctKey           *ecdsa.PrivateKey
	ctLogID         [32]byte
	ctPublic, keyID string // hex
}

type authorityMeta struct {
	Version int       `json:"version"`
	Number  int       `json:"generation"`
	Issuer  string    `json:"issuer"`
	Created time.Time `json:"created"`
	KMS     string    `json:"kms,omitempty"`           // URI of the issuing key, if it is not a file
	TimeKMS string    `json:"timestamp_kms,omitempty"` // and of the timestamp key
	Retired time.Time `json:"retired,omitzero"`
	Revoked time.Time `json:"revoked,omitzero"` // what it signed from then on is not trusted
	Reason  string    `json:"reason,omitempty"`
}

// elsewhere is where a private key is that is not in the folder, or "".
func (m authorityMeta) elsewhere(name string) string {
	switch name {
	case "issuing":
		return m.KMS
	case "tsa":
		return m.TimeKMS
	}
	return ""
}

// Issuer is the URL that every certificate names as its issuer.
func (a *Authority) Issuer() string { return a.meta.Issuer }

// KeyID names the certificate authority's key: "sha256:" and the digest of its public key.
func (a *Authority) KeyID() string { return a.keyID }

// createAuthority makes all keys of a generation in a new folder beside dir and
// renames it, so that dir exists completely or not at all.
func createAuthority(dir string, m authorityMeta, now time.Time) error {
	u, err := url.Parse(m.Issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return fault.New(fault.Invalid, "the issuer %q is not a URL like https://weir.example.com; it names this installation in every signature and cannot change later", m.Issuer)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fmt.Errorf("make key folder: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), newKeys)
	if err != nil {
		return fmt.Errorf("make key folder: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := writeAuthority(tmp, u, m, now); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		if _, statErr := os.Stat(filepath.Join(dir, authorityFile)); statErr == nil {
			return nil // another process was first; its keys count
		}
		return fmt.Errorf("put keys in place: %w", err)
	}
	return syncDir(filepath.Dir(dir))
}

func writeAuthority(dir string, u *url.URL, m authorityMeta, now time.Time) error {
	// The keys of the two roots sign one certificate each and are forgotten.
	names := []string{"root", "issuing", "tsa-root", "tsa", "ct"}
	keys := map[string]crypto.Signer{}
	for _, n := range names {
		if uri := m.elsewhere(n); uri != "" {
			k, err := openKMS(uri)
			if err != nil {
				return err
			}
			keys[n] = k
			continue
		}
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return fmt.Errorf("make key %s: %w", n, err)
		}
		keys[n] = k
	}
	timeStamping, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	if err != nil {
		return err
	}
	name := func(cn string) pkix.Name {
		return pkix.Name{Organization: []string{u.Hostname()}, CommonName: "Weir " + cn}
	}
	ca := func(cn string, usage ...x509.ExtKeyUsage) *x509.Certificate {
		return &x509.Certificate{Subject: name(cn), IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, ExtKeyUsage: usage}
	}
	leaf := &x509.Certificate{Subject: name("timestamps"), KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: timeStamping}}}
	issue := []struct {
		name, parent string
		cert         *x509.Certificate
	}{
		{"root", "root", ca("root")},
		{"issuing", "root", ca("issuing", x509.ExtKeyUsageCodeSigning)},
		{"tsa-root", "tsa-root", ca("timestamp root")},
		{"tsa", "tsa-root", leaf},
	}
	certs := map[string]*x509.Certificate{}
	for _, i := range issue {
		i.cert.NotBefore, i.cert.NotAfter = now.Add(-time.Hour), now.AddDate(authorityYears, 0, 0)
		parent := certs[i.parent]
		if i.name == i.parent {
			parent = i.cert
		}
		c, err := newCertificate(i.cert, parent, keys[i.name].Public(), keys[i.parent])
		if err != nil {
			return fmt.Errorf("make certificate %s: %w", i.name, err)
		}
		certs[i.name] = c
		if err := writeFile(dir, i.name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})); err != nil {
			return err
		}
	}
	ct, err := x509.MarshalPKIXPublicKey(keys["ct"].Public())
	if err != nil {
		return fmt.Errorf("encode key ct: %w", err)
	}
	if err := writeFile(dir, "ct.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: ct})); err != nil {
		return err
	}
	for _, n := range privateKeys {
		if m.elsewhere(n) != "" {
			continue
		}
		der, err := x509.MarshalPKCS8PrivateKey(keys[n])
		if err != nil {
			return fmt.Errorf("encode key %s: %w", n, err)
		}
		if err := writeFile(dir, n+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
			return err
		}
	}
	m.Version, m.Created = 1, now.UTC().Truncate(time.Second)
	meta, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(dir, authorityFile, meta); err != nil {
		return err
	}
	return syncDir(dir)
}

func loadAuthority(dir string) (*Authority, error) {
	raw, err := os.ReadFile(filepath.Join(dir, authorityFile))
	if err != nil {
		return nil, err
	}
	var meta authorityMeta
	if err := json.Unmarshal(raw, &meta); err != nil {
		return nil, fmt.Errorf("read %s: %w", authorityFile, err)
	}
	a := &Authority{meta: meta}
	if a.meta.Number == 0 {
		a.meta.Number = 1
	}
	for name, to := range map[string]**x509.Certificate{"root": &a.root, "issuing": &a.issuing, "tsa-root": &a.tsaRoot, "tsa": &a.tsa} {
		der, err := readPEM(dir, name+".crt")
		if err != nil {
			return nil, err
		}
		if *to, err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("read %s.crt: %w", name, err)
		}
	}
	if a.ctPublic, err = ctPublic(dir); err != nil {
		return nil, err
	}
	ctDER, err := hex.DecodeString(a.ctPublic)
	if err != nil {
		return nil, fmt.Errorf("read ct.pub: %w", err)
	}
	a.ctLogID = sha256.Sum256(ctDER)
	sum := sha256.Sum256(a.issuing.RawSubjectPublicKeyInfo)
	a.keyID = "sha256:" + hex.EncodeToString(sum[:])
	if !meta.Retired.IsZero() {
		return a, nil
	}
	return a, a.loadPrivate(dir)
}

// privateKeys are those that sign as long as the generation is in use.
var privateKeys = []string{"issuing", "tsa", "ct"}

func (a *Authority) loadPrivate(dir string) error {
	keys := map[string]crypto.Signer{}
	for _, name := range privateKeys {
		if uri := a.meta.elsewhere(name); uri != "" {
			k, err := openKMS(uri)
			if err != nil {
				return err
			}
			keys[name] = k
			continue
		}
		if err := checkMode(filepath.Join(dir, name+".key")); err != nil {
			return err
		}
		der, err := readPEM(dir, name+".key")
		if err != nil {
			return err
		}
		k, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			return fmt.Errorf("read %s.key: %w", name, err)
		}
		ec, ok := k.(*ecdsa.PrivateKey)
		if !ok {
			return fmt.Errorf("read %s.key: not an ECDSA key", name)
		}
		keys[name] = ec
	}
	a.issuingKey, a.tsaKey = keys["issuing"], keys["tsa"]
	a.ctKey, _ = keys["ct"].(*ecdsa.PrivateKey)
	if !samePublic(a.tsaKey.Public(), a.tsa.PublicKey) || !samePublic(a.issuingKey.Public(), a.issuing.PublicKey) {
		where := dir
		for _, uri := range []string{a.meta.KMS, a.meta.TimeKMS} {
			if uri != "" {
				where += " or in " + uri
			}
		}
		return fault.New(fault.Invalid, "a key in %s does not belong to its certificate; restore the folder from a backup", where)
	}
	return nil
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// ctPublic is the key of certificate timestamps, in hexadecimal. Its file
// outlives the private key.
func ctPublic(dir string) (string, error) {
	der, err := readPEM(dir, "ct.pub")
	if !errors.Is(err, fs.ErrNotExist) {
		return hex.EncodeToString(der), err
	}
	raw, err := readPEM(dir, "ct.key") // keys that were made before ct.pub was
	if err != nil {
		return "", err
	}
	k, err := x509.ParsePKCS8PrivateKey(raw)
	ec, ok := k.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return "", fmt.Errorf("read ct.key: not an ECDSA key")
	}
	der, err = x509.MarshalPKIXPublicKey(ec.Public())
	return hex.EncodeToString(der), err
}

// newCertificate signs t with a fresh serial number.
func newCertificate(t, parent *x509.Certificate, public any, signer crypto.Signer) (*x509.Certificate, error) {
	if t.SerialNumber == nil {
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
		if err != nil {
			return nil, err
		}
		t.SerialNumber = serial
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func checkMode(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return fault.New(fault.Invalid, "the signing key %s may be read by others (mode %o); run: chmod 600 %s", path, st.Mode().Perm(), path)
	}
	return nil
}

func readPEM(dir, name string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	b, _ := pem.Decode(raw)
	if b == nil {
		return nil, fmt.Errorf("read %s: no PEM block", name)
	}
	return b.Bytes, nil
}

func writeFile(dir, name string, b []byte) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
