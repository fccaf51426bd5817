// Package s3 keeps blobs in a bucket: <prefix>/sha256/ab/abcdef....
//
// A blob is written to a temporary file while it is hashed, and then sent under its digest, so that memory stays flat and a blob is in
// the bucket whole or not at all. What is sent carries its SHA-256, which the server checks before it acknowledges; large blobs go
// in parts, each with its own.
//
// A URL names the bucket: s3://bucket/prefix?region=eu-central-1, and for a server that is not Amazon's
// s3://bucket?endpoint=https://minio.example.com. Credentials come from where every tool of Amazon's finds them: AWS_ACCESS_KEY_ID and
// AWS_SECRET_ACCESS_KEY, AWS_SHARED_CREDENTIALS_FILE, or the role of the machine. They are never part of the URL.
package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"weir/internal/base/blob"
	"weir/internal/base/fault"
)

// Store is a bucket, or the part of one below a prefix. It implements blob.Store and blob.Quarantiner.
type Store struct {
	api    *s3.Client
	bucket string
	prefix string
	where  string // for sentences: the URL, which has no secrets
	tmp    string // folder of temporary files, "" for the system's
	part   int64  // bytes of a part of what is sent in parts
}

var (
	_ blob.Store       = (*Store)(nil)
	_ blob.Quarantiner = (*Store)(nil)
)

const (
	partSize  = 16 << 20
	openLimit = 30 * time.Second // to find out whether the bucket is there
	abandoned = 48 * time.Hour   // after which what was sent only in part is given up
)

// options are the keys that a URL may have.
var options = map[string]bool{"endpoint": true, "region": true, "path_style": true, "profile": true}

// Open returns the store of a URL, and refuses one whose bucket cannot be used.
func Open(ctx context.Context, u *url.URL) (*Store, error) {
	if u.User != nil {
		return nil, fault.New(fault.Invalid, "The URL of the bucket %s has a user or password in it. Take it out, and give the credentials as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in AWS_SHARED_CREDENTIALS_FILE.", u.Host)
	}
	if u.Host == "" {
		return nil, fault.New(fault.Invalid, "The URL names no bucket. Write s3://bucket, or s3://bucket/prefix?endpoint=https://s3.example.com.")
	}
	q := u.Query()
	for key := range q {
		if !options[key] {
			return nil, fault.New(fault.Invalid, "The URL of the bucket %s has the option %q, which is not known. The options are endpoint, region, path_style and profile.", u.Host, key)
		}
	}
	endpoint := q.Get("endpoint")
	if e, err := url.Parse(endpoint); endpoint != "" && (err != nil || e.Host == "" || e.Scheme != "http" && e.Scheme != "https" || e.User != nil) {
		return nil, fault.New(fault.Invalid, "The endpoint of the bucket %s must be an address such as https://s3.example.com, without a user.", u.Host)
	}
	load := []func(*config.LoadOptions) error{}
	if r := q.Get("region"); r != "" {
		load = append(load, config.WithRegion(r))
	}
	if p := q.Get("profile"); p != "" {
		load = append(load, config.WithSharedConfigProfile(p))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "The credentials or the configuration for the bucket %s cannot be read. Check AWS_PROFILE, AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE.", u.Host)
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1" // what servers other than Amazon's take
	}
	s := &Store{bucket: u.Host, prefix: strings.Trim(u.Path, "/"), where: u.Scheme + "://" + u.Host + u.Path, part: partSize}
	s.api = s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = q.Get("path_style") == "true" || endpoint != "" && q.Get("path_style") != "false"
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
		o.DisableLogOutputChecksumValidationSkipped = true
	})
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	if _, err := s.api.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.bucket}); err != nil {
		return nil, s.explain(err, true)
	}
	s.giveUp(ctx)
	return s, nil
}

// TempIn has the store keep its temporary files in a folder. It is called before the store is used.
func (s *Store) TempIn(dir string) error {
	s.tmp = dir
	return os.MkdirAll(dir, 0o700)
}

