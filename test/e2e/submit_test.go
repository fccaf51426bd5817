package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"weir/internal/edge/api/client"
)

// external are rules of a repository whose image is built elsewhere.
func external(image, accept string) string {
	rules := strings.Replace(tinyRules, "{go: .}", "{external: "+image+"}", 1)
	return strings.Replace(rules, "  staging: {config: {GREETING: hello staging}}", "  staging: {config: {GREETING: hello staging}, accept: ["+accept+"]}", 1)
}

func TestAnImageThatWasBuiltElsewhereIsDeployedOnlyWhereItIsAccepted(t *testing.T) {
	t.Parallel()
	// Another Weir has built the image.
	builder := newWorld(t, "")
	built := builder.released(builder.bootstrap(tiny("elsewhere", "")))
	builder.serves("production", built.Version)
	var made []client.Artifact
	builder.must(builder.as("author").Get(t.Context(), "/artifacts", &made))
	host := strings.TrimPrefix(builder.url, "http://")
	image := host + "/" + made[0].Image
	repository, _, _ := strings.Cut(image, "@")

	secret := builder.dir + "/token"
	builder.must(os.WriteFile(secret, []byte("x:"+builder.tokens["author"]+"\n"), 0o600))
	conf := "registries:\n- {host: \"" + host + "\", credentials: file, file: " + secret + ", insecure: true}\n"
	w := newWorld(t, conf)
	head := w.bootstrap(map[string]string{"weir.yaml": external(repository, "asserted"), ".github/workflows/ci.yml": tinyWorkflow})

	submit := func(who string, args ...string) string {
		t.Helper()
		out, stderr, status := w.cli(who, append([]string{"release", "submit"}, args...)...)
		if status != 0 {
			return stderr
		}
		return out
	}
	for _, c := range []struct{ want, who, image, commit string }{
		{"release.submit is not among the permissions", "author", image, head},
		{"names no digest", "maintainer", repository + ":" + made[0].Tag, head},
		{"has not landed on the trunk", "maintainer", image, strings.Repeat("a", 40)},
		{"is another repository", "maintainer", host + "/other@" + made[0].Digest, head},
		{"cannot be pulled", "maintainer", repository + "@sha256:" + strings.Repeat("0", 64), head},
	} {
		if got := submit(c.who, c.image, "--commit", c.commit, "--service", "tiny"); !strings.Contains(got, c.want) {
			t.Errorf("submit %s at %.8s says %q; want %q", c.image, c.commit, got, c.want)
		}
	}
	if got := submit("maintainer", image, "--commit", head, "--service", "tiny"); !strings.Contains(got, "Submitted "+made[0].Digest) {
		t.Fatal(got)
	}
	r := w.released(head)
	w.serves("staging", r.Version)
	if got := w.says("staging"); !strings.Contains(got, "elsewhere hello staging") {
		t.Errorf("staging says %q", got)
	}
	var here []client.Artifact
	w.must(w.as("admin").Get(t.Context(), "/artifacts", &here))
	if p := w.statement(here[0].ID, "https://slsa.dev/provenance/v1"); !strings.Contains(p, "/asserted-by/maintainer") || !strings.Contains(p, `"origin":"asserted"`) {
		t.Errorf("the provenance does not say whose word it is: %s", p)
	}
	await(t, 30*time.Second, "production to refuse what is only asserted", func() bool {
		out, _, _ := w.cli("admin", "release", "list")
		promotions, _, _ := w.cli("admin", "release", "show", r.ID)
		return strings.Contains(out+promotions, "was not built by Weir (it is asserted by maintainer), and production does not take that")
	})
	out := w.proves(here[0].Image)
	for _, want := range []string{"ok  image        observed: ", "ok  provenance   asserted: maintainer says that " + image + " is commit " + head, "ok  signature    asserted: signed by the control plane for what maintainer submitted",
		"ok  SBOM         observed: ", "Weir did not build it: it is asserted by maintainer."} {
		if !strings.Contains(out, want) {
			t.Errorf("verify does not say %q: %s", want, out)
		}
	}
	_, stderr, status := w.cli("author", "verify", w.listen+"/"+here[0].Image, "--trusted-root", w.data+"/trusted_root.json", "--built")
	refuses(t, "verify --built", stderr, status, 6, "Weir did not build it: it is asserted by maintainer")
	_, stderr, status = w.cli("author", "verify", w.listen+"/"+here[0].Image, "--trusted-root", w.data+"/trusted_root.json", "--confined")
	refuses(t, "verify --confined", stderr, status, 6, "nobody here knows whether its build was confined")
	_, stderr, status = w.cli("author", "verify", w.listen+"/"+here[0].Image, "--trusted-root", w.data+"/trusted_root.json", "--repository", "other")
	refuses(t, "verify --repository", stderr, status, 6, "it was submitted for the repository tiny, not other")
	_, stderr, status = w.cli("author", "verify", w.listen+"/"+here[0].Image, "--trusted-root", w.data+"/trusted_root.json", "--ref", "refs/heads/main")
	refuses(t, "verify --ref", stderr, status, 6, "it was submitted, so no ref of this installation built it")
	_, stderr, status = w.cli("author", "verify", w.listen+"/"+here[0].Image, "--trusted-root", builder.data+"/trusted_root.json")
	refuses(t, "verify with another root", stderr, status, 6, "")
	if got := submit("maintainer", image, "--commit", head, "--service", "tiny"); !strings.Contains(got, "Submitted") {
		t.Errorf("the same submission again: %s", got)
	}
}

