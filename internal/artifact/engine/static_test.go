package engine_test

import (
	"archive/tar"
	"bytes"
	"testing"

	"weir/internal/artifact"
	"weir/internal/artifact/custody"
	"weir/internal/base/db/dbtest"
	"weir/internal/guard/evidence"
)

func TestFolderOfFilesBecomesAProvenImage(t *testing.T) {
	w := newWorld(t, dbtest.SQLite(t))
	w.spec.Go, w.spec.Static = "", "public"
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for name, body := range map[string]string{"./index.html": "hello", "./css/a.css": "a{}"} {
		if err := tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	w.put(t, b.Bytes())
	if _, err := w.engine.Work(t.Context(), nil, later()); err != nil {
		t.Fatal(err)
	}
	list, err := w.service.List(t.Context(), artifact.Filter{})
	if err != nil || len(list) != 1 {
		t.Fatalf("List() = %v, %v (%+v)", list, err, w.intake(t))
	}
	found, err := w.evidence.Find(t.Context(), evidence.Query{Subject: list[0].Digest, PredicateType: evidence.SBOM})
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	var bom struct {
		Components []struct{ Name string }
	}
	if err := found[0].Predicate(&bom); err != nil || len(bom.Components) != 2 || bom.Components[0].Name != "css/a.css" {
		t.Errorf("SBOM lists %v, %v; want both files", bom.Components, err)
	}
	if _, err := custody.VerifyChain(t.Context(), w.serve(t, nil)+"/"+list[0].Image(), w.evidence.TrustedRoot(), custody.Options{}); err != nil {
		t.Error(err)
	}
}
