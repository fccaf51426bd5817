package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// TestAnAgentPollsWhereStreamsAreHeldBack puts a proxy between agent and server that passes an answer on only when it is complete, as
// some do: with its head at once, or without.
func TestAnAgentPollsWhereStreamsAreHeldBack(t *testing.T) {
	for _, headFirst := range []bool{true, false} {
		name := "nothing before the end"
		if headFirst {
			name = "the head at once"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := agents(t, "      - uses: actions/checkout@v4\n      - run: cat file.txt; echo over polls\n")
			to, err := url.Parse(w.url)
			w.must(err)
			var streams, polls atomic.Int64
			through := httputil.NewSingleHostReverseProxy(to)
			proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				switch {
				case strings.HasSuffix(r.URL.Path, "/poll"):
					polls.Add(1)
				case strings.HasSuffix(r.URL.Path, "/stream"):
					streams.Add(1)
					body, _ := io.ReadAll(r.Body)
					if headFirst {
						rw.WriteHeader(http.StatusOK)
						_ = http.NewResponseController(rw).Flush()
					}
					up, err := http.NewRequestWithContext(r.Context(), r.Method, w.url+r.URL.Path, strings.NewReader(string(body)))
					if err != nil {
						return
					}
					up.Header = r.Header.Clone()
					res, err := http.DefaultClient.Do(up)
					if err != nil {
						return
					}
					defer res.Body.Close()
					all, _ := io.ReadAll(res.Body) // which is never all
					_, _ = rw.Write(all)
					return
				}
				through.ServeHTTP(rw, r)
			}))
			t.Cleanup(proxy.Close)
			real := w.url
			w.url = proxy.URL
			w.agent("far", "big")
			w.url = real
			w.connected("far", true)
			run, job := w.far(w.push(), "success")
			w.logHas(run.ID, job.ID, "over polls")
			if streams.Load() == 0 || polls.Load() == 0 {
				t.Errorf("%d streams and %d polls; want the agent to have given up on streams", streams.Load(), polls.Load())
			}
		})
	}
}