// proves verifies an image with nothing but the registry and the trusted root.
func (w *world) proves(image string) string {
	w.t.Helper()
	out, stderr, status := w.cli("author", "verify", w.listen+"/"+image, "--trusted-root", w.data+"/trusted_root.json")
	if status != 0 {
		w.t.Errorf("weir verify %s: exit status %d\n%s%s", image, status, out, stderr)
	}
	return out
}

func TestABuildersOwnProvenanceIsObserved(t *testing.T) {
	t.Parallel()
	builder := newWorld(t, "")
	files := tiny("observed", "")
	built := builder.released(builder.bootstrap(files))
	builder.serves("production", built.Version)
	var made []client.Artifact
	builder.must(builder.as("author").Get(t.Context(), "/artifacts", &made))
	host := strings.TrimPrefix(builder.url, "http://")
	repository := host + "/" + strings.SplitN(made[0].Image, "@", 2)[0]
	secret := builder.dir + "/token"
	builder.must(os.WriteFile(secret, []byte("x:"+builder.tokens["author"]+"\n"), 0o600))
	w := newWorld(t, "registries:\n- {host: \""+host+"\", credentials: file, file: "+secret+", insecure: true, trusted_root: "+builder.data+"/trusted_root.json, identity_prefix: \"https://weir.internal/\"}\n")

	rules := strings.Replace(external(repository, "observed"), "after: {staging", "accept: [observed]\n    after: {staging", 1)
	head := w.bootstrap(map[string]string{"weir.yaml": rules, ".github/workflows/ci.yml": tinyWorkflow})
	if out, stderr, status := w.cli("maintainer", "release", "submit", repository+"@"+made[0].Digest, "--commit", head, "--service", "tiny"); status != 0 {
		t.Fatal(out, stderr)
	}
	r := w.released(head)
	w.serves("production", r.Version)
	if got := w.says("production"); !strings.Contains(got, "observed hello production") {
		t.Errorf("production says %q", got)
	}
	var here []client.Artifact
	w.must(w.as("admin").Get(t.Context(), "/artifacts", &here))
	p := w.statement(here[0].ID, "https://slsa.dev/provenance/v1")
	for _, want := range []string{`"origin":"observed"`, "https://weir.internal/builders/embedded/v1", built.Revision, head} {
		if !strings.Contains(p, want) {
			t.Errorf("the provenance does not say %s: %s", want, p)
		}
	}
	out := w.proves(here[0].Image)
	for _, want := range []string{"ok  provenance   observed: a provenance of the builder https://weir.internal/builders/embedded/v1, signed by ", "it names the commit " + built.Revision,
		"Weir did not build it: the provenance of the builder https://weir.internal/builders/embedded/v1 was observed.", "completed in production"} {
		if !strings.Contains(out, want) {
			t.Errorf("verify does not say %q: %s", want, out)
		}
	}
	archive := w.dir + "/observed.tar"
	if out, stderr, status := w.cli("author", "evidence", "tiny", r.Version, "--output", archive); status != 0 {
		t.Fatal(out, stderr)
	}
	if out, stderr, status := w.cli("author", "evidence", "verify", archive, "--trusted-root", w.data+"/trusted_root.json"); status != 0 || !strings.Contains(out, "was observed") {
		t.Errorf("the archive: %d %s%s", status, out, stderr)
	}
}

