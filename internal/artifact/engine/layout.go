package engine

import (
	"context"
	"fmt"
	"strings"

	"weir/internal/artifact"
	"weir/internal/artifact/layout"
	"weir/internal/base/fault"
)

// pushLayout checks the image layout that a job has handed in and pushes it as
// it is, an index with all of its images: not one byte of it is made here.
func (e *Engine) pushLayout(ctx context.Context, i artifact.Intake, s artifact.Spec, p artifact.Progress) (outcome, error) {
	rc, _, err := e.Bytes.Open(ctx, i.Stored)
	if err != nil {
		return outcome{}, fmt.Errorf("open output %s: %w", i.Stored, err)
	}
	defer rc.Close()
	l, err := layout.Open(s.Service, rc)
	if err != nil {
		return outcome{}, err
	}
	if err := l.Check(); err != nil {
		return outcome{}, err
	}
	if p.Submission != nil && !strings.HasSuffix(p.Submission.Image, "@"+l.Top.Digest) {
		return outcome{}, fault.New(fault.Invalid, "The image that was pulled for %s has the digest %s instead of that of %s.", s.Service, l.Top.Digest, p.Submission.Image)
	}
	for _, img := range l.Images {
		if c := img.Config.Config; len(c.Entrypoint) == 0 && len(c.Cmd) == 0 && len(s.Command) == 0 {
			return outcome{}, fault.New(fault.Invalid, "The image of %s for %s names no program to run. Give it an entrypoint, or the service a command under run: in weir.yaml.", s.Service, img.Platform)
		}
	}
	err = l.Each(func(d artifact.Descriptor) error {
		r, err := l.Blob(d.Digest)
		if err != nil {
			return err
		}
		if _, err := e.Images.PutBlob(ctx, p.Repository, d.Digest, r); err != nil {
			return fmt.Errorf("push blob %s: %w", d.Digest, err)
		}
		return nil
	})
	if err != nil {
		return outcome{}, err
	}
	put := func(d artifact.Descriptor, raw []byte) error {
		if _, err := e.Images.PutManifest(ctx, p.Repository, d.Digest, d.MediaType, raw); err != nil {
			return fmt.Errorf("push manifest %s of %s: %w", d.Digest, p.Repository, err)
		}
		return nil
	}
	for _, o := range l.Others {
		if err := put(o.Descriptor, o.Raw); err != nil {
			return outcome{}, err
		}
	}
	for _, img := range l.Images {
		if err := put(img.Descriptor, img.Raw); err != nil {
			return outcome{}, err
		}
	}
	for _, o := range l.Inner {
		if err := put(o.Descriptor, o.Raw); err != nil {
			return outcome{}, err
		}
	}
	if l.Index() {
		if err := put(l.Top, l.Raw); err != nil {
			return outcome{}, err
		}
	}
	p.Digest, p.MediaType, p.ImageSize, p.ManifestSize = l.Top.Digest, l.Top.MediaType, l.Size(), l.Top.Size
	return outcome{next: artifact.Pushed, progress: p}, nil
}
