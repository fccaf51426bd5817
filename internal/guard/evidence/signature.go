package evidence

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/digitorus/timestamp"
	ct "github.com/google/certificate-transparency-go"
	cttls "github.com/google/certificate-transparency-go/tls"
	ctx509 "github.com/google/certificate-transparency-go/x509"
)

const leafLife = 10 * time.Minute

var (
	oidIssuer   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}
	oidPoison   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}
	oidSCTs     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
	oidTSPolicy = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}
)

// signature is everything about one signing that is fixed before the log sees it.
type signature struct {
	Payload     []byte // the statement
	Sig         []byte // ASN.1 ECDSA over the DSSE encoding of Payload
	Certificate []byte // DER; empty for an image key
	KeyHint     string // of an image key
	Timestamp   []byte // RFC 3161 response over Sig
	Entry       []byte // canonical hashedrekord body for the log
	NotBefore   time.Time
	NotAfter    time.Time
	Time        time.Time
}

// sign makes a key, has it certified for identity, signs payload once and
// forgets the key.
func (a *Authority) sign(payload []byte, identity string, now time.Time) (signature, error) {
	return a.signAt(payload, identity, now, now)
}

// signAt is sign with a certificate of another time than the timestamp's.
func (a *Authority) signAt(payload []byte, identity string, certified, now time.Time) (signature, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return signature{}, fmt.Errorf("make signing key: %w", err)
	}
	cert, err := a.certify(key.Public(), identity, certified)
	if err != nil {
		return signature{}, fmt.Errorf("certify %s: %w", identity, err)
	}
	sum := sha256.Sum256(preAuth(payloadType, payload))
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		return signature{}, fmt.Errorf("sign statement: %w", err)
	}
	stamp, err := a.timestamp(sig, now)
	if err != nil {
		return signature{}, fmt.Errorf("timestamp signature: %w", err)
	}
	entry, err := hashedRekord(sum[:], sig, "x509Certificate", cert.Raw)
	if err != nil {
		return signature{}, fmt.Errorf("encode log entry: %w", err)
	}
	return signature{Payload: payload, Sig: sig, Certificate: cert.Raw, Timestamp: stamp, Entry: entry,
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, Time: now.UTC().Truncate(time.Second)}, nil
}

// preAuth is DSSE's pre-authentication encoding.
func preAuth(kind string, payload []byte) []byte {
	var b bytes.Buffer
	b.WriteString("DSSEv1 " + strconv.Itoa(len(kind)) + " " + kind + " " + strconv.Itoa(len(payload)) + " ")
	b.Write(payload)
	return b.Bytes()
}

// certify issues a leaf for public. It is issued twice: as a precertificate,
// which the CT key signs, and then with that signature inside.
func (a *Authority) certify(public any, identity string, now time.Time) (*x509.Certificate, error) {
	uri, err := url.Parse(identity)
	if err != nil {
		return nil, err
	}
	issuer, err := asn1.MarshalWithParams(a.meta.Issuer, "utf8")
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		NotBefore: now.Add(-10 * time.Second), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		URIs: []*url.URL{uri},
		ExtraExtensions: []pkix.Extension{
			{Id: oidIssuer, Value: issuer},
			{Id: oidPoison, Critical: true, Value: asn1.NullBytes},
		},
	}
	pre, err := newCertificate(t, a.issuing, public, a.issuingKey)
	if err != nil {
		return nil, err
	}
	scts, err := a.certificateTimestamp(pre.Raw, now)
	if err != nil {
		return nil, err
	}
	t.ExtraExtensions[1] = pkix.Extension{Id: oidSCTs, Value: scts}
	return newCertificate(t, a.issuing, public, a.issuingKey)
}

// certificateTimestamp returns the extension value with one SCT for pre.
func (a *Authority) certificateTimestamp(pre []byte, now time.Time) ([]byte, error) {
	leaf, err := ctx509.ParseCertificate(pre)
	if ctx509.IsFatal(err) {
		return nil, err
	}
	issuing, err := ctx509.ParseCertificate(a.issuing.Raw)
	if ctx509.IsFatal(err) {
		return nil, err
	}
	at := uint64(now.UnixMilli())
	merkle, err := ct.MerkleTreeLeafFromChain([]*ctx509.Certificate{leaf, issuing}, ct.PrecertLogEntryType, at)
	if err != nil {
		return nil, err
	}
	sct := ct.SignedCertificateTimestamp{SCTVersion: ct.V1, LogID: ct.LogID{KeyID: a.ctLogID}, Timestamp: at}
	input, err := ct.SerializeSCTSignatureInput(sct, ct.LogEntry{Leaf: *merkle})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(input)
	sig, err := ecdsa.SignASN1(rand.Reader, a.ctKey, sum[:])
	if err != nil {
		return nil, err
	}
	sct.Signature = ct.DigitallySigned{Algorithm: cttls.SignatureAndHashAlgorithm{Hash: cttls.SHA256, Signature: cttls.ECDSA}, Signature: sig}
	one, err := cttls.Marshal(sct)
	if err != nil {
		return nil, err
	}
	list, err := cttls.Marshal(ctx509.SignedCertificateTimestampList{SCTList: []ctx509.SerializedSCT{{Val: one}}})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(list)
}

// timestamp is the time authority's answer for sig.
func (a *Authority) timestamp(sig []byte, now time.Time) ([]byte, error) {
	sum := sha256.Sum256(sig)
	t := timestamp.Timestamp{HashAlgorithm: crypto.SHA256, HashedMessage: sum[:], Time: now.UTC().Truncate(time.Second), Policy: oidTSPolicy}
	return t.CreateResponseWithOpts(a.tsa, a.tsaKey, crypto.SHA256)
}

// hashedRekord is the log entry for a signature: canonical JSON (RFC 8785),
// which encoding/json gives as long as the fields below stay in order.
func hashedRekord(digest, sig []byte, kind string, verifier []byte) ([]byte, error) {
	type object = map[string]any // written with sorted keys
	return json.Marshal(object{
		"apiVersion": "0.0.2",
		"kind":       "hashedrekord",
		"spec": object{"hashedRekordV002": object{
			"data": object{"algorithm": "SHA2_256", "digest": digest},
			"signature": object{
				"content":  sig,
				"verifier": object{"keyDetails": "PKIX_ECDSA_P256_SHA_256", kind: object{"rawBytes": verifier}},
			},
		}},
	})
}
