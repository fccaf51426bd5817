package ocid_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// caller speaks to a registry as ann, who may do everything.
type caller struct {
	*testing.T
	host string
}

func (c caller) do(method, path, body string, headers ...string) (int, string, http.Header) {
	c.Helper()
	var in io.Reader = strings.NewReader(body)
	req, err := http.NewRequestWithContext(c.Context(), method, "http://"+c.host+path, in)
	if err != nil {
		c.Fatal(err)
	}
	req.SetBasicAuth("x", "token-ann")
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Content-Length" && headers[i+1] == "chunked" {
			req.ContentLength, req.Body = -1, io.NopCloser(strings.NewReader(body))
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		c.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

func (c caller) blob(content string) string {
	c.Helper()
	d := sha(content)
	if status, body, _ := c.do("POST", "/v2/shop/app/blobs/uploads/?digest="+d, content); status != 201 {
		c.Fatalf("push a blob: %d %s", status, body)
	}
	return d
}

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func doc(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

type object = map[string]any

const (
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
)

func TestHostileManifestsAreRefusedWithASentence(t *testing.T) {
	c := caller{t, serve(t, false)}
	config := object{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": c.blob("{}"), "size": 2}
	layer := object{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": c.blob("layer"), "size": 5}
	with := func(change object) string {
		m := object{"schemaVersion": 2, "mediaType": mediaManifest, "config": config, "layers": []any{layer}}
		for k, v := range change {
			if m[k] = v; v == nil {
				delete(m, k)
			}
		}
		return doc(m)
	}
	good := with(nil)
	if status, body, _ := c.do("PUT", "/v2/shop/app/manifests/good", good, "Content-Type", mediaManifest); status != 201 {
		t.Fatalf("a good manifest: %d %s", status, body)
	}
	child := object{"mediaType": mediaManifest, "digest": sha(good), "size": len(good)}
	change := func(d object, k string, v any) object {
		out := object{}
		for a, b := range d {
			out[a] = b
		}
		out[k] = v
		return out
	}
	many := func(n int, v any) []any {
		out := make([]any, n)
		for i := range out {
			out[i] = v
		}
		return out
	}
	for what, x := range map[string]struct {
		body, media string
		status      int
		say         string
	}{
		"no JSON":                      {"{", mediaManifest, 400, "is not JSON"},
		"two documents":                {good + good, mediaManifest, 400, "more after its end"},
		"a list":                       {"[]", mediaManifest, 400, "is not JSON of the shape"},
		"a number":                     {"7", mediaManifest, 400, "is not JSON of the shape"},
		"nothing":                      {"", mediaManifest, 400, "is not JSON of the shape"},
		"a wrong shape":                {`{"layers":7}`, mediaManifest, 400, "is not JSON of the shape"},
		"no UTF-8":                     {"{\"a\":\"\xff\"}", mediaManifest, 400, "is not UTF-8"},
		"too many bytes":               {strings.Repeat(" ", 5<<20), mediaManifest, 413, "at most 4194304 are taken"},
		"nested too deep":              {`{"annotations":` + strings.Repeat(`{"a":`, 500) + "1" + strings.Repeat("}", 501), mediaManifest, 400, "nested more than 20 deep"},
		"lists nested too deep":        {`{"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}", mediaManifest, 400, "nested more than 20 deep"},
		"a key twice":                  {strings.Replace(good, `"layers":`, `"layers":[],"layers":`, 1), mediaManifest, 400, `has "layers" twice in one object`},
		"a key in another spelling":    {strings.Replace(good, `"layers":`, `"Layers":`, 1), mediaManifest, 400, `has "Layers", which some readers take for "layers"`},
		"a descriptor's key as well":   {strings.Replace(good, `"size":5`, `"size":5,"DIGEST":"x"`, 1), mediaManifest, 400, `has "DIGEST", which some readers take for "digest"`},
		"manifests and layers":         {with(object{"manifests": []any{child}}), "", 400, "has both manifests"},
		"an index with a config":       {doc(object{"mediaType": mediaIndex, "config": config}), mediaIndex, 400, "has config or layers, which only an image has"},
		"an image with manifests":      {doc(object{"mediaType": mediaManifest, "manifests": []any{child}}), mediaManifest, 400, "has manifests, which only an index has"},
		"sent as something else":       {good, mediaIndex, 400, "was sent as " + mediaIndex},
		"media type with another name": {with(object{"mediaType": "not one"}), "", 400, `the mediaType "not one" is not a media type`},
		"Content-Type is none":         {good, "a b c", 400, "is not a media type"},
		"an artifact type that is not": {with(object{"artifactType": "<script>"}), mediaManifest, 400, "is not a media type"},
		"schema 1":                     {`{"schemaVersion":1,"fsLayers":[]}`, "", 400, "only 2 is taken"},
		"the artifact manifest":        {doc(object{"mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": []any{layer}}), "", 400, "before it was given up"},
		"too many layers":              {with(object{"layers": many(1001, layer)}), mediaManifest, 400, "names 1001 layers; at most 1000"},
		"too many manifests":           {doc(object{"mediaType": mediaIndex, "manifests": many(1001, child)}), mediaIndex, 400, "names 1001 manifests; at most 1000"},
		"a wrong digest of a layer":    {with(object{"layers": []any{change(layer, "digest", "sha256:../../etc/passwd")}}), mediaManifest, 400, "which is not a digest"},
		"an upper-case digest":         {with(object{"layers": []any{change(layer, "digest", strings.ToUpper(sha("layer")))}}), mediaManifest, 400, "which is not a digest"},
		"a layer that is not there":    {with(object{"layers": []any{change(layer, "digest", sha("other"))}}), mediaManifest, 400, "push it first"},
		"a size that is not true":      {with(object{"layers": []any{change(layer, "size", 6)}}), mediaManifest, 400, "of 6 bytes, which shop/app does not have"},
		"a size below nothing":         {with(object{"layers": []any{change(layer, "size", -1)}}), mediaManifest, 400, "a size of -1 bytes"},
		"a size beyond everything":     {with(object{"layers": []any{change(layer, "size", 1<<60)}}), mediaManifest, 400, "a size of 1152921504606846976 bytes"},
		"a foreign layer":              {with(object{"layers": []any{change(layer, "urls", []string{"http://169.254.169.254/latest"})}}), mediaManifest, 400, "foreign layers are not taken"},
		"data that are others":         {with(object{"config": change(config, "data", "W10=")}), mediaManifest, 400, "are not those bytes"},
		"an index of what is missing":  {doc(object{"mediaType": mediaIndex, "manifests": []any{change(child, "digest", sha("x"))}}), mediaIndex, 400, "push it first"},
		"a subject that is no digest":  {with(object{"subject": object{"mediaType": mediaManifest, "digest": "latest", "size": 1}}), mediaManifest, 400, "which is not a digest"},
		"huge annotations":             {with(object{"annotations": object{"a": strings.Repeat("x", 70_000)}, "subject": child}), mediaManifest, 400, "70001 bytes of annotations; at most 16000"},
		"huge annotations of a layer":  {with(object{"layers": []any{change(layer, "annotations", object{"a": strings.Repeat("x", 70_000)})}}), mediaManifest, 400, "bytes of annotations"},
		"an annotation without a name": {with(object{"layers": []any{change(layer, "annotations", object{"": "x"})}}), mediaManifest, 400, "an annotation without a name"},
		"an annotation that is none":   {with(object{"annotations": object{"a": object{}}}), mediaManifest, 400, "is not JSON of the shape"},
	} {
		headers := []string{}
		if x.media != "" {
			headers = append(headers, "Content-Type", x.media)
		}
		status, body, _ := c.do("PUT", "/v2/shop/app/manifests/bad", x.body, headers...)
		if status != x.status || !strings.Contains(body, strings.Trim(doc(x.say), `"`)) {
			t.Errorf("%s: %d %.300s; want %d and %q", what, status, body, x.status, x.say)
		}
	}
	if status, _, _ := c.do("GET", "/v2/shop/app/manifests/bad", ""); status != 404 {
		t.Errorf("something of them was stored: %d", status)
	}
	// The digest in the address decides, also a long one.
	long := sha512.Sum512([]byte(good))
	if status, body, _ := c.do("PUT", "/v2/shop/app/manifests/sha512:"+hex.EncodeToString(long[:]), good, "Content-Type", mediaManifest); status != 201 {
		t.Errorf("sha512: %d %s", status, body)
	}
	if status, body, _ := c.do("PUT", "/v2/shop/app/manifests/"+sha("something else"), good, "Content-Type", mediaManifest); status != 400 || !strings.Contains(body, "as announced") {
		t.Errorf("a wrong digest: %d %s", status, body)
	}
}

func TestDeepIndexesAndManyTagsAreRefused(t *testing.T) {
	c := caller{t, serve(t, false)}
	body := doc(object{"schemaVersion": 2, "mediaType": mediaIndex, "manifests": []any{}})
	for depth := 0; ; depth++ {
		status, answer, _ := c.do("PUT", "/v2/shop/app/manifests/"+fmt.Sprintf("depth-%d", depth), body, "Content-Type", mediaIndex)
		if depth == 5 {
			if status != 400 || !strings.Contains(answer, "more than 4 deep") {
				t.Errorf("an index %d deep: %d %s", depth, status, answer)
			}
			break
		}
		if status != 201 {
			t.Fatalf("an index %d deep: %d %s", depth, status, answer)
		}
		body = doc(object{"schemaVersion": 2, "mediaType": mediaIndex, "manifests": []any{object{"mediaType": mediaIndex, "digest": sha(body), "size": len(body)}}})
	}
	if status, answer, _ := c.do("PUT", "/v2/shop/app/manifests/x?tag="+strings.Repeat("a&tag=", 200)+"a", body, "Content-Type", mediaIndex); status != 400 || !strings.Contains(answer, "at most 100 are taken at once") {
		t.Errorf("many tags: %d %.200s", status, answer)
	}
	if status, answer, _ := c.do("PUT", "/v2/shop/app/manifests/x?tag=..%2Fetc", body, "Content-Type", mediaIndex); status != 400 || !strings.Contains(answer, "cannot be a tag") {
		t.Errorf("a tag that is a path: %d %s", status, answer)
	}
}

func TestReferrersThatReferToEachOtherEndSomewhere(t *testing.T) {
	c := caller{t, serve(t, false)}
	// Two that refer to each other cannot be made, as a digest cannot know itself; one may refer to what is not there, and so on.
	config := object{"mediaType": "application/vnd.oci.empty.v1+json", "digest": c.blob("{}"), "size": 2}
	subject := sha("not there")
	for range 40 {
		m := doc(object{"schemaVersion": 2, "mediaType": mediaManifest, "config": config, "layers": []any{config}, "subject": object{"mediaType": mediaManifest, "digest": subject, "size": 9}})
		if status, body, _ := c.do("PUT", "/v2/shop/app/manifests/"+sha(m), m, "Content-Type", mediaManifest); status != 201 {
			t.Fatalf("%d %s", status, body)
		}
		subject = sha(m)
	}
	if status, body, _ := c.do("GET", "/v2/shop/app/referrers/"+sha("not there"), ""); status != 200 || strings.Count(body, "digest") != 1 {
		t.Errorf("referrers: %d %s", status, body)
	}
	if status, body, _ := c.do("GET", "/v2/shop/app/referrers/latest", ""); status != 400 || !strings.Contains(body, "is not a digest") {
		t.Errorf("referrers of a tag: %d %s", status, body)
	}
}

func TestUploadsThatLieAreRefused(t *testing.T) {
	c := caller{t, serve(t, false)}
	start := func() string {
		t.Helper()
		status, body, h := c.do("POST", "/v2/shop/app/blobs/uploads/", "")
		if status != 202 {
			t.Fatalf("%d %s", status, body)
		}
		return h.Get("Location")
	}
	for what, x := range map[string]struct {
		body    string
		headers []string
		status  int
		say     string
	}{
		"a range longer than the body":   {"hello", []string{"Content-Range", "0-9"}, 400, "is not FIRST-LAST of a piece as long as the body"},
		"a range shorter than the body":  {"hello", []string{"Content-Range", "0-3"}, 400, "is not FIRST-LAST"},
		"the same, without a length":     {"hello", []string{"Content-Range", "0-3", "Content-Length", "chunked"}, 400, "broke off before its end"},
		"too little, without a length":   {"hello", []string{"Content-Range", "0-9", "Content-Length", "chunked"}, 400, "broke off before its end"},
		"a range that is none":           {"hello", []string{"Content-Range", "five"}, 400, "is not FIRST-LAST"},
		"a negative one":                 {"hello", []string{"Content-Range", "-5-4"}, 400, "is not FIRST-LAST"},
		"one that overflows":             {"hello", []string{"Content-Range", "9223372036854775807-9223372036854775811"}, 400, "is not FIRST-LAST"},
		"one that starts somewhere else": {"hello", []string{"Content-Range", "5-9"}, 416, "does not start where the upload ends"},
	} {
		at := start()
		status, body, _ := c.do("PATCH", at, x.body, x.headers...)
		if status != x.status || !strings.Contains(body, x.say) {
			t.Errorf("%s: %d %s; want %d and %q", what, status, body, x.status, x.say)
		}
		if status, _, h := c.do("GET", at, ""); status != 204 || h.Get("Range") != "0-0" {
			t.Errorf("%s: something was stored: %d %v", what, status, h)
		}
	}
	at := start()
	if status, body, _ := c.do("PATCH", at, "hel", "Content-Range", "0-2"); status != 202 {
		t.Fatalf("%d %s", status, body)
	}
	if status, body, _ := c.do("PUT", at+"?digest="+sha("hello"), "lo!"); status != 400 || !strings.Contains(body, "as announced") {
		t.Errorf("bytes that are others: %d %s", status, body)
	}
	if status, _, _ := c.do("GET", at, ""); status != 404 {
		t.Errorf("the upload goes on: %d", status)
	}
	for _, digest := range []string{"", "sha256:", "md5:" + strings.Repeat("0", 32), sha("x") + "0", "sha256:../../x"} {
		if status, body, _ := c.do("PUT", start()+"?digest="+digest, "x"); status != 400 || !strings.Contains(body, "is not a digest") {
			t.Errorf("digest %q: %d %s", digest, status, body)
		}
	}
}

func TestNamesThatArePathsReachNothing(t *testing.T) {
	c := caller{t, serve(t, false)}
	for _, path := range []string{
		"/v2/../../etc/passwd", "/v2/%2e%2e/%2e%2e/etc/manifests/x", "/v2/shop/..%2f..%2fetc/manifests/latest", "/v2/shop//app/manifests/x", "/v2//manifests/x", "/v2/shop/app%00/manifests/x",
		"/v2/shop/app/blobs/..%2f..%2f..%2fkeys%2flog.key", "/v2/shop/app/manifests/..%2f..%2fx", "/v2/" + strings.Repeat("a", 300) + "/tags/list", "/v2/shop/app/blobs/uploads/..%2f..%2fx",
		"/v2/shop/app/manifests/" + strings.Repeat("t", 129), "/v2/shop/%D0%B0pp/manifests/x", "/v2/-shop/manifests/x", "/v2/shop/app/referrers/..%2fx", "/v2/shop/app/tags/list%2f..",
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+c.host+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("x", "token-ann")
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode < 400 || res.StatusCode >= 500 || !strings.Contains(string(b), `"message":"`) {
			t.Errorf("%s: %d %s; want a refusal with a sentence", path, res.StatusCode, b)
		}
	}
}

func TestManyReferrersComeInPages(t *testing.T) {
	c := caller{t, serve(t, false)}
	config := object{"mediaType": "application/vnd.oci.empty.v1+json", "digest": c.blob("{}"), "size": 2}
	subject := sha("the image")
	want := map[string]bool{}
	for i := range 230 { // 15 kB each: more than one answer may have
		kind := "application/x.one"
		if i%2 == 1 {
			kind = "application/x.two"
		}
		m := doc(object{"schemaVersion": 2, "mediaType": mediaManifest, "artifactType": kind, "config": config, "layers": []any{config}, "subject": object{"mediaType": mediaManifest, "digest": subject, "size": 9},
			"annotations": object{"n": strconv.Itoa(i), "x": strings.Repeat("x", 15_000)}})
		if status, body, _ := c.do("PUT", "/v2/shop/app/manifests/"+sha(m), m, "Content-Type", mediaManifest); status != 201 {
			t.Fatalf("%d %s", status, body)
		}
		want[sha(m)] = kind == "application/x.two"
	}
	for _, filter := range []string{"", "?artifactType=application/x.two"} {
		got, pages := map[string]bool{}, 0
		for path := "/v2/shop/app/referrers/" + subject + filter; path != ""; pages++ {
			status, body, header := c.do("GET", path, "")
			var index struct {
				Manifests []struct{ Digest string } `json:"manifests"`
			}
			if err := json.Unmarshal([]byte(body), &index); status != 200 || err != nil || len(body) > 4<<20 {
				t.Fatalf("%s: %d, %d bytes, %v", path, status, len(body), err)
			}
			for _, m := range index.Manifests {
				if got[m.Digest] {
					t.Errorf("%s comes twice", m.Digest)
				}
				got[m.Digest] = true
			}
			path = ""
			if link := header.Get("Link"); link != "" {
				if filter != "" && !strings.Contains(link, "artifactType=") {
					t.Errorf("the next page forgets the filter: %s", link)
				}
				path, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">")
			}
		}
		n := 0
		for d, two := range want {
			if filter == "" || two {
				n++
				if !got[d] {
					t.Errorf("%s is on no page", d)
				}
			}
		}
		if len(got) != n || filter == "" && pages != 2 {
			t.Errorf("%d referrers on %d pages; want %d", len(got), pages, n)
		}
	}
	if status, body, _ := c.do("GET", "/v2/shop/app/referrers/"+subject+"?from=x", ""); status != 400 || !strings.Contains(body, "is no place in a list of referrers") {
		t.Errorf("a place that is none: %d %s", status, body)
	}
}
