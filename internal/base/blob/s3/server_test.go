//go:build s3server

package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"weir/internal/base/blob"
	"weir/internal/base/blob/blobtest"
	"weir/internal/base/blob/s3/s3test"
	"weir/internal/base/fault"
)

const root = "../../../.."

func TestS3Conformance(t *testing.T) {
	u, _ := s3test.Start(t, root)
	n := 0
	for _, part := range []int64{16 << 20, 5 << 20} {
		blobtest.Run(t, func(t *testing.T) blob.Store {
			n++
			s, err := Open(t.Context(), u.JoinPath(strings.Repeat("x", n)))
			if err != nil {
				t.Fatal(err)
			}
			s.part = part
			if err := s.TempIn(t.TempDir()); err != nil {
				t.Fatal(err)
			}
			return s
		})
	}
}

func TestS3SendsLargeBlobsInPartsAndLeavesNothingBehind(t *testing.T) {
	u, _ := s3test.Start(t, root)
	s, err := Open(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	s.part = 5 << 20
	if err := s.TempIn(tmp); err != nil {
		t.Fatal(err)
	}
	all := make([]byte, 23<<20+11)
	_, _ = rand.Read(all)
	d, n, err := s.Put(t.Context(), bytes.NewReader(all))
	if err != nil || n != int64(len(all)) {
		t.Fatalf("Put() = %v, %v, %v", d, n, err)
	}
	r, _, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, all) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	// One that is cut off in the middle.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p, err := s.spool(t.Context(), bytes.NewReader(all[1:]))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := s.putParts(ctx, "blobs/sha256/00/cut", p); err == nil {
		t.Error("a cancelled upload came to an end")
	}
	out, err := s.api.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &s.bucket})
	if err != nil || len(out.Uploads) != 0 {
		t.Errorf("%d uploads are left, %v", len(out.Uploads), err)
	}
	p.close()
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

func TestS3ReadOfABlobThatWasDamagedIsNotTheBlob(t *testing.T) {
	u, dir := s3test.Start(t, root)
	s, err := Open(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := s.Put(t.Context(), strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, filepath.FromSlash(s.key(d)))
	if err := os.WriteFile(path, []byte("hallo"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, _, err := s.Open(t.Context(), d)
	if err != nil {
		return // refused at once
	}
	defer r.Close()
	if b, err := io.ReadAll(r); !errors.Is(err, blob.ErrDamaged) {
		t.Errorf("read %q, %v; want it found damaged", b, err)
	}
}

func TestS3RefusalsAreSentences(t *testing.T) {
	u, _ := s3test.Start(t, root)
	at := func(bucket string) *url.URL { c := *u; c.Host = bucket; return &c }
	if _, err := Open(t.Context(), at("nothere")); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), "There is no bucket s3://nothere/blobs") {
		t.Errorf("no bucket: %v", err)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "not the secret")
	if _, err := Open(t.Context(), u); !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Sentence(err), "refuses these credentials") || strings.Contains(err.Error(), "not the secret") {
		t.Errorf("wrong secret: %v", err)
	}
}
