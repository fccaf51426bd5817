package s3

import (
	"net/url"
	"strings"
	"testing"

	"weir/internal/base/fault"
)

func TestOpenRefusesWhatIsNoBucketWithASentence(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	for raw, want := range map[string]string{
		"s3:///prefix":                               "names no bucket",
		"s3://id:the-secret@bucket":                  "Take it out",
		"s3://bucket?access_key=the-secret":          `has the option "access_key", which is not known`,
		"s3://bucket?endpoint=minio:9000":            "The endpoint of the bucket bucket must be an address",
		"s3://bucket?endpoint=http://id:x@host":      "must be an address",
		"s3://bucket/blobs?endpoint=http://[::1]:1":  "The server of the bucket s3://bucket/blobs does not answer",
		"s3://bucket?endpoint=file:///etc/passwd":    "must be an address",
		"s3://bucket?profile=none&region=eu-north-1": "cannot be read",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(t.Context(), u)
		if fault.KindOf(err) == "" || !strings.Contains(fault.Sentence(err), want) || strings.Contains(fault.Sentence(err), "the-secret") {
			t.Errorf("%s: %v; want %q", raw, err, want)
		}
	}
}
