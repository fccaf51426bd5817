//go:build s3server

package app

import (
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/google/go-containerregistry/pkg/authn"

	"weir/internal/base/blob/s3/s3test"
	"weir/internal/guard/identity"
)

func TestS3HoldsTheRegistry(t *testing.T) {
	u, dir := s3test.Start(t, "../..")
	s := openSystem(t, func(c *Config) { c.Blobs = u.String() })
	srv := handlerOf(t, s)
	token := account(t, s, "mia", identity.Maintainer)
	if err := pushTo(t, srv, "shop/app:v1", token); err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(parseRef(t, srv, "shop/app:v1"), remote.WithAuth(&authn.Basic{Username: "x", Password: token}))
	if err == nil {
		err = validate.Image(img)
	}
	if err != nil {
		t.Error(err)
	}
	if !strings.HasSuffix(dir, "weir") {
		t.Error(dir)
	}
}
