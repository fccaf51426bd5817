package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	pbcommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	pbroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"weir/internal/base/fault"
)

// TrustedRoot is what a verifier has to trust, and all that it needs: the
// public keys of the certificate, timestamp and certificate-timestamp
// authorities and of the log. It is sigstore's trusted_root.json.
type TrustedRoot struct {
	json   []byte
	root   *root.TrustedRoot
	Origin string // of the log
	Issuer string // of the certificates
}

// JSON is the file for `--trusted-root`.
func (t TrustedRoot) JSON() []byte { return bytes.Clone(t.json) }

// LogKeys returns the public keys of the trusted logs by origin, so that a
// reader of checkpoints and a reader of bundles trust the same file. A log whose
// key was rotated has several.
func (t TrustedRoot) LogKeys() map[string][]ed25519.PublicKey {
	keys := map[string][]ed25519.PublicKey{}
	if t.root == nil {
		return keys
	}
	for _, l := range t.root.RekorLogs() {
		if k, ok := l.PublicKey.(ed25519.PublicKey); ok {
			origin := strings.TrimPrefix(l.BaseURL, "https://")
			keys[origin] = append(keys[origin], k)
		}
	}
	return keys
}

// ParseTrustedRoot reads a trusted_root.json.
func ParseTrustedRoot(raw []byte) (TrustedRoot, error) {
	if len(raw) > 1<<20 {
		return TrustedRoot{}, fault.New(fault.Invalid, "the trusted root has %d bytes; a trusted_root.json is a few kilobytes, is this the right file?", len(raw))
	}
	r, err := root.NewTrustedRootFromJSON(raw)
	if err != nil {
		return TrustedRoot{}, fault.Wrap(fault.Invalid, err, "the trusted root is not a readable trusted_root.json; get it again from the installation that signed")
	}
	t := TrustedRoot{json: bytes.Clone(raw), root: r}
	for _, l := range r.RekorLogs() {
		t.Origin = strings.TrimPrefix(l.BaseURL, "https://")
	}
	for _, ca := range r.FulcioCertificateAuthorities() {
		if f, ok := ca.(*root.FulcioCertificateAuthority); ok {
			t.Issuer = f.URI
		}
	}
	return t, nil
}

// TrustedRoot is what others need in order to trust all generations of k and log.
func (k *Keys) TrustedRoot(log Log) (TrustedRoot, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	instance := func(url string, key []byte, kind pbcommon.PublicKeyDetails, id []byte, valid *pbcommon.TimeRange) *pbroot.TransparencyLogInstance {
		return &pbroot.TransparencyLogInstance{BaseUrl: url, HashAlgorithm: pbcommon.HashAlgorithm_SHA2_256,
			PublicKey: &pbcommon.PublicKey{RawBytes: key, KeyDetails: kind, ValidFor: valid}, LogId: &pbcommon.LogId{KeyId: id}}
	}
	m := &pbroot.TrustedRoot{MediaType: root.TrustedRootMediaType01}
	logs := logKeys(log)
	for i, lk := range logs {
		raw, err := x509.MarshalPKIXPublicKey(lk.Public)
		if err != nil {
			return TrustedRoot{}, fmt.Errorf("encode log key: %w", err)
		}
		// The next key is in the root before it signs, so that everybody knows it by then; its start is not known yet.
		valid := &pbcommon.TimeRange{Start: timestamppb.New(k.all[0].meta.Created.Add(-time.Hour))}
		if i+1 < len(logs) && !logs[i+1].Created.IsZero() {
			valid.End = timestamppb.New(logs[i+1].Created.Add(leafLife))
		}
		m.Tlogs = append(m.Tlogs, instance("https://"+log.Origin(), raw, pbcommon.PublicKeyDetails_PKIX_ED25519, logID(log.Origin(), lk.Public), valid))
	}
	for i, a := range k.all {
		valid := &pbcommon.TimeRange{Start: timestamppb.New(a.meta.Created.Add(-time.Hour))}
		if i+1 < len(k.all) { // what was under way while the next one took over is still good
			valid.End = timestamppb.New(k.all[i+1].meta.Created.Add(leafLife))
		}
		if !a.meta.Revoked.IsZero() {
			valid.End = timestamppb.New(a.meta.Revoked)
			if a.meta.Revoked.Before(valid.Start.AsTime()) { // all that it ever signed
				valid.Start = valid.End
			}
		}
		ctKey, err := hex.DecodeString(a.ctPublic)
		if err != nil {
			return TrustedRoot{}, fmt.Errorf("encode certificate timestamp key: %w", err)
		}
		subject := &pbcommon.DistinguishedName{Organization: strings.Join(a.root.Subject.Organization, " "), CommonName: a.root.Subject.CommonName}
		m.CertificateAuthorities = append(m.CertificateAuthorities, &pbroot.CertificateAuthority{Subject: subject, Uri: a.meta.Issuer,
			CertChain: chain(a.issuing, a.root), ValidFor: valid})
		m.TimestampAuthorities = append(m.TimestampAuthorities, &pbroot.CertificateAuthority{Subject: subject, Uri: a.meta.Issuer + "/timestamps",
			CertChain: chain(a.tsa, a.tsaRoot), ValidFor: valid})
		m.Ctlogs = append(m.Ctlogs, instance(a.meta.Issuer+"/certificates", ctKey, pbcommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256, a.ctLogID[:], valid))
	}
	raw, err := protojson.Marshal(m)
	if err != nil {
		return TrustedRoot{}, fmt.Errorf("encode trusted root: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return TrustedRoot{}, fmt.Errorf("encode trusted root: %w", err)
	}
	return ParseTrustedRoot(append(out.Bytes(), '\n'))
}

func chain(certs ...*x509.Certificate) *pbcommon.X509CertificateChain {
	c := &pbcommon.X509CertificateChain{}
	for _, x := range certs {
		c.Certificates = append(c.Certificates, &pbcommon.X509Certificate{RawBytes: x.Raw})
	}
	return c
}
