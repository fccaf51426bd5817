package vulndb_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/vulndb"
	"weir/internal/base/db"
	"weir/internal/base/db/dbtest"
	"weir/internal/base/fault"
	"weir/internal/base/journal"
	"weir/internal/check/vuln"
	"weir/internal/guard/identity"
)

func advisory(id, pkg, fixed, modified, more string) string {
	return fmt.Sprintf(`{"id":%q,"aliases":["CVE-%s"],"summary":"about %s","modified":%q,"affected":[{"package":{"ecosystem":"Go","name":%q},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":%q}]}]}]%s}`,
		id, strings.TrimPrefix(id, "GO-"), pkg, modified, pkg, fixed, more)
}

func packed(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(t *testing.T, d *db.DB) (*vulndb.Store, *[]string) {
	t.Helper()
	if err := vulndb.Migrate(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	told := &[]string{}
	return &vulndb.Store{DB: d, Now: time.Now, Ledger: func(_ context.Context, _ *db.Tx, e artifact.Entry) error {
		*told = append(*told, e.Action)
		return nil
	}}, told
}

func TestImportsAddAndRenewAndNeverGoBack(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, told := open(t, d)
		ctx := identity.With(t.Context(), identity.System("test"))
		take := func(raw []byte) artifact.AdvisoryState {
			t.Helper()
			st, err := s.Import(ctx, "all.zip", bytes.NewReader(raw), int64(len(raw)))
			if err != nil {
				t.Fatal(err)
			}
			return st
		}
		if st, err := s.State(ctx); err != nil || st.Advisories != 0 {
			t.Fatalf("State() = %+v, %v", st, err)
		}
		st := take(packed(t, map[string]string{"GO-1.json": advisory("GO-1", "example.com/a", "1.1.0", "2026-01-02T00:00:00Z", ""), "README": "x"}))
		if st.Advisories != 1 || st.Source != "all.zip" || st.Imported.IsZero() {
			t.Errorf("state = %+v", st)
		}
		take(packed(t, map[string]string{"a.json": advisory("GO-9", "example.com/d", "1.1.0", "2026-01-02T00:00:00Z", `,"aliases":["go-9","CVE-9","cve-9"]`), "b.json": advisory("GO-9", "example.com/e", "1.1.0", "2026-01-01T00:00:00Z", "")}))
		take([]byte(advisory("GO-2", "example.com/b", "2.0.0", "2026-01-02T00:00:00Z", "")))
		take([]byte(advisory("GO-1", "example.com/c", "9.0.0", "2026-01-01T00:00:00Z", ""))) // older than what is known
		fixed := func(pkg string) string {
			t.Helper()
			all, err := s.About(ctx, "Go", []string{"other", pkg})
			if err != nil {
				t.Fatal(err)
			}
			list := all[pkg]
			var out []string
			for _, a := range list {
				_, fix, _ := a.Affected[0].Affects("1.0.0")
				out = append(out, a.ID+" "+fix)
			}
			return strings.Join(out, ", ")
		}
		if a, c := fixed("example.com/a"), fixed("example.com/c"); a != "GO-1 1.1.0" || c != "" {
			t.Errorf("a has %q, c has %q", a, c)
		}
		take([]byte(advisory("GO-1", "example.com/c", "1.2.0", "2026-02-01T00:00:00Z", "")))
		if a, c := fixed("example.com/a"), fixed("example.com/c"); a != "" || c != "GO-1 1.2.0" {
			t.Errorf("after renewal a has %q, c has %q", a, c)
		}
		if d, e := fixed("example.com/d"), fixed("example.com/e"); d != "GO-9 1.1.0" || e != "" {
			t.Errorf("of two of one id in one file, d has %q, e has %q; want the newer", d, e)
		}
		if named, err := s.Named(ctx, "cve-1"); err != nil || len(named) != 1 || named[0].ID != "GO-1" || named[0].Affected[0].Package != "example.com/c" {
			t.Errorf("Named() = %+v, %v", named, err)
		}
		if len(*told) != 5 || (*told)[0] != "vulnerability.imported" {
			t.Errorf("the ledger was told %v", *told)
		}
	})
}

