package ocid_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"weir/internal/artifact"
	"weir/internal/artifact/artifactdb"
	"weir/internal/artifact/registry"
	"weir/internal/base/blob/dir"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/edge/ocid"
	"weir/internal/guard/identity"
)

// serve runs a registry where ann may do everything, bob may only pull below
// shop/, and nobody else may anything.
func serve(t *testing.T, anonymous bool) string {
	t.Helper()
	return serveWith(t, anonymous, registry.Limits{})
}

func serveWith(t *testing.T, anonymous bool, l registry.Limits) string {
	t.Helper()
	d := dbtest.SQLite(t)
	if err := artifactdb.Migrate(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	blobs, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(ocid.New(ocid.Config{
		Registry: registry.New(d, blobs, l),
		Authenticate: func(r *http.Request) (identity.Actor, error) {
			_, token, ok := r.BasicAuth()
			if !ok {
				token, ok = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			}
			if !ok {
				return identity.Actor{}, nil
			}
			who, known := map[string]string{"token-ann": "ann", "token-bob": "bob"}[token]
			if !known {
				return identity.Actor{}, fault.New(fault.Denied, "the token is unknown or has expired")
			}
			return identity.Actor{ID: who, Name: who, Kind: identity.User}, nil
		},
		Authorize: func(ctx context.Context, a ocid.Access, repository string) error {
			who := identity.From(ctx).ID
			if who == "ann" || who == "bob" && a == artifact.Pull && strings.HasPrefix(repository, "shop/") {
				return nil
			}
			return fault.New(fault.Denied, "%s may not %s %s", who, a, repository)
		},
		AnonymousPull: anonymous,
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func as(token string) remote.Option {
	return remote.WithAuth(&authn.Basic{Username: "x", Password: token})
}

func reference(t *testing.T, s string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(s, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func push(t *testing.T, ref name.Reference, opts ...remote.Option) v1.Image {
	t.Helper()
	img, err := random.Image(1<<12, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, opts...); err != nil {
		t.Fatal(err)
	}
	return img
}

// other is an image that the registry does not have, so that a client cannot
// spare itself the push.
func other(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestStockClientPushesAndPulls(t *testing.T) {
	host := serve(t, false)
	ref := reference(t, host+"/shop/app:v1")
	img := push(t, ref, as("token-ann"))
	got, err := remote.Image(ref, as("token-bob"))
	if err != nil {
		t.Fatal(err)
	}
	want, _ := img.Digest()
	if d, err := got.Digest(); err != nil || d != want {
		t.Errorf("pulled %v, %v; want %v", d, err, want)
	}
	layers, err := got.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil { // the client checks the digest
			t.Error(err)
		}
		r.Close()
	}
	tags, err := remote.List(ref.Context(), as("token-bob"))
	if err != nil || len(tags) != 1 || tags[0] != "v1" {
		t.Errorf("List() = %v, %v; want v1", tags, err)
	}
}

func TestReferrersReachStockClients(t *testing.T) {
	host := serve(t, false)
	ref := reference(t, host+"/shop/app:v1")
	img := push(t, ref, as("token-ann"))
	d, _ := img.Digest()
	desc, err := remote.Head(ref, as("token-ann"))
	if err != nil {
		t.Fatal(err)
	}
	about := mutate.Subject(mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), "application/x.about"), *desc).(v1.Image)
	ad, err := about.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref.Context().Digest(ad.String()), about, as("token-ann")); err != nil {
		t.Fatal(err)
	}
	index, err := remote.Referrers(ref.Context().Digest(d.String()), as("token-bob"))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := index.IndexManifest(); err != nil || len(m.Manifests) != 1 || m.Manifests[0].Digest != ad {
		t.Errorf("referrers = %+v, %v; want %v", m, err, ad)
	}
}

func TestWhoMayNotIsRefused(t *testing.T) {
	host := serve(t, false)
	ref, secret := reference(t, host+"/shop/app:v1"), reference(t, host+"/secret/app:v1")
	push(t, ref, as("token-ann"))
	push(t, secret, as("token-ann"))
	img := other(t)
	status := func(what string, err error, want int) {
		t.Helper()
		if e := (*transport.Error)(nil); !errors.As(err, &e) || e.StatusCode != want {
			t.Errorf("%s = %v; want status %d", what, err, want)
		}
	}
	_, err := remote.Get(ref)
	status("pull without a token", err, http.StatusUnauthorized)
	_, err = remote.Get(ref, as("token-eve"))
	status("pull with a wrong token", err, http.StatusUnauthorized)
	status("push by a reader", remote.Write(ref, img, as("token-bob")), http.StatusForbidden)
	status("delete by a reader", remote.Delete(ref, as("token-bob")), http.StatusForbidden)
	_, err = remote.Get(secret, as("token-bob"))
	status("pull elsewhere", err, http.StatusForbidden)
}

func TestMountNeedsReadAccessToTheOtherRepository(t *testing.T) {
	host := serve(t, true)
	img := push(t, reference(t, host+"/secret/app:v1"), as("token-ann"))
	layers, _ := img.Layers()
	d, _ := layers[0].Digest()
	mount := func(token, from string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+host+"/v2/shop/mine/blobs/uploads/?mount="+d.String()+"&from="+from, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if got := mount("token-ann", "secret/app"); got != http.StatusCreated {
		t.Errorf("mount with access = %d; want 201", got)
	}
	if got := mount("token-ann", "none/app"); got != http.StatusAccepted {
		t.Errorf("mount of what is not there = %d; want 202, an ordinary upload", got)
	}
	if got := mount("token-bob", "secret/app"); got != http.StatusForbidden {
		t.Errorf("mount by a reader = %d; want 403", got)
	}
}

func TestAnonymousPullReadsButDoesNotWrite(t *testing.T) {
	host := serve(t, true)
	ref := reference(t, host+"/shop/app:v1")
	push(t, ref, as("token-ann"))
	if _, err := remote.Image(ref); err != nil {
		t.Errorf("anonymous pull = %v", err)
	}
	if err := remote.Write(ref, other(t)); err == nil {
		t.Error("anonymous push = nil; want it refused")
	}
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	host := serve(t, true)
	for _, c := range []struct {
		method, path, body, say string
		status                  int
	}{
		{"GET", "/v2/shop/app/manifests/v9", "", "the repository shop/app has no manifest v9", 404},
		{"GET", "/v2/shop/app/blobs/sha256:zz", "", "is not a digest", 400},
		{"GET", "/v2/Shop/app/tags/list", "", "cannot name a repository", 400},
		{"GET", "/v2/shop/app/tags/list", "", "there is no repository shop/app", 404},
		{"GET", "/v2/nothing", "", "there is nothing at this address", 404},
		{"PUT", "/v2/shop/app/manifests/v1", "{", "is not JSON", 400},
		{"PUT", "/v2/shop/app/manifests/v1", strings.Repeat(" ", 5<<20), "at most 4194304 are taken", 413},
		{"PATCH", "/v2/shop/app/tags/list", "", "PATCH is not possible here", 405},
		{"GET", "/v2/shop/app/blobs/uploads/nope", "", "there is no upload nope", 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+host+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("x", "token-ann")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != c.status || !strings.Contains(string(b), c.say) {
			t.Errorf("%s %s = %d %s; want %d and %q", c.method, c.path, res.StatusCode, b, c.status, c.say)
		}
	}
}
