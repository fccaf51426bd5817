package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"weir/internal/base/blob"
)

// Open asks for the object; its bytes come as they are read.
func (s *Store) Open(ctx context.Context, d blob.Digest) (io.ReadSeekCloser, int64, error) {
	if _, err := blob.ParseDigest(string(d)); err != nil {
		return nil, 0, err
	}
	o := &object{ctx: ctx, store: s, digest: d}
	size, err := o.get(0)
	if err != nil {
		return nil, 0, err
	}
	o.size = size
	return o, size, nil
}

// object reads a blob. A read somewhere else asks for the rest from there.
type object struct {
	ctx    context.Context // of Open: reading ends with it
	store  *Store
	digest blob.Digest
	size   int64
	at     int64         // where the next Read reads
	body   io.ReadCloser // nil, or bytes from bodyAt
	bodyAt int64
}

func (o *object) get(from int64) (int64, error) {
	in := &s3.GetObjectInput{Bucket: &o.store.bucket, Key: aws.String(o.store.key(o.digest))}
	if from > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", from))
	} else {
		in.ChecksumMode = types.ChecksumModeEnabled // so that bytes damaged on the way end in an error
	}
	out, err := o.store.api.GetObject(o.ctx, in)
	if missing(err) {
		return 0, absent(o.digest)
	}
	if err != nil {
		return 0, o.store.explain(err, false)
	}
	o.body, o.bodyAt = out.Body, from
	return aws.ToInt64(out.ContentLength), nil
}

func (o *object) Read(p []byte) (int, error) {
	if o.at >= o.size {
		return 0, o.end()
	}
	if o.body != nil && o.bodyAt != o.at {
		o.Close()
	}
	if o.body == nil {
		if _, err := o.get(o.at); err != nil {
			return 0, err
		}
	}
	n, err := o.body.Read(p)
	err = damaged(err)
	o.at, o.bodyAt = o.at+int64(n), o.bodyAt+int64(n)
	if err == io.EOF && o.at < o.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// end reads past the last byte, where a checksum that does not hold is told.
func (o *object) end() error {
	if o.body != nil && o.bodyAt == o.at {
		if _, err := o.body.Read(make([]byte, 1)); err != nil {
			return damaged(err)
		}
	}
	return io.EOF
}

// damaged tells a checksum that does not hold from a connection that does not. The client has no type for it.
func damaged(err error) error {
	if err != nil && !errors.Is(err, io.EOF) && strings.Contains(err.Error(), "checksum did not match") {
		return fmt.Errorf("%w: %v", blob.ErrDamaged, err)
	}
	return err
}

func (o *object) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += o.at
	case io.SeekEnd:
		offset += o.size
	}
	if offset < 0 {
		return o.at, errors.New("seek before the beginning")
	}
	o.at = offset
	return offset, nil
}

// Close ends reading; it may be called twice.
func (o *object) Close() error {
	if o.body == nil {
		return nil
	}
	err := o.body.Close()
	o.body = nil
	return err
}
