package engine_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/custody"
	"weir/internal/artifact/provenance"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/edge/ocid"
	"weir/internal/guard/evidence"
	"weir/internal/guard/evidence/evidencetest"
	"weir/internal/guard/identity"
	"weir/internal/guard/policy"
	"weir/internal/pipeline"
)

// serve lets stock clients read the registry of w. change, if set, may answer
// a request in another way: it is the attacker at the registry.
func (w *world) serve(t *testing.T, change func(http.ResponseWriter, *http.Request, http.Handler)) string {
	t.Helper()
	h := ocid.New(ocid.Config{Registry: w.images, AnonymousPull: true,
		Authenticate: func(*http.Request) (identity.Actor, error) { return identity.Anonymous, nil },
		Authorize:    func(context.Context, ocid.Access, string) error { return nil }})
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
		if change != nil {
			change(rw, q, h)
			return
		}
		h.ServeHTTP(rw, q)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func (w *world) released(t *testing.T) artifact.Artifact {
	t.Helper()
	w.put(t, binary(t))
	if _, err := w.engine.Work(t.Context(), nil, later()); err != nil {
		t.Fatal(err)
	}
	list, err := w.service.List(t.Context(), artifact.Filter{})
	if err != nil || len(list) != 1 {
		t.Fatalf("List() = %v, %v (%+v)", list, err, w.intake(t))
	}
	return list[0]
}

// only serves a with no evidence but of some kinds.
func (w *world) only(t *testing.T, a artifact.Artifact, kinds ...string) string {
	t.Helper()
	return w.serve(t, func(rw http.ResponseWriter, q *http.Request, h http.Handler) {
		if !strings.Contains(q.URL.Path, "/referrers/") {
			h.ServeHTTP(rw, q)
			return
		}
		all, err := w.images.Referrers(q.Context(), a.Repository, a.Digest, "")
		if err != nil {
			t.Error(err)
		}
		kept := []artifact.Descriptor{}
		for _, d := range all {
			if slices.Contains(kinds, d.Annotations["dev.sigstore.bundle.predicateType"]) {
				kept = append(kept, d)
			}
		}
		rw.Header().Set("Content-Type", artifact.MediaIndex)
		_ = json.NewEncoder(rw).Encode(map[string]any{"schemaVersion": 2, "mediaType": artifact.MediaIndex, "manifests": kept})
	})
}

func (w *world) review(t *testing.T) {
	t.Helper()
	_, err := w.evidence.Sign(t.Context(), evidence.Statement{Key: "bob", PredicateType: evidence.Review,
		Subjects: []evidence.Subject{evidence.Commit("shop", revision)}, Predicate: map[string]string{"by": "bob"}})
	if err != nil {
		t.Fatal(err)
	}
}

func TestChainIsProvenFromCommitToImage(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.review(t)
	a := w.released(t)
	image := w.serve(t, nil) + "/" + a.Image()
	r, err := custody.VerifyChain(t.Context(), image, w.evidence.TrustedRoot(), custody.Options{Repository: "shop", Ref: "refs/heads/main", Confined: true})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range r.Links {
		names = append(names, l.Name)
	}
	if got := strings.Join(names, " "); got != "image provenance signature SBOM tests review admission" {
		t.Errorf("links = %s", got)
	}
	if r.Revision != revision || r.Workflow != ".github/workflows/ci.yml" || !r.Confined || r.Version != "1.4.0" || r.Links[2].Signer != evidencetest.Issuer+"/shop/.github/workflows/ci.yml@refs/heads/main" {
		t.Errorf("report = %+v", r)
	}
}

// What the server itself shows of a chain is verified as well, each time.
func TestTheShownChainIsVerifiedAndSaysWhatIsMissing(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.review(t)
	d, err := w.service.Details(t.Context(), w.released(t).ID)
	if err != nil {
		t.Fatal(err)
	}
	tell := func(links []artifact.Link) (out string) {
		for _, l := range links {
			out += l.Kind + " " + string(l.State) + ": " + l.Says + "\n"
		}
		return out
	}
	got := tell(w.service.Chain(t.Context(), d, w.evidence.TrustedRoot()))
	for _, want := range []string{"commit absent: No landing", "review verified:", "build verified: Confined, network egress", "tests verified: 1 passed: ci.yml/test", "sbom verified: Lists", "signature verified: By the workflow", "admission verified: Policy admitted it as SLSA build level 2"} {
		if !strings.Contains(got, want) {
			t.Errorf("the chain does not say %q:\n%s", want, got)
		}
	}
	if i, k := strings.Index(got, "review"), strings.Index(got, "admission"); i > k {
		t.Errorf("the links are out of order:\n%s", got)
	}
	if _, err := w.evidence.Sign(t.Context(), evidence.Statement{PredicateType: evidence.Drill, Key: "1", Subjects: []evidence.Subject{evidence.SHA256("shop", d.Digest)}, Predicate: struct{}{}}); err != nil {
		t.Fatal(err)
	}
	if more, err := w.service.Details(t.Context(), d.ID); err != nil || !strings.HasSuffix(tell(w.service.Chain(t.Context(), more, w.evidence.TrustedRoot())), "statement verified: \n") {
		t.Errorf("a statement of another kind is not verified: %v", err)
	}
	d.Evidence[0].Bundle = []byte(strings.Replace(string(d.Evidence[0].Bundle), `"payload":"`, `"payload":"AAAA`, 1))
	if got := tell(w.service.Chain(t.Context(), d, w.evidence.TrustedRoot())); strings.Count(got, "broken") != 1 {
		t.Errorf("a tampered bundle is not shown as broken:\n%s", got)
	}
	stranger := evidencetest.New(t, dbtest.SQLite(t), nil).TrustedRoot()
	if got := tell(w.service.Chain(t.Context(), d, stranger)); strings.Contains(got, "verified") {
		t.Errorf("a stranger's root verifies:\n%s", got)
	}
}

func TestBrokenChainsGetASentence(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	a := w.released(t)
	honest, root := w.serve(t, nil), w.evidence.TrustedRoot()
	layer := func() string {
		m, err := w.images.Manifest(t.Context(), a.Repository, a.Digest)
		if err != nil {
			t.Fatal(err)
		}
		var c struct{ Layers []artifact.Descriptor }
		if err := json.Unmarshal(m.Raw, &c); err != nil {
			t.Fatal(err)
		}
		return c.Layers[1].Digest
	}()
	tampered := w.serve(t, func(rw http.ResponseWriter, q *http.Request, h http.Handler) {
		if !strings.HasSuffix(q.URL.Path, layer) {
			h.ServeHTTP(rw, q)
			return
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, q)
		b := rec.Body.Bytes()
		b[len(b)/2] ^= 1
		for k := range rec.Header() {
			rw.Header().Set(k, rec.Header().Get(k))
		}
		_, _ = rw.Write(b)
	})
	only := func(kinds ...string) string { return w.only(t, a, kinds...) }
	stranger := evidencetest.New(t, dbtest.SQLite(t), nil).TrustedRoot()
	missing := strings.Replace(a.Image(), a.Digest, "sha256:"+strings.Repeat("0", 64), 1)

	for _, c := range []struct {
		name, image string
		root        evidence.TrustedRoot
		options     custody.Options
		say         string
	}{
		{"a tampered layer", tampered + "/" + a.Image(), root, custody.Options{}, "is not the bytes that its digest names"},
		{"no evidence", only() + "/" + a.Image(), root, custody.Options{}, "has no signature (https://sigstore.dev/cosign/sign/v1); nothing is attached to it"},
		{"only an SBOM", only(evidence.SBOM) + "/" + a.Image(), root, custody.Options{}, "has no signature (https://sigstore.dev/cosign/sign/v1); attached are only https://cyclonedx.org/bom"},
		{"no provenance", only(evidence.CosignSignature, evidence.SBOM, evidence.TestResult) + "/" + a.Image(), root, custody.Options{}, "has no provenance"},
		{"no tests", only(evidence.CosignSignature, evidence.SBOM, evidence.Provenance) + "/" + a.Image(), root, custody.Options{}, "has no test result"},
		{"another installation's root", honest + "/" + a.Image(), stranger, custody.Options{}, "in a log that this trusted root does not know"},
		{"another repository", honest + "/" + a.Image(), root, custody.Options{Repository: "other"}, "was built from the repository shop, not other"},
		{"another branch", honest + "/" + a.Image(), root, custody.Options{Ref: "refs/heads/release"}, "was built from refs/heads/main"},
		{"a tag", honest + "/shop/checkout:1.4.0-ab12cd3", root, custody.Options{}, "does not name an image by digest"},
		{"no such image", honest + "/" + missing, root, custody.Options{}, "has no manifest of"},
		{"no registry", "127.0.0.1:1/" + a.Image(), root, custody.Options{}, "is the registry's address right?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := custody.VerifyChain(t.Context(), c.image, c.root, c.options)
			if err == nil || !strings.Contains(fault.Sentence(err), c.say) {
				t.Errorf("VerifyChain() = %v\nwant %q", err, c.say)
			}
		})
	}
}

