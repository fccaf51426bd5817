package evidence

import (
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
	"strings"
	"time"

	"weir/internal/base/fault"
)

const (
	authorityYears = 10
	authorityFile  = "authority.json"
)

// Authority holds the keys that vouch for a signer: the certificate authority,
// the timestamp authority and the key of certificate timestamps. Its issuer is
// fixed when the keys are made and never follows a listen address.
type Authority struct {
	issuer  string
	created time.Time

	root, issuing   *x509.Certificate
	tsaRoot, tsa    *x509.Certificate
	issuingKey      *ecdsa.PrivateKey
	tsaKey, ctKey   *ecdsa.PrivateKey
	ctLogID         [32]byte
	ctPublic, keyID string // hex
}

type authorityMeta struct {
	Version int       `json:"version"`
	Issuer  string    `json:"issuer"`
	Created time.Time `json:"created"`
}

// OpenAuthority loads the keys in dir, or makes them when dir does not exist.
// issuer is an https URL; "" accepts the one that the keys were made for.
func OpenAuthority(dir, issuer string, now time.Time) (*Authority, error) {
	issuer = strings.TrimRight(issuer, "/")
	a, err := loadAuthority(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if _, statErr := os.Stat(dir); statErr == nil {
			return nil, fault.New(fault.Invalid, "the signing keys in %s are incomplete; restore the folder from a backup, or move it away to start with new keys that nobody trusts yet", dir)
		}
		if err := createAuthority(dir, issuer, now); err != nil {
			return nil, err
		}
		a, err = loadAuthority(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open signing keys in %s: %w", dir, err)
	}
	if issuer != "" && issuer != a.issuer {
		return nil, fault.New(fault.Conflict, "the configured issuer is %s, but this installation has signed as %s since %s; set the issuer back, because every verifier knows that name",
			issuer, a.issuer, a.created.Format(time.DateOnly))
	}
	return a, nil
}

// Issuer is the URL that every certificate names as its issuer.
func (a *Authority) Issuer() string { return a.issuer }

// KeyID names the certificate authority's key: "sha256:" and the digest of its public key.
func (a *Authority) KeyID() string { return a.keyID }

// createAuthority makes all keys in a new folder beside dir and renames it, so
// that dir exists completely or not at all.
func createAuthority(dir, issuer string, now time.Time) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return fault.New(fault.Invalid, "the issuer %q is not a URL like https://weir.example.com; it names this installation in every signature and cannot change later", issuer)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fmt.Errorf("make key folder: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".new-keys-")
	if err != nil {
		return fmt.Errorf("make key folder: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := writeAuthority(tmp, u, issuer, now); err != nil {
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

func writeAuthority(dir string, u *url.URL, issuer string, now time.Time) error {
	names := []string{"root", "issuing", "tsa-root", "tsa", "ct"}
	keys := map[string]*ecdsa.PrivateKey{}
	for _, n := range names {
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
	for _, n := range names {
		der, err := x509.MarshalPKCS8PrivateKey(keys[n])
		if err != nil {
			return fmt.Errorf("encode key %s: %w", n, err)
		}
		if err := writeFile(dir, n+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
			return err
		}
	}
	meta, err := json.MarshalIndent(authorityMeta{1, issuer, now.UTC().Truncate(time.Second)}, "", "  ")
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
	a := &Authority{issuer: meta.Issuer, created: meta.Created}
	for name, to := range map[string]**x509.Certificate{"root": &a.root, "issuing": &a.issuing, "tsa-root": &a.tsaRoot, "tsa": &a.tsa} {
		der, err := readPEM(dir, name+".crt")
		if err != nil {
			return nil, err
		}
		if *to, err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("read %s.crt: %w", name, err)
		}
	}
	for name, to := range map[string]**ecdsa.PrivateKey{"issuing": &a.issuingKey, "tsa": &a.tsaKey, "ct": &a.ctKey} {
		if err := checkMode(filepath.Join(dir, name+".key")); err != nil {
			return nil, err
		}
		der, err := readPEM(dir, name+".key")
		if err != nil {
			return nil, err
		}
		k, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			return nil, fmt.Errorf("read %s.key: %w", name, err)
		}
		ec, ok := k.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("read %s.key: not an ECDSA key", name)
		}
		*to = ec
	}
	if !a.issuingKey.PublicKey.Equal(a.issuing.PublicKey) || !a.tsaKey.PublicKey.Equal(a.tsa.PublicKey) {
		return nil, fault.New(fault.Invalid, "a key in %s does not belong to its certificate; restore the folder from a backup", dir)
	}
	ctDER, err := x509.MarshalPKIXPublicKey(a.ctKey.Public())
	if err != nil {
		return nil, err
	}
	a.ctLogID = sha256.Sum256(ctDER)
	a.ctPublic = hex.EncodeToString(ctDER)
	sum := sha256.Sum256(a.issuing.RawSubjectPublicKeyInfo)
	a.keyID = "sha256:" + hex.EncodeToString(sum[:])
	return a, nil
}

// newCertificate signs t with a fresh serial number.
func newCertificate(t, parent *x509.Certificate, public any, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
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
