package artifact

import (
	"errors"
	"regexp"
	"time"

	"weir/internal/base/fault"
)

// Media types of OCI and of what Weir attaches to an image.
const (
	MediaManifest = "application/vnd.oci.image.manifest.v1+json"
	MediaIndex    = "application/vnd.oci.image.index.v1+json"
	MediaConfig   = "application/vnd.oci.image.config.v1+json"
	MediaLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
	MediaEmpty    = "application/vnd.oci.empty.v1+json"
)

// Descriptor is a reference to content in a registry, as OCI writes it.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// Manifest is a stored manifest, byte for byte.
type Manifest struct {
	Descriptor
	Subject string // digest of what it refers to, "" if nothing
	Raw     []byte
}

// Upload is a blob on its way in. What was acknowledged survives a restart.
type Upload struct {
	ID         string
	Repository string
	Size       int64
	Updated    time.Time
}

var (
	repositoryName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagName        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	digestForm     = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)
)

// ValidRepository reports whether s may name a repository in the registry.
func ValidRepository(s string) bool { return len(s) <= 255 && repositoryName.MatchString(s) }

// ValidTag reports whether s may be a tag.
func ValidTag(s string) bool { return tagName.MatchString(s) }

// ValidDigest reports whether s is a digest that the registry can compute.
func ValidDigest(s string) bool { return digestForm.MatchString(s) }

// Code is an error code of the OCI distribution specification.
type Code string

// The codes a registry answers with.
const (
	BlobUnknown         Code = "BLOB_UNKNOWN"
	BlobUploadInvalid   Code = "BLOB_UPLOAD_INVALID"
	BlobUploadUnknown   Code = "BLOB_UPLOAD_UNKNOWN"
	DigestInvalid       Code = "DIGEST_INVALID"
	ManifestBlobUnknown Code = "MANIFEST_BLOB_UNKNOWN"
	ManifestInvalid     Code = "MANIFEST_INVALID"
	ManifestUnknown     Code = "MANIFEST_UNKNOWN"
	NameInvalid         Code = "NAME_INVALID"
	NameUnknown         Code = "NAME_UNKNOWN"
	SizeInvalid         Code = "SIZE_INVALID"
	Unauthorized        Code = "UNAUTHORIZED"
	Denied              Code = "DENIED"
	Unsupported         Code = "UNSUPPORTED"
)

type coded struct {
	code Code
	err  error
}

func (c *coded) Error() string { return c.err.Error() }
func (c *coded) Unwrap() error { return c.err }

// Refuse returns a fault that a registry client understands.
func Refuse(code Code, kind fault.Kind, sentence string, args ...any) error {
	return &coded{code, fault.New(kind, sentence, args...)}
}

// CodeOf returns the code of err, or "" if it has none.
func CodeOf(err error) Code {
	var c *coded
	if errors.As(err, &c) {
		return c.code
	}
	return ""
}

// ErrOutOfOrder says that a piece of an upload does not start where the upload ends.
var ErrOutOfOrder = Refuse(BlobUploadInvalid, fault.Conflict, "the piece does not start where the upload ends; ask for the upload's range and go on from there")