func (s *Store) key(d blob.Digest) string {
	h := d.Hex()
	return path.Join(s.prefix, "sha256", h[:2], h)
}

// Stat returns the size of the object.
func (s *Store) Stat(ctx context.Context, d blob.Digest) (int64, error) {
	if _, err := blob.ParseDigest(string(d)); err != nil {
		return 0, err
	}
	out, err := s.api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: aws.String(s.key(d))})
	if missing(err) {
		return 0, absent(d)
	}
	if err != nil {
		return 0, s.explain(err, false)
	}
	return aws.ToInt64(out.ContentLength), nil
}

// Delete removes the object.
func (s *Store) Delete(ctx context.Context, d blob.Digest) error {
	if _, err := blob.ParseDigest(string(d)); err != nil {
		return err
	}
	_, err := s.api.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: aws.String(s.key(d))})
	if err != nil && !missing(err) {
		return s.explain(err, false)
	}
	return nil
}

// Quarantine moves the object below damaged/. One that the server cannot copy, because it is too large or cannot be read, is deleted.
func (s *Store) Quarantine(ctx context.Context, d blob.Digest) error {
	if _, err := blob.ParseDigest(string(d)); err != nil {
		return err
	}
	from := (&url.URL{Path: s.bucket + "/" + s.key(d)}).EscapedPath()
	_, err := s.api.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &s.bucket, Key: aws.String(path.Join(s.prefix, "damaged", d.Hex())), CopySource: &from})
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), err)
	}
	return s.Delete(ctx, d)
}

// giveUp takes back the parts of uploads that a process did not bring to an end; what does not work now works at the next start.
func (s *Store) giveUp(ctx context.Context) {
	prefix := path.Join(s.prefix, "sha256") + "/"
	out, err := s.api.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &s.bucket, Prefix: &prefix})
	if err != nil {
		return
	}
	for _, u := range out.Uploads {
		if time.Since(aws.ToTime(u.Initiated)) > abandoned {
			_, _ = s.api.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.bucket, Key: u.Key, UploadId: u.UploadId})
		}
	}
}

func absent(d blob.Digest) error { return fault.New(fault.NotFound, "There is no blob %s.", d) }

// missing reports whether err says that there is no such object.
func missing(err error) bool {
	var key *types.NoSuchKey
	var found *types.NotFound
	if errors.As(err, &key) || errors.As(err, &found) {
		return true
	}
	return code(err) == "NoSuchKey"
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func status(err error) int {
	var res interface{ HTTPStatusCode() int }
	if errors.As(err, &res) {
		return res.HTTPStatusCode()
	}
	return 0
}

// explain turns what a server or the network said into a sentence. The error inside never holds credentials: requests carry
// signatures, and only their ids are quoted.
func (s *Store) explain(err error, bucket bool) error {
	switch c, st := code(err), status(err); {
	case errors.Is(err, context.Canceled):
		return err
	case bucket && (st == http.StatusNotFound || c == "NoSuchBucket"):
		return fault.Wrap(fault.Invalid, err, "There is no bucket %s. Make it, or correct the name.", s.where)
	case c == "InvalidAccessKeyId" || c == "SignatureDoesNotMatch" || st == http.StatusUnauthorized || st == http.StatusForbidden:
		return fault.Wrap(fault.Unavailable, err, "The server of the bucket %s refuses these credentials. They need to read, write, list and delete in it.", s.where)
	case st == http.StatusMovedPermanently || c == "PermanentRedirect" || c == "AuthorizationHeaderMalformed":
		return fault.Wrap(fault.Invalid, err, "The bucket %s is in another region. Name it: ?region=….", s.where)
	case c == "" && st == 0 && strings.Contains(err.Error(), "credentials"):
		return fault.Wrap(fault.Unavailable, err, "There are no credentials for the bucket %s. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE.", s.where)
	case c == "" && st == 0:
		return fault.Wrap(fault.Unavailable, err, "The server of the bucket %s does not answer.", s.where)
	}
	return fmt.Errorf("bucket %s: %w", s.where, err)
}
