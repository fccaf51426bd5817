package app

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"weir/internal/artifact"
	"weir/internal/artifact/artifactdb"
	"weir/internal/base/fault"
	"weir/internal/deploy"
)

// copies brings images to other registries.
type copies struct{ s *System }

// Copy brings an image with everything that refers to it to other repositories, by digest, gives it its tag there unless that is "",
// reads all of it back and remembers where it lies. Doing it again sends only what is missing.
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
		repo, write, err := c.open(ctx, dest)
		if err != nil {
			return err
		}
		referrers, err := copyImage(from, read, repo, write, tag)
		if err != nil {
			return err
		}
		if err := c.s.copyRows().Copied(ctx, artifact.Copy{Digest: digest, Repository: repository, To: dest, Verified: time.Now(), Next: time.Now().Add(copyAgain)}, referrers); err != nil {
			return fmt.Errorf("remember the copy of %s in %s: %w", digest, dest, err)
		}
	}
	return nil
}

// copyAgain is how soon a copy is looked at again at the earliest, whatever happens to its image.
const copyAgain = 15 * time.Second

// open finds how a repository in another registry is written to.
func (c copies) open(ctx context.Context, dest string) (name.Repository, []remote.Option, error) {
	repo, err := name.NewRepository(dest)
	if err != nil {
		return repo, nil, fault.Wrap(fault.Invalid, err, "%q does not name a repository in a registry.", dest)
	}
	r, err := externals{all: c.s.Config.Registries}.find(repo.RegistryStr())
	if err != nil {
		return repo, nil, err
	}
	if repo, err = name.NewRepository(dest, r.nameOptions()...); err != nil {
		return repo, nil, fault.Wrap(fault.Invalid, err, "%q does not name a repository in a registry.", dest)
	}
	return repo, r.options(ctx), nil
}

func (s *System) copyRows() artifactdb.Copies {
	return artifactdb.Copies{DB: s.db, Ledger: s.artifactEntry}
}

// promoted brings a release to the registry of an environment, for the deploy layer.
func (c copies) promoted(ctx context.Context, r deploy.Release, to string) error {
	for _, a := range r.Artifacts {
		repository, _, _ := strings.Cut(a.Image, "@")
		if err := c.Copy(ctx, repository, a.Digest, artifact.TagFor(r.Version, r.Revision), []string{to}); err != nil {
			return err
		}
	}
	return nil
}
