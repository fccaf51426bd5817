package jobapi

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"weir/internal/pipeline/runner/runnertest"
)

type job struct {
	*testing.T
	api *API
	url string
	dir string
}

func start(t *testing.T) *job {
	t.Helper()
	dir := t.TempDir() + "/api"
	a, err := New(&runnertest.Host{}, "run_1", "job_1", dir)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(a)
	t.Cleanup(func() {
		srv.Close()
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Error("staged bytes were left behind")
		}
	})
	return &job{t, a, srv.URL, dir}
}

func (j *job) call(method, body, token string) (int, map[string]any) {
	j.Helper()
	req, _ := http.NewRequest(http.MethodPost, j.url+"/twirp/github.actions.results.api.v1."+method, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		j.Fatal(err)
	}
	defer res.Body.Close()
	out := map[string]any{}
	_ = json.NewDecoder(res.Body).Decode(&out)
	return res.StatusCode, out
}

func (j *job) do(method, u string, body []byte, header ...string) (int, string) {
	j.Helper()
	req, _ := http.NewRequest(method, u, bytes.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		j.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

func zipped(t *testing.T, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, n := range names {
		w, err := z.Create(n)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, "text of "+n)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestOnlyTheJobsTokenAndSignedURLsOpenAnything(t *testing.T) {
	j := start(t)
	if status, _ := j.call("CacheService/CreateCacheEntry", `{"key":"k","version":"v"}`, "other"); status != http.StatusUnauthorized {
		t.Errorf("another token: %d", status)
	}
	status, out := j.call("CacheService/CreateCacheEntry", `{"key":"k","version":"v"}`, j.api.token)
	up, _ := out["signed_upload_url"].(string)
	if status != http.StatusOK || up == "" {
		t.Fatalf("create: %d %v", status, out)
	}
	if status, _ := j.do("GET", up, nil); status != http.StatusForbidden {
		t.Errorf("reading with a URL for writing: %d", status)
	}
	u, _ := url.Parse(up)
	for k, v := range map[string]string{"sig": strings.Repeat("0", 64), "se": "99999999999", "sp": "r"} {
		q := u.Query()
		q.Set(k, v)
		forged := *u
		forged.RawQuery = q.Encode()
		if status, _ := j.do("PUT", forged.String(), []byte("x")); status != http.StatusForbidden {
			t.Errorf("%s changed to %s: %d; want 403", k, v, status)
		}
	}
	if status, _ := j.do("PUT", strings.Replace(up, u.Path, "/blobs/weir/..%2f..%2fx", 1), []byte("x")); status == http.StatusCreated {
		t.Error("a path that leads out was taken")
	}
	if status, out := j.call("CacheService/FinalizeCacheEntryUpload", `{"key":"k","version":"v","size_bytes":"1"}`, j.api.token); status != http.StatusNotFound || !strings.Contains(out["msg"].(string), "Upload it to the signed URL first") {
		t.Errorf("finalize before the upload: %d %v", status, out)
	}
	if status, _ := j.do("PUT", up, []byte("bytes"), "x-ms-blob-type", "BlockBlob"); status != http.StatusCreated {
		t.Errorf("upload: %d", status)
	}
	if status, out := j.call("CacheService/FinalizeCacheEntryUpload", `{"key":"k","version":"v","sizeBytes":"5"}`, j.api.token); status != http.StatusOK {
		t.Errorf("finalize: %d %v", status, out)
	}
	status, out = j.call("CacheService/GetCacheEntryDownloadURL", `{"key":"x","restoreKeys":["k"],"version":"v"}`, j.api.token)
	down, _ := out["signed_download_url"].(string)
	if status != http.StatusOK || out["matched_key"] != "k" {
		t.Errorf("find: %d %v", status, out)
	}
	if status, body := j.do("GET", down, nil, "Range", "bytes=1-2"); status != http.StatusPartialContent || body != "yt" {
		t.Errorf("a range: %d %q", status, body)
	}
	if status, out := j.call("CacheService/CreateCacheEntry", `{"key":"k","version":"v"}`, j.api.token); status != http.StatusOK || out["ok"] != false {
		t.Errorf("a key that is taken: %d %v", status, out)
	}
}

func TestBadUploadsAreRefusedWithASentence(t *testing.T) {
	for name, c := range map[string]struct {
		body     []byte
		finalize string
		sentence string
	}{
		"a zip that leads out": {zipped(t, "../../etc/cron.d/x"), ``, "leads out of its folder"},
		"an absolute name":     {zipped(t, "/etc/passwd"), ``, "leads out of its folder"},
		"a windows name":       {zipped(t, `..\..\x`), ``, "leads out of its folder"},
		"another size":         {zipped(t, "a"), `,"size":"7"`, "not 7. Upload it again"},
		"another digest":       {zipped(t, "a"), `,"hash":{"value":"sha256:00"}`, "not sha256:00. Upload it again"},
	} {
		j := start(t)
		_, out := j.call("ArtifactService/CreateArtifact", `{"name":"a"}`, j.api.token)
		up, _ := out["signed_upload_url"].(string)
		id := "YmxvY2s="
		if status, body := j.do("PUT", up+"&comp=block&blockid="+url.QueryEscape(id), c.body); status != http.StatusCreated {
			t.Fatalf("%s: block: %d %s", name, status, body)
		}
		if status, body := j.do("PUT", up+"&comp=blocklist", []byte("<BlockList><Latest>b3RoZXI=</Latest></BlockList>")); status != http.StatusBadRequest || !strings.Contains(body, "was not uploaded") {
			t.Errorf("%s: a block that is not there: %d %s", name, status, body)
		}
		if status, body := j.do("PUT", up+"&comp=blocklist", []byte("<BlockList><Latest>"+id+"</Latest></BlockList>")); status != http.StatusCreated {
			t.Fatalf("%s: list: %d %s", name, status, body)
		}
		status, out := j.call("ArtifactService/FinalizeArtifact", `{"name":"a"`+c.finalize+`}`, j.api.token)
		if msg, _ := out["msg"].(string); status != http.StatusBadRequest || !strings.Contains(msg, c.sentence) {
			t.Errorf("%s: %d %v; want %q", name, status, out, c.sentence)
		}
	}
	j := start(t)
	for _, name := range []string{"", "a/b", "..\\\\x", "a\\nb"} {
		if status, _ := j.call("ArtifactService/CreateArtifact", `{"name":"`+name+`"}`, j.api.token); status != http.StatusBadRequest {
			t.Errorf("artifact %q: %d; want a refusal", name, status)
		}
	}
	if status, out := j.call("ArtifactService/DeleteEverything", `{}`, j.api.token); status != http.StatusNotFound || !strings.Contains(out["msg"].(string), "has no ArtifactService/DeleteEverything") {
		t.Errorf("an unknown method: %d %v", status, out)
	}
}

func TestAFileThatIsNoZipIsAnArtifactOfItself(t *testing.T) {
	j := start(t)
	_, out := j.call("ArtifactService/CreateArtifact", `{"name":"report.txt"}`, j.api.token)
	j.do("PUT", out["signed_upload_url"].(string), []byte("plain"))
	if status, out := j.call("ArtifactService/FinalizeArtifact", `{"name":"report.txt","size":"5"}`, j.api.token); status != http.StatusOK {
		t.Fatalf("finalize: %d %v", status, out)
	}
	_, out = j.call("ArtifactService/GetSignedArtifactURL", `{"name":"report.txt"}`, j.api.token)
	_, body := j.do("GET", out["signed_url"].(string), nil)
	z, err := zip.NewReader(strings.NewReader(body), int64(len(body)))
	if err != nil || len(z.File) != 1 || z.File[0].Name != "report.txt" {
		t.Errorf("downloaded %d bytes: %v", len(body), err)
	}
}