func TestAnAdmittedImageIsCopiedToAnotherRegistryWithItsEvidence(t *testing.T) {
	t.Parallel()
	other := newWorld(t, "")
	host := strings.TrimPrefix(other.url, "http://")
	secret := other.dir + "/token"
	other.must(os.WriteFile(secret, []byte("x:"+other.tokens["maintainer"]+"\n"), 0o600))
	w := newWorld(t, "registries:\n- {host: \""+host+"\", credentials: file, file: "+secret+", insecure: true}\n")
	rules := strings.Replace(tinyRules, "artifact: {build: {go: .}}", "artifact: {build: {go: .}, copies: [\""+host+"/copies/tiny\"]}", 1)
	r := w.released(w.bootstrap(tiny("copied", rules)))
	w.serves("production", r.Version)
	var made []client.Artifact
	w.must(w.as("admin").Get(t.Context(), "/artifacts", &made))
	// What a stranger verifies with the copy alone: the trusted root of the Weir that built it.
	out, stderr, status := weir(t, []string{"WEIR_SERVER=" + other.url, "WEIR_TOKEN=" + other.tokens["author"]}, "verify", "--registry", other.url, "copies/tiny@"+made[0].Digest, "--trusted-root", w.data+"/trusted_root.json")
	if status != 0 || !strings.Contains(out, "built from commit") {
		t.Errorf("verify of the copy: %d %s %s", status, out, stderr)
	}
}

func TestAReleaseIsCopiedToTheRegistryOfAnEnvironmentBeforeItRunsThere(t *testing.T) {
	t.Parallel()
	other := newWorld(t, "")
	host := strings.TrimPrefix(other.url, "http://")
	secret := other.dir + "/token"
	other.must(os.WriteFile(secret, []byte("x:wrong\n"), 0o600))
	w := newWorld(t, "registries:\n- {host: \""+host+"\", credentials: file, file: "+secret+", insecure: true}\n")
	rules := strings.Replace(tinyRules, "  production:\n", "  production:\n    registry: \""+host+"/prod/tiny\"\n", 1)
	if rules == tinyRules {
		t.Fatal("the rules name no registry")
	}
	r := w.released(w.bootstrap(tiny("promoted", rules)))
	w.serves("staging", r.Version)
	await(t, 60*time.Second, "the promotion to say why it waits", func() bool {
		out, _, _ := w.cli("admin", "release", "list")
		return strings.Contains(out, "was not copied to "+host+"/prod/tiny: the registry refused Weir's credentials") && strings.Contains(out, "It is tried again.")
	})
	if e, ok := w.environment("production"); ok && e.Rollout != "" {
		t.Errorf("production is %+v before the copy is there", e)
	}
	other.must(os.WriteFile(secret, []byte("x:"+other.tokens["maintainer"]+"\n"), 0o600))
	w.serves("production", r.Version)
	digest := r.Digest
	// How the rollouts ended is signed after the copy was made, and comes along, too: two of them, with all the rest.
	await(t, 60*time.Second, "the copy to have the statements about both rollouts", func() bool {
		var there struct {
			Manifests []struct {
				Annotations map[string]string `json:"annotations"`
			} `json:"manifests"`
		}
		body, err := getAs(other.url+"/v2/prod/tiny/referrers/"+digest, other.tokens["author"])
		if err != nil || json.Unmarshal([]byte(body), &there) != nil {
			return false
		}
		rollouts := 0
		for _, m := range there.Manifests {
			if strings.Contains(m.Annotations["dev.sigstore.bundle.predicateType"], "rollout") {
				rollouts++
			}
		}
		return rollouts == 2
	})
	var d client.ArtifactDetails
	w.must(w.as("author").Get(t.Context(), "/artifacts/"+digest, &d))
	if len(d.Copies) != 1 || d.Copies[0].To != host+"/prod/tiny" || d.Copies[0].Verified.IsZero() {
		t.Errorf("the copies of the artifact are %+v", d.Copies)
	}
	await(t, 30*time.Second, "the ledger to have the copy, and what came later", func() bool {
		said := 0
		for _, e := range w.ledger() {
			if e.Action == "artifact.copied" {
				said++
			}
		}
		return said >= 2
	})
	out, stderr, status := weir(t, []string{"WEIR_SERVER=" + other.url, "WEIR_TOKEN=" + other.tokens["author"]}, "verify", "--registry", other.url, "prod/tiny@"+digest, "--trusted-root", w.data+"/trusted_root.json")
	if status != 0 || !strings.Contains(out, "built from commit") {
		t.Errorf("verify of the copy: %d %s %s", status, out, stderr)
	}
}

// getAs reads an address with a token as the password.
func getAs(url, token string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.SetBasicAuth("x", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}
