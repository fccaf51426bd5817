// Package web answers requests.
package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"

	"weir/examples/checkout/internal/cart"
	"weir/examples/checkout/internal/pricing"
)

const maxBody = 64 << 10

// Site is the service's HTTP face.
type Site struct {
	version  string
	mux      *http.ServeMux
	draining atomic.Bool
}

// New returns the handler of a version.
func New(version, greeting string) *Site {
	s := &Site{version: version, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%s %s\n", greeting, version)
	})
	s.mux.HandleFunc("GET /price", s.price)
	s.mux.HandleFunc("POST /checkout", s.checkout)
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	s.mux.HandleFunc("GET /readyz", s.ready)
	return s
}

// Drain makes the site say that it is not ready for more.
func (s *Site) Drain() { s.draining.Store(true) }

func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Checkout-Version", s.version)
	s.mux.ServeHTTP(w, r)
}

func (s *Site) ready(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() {
		http.Error(w, "draining", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (s *Site) price(w http.ResponseWriter, r *http.Request) {
	list, err := pricing.Read()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	sku := r.URL.Query().Get("sku")
	cents, ok := list[sku]
	if !ok {
		http.Error(w, fmt.Sprintf("there is no %q", sku), http.StatusNotFound)
		return
	}
	answer(w, map[string]any{"sku": sku, "cents": cents})
}

func (s *Site) checkout(w http.ResponseWriter, r *http.Request) {
	list, err := pricing.Read()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var c cart.Cart
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&c); err != nil {
		http.Error(w, "the body is not a cart: "+err.Error(), http.StatusBadRequest)
		return
	}
	total, err := c.Total(list)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	answer(w, map[string]any{"total_cents": total})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// An error here means that the customer has gone.
	_ = json.NewEncoder(w).Encode(v)
}
