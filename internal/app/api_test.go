package app

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

func TestMain(m *testing.M) {
	Reenter()
	os.Exit(m.Run())
}

// openSystem opens a system in a folder of its own, without running its parts.
func openSystem(t *testing.T, change ...func(*Config)) *System {
	t.Helper()
	c, err := Configure("", func(c *Config) {
		c.Data, c.Listen, c.Host.Start = t.TempDir(), "127.0.0.1:7400", false
		for _, f := range change {
			f(c)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func handlerOf(t *testing.T, s *System) *httptest.Server {
	t.Helper()
	ready := &atomic.Bool{}
	ready.Store(true)
	srv := httptest.NewServer(s.handler(ready))
	t.Cleanup(srv.Close)
	return srv
}

// account makes a person with roles and returns a token.
func account(t *testing.T, s *System, name string, roles ...string) string {
	t.Helper()
	ctx := identity.With(t.Context(), identity.System("test"))
	if _, err := s.accounts.Create(ctx, identity.Account{Name: name, Roles: roles}); err != nil {
		t.Fatal(err)
	}
	token, err := s.accounts.Token(ctx, name, "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func send(t *testing.T, method, url, token, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

// bodies are the least that each operation takes.
var bodies = map[string]string{
	"submit-image": `{"image":"x/y@sha256:0","commit":"x","service":"x"}`, "create-agent-token": `{"name":"x"}`, "create-user": `{"name":"x"}`, "set-roles": `{"roles":[]}`, "create-token": `{"user":"admin","hours":1}`, "create-repository": `{"name":"x"}`,
	"open-change": `{"branch":"x"}`, "review-change": `{"verdict":"approve"}`, "cancel-run": `{}`, "lint": `{"files":{}}`,
	"approve-release": `{"environment":"production","verdict":"approve"}`, "pause-rollout": `{}`, "resume-rollout": `{}`, "promote-rollout": `{"reason":"x"}`, "rollback": `{}`,
	"rotate-keys": `{"reason":"x"}`, "rotate-ledger-key": `{"reason":"x"}`, "revoke-keys": `{"since":"2026-01-02T03:04:05Z","reason":"x"}`,
	"start-run": `{"workflow":"ci.yml"}`, "approve-run": `{"environment":"x","verdict":"approve"}`, "add-mirror": `{"from":"/x"}`, "hold-registry": `{"repository":"x","reference":"x","reason":"x"}`, "release-registry-hold": `{"repository":"x","reference":"x","reason":"x"}`,
	"set-registry-quota": `{"repository":"x","bytes":1}`, "remove-registry-garbage": `{}`, "set-secret": `{"value":"x"}`, "set-variable": `{"value":"x"}`,
}

// public are the operations that need no account: they tell what the server is
// and how to verify it, or are how one signs in.
var public = map[string]bool{"instance": true, "trusted-root": true, "trusted-root-updates": true, "ledger-head": true, "sign-in": true, "list-repositories": true, "list-services": true}

func TestEveryOperationRefusesWhoMayNotAndSaysWhy(t *testing.T) {
	s := openSystem(t)
	srv := handlerOf(t, s)
	if _, err := s.accounts.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.catalog.CreateRepository(identity.With(t.Context(), identity.System("test")), "shop"); err != nil {
		t.Fatal(err)
	}
	status, raw, _ := send(t, "GET", srv.URL+"/api/v1/openapi.json", "", "")
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Summary     string `json:"summary"`
		} `json:"paths"`
	}
	if err := json.Unmarshal([]byte(raw), &doc); err != nil || status != http.StatusOK || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Fatalf("the OpenAPI document: status %d, version %q, %v", status, doc.OpenAPI, err)
	}
	roleless := account(t, s, "roleless")
	operations := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			operations++
			if op.Summary == "" {
				t.Errorf("%s has no summary", op.OperationID)
			}
			if public[op.OperationID] {
				continue
			}
			url := srv.URL + strings.NewReplacer("{name}", "shop", "{number}", "1", "{generation}", "1", "{id}", "x", "{run}", "x", "{service}", "x", "{environment}", "x", "{setting}", "X", "{owner}", "x").Replace(path)
			if op.OperationID == "list-decisions" {
				url += "?subject=x"
			}
			method = strings.ToUpper(method)
			status, body, header := send(t, method, url, "", bodies[op.OperationID])
			if status != http.StatusUnauthorized && status != http.StatusNotFound || !strings.Contains(header.Get("Content-Type"), "problem+json") {
				t.Errorf("%s without a token: %d %s", op.OperationID, status, body)
			}
			if strings.Contains(body, "internal error") {
				t.Errorf("%s without a token: %s", op.OperationID, body)
			}
			if method == "GET" || op.OperationID == "lint" {
				continue // Whoever is signed in reads.
			}
			status, body, _ = send(t, method, url, roleless, bodies[op.OperationID])
			if status != http.StatusForbidden && status != http.StatusNotFound || strings.Contains(body, "internal error") {
				t.Errorf("%s by somebody without roles: %d %s", op.OperationID, status, body)
			}
		}
	}
	if operations < 35 {
		t.Errorf("%d operations are documented; some are missing", operations)
	}
	for _, path := range []string{"/ledger/entries", "/users"} {
		if status, body, _ := send(t, "GET", srv.URL+"/api/v1"+path, roleless, ""); status != http.StatusForbidden {
			t.Errorf("%s by somebody without roles: %d %s", path, status, body)
		}
	}
}

func TestProblemsHaveASentenceAndARequestID(t *testing.T) {
	s := openSystem(t)
	srv := handlerOf(t, s)
	token := account(t, s, "dana", identity.Maintainer)
	for _, c := range []struct{ method, path, token, body, want string }{
		{"GET", "/runs/nope", token, "", "There is no run nope."},
		{"GET", "/nothing/here", token, "", "There is nothing at /api/v1/nothing/here."},
		{"POST", "/repositories", token, `{"name":"No Good"}`, "is not a repository name"},
		{"GET", "/me", "weir_wrong", "", "That is not a Weir token"},
		{"POST", "/services/shop/environments/production/rollback", token, `{}`, "There is no service shop."},
	} {
		status, body, header := send(t, c.method, srv.URL+"/api/v1"+c.path, c.token, c.body)
		var p struct {
			Status int    `json:"status"`
			Detail string `json:"detail"`
		}
		if err := json.Unmarshal([]byte(body), &p); err != nil || p.Status != status || status < 400 || !strings.Contains(p.Detail, c.want) {
			t.Errorf("%s %s: %d %s; want %q", c.method, c.path, status, body, c.want)
		}
		if !strings.HasPrefix(header.Get("X-Request-Id"), "request_") {
			t.Errorf("%s %s: no request id", c.method, c.path)
		}
	}
	if status, body, _ := send(t, "GET", srv.URL+"/api/v1/me", token, "", "Weir-Api-Version", "v9"); status != http.StatusUnprocessableEntity || !strings.Contains(body, "version v1 of the API, not v9") {
		t.Errorf("another version of the API: %d %s", status, body)
	}
	if status, _, _ := send(t, "POST", srv.URL+"/api/v1/repositories", "", `{"name":"shop"}`, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"); status != http.StatusForbidden {
		t.Errorf("a request made by another site: %d; want 403", status)
	}
}

func TestConfigurationIsReadStrictly(t *testing.T) {
	dir := t.TempDir()
	for src, want := range map[string]string{
		"lisen: 127.0.0.1:1\n":        `unknown key "lisen"; did you mean "listen"?`,
		"listen: nowhere\n":           "listen must be HOST:PORT",
		"url: ftp://x\n":              "url must be an http or https address",
		"limits: {push: lots}\n":      "is not an amount of memory",
		"log: {level: loud}\n":        "level must be one of debug, info, warn, error",
		"runner: {slots: 100000}\n":   "runner.slots must be from 0 to 1024",
		"runner: {unconfined: yes}\n": "unconfined must be true or false",
	} {
		path := filepath.Join(dir, "weir-server.yaml")
		if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Configure(path, nil); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Sentence(err), want) {
			t.Errorf("Configure(%q) = %v; want %q", src, err, want)
		}
	}
	if _, err := Configure(filepath.Join(dir, "absent.yaml"), nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("Configure() of a file that is not there = %v", err)
	}
}

