package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"weir/internal/base/fault"
)

// copies brings admitted images to other registries.
type copies struct{ s *System }

// Copy brings an image with everything that refers to it to other repositories, by digest, gives it its tag there, and then reads all
// of it back. Doing it again sends only what is missing.
func (c copies) Copy(ctx context.Context, repository, digest, tag string, to []string) error {
	u, err := url.Parse(c.s.Config.URL)
	if err != nil {
		return err
	}
	own := ExternalRegistry{Host: u.Host, Insecure: u.Scheme == "http", Credentials: "none"}
	token, err := pullToken(c.s.Config.Host.Dir, "")(ctx)
	if err != nil {
		return fmt.Errorf("read the host's token: %w", err)
	}
	from, err := name.NewDigest(u.Host+"/"+repository+"@"+digest, own.nameOptions()...)
	if err != nil {
		return err
	}
	read := append(own.options(ctx), remote.WithAuth(basic(token)))
	for _, dest := range to {
		if err := c.one(ctx, from, read, dest, tag); err != nil {
			return err
		}
	}
	return nil
}

func (c copies) one(ctx context.Context, from name.Digest, read []remote.Option, dest, tag string) error {
	repo, err := name.NewRepository(dest)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "%q does not name a repository in a registry.", dest)
	}
	r, err := externals{all: c.s.Config.Registries}.find(repo.RegistryStr())
	if err != nil {
		return err
	}
	if repo, err = name.NewRepository(dest, r.nameOptions()...); err != nil {
		return fault.Wrap(fault.Invalid, err, "%q does not name a repository in a registry.", dest)
	}
	return copyImage(from, read, repo, r.options(ctx), tag)
}

// copyImage copies and verifies.
func copyImage(from name.Digest, read []remote.Option, repo name.Repository, write []remote.Option, tag string) error {
	failed := func(what string, err error) error {
		return fault.Wrap(fault.Unavailable, err, "%s was not copied to %s: %s: %s", from.DigestStr(), repo.Name(), what, err)
	}
	all := []string{from.DigestStr()}
	if err := copyOne(from, read, repo, write); err != nil {
		return failed("the image", err)
	}
	index, err := remote.Referrers(from, read...)
	if err != nil {
		return failed("its evidence", err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return failed("its evidence", err)
	}
	for _, d := range m.Manifests {
		if err := copyOne(from.Context().Digest(d.Digest.String()), read, repo, write); err != nil {
			return failed("evidence "+d.Digest.String(), err)
		}
		all = append(all, d.Digest.String())
	}
	if tag != "" {
		d, err := remote.Get(repo.Digest(from.DigestStr()), write...)
		if err == nil {
			err = remote.Tag(repo.Tag(tag), d, write...)
		}
		if refused, ok := errors.AsType[*transport.Error](err); ok && refused.StatusCode == http.StatusForbidden {
			// A registry may keep names like these for itself, as another Weir does. The digest is what counts.
			slog.Info("the other registry does not take the release tag", "repository", repo.Name(), "tag", tag)
		} else if err != nil {
			return failed("the tag "+tag, err)
		}
	}
	// Read back: a registry that answered well may have kept something else.
	for _, digest := range all {
		d, err := remote.Get(repo.Digest(digest), write...)
		if err == nil && d.Digest.String() != digest {
			err = fmt.Errorf("the registry now has %s under it", d.Digest)
		}
		if err != nil {
			return failed("reading back "+digest, err)
		}
	}
	there, err := remote.Referrers(repo.Digest(from.DigestStr()), write...)
	if err != nil {
		return failed("reading back its evidence", err)
	}
	back, err := there.IndexManifest()
	if err != nil {
		return failed("reading back its evidence", err)
	}
	for _, digest := range all[1:] {
		if !slices.ContainsFunc(back.Manifests, func(d v1.Descriptor) bool { return d.Digest.String() == digest }) {
			return failed("reading back its evidence", fmt.Errorf("the registry does not list %s as referring to the image", digest))
		}
	}
	return nil
}

func copyOne(from name.Digest, read []remote.Option, repo name.Repository, write []remote.Option) error {
	d, err := remote.Get(from, read...)
	if err != nil {
		return err
	}
	to := repo.Digest(from.DigestStr())
	if d.MediaType.IsIndex() {
		i, err := d.ImageIndex()
		if err != nil {
			return err
		}
		return remote.WriteIndex(to, i, write...)
	}
	i, err := d.Image()
	if err != nil {
		return err
	}
	return remote.Write(to, i, write...)
}
