package app

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"weir/internal/base/fault"
)

// plainRegistry is a registry that knows nothing of referrers, as many do. spoil may change what it answers.
func plainRegistry(t *testing.T, spoil func(w http.ResponseWriter, r *http.Request) bool) *httptest.Server {
	t.Helper()
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if spoil == nil || !spoil(w, r) {
			inner.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}

func TestACopyHasItsDigestAndItsEvidenceInAnyRegistry(t *testing.T) {
	src := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(src.Close)
	host := strings.TrimPrefix(src.URL, "http://")
	index, err := random.Index(64, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	digest, _ := index.Digest()
	from, _ := name.NewDigest(host+"/shop@"+digest.String(), name.Insecure)
	if err := remote.WriteIndex(from, index); err != nil {
		t.Fatal(err)
	}
	desc, err := remote.Head(from)
	if err != nil {
		t.Fatal(err)
	}
	var notes []v1.Hash
	for range 2 {
		img, err := random.Image(32, 1)
		if err != nil {
			t.Fatal(err)
		}
		note := mutate.Subject(mutate.ConfigMediaType(img, "application/vnd.example.note"), *desc).(v1.Image)
		h, _ := note.Digest()
		if err := remote.Write(from.Context().Digest(h.String()), note); err != nil {
			t.Fatal(err)
		}
		notes = append(notes, h)
	}
	to := plainRegistry(t, nil)
	repo, _ := name.NewRepository(strings.TrimPrefix(to.URL, "http://")+"/copy/shop", name.Insecure)
	for range 2 { // again changes nothing
		if got, err := copyImage(from, nil, repo, nil, "1.0.0-abcdef0"); err != nil || len(got) != len(notes) {
			t.Fatalf("the copy brought %v, %v; want two notes", got, err)
		}
	}
	for _, ref := range []name.Reference{repo.Digest(digest.String()), repo.Tag("1.0.0-abcdef0")} {
		if d, err := remote.Get(ref); err != nil || d.Digest != digest {
			t.Errorf("%s is %v, %v", ref, d, err)
		}
	}
	there, err := remote.Referrers(repo.Digest(digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := there.IndexManifest(); err != nil || len(m.Manifests) != len(notes) {
		t.Errorf("the copy has the referrers %+v, %v; want %v", m, err, notes)
	}

	// What refers to one platform of the index, and what refers to that, belong to it.
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	platform, err := remote.Head(from.Context().Digest(m.Manifests[0].Digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	about := func(d v1.Descriptor) *v1.Descriptor {
		t.Helper()
		img, err := random.Image(16, 1)
		if err != nil {
			t.Fatal(err)
		}
		note := mutate.Subject(img, d).(v1.Image)
		h, _ := note.Digest()
		if err := remote.Write(from.Context().Digest(h.String()), note); err != nil {
			t.Fatal(err)
		}
		out, err := remote.Head(from.Context().Digest(h.String()))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	sbom := about(*platform)
	signature := about(*sbom)
	if got, err := copyImage(from, nil, repo, nil, ""); err != nil || len(got) != len(notes) {
		t.Fatalf("the copy brought %v, %v", got, err)
	}
	for _, d := range []*v1.Descriptor{sbom, signature} {
		if _, err := remote.Head(repo.Digest(d.Digest.String())); err != nil {
			t.Errorf("what refers to a platform did not come along: %v", err)
		}
	}

	children, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	layers, _ := children.Layers()
	gone, _ := layers[0].Digest()
	childDigest, _ := children.Digest()
	single := from.Context().Digest(childDigest.String())
	if err := remote.Write(single, children); err != nil {
		t.Fatal(err)
	}
	sent := false
	loses := plainRegistry(t, func(w http.ResponseWriter, r *http.Request) bool {
		sent = sent || r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/")
		if sent && strings.HasSuffix(r.URL.Path, "/blobs/"+gone.String()) {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	})
	lost, _ := name.NewRepository(strings.TrimPrefix(loses.URL, "http://")+"/copy/shop", name.Insecure)
	if _, err := copyImage(single, nil, lost, nil, ""); !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Sentence(err), "the registry has no "+gone.String()) {
		t.Errorf("a copy to a registry that loses a layer = %v; want it named", err)
	}

	forgets := plainRegistry(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, notes[1].String()) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusCreated)
			return true
		}
		return false
	})
	repo, _ = name.NewRepository(strings.TrimPrefix(forgets.URL, "http://")+"/copy/shop", name.Insecure)
	if _, err := copyImage(from, nil, repo, nil, ""); !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Sentence(err), "was not copied to") {
		t.Errorf("a copy to a registry that forgets = %v; want it noticed", err)
	}
}

// TestECRGivesATokenThatTheRegistryIsAskedWith follows the shape of GetAuthorizationToken that AWS publishes.
func TestECRGivesATokenThatTheRegistryIsAskedWith(t *testing.T) {
	asked := ""
	aws := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Header.Get("X-Amz-Target")
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_ = json.NewEncoder(w).Encode(map[string]any{"authorizationData": []map[string]any{{
			"authorizationToken": base64.StdEncoding.EncodeToString([]byte("AWS:a-token")), "expiresAt": float64(time.Now().Add(12 * time.Hour).Unix()),
			"proxyEndpoint": "https://123456789012.dkr.ecr.eu-west-1.amazonaws.com"}}})
	}))
	t.Cleanup(aws.Close)
	for k, v := range map[string]string{"AWS_ENDPOINT_URL_ECR": aws.URL, "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_REGION": "eu-west-1", "AWS_ECR_DISABLE_CACHE": "1", "HOME": t.TempDir(), "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(k, v)
	}
	repo, err := name.NewRepository("123456789012.dkr.ecr.eu-west-1.amazonaws.com/shop")
	if err != nil {
		t.Fatal(err)
	}
	auth, err := ecrKeychain().Resolve(repo)
	if err != nil {
		t.Fatal(err)
	}
	c, err := authn.Authorization(t.Context(), auth)
	if err != nil || c.Username != "AWS" || c.Password != "a-token" || !strings.HasSuffix(asked, ".GetAuthorizationToken") {
		t.Errorf("credentials %+v, %v, asked by %q", c, err, asked)
	}
}
