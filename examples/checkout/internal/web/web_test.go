package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAnswers(t *testing.T) {
	site := New("1.2.3", "hello")
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/", "", 200, "hello 1.2.3"},
		{"GET", "/healthz", "", 200, "ok"},
		{"GET", "/readyz", "", 200, "ready"},
		{"GET", "/price?sku=TEA", "", 200, `"cents":450`},
		{"GET", "/price?sku=GOLD", "", 404, "no"},
		{"POST", "/checkout", `{"lines":[{"sku":"TEA","quantity":2}]}`, 200, `"total_cents":900`},
		{"POST", "/checkout", `{"lines":[]}`, 422, "empty"},
		{"POST", "/checkout", `tea`, 400, "not a cart"},
		{"GET", "/checkout", "", 405, ""},
	} {
		w := httptest.NewRecorder()
		site.ServeHTTP(w, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s = %d %q; want %d %q", c.method, c.path, w.Code, w.Body, c.status, c.want)
		}
	}
}

func TestADrainingSiteIsAliveAndNotReady(t *testing.T) {
	site := New("1.2.3", "hello")
	site.Drain()
	for path, want := range map[string]int{"/readyz": http.StatusServiceUnavailable, "/healthz": http.StatusOK, "/price?sku=TEA": http.StatusOK} {
		w := httptest.NewRecorder()
		site.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want {
			t.Errorf("GET %s = %d; want %d", path, w.Code, want)
		}
	}
}
