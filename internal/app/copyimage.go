package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"weir/internal/base/fault"
)

// A copy is bounded: whoever may push can refer to an image as often as they like.
const (
	copyMost  = 5000 // manifests
	copyDepth = 4    // referrers of referrers
)

// copying is one image on its way from a registry to another.
type copying struct {
	read, write []remote.Option
	from, to    name.Repository
	manifests   []string            // all that belongs to it, subjects before what refers to them
	refers      map[string][]string // referrers by subject
}

// copyImage brings an image, all platforms of an index, and everything that refers to any of it to another repository, and reads it back.
// It returns what refers to the image itself.
func copyImage(from name.Digest, read []remote.Option, repo name.Repository, write []remote.Option, tag string) (referrers []string, err error) {
	c := &copying{read: read, write: write, from: from.Context(), to: repo, refers: map[string][]string{}}
	failed := func(what string, err error) error {
		return fault.Wrap(fault.Unavailable, err, "%s was not copied to %s: %s%s.", from.DigestStr(), repo.Name(), what, answered(err))
	}
	if err := c.tree(from.DigestStr(), 0); err != nil {
		return nil, failed("", err)
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
			return nil, failed("tag "+tag+": ", err)
		}
	}
	if err := c.readBack(); err != nil {
		return nil, failed("reading it back, ", err)
	}
	return c.refers[from.DigestStr()], nil
}

// answered puts what a registry said into words.
func answered(err error) string {
	if e, ok := errors.AsType[*transport.Error](err); ok {
		switch e.StatusCode {
		case http.StatusUnauthorized:
			return "the registry refused Weir's credentials"
		case http.StatusForbidden:
			return "the registry does not let Weir do it"
		case http.StatusTooManyRequests:
			return "the registry is asked too often"
		}
		if e.StatusCode >= 500 {
			return fmt.Sprintf("the registry answered %d", e.StatusCode)
		}
	}
	return err.Error()
}

// tree sends a manifest with what it names, and then what refers to it.
func (c *copying) tree(digest string, depth int) error {
	if slices.Contains(c.manifests, digest) {
		return nil // Referrers of two images of an index may be the same.
	}
	if len(c.manifests) >= copyMost {
		return fmt.Errorf("more than %d manifests belong to it", copyMost)
	}
	c.manifests = append(c.manifests, digest)
	children, err := c.send(digest)
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := c.tree(child, depth); err != nil {
			return err
		}
	}
	if depth >= copyDepth {
		return nil
	}
	index, err := remote.Referrers(c.from.Digest(digest), c.read...)
	if err != nil {
		return fmt.Errorf("what refers to %s: %w", digest, err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return fmt.Errorf("what refers to %s: %w", digest, err)
	}
	for _, d := range m.Manifests {
		if err := c.tree(d.Digest.String(), depth+1); err != nil {
			return err
		}
		c.refers[digest] = append(c.refers[digest], d.Digest.String())
	}
	return nil
}

// send writes one manifest and all that it names, and returns the manifests among that.
func (c *copying) send(digest string) (children []string, err error) {
	d, err := remote.Get(c.from.Digest(digest), c.read...)
	if err != nil {
		return nil, err
	}
	to := c.to.Digest(digest)
	if !d.MediaType.IsIndex() {
		i, err := d.Image()
		if err != nil {
			return nil, err
		}
		return nil, remote.Write(to, i, c.write...)
	}
	i, err := d.ImageIndex()
	if err != nil {
		return nil, err
	}
	m, err := i.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, child := range m.Manifests {
		if child.MediaType.IsIndex() || child.MediaType.IsImage() {
			children = append(children, child.Digest.String())
		}
	}
	return children, remote.WriteIndex(to, i, c.write...)
}

// readBack asks the other registry for everything: one that answered well may have kept something else.
func (c *copying) readBack() error {
	for _, digest := range c.manifests {
		d, err := remote.Get(c.to.Digest(digest), c.write...) // hashes what it gets
		if err != nil {
			return err
		}
		if d.Digest.String() != digest {
			return fmt.Errorf("the registry now has %s under %s", d.Digest, digest)
		}
		if !d.MediaType.IsImage() {
			continue
		}
		i, err := d.Image()
		if err != nil {
			return err
		}
		m, err := i.Manifest()
		if err != nil {
			return err
		}
		for _, b := range append([]v1.Descriptor{m.Config}, m.Layers...) {
			if !b.MediaType.IsDistributable() {
				continue
			}
			l, err := remote.Layer(c.to.Digest(b.Digest.String()), c.write...)
			if err != nil {
				return err
			}
			there, err := partial.Exists(l)
			if err == nil && !there {
				err = fmt.Errorf("the registry has no %s, which %s names", b.Digest, digest)
			}
			if err != nil {
				return err
			}
		}
	}
	for subject, want := range c.refers {
		index, err := remote.Referrers(c.to.Digest(subject), c.write...)
		if err != nil {
			return err
		}
		m, err := index.IndexManifest()
		if err != nil {
			return err
		}
		for _, digest := range want {
			if !slices.ContainsFunc(m.Manifests, func(d v1.Descriptor) bool { return d.Digest.String() == digest }) {
				return fmt.Errorf("the registry does not list %s as referring to %s", digest, subject)
			}
		}
	}
	return nil
}
