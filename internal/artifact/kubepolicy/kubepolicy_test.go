package kubepolicy_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
	"go.yaml.in/yaml/v3"

	"weir/internal/artifact/kubepolicy"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/guard/evidence"
	"weir/internal/guard/evidence/evidencetest"
)

func input(t *testing.T) kubepolicy.Input {
	t.Helper()
	return kubepolicy.Input{Registry: "weir.example.com:7400", TrustedRoot: evidencetest.New(t, dbtest.SQLite(t), nil).TrustedRoot(), Mirror: "https://tuf.example.com"}
}

func TestPoliciesAskForTheControlPlanesAdmissionAndNothingLess(t *testing.T) {
	in := input(t)
	controller, err := kubepolicy.PolicyController(in, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	kyverno, err := kubepolicy.Kyverno(in)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{"policy-controller": controller, "kyverno": kyverno} {
		for _, want := range []string{evidence.Summary, "https://weir.test/control-plane", "weir.example.com:7400/", "PASSED"} {
			if !strings.Contains(string(raw), want) {
				t.Errorf("the policy for %s does not say %q:\n%s", name, want, raw)
			}
		}
		for dec := yaml.NewDecoder(strings.NewReader(string(raw))); ; {
			var o struct{ APIVersion, Kind string }
			if err := dec.Decode(&o); err != nil {
				break
			}
		}
	}
}

func TestPoliciesAreNotMadeForWhatIsNoRegistry(t *testing.T) {
	in := input(t)
	for _, bad := range []string{"", "https://weir.example.com", "weir example", "a\nb: c", "*"} {
		in.Registry = bad
		if _, err := kubepolicy.PolicyController(in, time.Now()); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), "is not the address of a registry") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	in = input(t)
	in.Mirror = ""
	if _, err := kubepolicy.Kyverno(in); err == nil || !strings.Contains(fault.Sentence(err), "weir policy export tuf") {
		t.Errorf("no mirror: %v", err)
	}
	in.TrustedRoot = evidence.TrustedRoot{}
	if _, err := kubepolicy.Kyverno(in); err == nil || !strings.Contains(fault.Sentence(err), "names no issuer") {
		t.Errorf("no root: %v", err)
	}
}

// A client of the reference implementation gets the trusted root out of the repository.
func TestTheRepositoryIsTUF(t *testing.T) {
	want := input(t).TrustedRoot.JSON()
	r, err := kubepolicy.NewRepository(want, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for name, raw := range r.Files {
		files[name] = &fstest.MapFile{Data: raw}
	}
	get := func(files fs.FS) ([]byte, error) {
		srv := httptest.NewServer(http.FileServerFS(files))
		defer srv.Close()
		cfg, err := config.New(srv.URL, r.Root)
		if err != nil {
			return nil, err
		}
		dir := t.TempDir()
		cfg.LocalMetadataDir, cfg.LocalTargetsDir, cfg.RemoteTargetsURL, cfg.PrefixTargetsWithHash = dir, dir, srv.URL+"/targets", false
		u, err := updater.New(cfg)
		if err != nil {
			return nil, err
		}
		if err := u.Refresh(); err != nil {
			return nil, err
		}
		info, err := u.GetTargetInfo("trusted_root.json")
		if err != nil {
			return nil, err
		}
		path, raw, err := u.DownloadTarget(info, "", "")
		if err == nil && raw == nil {
			raw, err = os.ReadFile(path)
		}
		return raw, err
	}
	got, err := get(files)
	if err != nil || string(got) != string(want) {
		t.Fatalf("the client got %d bytes, %v; want the trusted root", len(got), err)
	}
	files["targets/trusted_root.json"] = &fstest.MapFile{Data: []byte(strings.Replace(string(want), "weir.test", "evil.test", 1))}
	if _, err := get(files); err == nil {
		t.Error("a changed trusted root was accepted")
	}
}
