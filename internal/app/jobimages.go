package app

import (
	"context"
	"io"
	"net/url"
	"strconv"
	"strings"

	"weir/internal/artifact"
	"weir/internal/base/fault"
	"weir/internal/base/oci"
	"weir/internal/guard/identity"
	"weir/internal/pipeline"
)

// jobImages are the images that containers of a job may be made of: those of Weir's own registry that the job may pull.
type jobImages struct {
	s     *System
	actor identity.Actor
	url   string // of this server, for sentences
}

var _ oci.Source = jobImages{}

func (s *System) jobImages(job pipeline.JobID, attempt int) oci.Source {
	return jobImages{s, identity.Actor{ID: string(job) + "#" + strconv.Itoa(attempt), Name: "job/" + string(job), Kind: identity.Job}, s.Config.URL}
}

// may asks the registry's rules, as if the job had come with its token.
func (i jobImages) may(ctx context.Context, name string) error {
	ctx = identity.With(ctx, i.actor)
	rules := i.s.Config.Registry.access()
	who, err := i.s.asker(ctx, len(rules.Rules) > 0)
	if err != nil {
		return err
	}
	return rules.Decide(ctx, who, artifact.Pull, name)
}

func (i jobImages) here() string {
	if u, err := url.Parse(i.url); err == nil && u.Host != "" {
		return u.Host
	}
	return "WEIR"
}

// own is the name in Weir's registry, or a refusal for images of others.
func (i jobImages) own(name string) (string, error) {
	first, rest, ok := strings.Cut(name, "/")
	if !ok || !strings.ContainsAny(first, ".:[") && first != "localhost" {
		return name, nil
	}
	if first == i.here() {
		return rest, nil
	}
	return "", fault.New(fault.Denied, "The image %s is one of %s, and jobs run in images of Weir's own registry only: what runs must be there tomorrow, too. Copy it once (skopeo copy docker://%s docker://%s/%s), and name it %s",
		name, first, name, i.here(), rest, rest)
}

// Manifest implements oci.Source.
func (i jobImages) Manifest(ctx context.Context, repository, reference string) (oci.Manifest, error) {
	name, err := i.own(repository)
	if err != nil {
		return oci.Manifest{}, err
	}
	if err := i.may(ctx, name); err != nil {
		return oci.Manifest{}, err
	}
	m, err := i.s.registry.Manifest(ctx, name, reference)
	if fault.Is(err, fault.NotFound) {
		sep := ":"
		if artifact.ValidDigest(reference) {
			sep = "@"
		}
		return oci.Manifest{}, fault.New(fault.NotFound, "There is no image %s%s%s in Weir's registry. Push it there, or copy it once from elsewhere: skopeo copy docker://docker.io/library/%s%s%s docker://%s/%s%s%s",
			name, sep, reference, name, sep, reference, i.here(), name, sep, reference)
	}
	return oci.Manifest{MediaType: m.MediaType, Raw: m.Raw}, err
}

// Blob implements oci.Source.
func (i jobImages) Blob(ctx context.Context, repository, digest string) (io.ReadCloser, error) {
	name, err := i.own(repository)
	if err != nil {
		return nil, err
	}
	if err := i.may(ctx, name); err != nil {
		return nil, err
	}
	r, _, err := i.s.registry.OpenBlob(ctx, name, digest)
	return r, err
}
