package jobapi

import (
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"

	"weir/internal/pipeline/runner"
)

// registry passes requests of a job on to Weir's registry, in the job's name: no step ever holds the token. What the job may pull and
// push, the registry decides.
func registry(r runner.Registry) http.Handler {
	to, err := url.Parse(r.URL)
	if err != nil || to.Host == "" || r.Token == "" {
		return nil
	}
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(to)
			p.Out.Host = to.Host
			p.Out.Header.Del("Cookie")
			p.Out.SetBasicAuth("job", r.Token)
		},
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, q *http.Request, err error) {
			slog.WarnContext(q.Context(), "registry of a job", "path", q.URL.Path, "error", err)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte(`{"errors":[{"code":"UNKNOWN","message":"the server's registry cannot be reached from where this job runs; try again"}]}`))
		},
	}
}
