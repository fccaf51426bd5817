package build_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/artifactdb"
	"weir/internal/artifact/build"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
)

// history is a line of commits, oldest first, with tags.
type history struct {
	commits []artifact.Commit
	tags    map[string]string // name to revision
	specs   []artifact.Spec
}

func (h *history) at(rev string) int {
	for i, c := range h.commits {
		if c.Revision == rev {
			return i
		}
	}
	return -1
}

func (h *history) Specs(context.Context, string, string) ([]artifact.Spec, error) {
	return h.specs, nil
}

func (h *history) Tags(_ context.Context, _, rev string) (tags []artifact.GitTag, _ error) {
	for name, at := range h.tags {
		if d := h.at(rev) - h.at(at); d >= 0 {
			tags = append(tags, artifact.GitTag{Name: name, Revision: at, Distance: d})
		}
	}
	return tags, nil
}

func (h *history) Log(_ context.Context, _, from, to string) (log []artifact.Commit, _ error) {
	for i := h.at(to); i > h.at(from); i-- {
		log = append(log, h.commits[i])
	}
	return log, nil
}

func (h *history) Commit(context.Context, string, string) (artifact.Commit, error) {
	return artifact.Commit{}, nil
}
func (h *history) Tag(context.Context, string, string, string) error { return nil }

var _ artifact.Source = (*history)(nil)

func commits(subjects ...string) (out []artifact.Commit) {
	for i, s := range subjects {
		out = append(out, artifact.Commit{Revision: string(rune('a' + i)), Subject: s})
	}
	return out
}

func TestEveryRevisionGetsItsOwnVersion(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		if err := artifactdb.Migrate(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		h := &history{commits: commits("first", "feat: b", "feat: c", "fix: d", "fix: e"), tags: map[string]string{"v1.0.0": "a"},
			specs: []artifact.Spec{{ServiceID: "s1", Service: "checkout", Go: "./cmd/checkout"}}}
		p := build.Planner{Catalog: h, Source: h, Versions: artifactdb.Versions{DB: d}}
		plan := func(rev, want string) {
			t.Helper()
			b, err := p.Plan(t.Context(), "repo", rev)
			if err != nil || len(b) != 1 || b[0].Version != want {
				t.Errorf("Plan(%s) = %+v, %v; want version %s", rev, b, err, want)
			}
		}
		plan("a", "1.0.0") // tagged itself
		plan("b", "1.1.0")
		plan("c", "1.2.0") // b is not tagged yet
		plan("b", "1.1.0") // asked again
		h.tags["v1.1.0"] = "b"
		plan("e", "1.2.1") // two fixes land at once
		plan("d", "1.2.2") // and the earlier one is planned later: its number is taken
		plan("c", "1.2.0")
	})
}

func TestSeveralServicesHaveTheirOwnTags(t *testing.T) {
	d := dbtest.SQLite(t)
	if err := artifactdb.Migrate(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	h := &history{commits: commits("first", "fix: b"), tags: map[string]string{"cart/v2.3.0": "a", "v9.0.0": "a"}, specs: []artifact.Spec{
		{ServiceID: "s1", Service: "cart", Path: "cart", Go: "."}, {ServiceID: "s2", Service: "site", Static: "public"}, {ServiceID: "s3", Service: "legacy"}}}
	b, err := build.Planner{Catalog: h, Source: h, Versions: artifactdb.Versions{DB: d}}.Plan(t.Context(), "repo", "b")
	if err != nil || len(b) != 2 || b[0].Version != "2.3.1" || b[1].Version != "0.1.0" || b[1].Job != "release-site" {
		t.Errorf("Plan() = %+v, %v; want cart 2.3.1, site 0.1.0 and nothing for legacy", b, err)
	}
}

func TestPathsOutsideTheRepositoryAreRefused(t *testing.T) {
	for _, s := range []artifact.Spec{{Service: "a", Go: "../x"}, {Service: "a", Go: "/etc"}, {Service: "a", Static: "a/../../b"}, {Service: "a", Path: "..", Go: "."}} {
		if _, err := build.Of(s, "1.0.0", time.Unix(0, 0)); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), "is not a path inside the repository") {
			t.Errorf("Of(%+v) = %v; want it refused", s, err)
		}
	}
}

func TestScriptsBuildWhatTheyPromise(t *testing.T) {
	dir := t.TempDir()
	for name, body := range map[string]string{
		"svc/go.mod": "module example.test/app\n\ngo 1.26\n", "svc/cmd/app/main.go": "package main\n\nvar version string\n\nfunc main() { println(version) }\n",
		"svc/$(touch pwned)/index.html": "hello",
	} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(s artifact.Spec) string {
		t.Helper()
		b, err := build.Of(s, "1.4.0", time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("bash", "-c", b.Script)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=", "GOWORK=off")
		for k, v := range b.Env {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return filepath.Join(dir, b.Output)
	}
	out, err := exec.Command(run(artifact.Spec{Service: "app", Path: "svc", Go: "./cmd/app"})).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "1.4.0" {
		t.Errorf("binary says %q, %v; want its version", out, err)
	}
	list, err := exec.Command("tar", "-tf", run(artifact.Spec{Service: "site", Path: "svc", Static: "$(touch pwned)"})).Output()
	if err != nil || !strings.Contains(string(list), "./index.html") || !strings.Contains(string(list), ".weir-serve") {
		t.Errorf("archive holds %q, %v; want index.html and what serves it", list, err)
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "*", "pwned")); len(found) != 0 {
		t.Error("a name from the repository was run as a command")
	}
}