// archived is the chain of a in a file, as somebody else gets it.
func (w *world) archived(t *testing.T, a artifact.Artifact) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "evidence.tar")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := custody.Export(t.Context(), w.serve(t, nil)+"/"+a.Image(), f, custody.Options{}); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestArchiveProvesTheChainWithoutAServer(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.review(t)
	a := w.released(t)
	ev, err := w.evidence.Sign(t.Context(), evidence.Statement{Key: "rollout_1", PredicateType: evidence.Rollout, Subjects: []evidence.Subject{evidence.SHA256("shop", a.Digest)},
		Predicate: map[string]any{"environment": "production", "state": "rolled_back", "intent": "planned", "by": "weir/control"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // again is no more
		if err := w.service.Attach(t.Context(), a.Repository, a.Digest, ev); err != nil {
			t.Fatal(err)
		}
	}
	file, root := w.archived(t, a), w.evidence.TrustedRoot()
	r, err := custody.VerifyArchive(t.Context(), file, root, custody.Options{Repository: "shop", Ref: "refs/heads/main", Confined: true})
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for _, l := range r.Links {
		said += l.Name + ": " + l.Says + "\n"
	}
	if r.Image != a.Image() || r.Revision != revision || !strings.Contains(said, "rollout: rolled back in production") || !strings.Contains(said, "SLSA_BUILD_LEVEL_2") || len(r.Links) != 8 {
		t.Errorf("report of %s: %s", r.Image, said)
	}
	if _, err := custody.VerifyArchive(t.Context(), file, root, custody.Options{Ref: "refs/heads/other"}); !fault.Is(err, fault.Denied) {
		t.Errorf("another ref: %v", err)
	}
	other := newWorld(t, dbtest.SQLite(t)).evidence.TrustedRoot()
	if _, err := custody.VerifyArchive(t.Context(), file, other, custody.Options{}); !fault.Is(err, fault.Denied) {
		t.Errorf("another root: %v", err)
	}

	// No byte of the file can be changed unseen, but those that mean nothing: padding, and the times and names of a layout.
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, at := range contents(t, raw) {
		changed := append([]byte{}, raw...)
		changed[at] ^= 1
		bad := filepath.Join(t.TempDir(), "changed.tar")
		if err := os.WriteFile(bad, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := custody.VerifyArchive(t.Context(), bad, root, custody.Options{}); err == nil {
			t.Errorf("byte %d was changed, and the chain holds", at)
		} else if fault.KindOf(err) == "" {
			t.Errorf("byte %d: %v; want a sentence", at, err)
		}
		refused++
	}
	if refused < 20 {
		t.Errorf("%d bytes were changed", refused)
	}
	for name, content := range map[string][]byte{"nothing": {}, "text": []byte("this is no archive at all"), "a part": raw[:len(raw)/2]} {
		bad := filepath.Join(t.TempDir(), "bad.tar")
		if err := os.WriteFile(bad, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := custody.VerifyArchive(t.Context(), bad, root, custody.Options{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v; want it refused as invalid", name, err)
		}
	}
}

// contents are places inside of every blob of an archive: its first byte, its last, and one between.
func contents(t *testing.T, raw []byte) (at []int) {
	t.Helper()
	in := bytes.NewReader(raw)
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if err == io.EOF {
			return at
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(h.Name, "blobs/") && h.Size > 2 { // {} is the empty configuration of every referrer, named by its digest but never used
			begin := len(raw) - in.Len()
			at = append(at, begin, begin+int(h.Size)/2, begin+int(h.Size)-1)
		}
	}
}

func TestFailedTestsBreakTheChain(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.checks = []pipeline.Check{{Name: "ci.yml/test", State: "failure"}}
	a := w.released(t) // this gate lets it through
	_, err := custody.VerifyChain(t.Context(), w.serve(t, nil)+"/"+a.Image(), w.evidence.TrustedRoot(), custody.Options{})
	if err == nil || !strings.Contains(fault.Sentence(err), "its tests did not pass (FAILED): ci.yml/test") {
		t.Errorf("VerifyChain() = %v; want the failed test", err)
	}
}

func TestProvenanceSignedByAnotherWorkflowIsRefused(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.engine.Signer = impostor{w.evidence}
	a := w.released(t)
	_, err := custody.VerifyChain(t.Context(), w.serve(t, nil)+"/"+a.Image(), w.evidence.TrustedRoot(), custody.Options{})
	if err == nil || !strings.Contains(fault.Sentence(err), "but was signed by "+evidencetest.Issuer+"/shop/evil.yml@refs/heads/main") {
		t.Errorf("VerifyChain() = %v; want the other signer named", err)
	}
}

// impostor signs everything as another workflow of the same installation.
type impostor struct{ *evidence.Service }

func (s impostor) Sign(ctx context.Context, st evidence.Statement) (evidence.Evidence, error) {
	st.Identity = provenance.Signer(s.Issuer(), "shop", "evil.yml", "refs/heads/main")
	return s.Service.Sign(ctx, st)
}

var _ artifact.Signer = impostor{}
var _ artifact.Signer = (*evidence.Service)(nil)

// TestStockCosignAcceptsTheChain runs where cosign is installed.
func TestStockCosignAcceptsTheChain(t *testing.T) {
	cosign, err := exec.LookPath("cosign")
	if err != nil {
		t.Skip("cosign is not installed; make test-all builds it")
	}
	w := newWorld(t, dbtest.SQLite(t))
	w.review(t)
	w.findings = found("CVE-2026-1")
	if w.evidence.ImageKey, err = evidence.OpenImageKey(t.TempDir(), "file"); err != nil {
		t.Fatal(err)
	}
	a := w.released(t)
	save := func(name string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, w.evidence.TrustedRoot().JSON(), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	root := save("trusted_root.json")
	workflow, issuer := evidencetest.Issuer+"/shop/.github/workflows/ci.yml@refs/heads/main", "--certificate-oidc-issuer="+evidencetest.Issuer
	run := func(image, root, signer string, args ...string) ([]byte, error) {
		args = append(args, "--certificate-identity="+signer, issuer, "--trusted-root="+root, image)
		return exec.CommandContext(t.Context(), cosign, args...).CombinedOutput()
	}
	image := w.serve(t, nil) + "/" + a.Image()
	for _, args := range [][]string{{"verify"}, {"verify-attestation", "--type=slsaprovenance1"}, {"verify-attestation", "--type=cyclonedx"}} {
		if out, err := run(image, root, workflow, args...); err != nil {
			t.Errorf("cosign %v = %v\n%s", args, err, out)
		}
	}
	if out, err := run(image, root, evidencetest.Issuer+"/control-plane", "verify-attestation", "--type="+evidence.Summary); err != nil {
		t.Errorf("cosign on the admission: %v\n%s", err, out)
	}
	if out, err := run(image, root, evidencetest.Issuer+"/control-plane", "verify-attestation", "--type=vuln"); err != nil {
		t.Errorf("cosign on the scan: %v\n%s", err, out)
	}
	vex, err := w.evidence.Sign(t.Context(), evidence.Statement{PredicateType: evidence.VEX, Subjects: []evidence.Subject{evidence.SHA256(a.Repository, a.Digest)}, Predicate: policy.VEX{Context: "https://openvex.dev/ns/v0.2.0", Version: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.service.Attach(t.Context(), a.Repository, a.Digest, vex); err != nil {
		t.Fatal(err)
	}
	if out, err := run(image, root, evidencetest.Issuer+"/control-plane", "verify-attestation", "--type=openvex"); err != nil {
		t.Errorf("cosign on the exceptions: %v\n%s", err, out)
	}
	if out, err := run(image, root, "https://weir.test/other", "verify"); err == nil {
		t.Errorf("cosign accepted another identity\n%s", out)
	}

	// Who takes no certificates verifies with a key.
	public := filepath.Join(t.TempDir(), "cosign.pub")
	byKey := func(pem []byte) ([]byte, error) {
		if err := os.WriteFile(public, pem, 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.CommandContext(t.Context(), cosign, "verify", "--key="+public, "--trusted-root="+root, image).CombinedOutput()
	}
	if out, err := byKey(w.evidence.ImageKey.PEM()); err != nil {
		t.Errorf("cosign verify --key: %v\n%s", err, out)
	}
	stranger, err := evidence.OpenImageKey(t.TempDir(), "file")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := byKey(stranger.PEM()); err == nil {
		t.Errorf("cosign accepted another key\n%s", out)
	}
	if r, err := custody.VerifyChain(t.Context(), image, w.evidence.TrustedRoot(), custody.Options{}); err != nil || len(r.Links) < 6 {
		t.Errorf("the chain of an image that a bare key signed as well: %+v, %v", r, err)
	}

	// Each byte counts, of the bundles too.
	bundles, err := w.images.Referrers(t.Context(), a.Repository, a.Digest, "")
	if err != nil {
		t.Fatal(err)
	}
	var blobs []string
	for _, d := range bundles {
		m, err := w.images.Manifest(t.Context(), a.Repository, d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		var c struct{ Layers []artifact.Descriptor }
		if err := json.Unmarshal(m.Raw, &c); err != nil || len(c.Layers) != 1 {
			t.Fatal(err)
		}
		blobs = append(blobs, c.Layers[0].Digest)
	}
	tampered := w.serve(t, func(rw http.ResponseWriter, q *http.Request, h http.Handler) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, q)
		b := rec.Body.Bytes()
		if slices.ContainsFunc(blobs, func(d string) bool { return strings.HasSuffix(q.URL.Path, d) }) {
			b[len(b)/2] ^= 1
		}
		for k := range rec.Header() {
			rw.Header().Set(k, rec.Header().Get(k))
		}
		rw.WriteHeader(rec.Code)
		_, _ = rw.Write(b)
	})
	if out, err := run(tampered+"/"+a.Image(), root, workflow, "verify"); err == nil {
		t.Errorf("cosign accepted tampered bundles\n%s", out)
	}

	// Stock cosign takes an attestation of any kind for a signature. Weir does not.
	sbom := w.only(t, a, evidence.SBOM) + "/" + a.Image()
	if out, err := run(sbom, root, workflow, "verify"); err != nil {
		t.Errorf("cosign has become stricter about SBOMs, so the docs need not warn any more: %v\n%s", err, out)
	}
	if _, err := custody.VerifyChain(t.Context(), sbom, w.evidence.TrustedRoot(), custody.Options{}); !fault.Is(err, fault.Denied) {
		t.Errorf("an SBOM counts as a signature: %v", err)
	}

	// Rotated keys spoil nothing.
	if _, err := w.evidence.Rotate(identity.With(t.Context(), identity.System("test")), evidence.Places{}, "drill"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.evidence.RotateLog(identity.With(t.Context(), identity.System("test")), "drill"); err != nil {
		t.Fatal(err)
	}
	after, err := w.evidence.Sign(t.Context(), evidence.Statement{Identity: evidencetest.Issuer + "/after", PredicateType: "https://example.com/after/v1", Subjects: []evidence.Subject{evidence.SHA256("x", a.Digest)}, Predicate: map[string]int{"n": 1}})
	if err == nil {
		err = w.service.Attach(t.Context(), a.Repository, a.Digest, after)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run(image, save("both.json"), evidencetest.Issuer+"/after", "verify-attestation", "--type=https://example.com/after/v1"); err != nil {
		t.Errorf("cosign on what the ledger's new key covers: %v\n%s", err, out)
	}
	if out, err := run(image, save("rotated.json"), workflow, "verify"); err != nil {
		t.Errorf("cosign with the root after rotation: %v\n%s", err, out)
	}
	if _, err := w.evidence.Revoke(identity.With(t.Context(), identity.System("test")), 1, a.Created.Add(-time.Hour), "stolen"); err != nil {
		t.Fatal(err)
	}
	if out, err := run(image, save("revoked.json"), workflow, "verify"); err == nil {
		t.Errorf("cosign accepted revoked keys\n%s", out)
	}
}
