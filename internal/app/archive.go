package app

import (
	"context"
	"os"

	"weir/internal/artifact/custody"
	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
)

// Chain is what was proven about an image.
type Chain = custody.Report

// ExportEvidence writes an image and all evidence about it to a file, which
// must not be there yet.
func ExportEvidence(ctx context.Context, image, file string, o VerifyOptions) (err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "The archive %s cannot be written: %s. Name another file with --output.", file, err)
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			_ = os.Remove(file)
		}
	}()
	return custody.Export(ctx, image, f, custody.Options{Token: o.Token, Insecure: o.Insecure})
}

// VerifyEvidence proves the chain of the image in an archive.
func VerifyEvidence(ctx context.Context, file string, trustedRoot []byte, o VerifyOptions) (custody.Report, error) {
	trust, err := evidence.ParseTrustedRoot(trustedRoot)
	if err != nil {
		return custody.Report{}, err
	}
	return custody.VerifyArchive(ctx, file, trust, custody.Options{Repository: o.Repository, Ref: o.Ref, Confined: o.Confined, Built: o.Built})
}

// NoRelease says that a service has no release of a version.
func NoRelease(service, version string) error {
	return fault.New(fault.NotFound, "There is no release %s of %s. `weir release list %s` shows them.", version, service, service)
}
