package jobapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"weir/internal/pipeline/runner"
	"weir/internal/pipeline/runner/runnertest"
)

// behind starts a server that says what it was asked, and the API of a job in front of it.
func behind(t *testing.T, signed *atomic.Bool) (local string, a *API, server string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		if !ok {
			user, password, _ = strings.Cut(r.Header.Get("Authorization"), " ")
		}
		_, _ = io.WriteString(w, r.Method+" "+r.URL.RequestURI()+" as "+user+" "+password+" "+r.Header.Get("Cookie"))
	}))
	t.Cleanup(srv.Close)
	a, err := New(&runnertest.Host{}, "run_1", "job_1", t.TempDir()+"/api")
	if err != nil {
		t.Fatal(err)
	}
	a.WithRegistry(runner.Registry{URL: srv.URL, Token: "runners"}).WithServer(Server{URL: srv.URL, Repository: "shop", Token: "own", Signed: signed})
	here := httptest.NewServer(a)
	t.Cleanup(here.Close)
	return here.URL, a, srv.URL
}

func ask(t *testing.T, url, authorization string) (int, string) {
	t.Helper()
	req, _ := http.NewRequest("GET", url, nil)
	if user, password, ok := strings.Cut(authorization, ":"); ok {
		req.SetBasicAuth(user, password)
	} else if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	req.Header.Set("Cookie", "session=stolen")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

func TestJobReachesTheServerWithItsOwnTokenOnly(t *testing.T) {
	local, _, _ := behind(t, new(atomic.Bool))
	for _, c := range []struct {
		path, as string
		status   int
		want     string
	}{
		{"/git/shop.git/info/refs?service=git-upload-pack", "x-access-token:own", 200, "GET /git/shop.git/info/refs?service=git-upload-pack as x-access-token own "},
		{"/shop/info/refs?service=git-upload-pack", "anything:own", 200, "GET /git/shop.git/info/refs?service=git-upload-pack as x-access-token own "},
		{"/git/shop.git/info/refs", "", 401, "Only the token of this job opens this: user x-access-token"},
		{"/git/shop.git/info/refs", "x-access-token:somebody else's", 401, "Only the token of this job opens this"},
		{"/git/other.git/info/refs", "x-access-token:own", 403, "The token of a job opens the job's own repository alone, shop. "},
		{"/api/v1/runs?limit=1", "Bearer own", 200, "GET /api/v1/runs?limit=1 as Bearer own "},
		{"/api/v1/runs", "token own", 200, "GET /api/v1/runs as Bearer own "},
		{"/api/v1/runs", "", 401, "Send github.token: Authorization: Bearer TOKEN."},
		{"/api/v1/runs", "Bearer weir_stolen", 401, "Only the token of this job opens this."},
		{"/metrics", "Bearer own", 404, "nothing at /metrics"},
		{"/agent/v1/poll", "Bearer own", 404, "nothing at"},
		{"/api/v1/../../agent/x", "Bearer own", 404, "nothing at"},
		{"/v2/x/tags/list", "", 200, "GET /v2/x/tags/list as job own "},
	} {
		if status, body := ask(t, local+c.path, c.as); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s as %q: %d %q; want %d %q", c.path, c.as, status, body, c.status, c.want)
		} else if strings.Contains(body, "stolen") {
			t.Errorf("%s: a cookie went out: %s", c.path, body)
		}
	}
}

func TestGitNeedsNoTokenAfterACheckoutThatLeavesItsCredentials(t *testing.T) {
	var signed atomic.Bool
	local, _, _ := behind(t, &signed)
	if status, _ := ask(t, local+"/git/shop.git/info/refs", ""); status != http.StatusUnauthorized {
		t.Errorf("before: %d", status)
	}
	signed.Store(true)
	if status, body := ask(t, local+"/git/shop.git/info/refs", ""); status != 200 || !strings.Contains(body, "as x-access-token own") {
		t.Errorf("after: %d %s", status, body)
	}
	if status, _ := ask(t, local+"/api/v1/runs", ""); status != http.StatusUnauthorized {
		t.Errorf("the API without a token: %d", status)
	}
}

func TestGitFindsTheServerAtItsPublicAddress(t *testing.T) {
	_, a, server := behind(t, nil)
	env := a.Git("http://127.0.0.1:1", false)
	if env["GIT_CONFIG_COUNT"] != "1" || env["GIT_CONFIG_KEY_0"] != "url.http://127.0.0.1:1/.insteadOf" || env["GIT_CONFIG_VALUE_0"] != server+"/" {
		t.Errorf("Git() = %v", env)
	}
	env = a.Git("http://127.0.0.1:1", true)
	var all []string
	for _, v := range env {
		all = append(all, v)
	}
	host := strings.TrimPrefix(server, "http://")
	for _, want := range []string{"http://x-access-token:own@" + host + "/", "http://own@" + host + "/", "url.http://x-access-token:own@127.0.0.1:1/.insteadOf"} {
		if !slices.Contains(all, want) {
			t.Errorf("Git() = %v; want %s", env, want)
		}
	}
	b, err := New(&runnertest.Host{}, "run_1", "job_1", t.TempDir()+"/api")
	if err != nil {
		t.Fatal(err)
	}
	if env := b.WithServer(Server{}).Git("http://127.0.0.1:1", true); len(env) != 0 {
		t.Errorf("without a server: %v", env)
	}
}