func TestDatabaseURLsThatCannotBeUsedAreExplained(t *testing.T) {
	for raw, want := range map[string]string{
		"mysql://localhost/weir":                                  `has the scheme "mysql", which is not known`,
		"postgres://weir:secret@127.0.0.1:1/weir?sslmode=disable": "does not answer as that user",
		"sqlite:///dev/null/weir.db":                              "cannot be made",
		"::not a url::":                                           "is not a URL",
	} {
		c, err := Configure("", func(c *Config) { c.Data, c.Database, c.Host.Start = t.TempDir(), raw, false })
		if err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), c)
		if err == nil {
			s.Close()
		}
		if fault.KindOf(err) == "" || !strings.Contains(fault.Sentence(err), want) || strings.Contains(fault.Sentence(err), "secret") {
			t.Errorf("Open(%s) = %v; want %q and no password", raw, err, want)
		}
	}
}

func TestASecondServerAndAnOlderCopyAreRefused(t *testing.T) {
	s := openSystem(t)
	c := s.Config
	if _, err := Open(t.Context(), c); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Sentence(err), "Another Weir server is using the data folder") {
		t.Errorf("a second server: %v", err)
	}
	if _, err := Listen("127.0.0.1:not-a-port"); !fault.Is(err, fault.Invalid) {
		t.Errorf("Listen() = %v", err)
	}
}

func TestNamesInSignaturesAreFixedAtFirstStart(t *testing.T) {
	data := t.TempDir()
	first := func(origin string) Instance {
		c, err := Configure("", func(c *Config) {
			c.Data, c.Identity.Origin, c.Listen, c.Host.Start = data, origin, "127.0.0.1:7401", false
		})
		if err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		return s.Instance
	}
	a, b := first("log.one.test"), first("log.two.test")
	if a != b || b.Origin != "log.one.test" {
		t.Errorf("first %+v, then %+v; want the same", a, b)
	}
	for _, name := range []string{"keys/log.key", "instance.json"} {
		st, err := os.Stat(filepath.Join(data, name))
		if err != nil || st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v; want it readable by its owner only", name, st.Mode(), err)
		}
	}
}
