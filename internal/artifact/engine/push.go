package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"weir/internal/artifact"
	"weir/internal/artifact/image"
	"weir/internal/artifact/provenance"
	"weir/internal/base/fault"
)

// spec finds how the service of i is declared at its revision, and whether it
// shares its repository with others.
func (e *Engine) spec(ctx context.Context, i artifact.Intake) (s artifact.Spec, several bool, err error) {
	specs, err := e.Catalog.Specs(ctx, i.Output.RepositoryID, i.Output.Revision)
	if err != nil {
		return s, false, fmt.Errorf("read services at %s: %w", i.Output.Revision, err)
	}
	for _, s := range specs {
		if s.ServiceID == i.Output.ServiceID {
			return s, len(specs) > 1, nil
		}
	}
	return s, false, fault.New(fault.Invalid, "the service %s is not declared in weir.yaml at %s", i.Output.Service, i.Output.Revision)
}

// repository is where the images of a service are kept.
func repository(s artifact.Spec) (string, error) {
	return artifact.RegistryName(s.RepositoryName, s.Service)
}

// push layers the bytes and puts the image into the registry, under its digest
// only: a tag would let somebody pull it before it is admitted.
func (e *Engine) push(ctx context.Context, i artifact.Intake) (outcome, error) {
	s, _, err := e.spec(ctx, i)
	if err != nil {
		return outcome{}, err
	}
	repo, err := repository(s)
	if err != nil {
		return outcome{}, err
	}
	signer, err := e.signer(ctx, i, s)
	if err != nil {
		return outcome{}, err
	}
	commit, err := e.Source.Commit(ctx, i.Output.RepositoryID, i.Output.Revision)
	if err != nil {
		return outcome{}, fmt.Errorf("read commit %s: %w", i.Output.Revision, err)
	}
	progress := artifact.Progress{Repository: repo, ConfigDigest: s.ConfigDigest,
		Signer: signer, Submission: i.Progress.Submission, Author: commit.Author, CommitTime: commit.Time}
	if s.HandsImage() {
		return e.pushLayout(ctx, i, s, progress)
	}
	img, err := e.layer(ctx, i, s, commit)
	if err != nil {
		return outcome{}, err
	}
	defer img.Close()
	for _, l := range img.Layers {
		r, err := l.Open()
		if err != nil {
			return outcome{}, fmt.Errorf("read layer %s: %w", l.Digest, err)
		}
		if _, err := e.Images.PutBlob(ctx, repo, l.Digest, r); err != nil {
			return outcome{}, fmt.Errorf("push layer %s: %w", l.Digest, err)
		}
	}
	if _, err := e.Images.PutBlob(ctx, repo, img.ConfigDescriptor().Digest, bytes.NewReader(img.Config)); err != nil {
		return outcome{}, fmt.Errorf("push configuration of %s: %w", repo, err)
	}
	if _, err := e.Images.PutManifest(ctx, repo, img.Digest, artifact.MediaManifest, img.Manifest); err != nil {
		return outcome{}, fmt.Errorf("push manifest of %s: %w", repo, err)
	}
	progress.Digest, progress.ImageSize, progress.ManifestSize = img.Digest, img.Size(), int64(len(img.Manifest))
	return outcome{next: artifact.Pushed, progress: progress}, nil
}

// signer is who speaks for the image: the workflow that built it, or who
// submitted it.
func (e *Engine) signer(ctx context.Context, i artifact.Intake, s artifact.Spec) (string, error) {
	if sub := i.Progress.Submission; sub != nil {
		return provenance.Submitter(e.Signer.Issuer(), s.RepositoryName, sub.By), nil
	}
	run, err := e.Runs.Run(ctx, i.Output.RunID)
	if err != nil {
		return "", fmt.Errorf("load run %s: %w", i.Output.RunID, err)
	}
	return provenance.Signer(e.Signer.Issuer(), s.RepositoryName, run.Workflow, run.Ref), nil
}

// layer builds the image of i into temporary files.
func (e *Engine) layer(ctx context.Context, i artifact.Intake, s artifact.Spec, c artifact.Commit) (image.Image, error) {
	rc, size, err := e.Bytes.Open(ctx, i.Stored)
	if err != nil {
		return image.Image{}, fmt.Errorf("open output %s: %w", i.Stored, err)
	}
	defer rc.Close()
	in := image.Input{Name: s.Service, Command: s.Command, Revision: i.Output.Revision, Version: i.Output.Version, Source: e.source(s), Created: c.Time}
	return Layer(e.temporary(), in, s, rc, size)
}

// Layer makes the image of a service that Weir layers itself, of what its release
// job has handed in. dir takes temporary files.
func Layer(dir string, in image.Input, s artifact.Spec, output io.ReadSeeker, size int64) (image.Image, error) {
	switch {
	case s.Node != "":
		in.Folder = s.Path // where a workspace has it
		return image.FromNode(dir, in, output, s.Node)
	case s.Static != "":
		return image.FromFiles(dir, in, output)
	}
	return image.FromBinary(dir, in, seekReader{output}, size)
}

func (e *Engine) temporary() string {
	if e.Dir == "" {
		return os.TempDir()
	}
	return e.Dir
}

// source is the URL of a service's repository. It is a name below the issuer,
// which stays when the server moves.
func (e *Engine) source(s artifact.Spec) string { return e.Signer.Issuer() + "/" + s.RepositoryName }

// seekReader reads at offsets by seeking, for stores whose blobs are not files.
// It is not safe for concurrent use.
type seekReader struct{ io.ReadSeeker }

func (s seekReader) ReadAt(p []byte, off int64) (int, error) {
	if _, err := s.Seek(off, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(s.ReadSeeker, p)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}
