package oci

import (
	"compress/gzip"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// maxWindow is how far back a zstd layer may refer, which is memory for whoever reads it: what zstd's own strongest level needs.
const maxWindow = 128 << 20

// LayerForm says how a layer is packed by its media type: "", gzip or zstd. ok is false for what is no layer that can be read.
func LayerForm(mediaType string) (form string, ok bool) {
	switch {
	case strings.HasSuffix(mediaType, "gzip"):
		return "gzip", true
	case strings.HasSuffix(mediaType, "+zstd"):
		return "zstd", true
	case strings.HasSuffix(mediaType, "tar"):
		return "", true
	}
	return "", false
}

// Plain is a layer as its media type says that it is packed, unpacked: the tar. Bounding what comes out is the caller's, closing it is, too.
// Errors are the end of a sentence.
func Plain(mediaType string, r io.Reader) (io.ReadCloser, error) {
	form, ok := LayerForm(mediaType)
	switch {
	case !ok:
		return nil, fmt.Errorf("has the type %q; layers are tar, plain or with gzip or zstd", clip(mediaType))
	case form == "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("is not compressed with gzip (%w)", err)
		}
		return z, nil
	case form == "zstd":
		z, err := newZstd(r)
		if err != nil {
			return nil, fmt.Errorf("is not compressed with zstd (%w)", err)
		}
		return z, nil
	}
	return io.NopCloser(r), nil
}

// newZstd reads in this goroutine, with a window that is bounded.
func newZstd(r io.Reader) (io.ReadCloser, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return z.IOReadCloser(), nil
}
