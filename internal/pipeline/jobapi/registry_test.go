package jobapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"weir/internal/pipeline/runner"
	"weir/internal/pipeline/runner/runnertest"
)

func TestJobReachesTheRegistryInItsOwnNameOnly(t *testing.T) {
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		seen = append(seen, r.Method+" "+r.URL.Path+" "+user+":"+password)
		w.Header().Set("Location", "/v2/x/blobs/uploads/1")
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	a, err := New(&runnertest.Host{}, "run_1", "job_1", t.TempDir()+"/api")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(a.WithRegistry(runner.Registry{URL: server.URL, Token: "secret"}))
	defer srv.Close()
	req, _ := http.NewRequest("POST", srv.URL+"/v2/x/blobs/uploads/", nil)
	req.SetBasicAuth("admin", "somebody else's")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if len(seen) != 1 || seen[0] != "POST /v2/x/blobs/uploads/ job:secret" || res.Header.Get("Location") != "/v2/x/blobs/uploads/1" {
		t.Errorf("the registry saw %v; answered %v", seen, res.Header)
	}
	if env := a.Env(srv.URL); env["WEIR_REGISTRY"] != srv.Listener.Addr().String() {
		t.Errorf("WEIR_REGISTRY = %q", env["WEIR_REGISTRY"])
	}
	server.Close()
	res, err = http.Get(srv.URL + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != http.StatusBadGateway || len(b) == 0 {
		t.Errorf("without a server: %d %s", res.StatusCode, b)
	}
}

func TestJobWithoutARegistryHasNone(t *testing.T) {
	a, err := New(&runnertest.Host{}, "run_1", "job_1", t.TempDir()+"/api")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(a.WithRegistry(runner.Registry{}))
	defer srv.Close()
	res, err := http.Get(srv.URL + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if _, ok := a.Env(srv.URL)["WEIR_REGISTRY"]; ok || res.StatusCode != http.StatusNotFound {
		t.Errorf("there is a registry: %v", res.Status)
	}
}
