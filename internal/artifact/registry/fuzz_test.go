package registry

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"weir/internal/artifact"
)

// Whatever is taken is one thing to every reader: what Go's own decoder and a decoder that knows only exact keys see is the same.
func FuzzManifest(f *testing.F) {
	d := "sha256:" + strings.Repeat("a", 64)
	for _, s := range []string{
		`{}`, `{"schemaVersion":2,"mediaType":"` + artifact.MediaManifest + `","config":{"digest":"` + d + `","size":2},"layers":[{"digest":"` + d + `","size":5,"data":"aGVsbG8="}]}`,
		`{"manifests":[{"digest":"` + d + `","platform":{"os":"linux","Size":1}}],"annotations":{"Layers":"x"}}`, `{"Layers":[]}`, `{"layers":[],"layers":[]}`, `{"annotations":{"a":{"layers":[]}}}`, `[]`, `{"x":[[[[[[]]]]]]}`, `{}{}`, `{"config":null}`,
	} {
		f.Add([]byte(s), "")
		f.Add([]byte(s), artifact.MediaManifest)
	}
	f.Fuzz(func(t *testing.T, raw []byte, mediaType string) {
		c, err := parse(raw, mediaType, false)
		if err != nil {
			if artifact.CodeOf(err) == "" {
				t.Errorf("parse() = %v, which clients do not understand", err)
			}
			return
		}
		var exact map[string]json.RawMessage
		if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&exact); err != nil {
			t.Fatalf("taken, and yet %v", err)
		}
		for key, n := range map[string]int{"layers": len(c.Layers), "manifests": len(c.Manifests)} {
			var list []json.RawMessage
			if v, ok := exact[key]; ok {
				if err := json.Unmarshal(v, &list); err != nil {
					t.Fatal(err)
				}
			}
			if len(list) != n {
				t.Errorf("%d %s are seen, and %d are there", n, key, len(list))
			}
		}
		if len(c.Manifests) > 0 && len(c.Layers) > 0 {
			t.Error("both an index and an image")
		}
		for _, e := range c.edges() {
			if !artifact.ValidDigest(e.Child) {
				t.Errorf("it names %q", e.Child)
			}
		}
	})
}