func TestAnImportCoversItsEcosystemsAndASingleAdvisoryNone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, _ := open(t, d)
		var facts []artifact.AdvisoriesFact
		s.Announce = func(_ context.Context, _ *db.Tx, f journal.Fact) error {
			var b artifact.AdvisoriesFact
			facts = append(facts, b)
			return json.Unmarshal(f.Body, &facts[len(facts)-1])
		}
		day := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
		s.Now = func() time.Time { return day }
		ctx := identity.With(t.Context(), identity.System("test"))
		files := map[string]string{}
		for n := range 19 {
			files[fmt.Sprintf("GO-%d.json", n)] = advisory(fmt.Sprintf("GO-%d", n), "example.com/a", "1.1.0", "2026-01-02T00:00:00Z", `,"published":"2025-12-24T00:00:00Z"`)
		}
		files["both.json"] = `{"id":"GHSA-1","modified":"2026-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"Go","name":"x"}},{"package":{"ecosystem":"npm","name":"x"}}]}`
		raw := packed(t, files)
		if _, err := s.Import(ctx, "Go/all.zip", bytes.NewReader(raw), int64(len(raw))); err != nil {
			t.Fatal(err)
		}
		one := []byte(`{"id":"GHSA-9","modified":"2026-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"PyPI","name":"x"}}]}`)
		if _, err := s.Import(ctx, "one.json", bytes.NewReader(one), int64(len(one))); err != nil {
			t.Fatal(err)
		}
		of, err := s.Imported(ctx)
		if err != nil || len(of) != 1 || !of["Go"].Equal(day) {
			t.Errorf("Imported() = %v, %v; want Go alone", of, err)
		}
		if len(facts) != 2 || fmt.Sprint(facts[0].Ecosystems) != "[Go]" || facts[0].Advisories != 20 || len(facts[1].Ecosystems) != 0 {
			t.Errorf("facts = %+v", facts)
		}
		about, err := s.About(ctx, "Go", []string{"example.com/a"})
		if err != nil || about["example.com/a"][0].Published.Format(time.DateOnly) != "2025-12-24" {
			t.Errorf("About() = %+v, %v", about, err)
		}
	})
}

func TestManyNamesAreLookedUpAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, _ := open(t, d)
		ctx := identity.With(t.Context(), identity.System("test"))
		files := map[string]string{"rated.json": `{"id":"GHSA-1","aliases":["CVE-7"],"modified":"2026-01-01T00:00:00Z","database_specific":{"severity":"HIGH"}}`,
			"worse.json": `{"id":"GHSA-2","aliases":["CVE-7"],"modified":"2026-01-01T00:00:00Z","database_specific":{"severity":"CRITICAL"}}`,
			"gone.json":  `{"id":"GHSA-3","aliases":["CVE-8"],"withdrawn":"2026-01-01T00:00:00Z","modified":"2026-01-01T00:00:00Z","database_specific":{"severity":"CRITICAL"}}`}
		var names []string
		for n := range 1000 {
			name := fmt.Sprintf("example.com/%d", n)
			names = append(names, name)
			if n%100 == 0 {
				files[name[12:]+".json"] = advisory(fmt.Sprintf("GO-%d", n), name, "1.1.0", "2026-01-02T00:00:00Z", "")
			}
		}
		raw := packed(t, files)
		if _, err := s.Import(ctx, "all.zip", bytes.NewReader(raw), int64(len(raw))); err != nil {
			t.Fatal(err)
		}
		about, err := s.About(ctx, "Go", names)
		if err != nil || len(about) != 10 || len(about["example.com/900"]) != 1 {
			t.Errorf("About() = %d packages, %v; want 10", len(about), err)
		}
		rated, err := s.Rated(ctx, []string{"cve-7", "CVE-8", "GO-100"})
		if err != nil || len(rated) != 1 || rated["CVE-7"].Severity != vuln.Critical {
			t.Errorf("Rated() = %v, %v", rated, err)
		}
	})
}

func TestWhatIsNoDatabaseIsRefusedWithASentence(t *testing.T) {
	s, told := open(t, dbtest.SQLite(t))
	ctx := identity.With(t.Context(), identity.System("test"))
	for say, raw := range map[string][]byte{
		"neither a zip of advisories":        []byte("hello"),
		"neither a zip of advisories nor":    {},
		"is damaged":                         []byte("PK\x03\x04 and no more"),
		"holds no advisory":                  packed(t, map[string]string{"README.md": "x"}),
		"x.json: it is no advisory in OSV's": packed(t, map[string]string{"x.json": "{"}),
	} {
		if _, err := s.Import(ctx, "f", bytes.NewReader(raw), int64(len(raw))); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), say) {
			t.Errorf("%v; want %q", err, say)
		}
	}
	if len(*told) != 0 {
		t.Errorf("the ledger was told %v", *told)
	}
	if list, err := s.About(ctx, "Go", []string{"x"}); err != nil || len(list) != 0 {
		t.Errorf("About() = %v, %v", list, err)
	}
}
