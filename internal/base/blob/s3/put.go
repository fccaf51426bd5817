package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"weir/internal/base/blob"
	"weir/internal/base/fault"
)

const (
	inMemory = 1 << 20 // smaller blobs need no temporary file
	atATime  = 4       // parts
	maxParts = 10_000  // as the protocol says
)

// spool holds the bytes of a blob until its digest is known.
type spool struct {
	io.ReaderAt
	size int64
	sum  [32]byte
	file *os.File // nil if in memory
}

func (p *spool) close() {
	if p.file != nil {
		p.file.Close()
		os.Remove(p.file.Name())
	}
}

func (s *Store) spool(ctx context.Context, r io.Reader) (_ *spool, err error) {
	h := sha256.New()
	r = io.TeeReader(reader{ctx, r}, h)
	var head bytes.Buffer
	n, err := io.CopyN(&head, r, inMemory)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	p := &spool{ReaderAt: bytes.NewReader(head.Bytes()), size: n}
	if n == inMemory {
		if p.file, err = os.CreateTemp(s.tmp, "weir-put-"); err != nil {
			return nil, err
		}
		if _, err = head.WriteTo(p.file); err == nil {
			n, err = io.CopyBuffer(struct{ io.Writer }{p.file}, r, make([]byte, 256<<10))
			p.size += n
		}
		if err != nil {
			p.close()
			return nil, err
		}
		p.ReaderAt = p.file
	}
	h.Sum(p.sum[:0])
	return p, nil
}

// Put stores r under its digest.
func (s *Store) Put(ctx context.Context, r io.Reader) (blob.Digest, int64, error) {
	p, err := s.spool(ctx, r)
	if err != nil {
		return "", 0, err
	}
	defer p.close()
	d := blob.Digest("sha256:" + hex.EncodeToString(p.sum[:]))
	if n, err := s.Stat(ctx, d); err == nil && n == p.size {
		return d, n, nil
	} else if err != nil && !fault.Is(err, fault.NotFound) {
		return "", 0, err
	}
	if p.size > s.part {
		err = s.putParts(ctx, s.key(d), p)
	} else {
		_, err = s.api.PutObject(ctx, &s3.PutObjectInput{Bucket: &s.bucket, Key: aws.String(s.key(d)), Body: io.NewSectionReader(p, 0, p.size), ContentLength: &p.size,
			ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(p.sum[:]))})
	}
	if err != nil {
		return "", 0, s.explain(err, false)
	}
	return d, p.size, nil
}

// putParts sends a large blob, some parts at a time. The object appears when all of them are there.
func (s *Store) putParts(ctx context.Context, key string, p *spool) error {
	size := max(s.part, (p.size+maxParts-1)/maxParts)
	up, err := s.api.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &s.bucket, Key: &key, ChecksumAlgorithm: types.ChecksumAlgorithmSha256})
	if err != nil {
		return err
	}
	parts := make([]types.CompletedPart, (p.size+size-1)/size)
	sending, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	next := 0
	for range min(atATime, len(parts)) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= len(parts) || sending.Err() != nil {
					return
				}
				part, err := s.putPart(sending, key, up.UploadId, i, io.NewSectionReader(p, int64(i)*size, min(size, p.size-int64(i)*size)))
				if err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
					stop()
					return
				}
				parts[i] = part
			}
		})
	}
	wg.Wait()
	if first == nil {
		first = ctx.Err()
	}
	if first == nil {
		_, first = s.api.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &s.bucket, Key: &key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	}
	if first != nil {
		_, err := s.api.AbortMultipartUpload(context.WithoutCancel(ctx), &s3.AbortMultipartUploadInput{Bucket: &s.bucket, Key: &key, UploadId: up.UploadId})
		return errors.Join(first, err)
	}
	return nil
}

func (s *Store) putPart(ctx context.Context, key string, upload *string, i int, r *io.SectionReader) (types.CompletedPart, error) {
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, io.NewSectionReader(r, 0, r.Size()), make([]byte, 256<<10)); err != nil {
		return types.CompletedPart{}, err
	}
	sum, number, size := base64.StdEncoding.EncodeToString(h.Sum(nil)), int32(i+1), r.Size()
	out, err := s.api.UploadPart(ctx, &s3.UploadPartInput{Bucket: &s.bucket, Key: &key, UploadId: upload, PartNumber: &number, Body: r, ContentLength: &size, ChecksumSHA256: &sum})
	if err != nil {
		return types.CompletedPart{}, err
	}
	return types.CompletedPart{ETag: out.ETag, PartNumber: &number, ChecksumSHA256: &sum}, nil
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
