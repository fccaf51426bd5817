package app

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"weir/internal/artifact"
	"weir/internal/artifact/provenance"
	"weir/internal/base/fault"
	"weir/internal/edge/api"
	"weir/internal/guard/evidence"
	"weir/internal/guard/identity"
	"weir/internal/pipeline"
)

// submissions take in images that were built elsewhere.
type submissions struct{ s *System }

// Submit pulls the image by its digest, with what refers to it, and hands it in. Who asks must be allowed to; the service's weir.yaml at
// the revision must say that its images come from there.
func (x submissions) Submit(ctx context.Context, in api.Submission) (api.Intake, error) {
	s := x.s
	if err := identity.Check(ctx, "release.submit", "default"); err != nil {
		return api.Intake{}, err
	}
	service, err := s.catalog.Service(ctx, in.Service)
	if err != nil {
		return api.Intake{}, err
	}
	if _, err := s.source.LandingOf(ctx, service.RepositoryID, in.Commit); err != nil {
		if fault.Is(err, fault.NotFound) {
			return api.Intake{}, fault.New(fault.Invalid, "The commit %.12s has not landed on the trunk of the repository of %s. Name the full id of a landed one.", in.Commit, service.Name)
		}
		return api.Intake{}, err
	}
	all, err := specs{s.catalog}.Specs(ctx, service.RepositoryID, in.Commit)
	if err != nil {
		return api.Intake{}, err
	}
	var spec artifact.Spec
	for _, a := range all {
		if a.ServiceID == service.ID {
			spec = a
		}
	}
	if spec.External == "" {
		return api.Intake{}, fault.New(fault.Invalid, "The weir.yaml at %.12s does not say that images of %s are built elsewhere. A change can say so: artifact: {build: {external: HOST/REPOSITORY}}.", in.Commit, service.Name)
	}
	repository, digest, ok := strings.Cut(in.Image, "@")
	if !ok || !artifact.ValidDigest(digest) || !strings.HasPrefix(digest, "sha256:") {
		return api.Intake{}, fault.New(fault.Invalid, "%q names no digest. An image is submitted as HOST/REPOSITORY@sha256:..., because a tag may name another one tomorrow.", in.Image)
	}
	if i := strings.LastIndexByte(repository, ':'); i > strings.LastIndexByte(repository, '/') {
		repository = repository[:i] // a tag beside the digest says nothing
	}
	if repository != spec.External {
		return api.Intake{}, fault.New(fault.Invalid, "Images of %s come from %s, as weir.yaml says at %.12s; %s is another repository.", service.Name, spec.External, in.Commit, repository)
	}
	from, opts, err := x.from(ctx, repository)
	if err != nil {
		return api.Intake{}, err
	}
	ref, err := name.NewDigest(repository+"@"+digest, from.nameOptions()...)
	if err != nil {
		return api.Intake{}, fault.Wrap(fault.Invalid, err, "%s does not name an image.", in.Image)
	}
	version, err := s.versions().Version(ctx, service.RepositoryID, in.Commit, spec, len(all) > 1)
	if err != nil {
		return api.Intake{}, err
	}
	sub := artifact.Submission{Image: repository + "@" + digest, By: identity.From(ctx).Name, Origin: artifact.Asserted}
	if err := x.referrers(ctx, ref, opts, from, spec, &sub, service.RepositoryID, in.Commit); err != nil {
		return api.Intake{}, err
	}
	file, err := os.CreateTemp("", "weir-submission-")
	if err != nil {
		return api.Intake{}, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := writeLayout(file, ref, opts); err != nil {
		return api.Intake{}, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return api.Intake{}, err
	}
	i, err := s.artifact.Submit(ctx, pipeline.Output{RepositoryID: service.RepositoryID, Revision: in.Commit, Service: service.Name, ServiceID: service.ID, Version: version, Name: "submission", Finished: time.Now().UTC()}, sub, digest, file)
	return api.IntakeOf(i), err
}

// from is how the registry of a repository is spoken with. Weir's own is read as the machine's host reads it, if the actor may.
func (x submissions) from(ctx context.Context, repository string) (ExternalRegistry, []remote.Option, error) {
	host, path, _ := strings.Cut(repository, "/")
	if u, err := url.Parse(x.s.Config.URL); err == nil && u.Host == host {
		rules := x.s.Config.Registry.access()
		who, err := x.s.asker(ctx, len(rules.Rules) > 0)
		if err == nil {
			err = rules.Decide(ctx, who, artifact.Pull, path)
		}
		if err != nil {
			return ExternalRegistry{}, nil, err
		}
		own := ExternalRegistry{Host: host, Insecure: u.Scheme == "http", Credentials: "none"}
		token, err := pullToken(x.s.Config.Host.Dir, "")(ctx)
		return own, append(own.options(ctx), remote.WithAuth(basic(token))), err
	}
	r, err := externals{all: x.s.Config.Registries}.find(host)
	if err != nil {
		return r, nil, err
	}
	return r, r.options(ctx), nil
}

// maxReferrersTaken bounds what travels with a submitted image.
const maxReferrersTaken = 100

// referrers copies what refers to the image into Weir's registry, and looks whether a builder's provenance of it verifies.
func (x submissions) referrers(ctx context.Context, ref name.Digest, opts []remote.Option, from ExternalRegistry, spec artifact.Spec, sub *artifact.Submission, repositoryID, commit string) error {
	to, err := artifact.RegistryName(spec.RepositoryName, spec.Service)
	if err != nil {
		return err
	}
	var trust *evidence.TrustedRoot
	if from.TrustedRoot != "" {
		raw, err := ReadTrustedRoot(from.TrustedRoot)
		if err != nil {
			return err
		}
		root, err := evidence.ParseTrustedRoot(raw)
		if err != nil {
			return err
		}
		trust = &root
	}
	index, err := remote.Referrers(ref, opts...)
	if err != nil {
		return unreachable(ref, err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return unreachable(ref, err)
	}
	for _, d := range m.Manifests[:min(len(m.Manifests), maxReferrersTaken)] {
		raw, blobs, err := small(ref.Context().Digest(d.Digest.String()), opts)
		if errors.Is(err, errTooLarge) {
			continue
		}
		if err != nil {
			return unreachable(ref, err)
		}
		for digest, b := range blobs {
			if _, err := x.s.registry.PutBlob(ctx, to, digest, strings.NewReader(string(b))); err != nil {
				return fmt.Errorf("copy referrer %s: %w", d.Digest, err)
			}
			if trust == nil || !strings.HasPrefix(d.ArtifactType, "application/vnd.dev.sigstore.bundle") {
				continue
			}
			v, err := evidence.Verify(b, *trust, evidence.Want{PredicateType: evidence.Provenance, SubjectDigest: ref.DigestStr(), IdentityPrefix: from.IdentityPrefix})
			if err != nil {
				continue // another predicate, or one that does not hold: it observes nothing
			}
			var p provenance.Predicate
			if v.Decode(&p) != nil {
				continue
			}
			// A deploy-only repository has revisions of its own. Where the builder's is known here, it must be the one that is named.
			if c := p.Commit(); c != commit {
				if _, err := x.s.source.LandingOf(ctx, repositoryID, c); err == nil {
					return fault.New(fault.Invalid, "The provenance of %s says that it was built from %.12s, not from %.12s. Submit it for that commit.", ref.Name(), c, commit)
				}
			}
			sub.Origin, sub.Builder, sub.Signer, sub.Commit = artifact.Observed, p.RunDetails.Builder.ID, v.Identity, p.Commit()
		}
		if _, err := x.s.registry.PutManifest(ctx, to, d.Digest.String(), string(d.MediaType), raw); err != nil {
			return fmt.Errorf("copy referrer %s: %w", d.Digest, err)
		}
	}
	return nil
}

var errTooLarge = errors.New("too large")

// small reads a manifest of an artifact with its blobs, all of them small.
func small(ref name.Digest, opts []remote.Option) (raw []byte, blobs map[string][]byte, err error) {
	d, err := remote.Get(ref, opts...)
	if err != nil {
		return nil, nil, err
	}
	var m v1.Manifest
	if err := json.Unmarshal(d.Manifest, &m); err != nil || len(m.Layers) > 16 {
		return nil, nil, errTooLarge
	}
	blobs = map[string][]byte{}
	for _, l := range append(m.Layers, m.Config) {
		if l.Size > evidence.MaxBundle {
			return nil, nil, errTooLarge
		}
		layer, err := remote.Layer(ref.Context().Digest(l.Digest.String()), opts...)
		if err != nil {
			return nil, nil, err
		}
		rc, err := layer.Compressed()
		if err != nil {
			return nil, nil, err
		}
		b, err := io.ReadAll(io.LimitReader(rc, evidence.MaxBundle+1))
		rc.Close()
		if err != nil {
			return nil, nil, err
		}
		blobs[l.Digest.String()] = b
	}
	return d.Manifest, blobs, nil
}

func unreachable(ref name.Reference, err error) error {
	return fault.Wrap(fault.Unavailable, err, "%s cannot be pulled: %s", ref.Name(), err)
}

// writeLayout pulls an image, or an index with all its images, and writes it as an OCI image layout, byte for byte. What is in it is looked
// at when it is taken in.
func writeLayout(w io.Writer, ref name.Digest, opts []remote.Option) error {
	t := tar.NewWriter(w)
	seen, total := map[string]bool{}, int64(0)
	put := func(name string, size int64, r io.Reader) error {
		if total += size; total > artifact.MaxOutput {
			return fault.New(fault.Invalid, "The image %s is larger than %d bytes.", ref.Name(), artifact.MaxOutput)
		}
		if err := t.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size, Format: tar.FormatPAX}); err != nil {
			return err
		}
		_, err := io.Copy(t, r)
		return err
	}
	blob := func(digest string, size int64, r io.Reader) error {
		return put("blobs/"+strings.Replace(digest, ":", "/", 1), size, r)
	}
	var manifest func(at name.Digest, depth int) (artifact.Descriptor, error)
	manifest = func(at name.Digest, depth int) (artifact.Descriptor, error) {
		d, err := remote.Get(at, opts...)
		if err != nil {
			return artifact.Descriptor{}, unreachable(at, err)
		}
		out := artifact.Describe(string(d.MediaType), d.Manifest)
		if seen[out.Digest] {
			return out, nil
		}
		seen[out.Digest] = true
		if err := blob(out.Digest, out.Size, strings.NewReader(string(d.Manifest))); err != nil {
			return out, err
		}
		var m struct {
			Manifests []v1.Descriptor `json:"manifests"`
			Config    *v1.Descriptor  `json:"config"`
			Layers    []v1.Descriptor `json:"layers"`
		}
		if err := json.Unmarshal(d.Manifest, &m); err != nil {
			return out, fault.Wrap(fault.Invalid, err, "The manifest of %s cannot be read.", at.Name())
		}
		if depth > 4 || len(seen) > 4096 || len(m.Manifests) > 64 || len(m.Layers) > 256 {
			return out, fault.New(fault.Invalid, "The image %s nests or names more than an image may.", ref.Name())
		}
		for _, c := range m.Manifests {
			if _, err := manifest(at.Context().Digest(c.Digest.String()), depth+1); err != nil {
				return out, err
			}
		}
		blobs := m.Layers
		if m.Config != nil {
			blobs = append(blobs, *m.Config)
		}
		for _, b := range blobs {
			if seen[b.Digest.String()] {
				continue
			}
			seen[b.Digest.String()] = true
			l, err := remote.Layer(at.Context().Digest(b.Digest.String()), opts...)
			if err != nil {
				return out, unreachable(at, err)
			}
			rc, err := l.Compressed()
			if err != nil {
				return out, unreachable(at, err)
			}
			err = blob(b.Digest.String(), b.Size, io.LimitReader(rc, b.Size))
			rc.Close()
			if err != nil {
				return out, err
			}
		}
		return out, nil
	}
	top, err := manifest(ref, 0)
	if err != nil {
		return err
	}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []artifact.Descriptor{top}})
	if err != nil {
		return err
	}
	const version = `{"imageLayoutVersion":"1.0.0"}`
	if err := put("oci-layout", int64(len(version)), strings.NewReader(version)); err != nil {
		return err
	}
	if err := put("index.json", int64(len(index)), strings.NewReader(string(index))); err != nil {
		return err
	}
	return t.Close()
}
