package evidence

import (
	"bytes"
	"encoding/json"
	"fmt"

	pbbundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	pbcommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	pbdsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	pbrekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

// BundleMediaType names a bundle when it is stored as an OCI referrer.
const BundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// bundle joins a signature and its proof into what verifiers read.
func (s signature) bundle(p Proof, logID []byte) ([]byte, error) {
	b := &pbbundle.Bundle{
		MediaType: BundleMediaType,
		VerificationMaterial: &pbbundle.VerificationMaterial{
			Content: &pbbundle.VerificationMaterial_Certificate{Certificate: &pbcommon.X509Certificate{RawBytes: s.Certificate}},
			TimestampVerificationData: &pbbundle.TimestampVerificationData{
				Rfc3161Timestamps: []*pbcommon.RFC3161SignedTimestamp{{SignedTimestamp: s.Timestamp}},
			},
			TlogEntries: []*pbrekor.TransparencyLogEntry{{
				LogIndex:          p.Index,
				LogId:             &pbcommon.LogId{KeyId: logID},
				KindVersion:       &pbrekor.KindVersion{Kind: "hashedrekord", Version: "0.0.2"},
				CanonicalizedBody: s.Entry,
				InclusionProof: &pbrekor.InclusionProof{
					LogIndex: p.Index, RootHash: p.RootHash, TreeSize: p.TreeSize, Hashes: p.Hashes,
					Checkpoint: &pbrekor.Checkpoint{Envelope: p.Checkpoint},
				},
			}},
		},
		Content: &pbbundle.Bundle_DsseEnvelope{DsseEnvelope: &pbdsse.Envelope{
			Payload: s.Payload, PayloadType: payloadType, Signatures: []*pbdsse.Signature{{Sig: s.Sig}},
		}},
	}
	if s.KeyHint != "" {
		b.VerificationMaterial.Content = &pbbundle.VerificationMaterial_PublicKey{PublicKey: &pbcommon.PublicKeyIdentifier{Hint: s.KeyHint}}
	}
	raw, err := protojson.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode bundle: %w", err)
	}
	var out bytes.Buffer // protojson varies its spaces on purpose
	if err := json.Compact(&out, raw); err != nil {
		return nil, fmt.Errorf("encode bundle: %w", err)
	}
	return out.Bytes(), nil
}
