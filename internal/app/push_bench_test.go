package app

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"weir/internal/guard/identity"
)

// BenchmarkPushSmall pushes blobs of 4 KiB as stock clients do, eight at a time.
func BenchmarkPushSmall(b *testing.B) {
	c, err := Configure("", func(c *Config) { c.Data, c.Listen, c.Host.Start = b.TempDir(), "127.0.0.1:7400", false })
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	server := httptest.NewServer(s.registryHandler())
	defer server.Close()
	srv := server.URL
	ctx := identity.With(b.Context(), identity.System("test"))
	if _, err := s.accounts.Create(ctx, identity.Account{Name: "mia", Roles: []string{identity.Maintainer}}); err != nil {
		b.Fatal(err)
	}
	token, err := s.accounts.Token(ctx, "mia", "test", 3600e9)
	if err != nil {
		b.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	call := func(method, url string, body []byte, want int) string {
		req, _ := http.NewRequest(method, srv+url, bytes.NewReader(body))
		req.SetBasicAuth("x", token)
		res, err := client.Do(req)
		if err != nil {
			b.Error(err)
			return ""
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != want {
			b.Errorf("%s %s: %s", method, url, res.Status)
		}
		return res.Header.Get("Location")
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < b.N; i += 8 {
				blob := make([]byte, 4096)
				_, _ = rand.Read(blob)
				sum := sha256.Sum256(blob)
				at := call("POST", "/v2/bench/blobs/uploads/", nil, 202)
				at = call("PATCH", at, blob, 202)
				call("PUT", at+"?digest=sha256:"+hex.EncodeToString(sum[:]), nil, 201)
			}
		})
	}
	wg.Wait()
}
