package api

import (
	"context"
	"encoding/json"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/guard/evidence"
)

// ImageKey is a public key for verifiers that take no certificates.
type ImageKey struct {
	PEM string `json:"pem"`
}

func (s *server) keys(a huma.API) {
	route(a, "GET", "/trusted-root/updates", "trusted-root-updates", "How trust was handed on: signed bundles, each by the keys that were trusted before it",
		func(ctx context.Context, _ *struct{}) ([]json.RawMessage, error) { return s.Evidence.RootUpdates(ctx) })
	route(a, "GET", "/keys/image", "image-key", "The public key that signs images beside their certificates", func(ctx context.Context, _ *struct{}) (ImageKey, error) {
		raw, err := s.Evidence.ImageKeyPEM(ctx)
		return ImageKey{string(raw)}, err
	})
	route(a, "GET", "/keys", "list-keys", "List the generations of signing keys", func(ctx context.Context, _ *struct{}) ([]evidence.Generation, error) {
		return s.Evidence.Keys(ctx)
	})
	route(a, "POST", "/keys", "rotate-keys", "Make new signing keys and sign with them from now on", func(ctx context.Context, in *struct {
		Body struct {
			KMS     string `json:"kms,omitempty" doc:"Where the new issuing key is, as NAME://KEY; a file on the server if absent."`
			TimeKMS string `json:"timestamp_kms,omitempty" doc:"Where the new key of timestamps is, as NAME://KEY; a file on the server if absent."`
			Reason  string `json:"reason" doc:"Why; kept in the ledger."`
		}
	}) (evidence.Generation, error) {
		return s.Evidence.Rotate(ctx, evidence.Places{Issuing: in.Body.KMS, Timestamps: in.Body.TimeKMS}, in.Body.Reason)
	})
	route(a, "GET", "/keys/ledger", "list-ledger-keys", "List the generations of the ledger's key", func(ctx context.Context, _ *struct{}) ([]evidence.LogGeneration, error) {
		return s.Evidence.LogKeys(ctx)
	})
	route(a, "POST", "/keys/ledger", "rotate-ledger-key", "Make a new key for the ledger and sign checkpoints with it from now on", func(ctx context.Context, in *struct {
		Body struct {
			Reason string `json:"reason" doc:"Why; kept in the ledger."`
		}
	}) (evidence.LogGeneration, error) {
		return s.Evidence.RotateLog(ctx, in.Body.Reason)
	})
	route(a, "POST", "/keys/{generation}/revoke", "revoke-keys", "Distrust what former keys signed from a time on", func(ctx context.Context, in *struct {
		Generation int `path:"generation"`
		Body       struct {
			Since  time.Time `json:"since" doc:"What was signed from then on is refused."`
			Reason string    `json:"reason" doc:"Why; kept in the ledger."`
		}
	}) (evidence.Generation, error) {
		return s.Evidence.Revoke(ctx, in.Generation, in.Body.Since, in.Body.Reason)
	})
}
