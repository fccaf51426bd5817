package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"sync/atomic"
	"time"

	"weir/internal/deploy"
)

// counters are updated by requests, without a lock.
type counters struct {
	requests, errors atomic.Int64
	buckets          []atomic.Int64
}

func newCounters() *counters {
	return &counters{buckets: make([]atomic.Int64, len(deploy.LatencyBounds)+1)}
}

func (c *counters) add(took time.Duration, failed bool) {
	i := 0
	for i < len(deploy.LatencyBounds) && took > time.Duration(deploy.LatencyBounds[i])*time.Millisecond {
		i++
	}
	c.buckets[i].Add(1)
	if failed {
		c.errors.Add(1)
	}
	c.requests.Add(1)
}

func (c *counters) into(d *deploy.Counters) {
	// Requests first: a reader never sees more errors than requests by a torn look the other way round.
	d.Errors = c.errors.Load()
	d.Requests = c.requests.Load()
	d.Buckets = make([]int64, len(c.buckets))
	for i := range c.buckets {
		d.Buckets[i] = c.buckets[i].Load()
	}
}

// routing is who gets requests. It is replaced as a whole.
type routing struct {
	shares []share
	total  int
	stable *group
}

type share struct {
	upTo  int // of a number from 0 to total-1, those below it
	group *group
}

func newRouting(groups []*group) *routing {
	r := &routing{}
	for _, g := range groups {
		if g.slot.Role == deploy.Stable {
			r.stable = g
		}
		if g.slot.Weight > 0 {
			r.total += g.slot.Weight
			r.shares = append(r.shares, share{r.total, g})
		}
	}
	return r
}

func (r *routing) choose() *group {
	if r.total == 0 {
		return r.stable
	}
	n := rand.IntN(r.total)
	for _, s := range r.shares {
		if n < s.upTo {
			return s.group
		}
	}
	return r.stable
}

func offset(n int) int {
	if n == 0 {
		return 0
	}
	return rand.IntN(n)
}

// exchange is one request on its way through.
type exchange struct {
	process *process
	pool    *pool // of process
	stable  *group
	began   time.Time
	took    time.Duration // to the first byte of the answer
	failed  bool
}

type exchangeKey struct{}

// pick takes the place of one request at a process of the pool, and gives up the one it had.
func (x *exchange) pick(p *pool) bool {
	next := p.pick(x.process)
	if next == nil {
		return false
	}
	if x.process != nil {
		x.process.inflight.Add(-1)
	}
	x.process, x.pool = next, p
	return true
}

// ServeHTTP sends a request to the process that is its turn, and counts it.
func (e *environment) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{began: time.Now()}
	table := e.routing.Load()
	g := table.choose()
	if g == nil || !x.pick(g.pool) {
		// Traffic may have moved in between; asked once more.
		if now := e.routing.Load(); now != table {
			table, g = now, now.choose()
		}
		if g == nil || !x.pick(g.pool) {
			// The stable release answers, and the one whose turn it was bears the failure.
			x.failed = true
			if table.stable == nil || !x.pick(table.stable.pool) {
				if g != nil {
					g.count.add(0, true)
				}
				w.Header().Set("Retry-After", "1")
				http.Error(w, fmt.Sprintf("No process of %s is ready in %s.", e.service, e.name), http.StatusServiceUnavailable)
				return
			}
		}
	}
	x.stable = table.stable
	defer func() {
		x.process.inflight.Add(-1)
		p := recover()
		if p != nil && r.Context().Err() == nil {
			x.failed = true // the process broke off in the middle of its answer
		}
		// A client that went away before an answer tells nothing about the release.
		if x.took > 0 || x.failed {
			g.count.add(x.took, x.failed)
		}
		if p != nil {
			panic(p)
		}
	}()
	e.host.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
}

// newProxy carries requests for all environments; the exchange says where to.
func newProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "process"
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		Transport: carry{},
		ModifyResponse: func(res *http.Response) error {
			x := res.Request.Context().Value(exchangeKey{}).(*exchange)
			x.took = max(time.Since(x.began), 1)
			x.failed = x.failed || res.StatusCode >= 500
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			x := r.Context().Value(exchangeKey{}).(*exchange)
			if r.Context().Err() == nil {
				x.took, x.failed = max(time.Since(x.began), 1), true
			}
			http.Error(w, "The service broke off the request.", http.StatusBadGateway)
		},
		ErrorLog:   slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		BufferPool: buffers{},
	}
}

// carry sends a request to its process. Only a connection that could not be made is tried elsewhere, since
// then nothing was sent.
type carry struct{}

func (carry) RoundTrip(r *http.Request) (*http.Response, error) {
	x := r.Context().Value(exchangeKey{}).(*exchange)
	if r.Body != nil {
		r.Body = io.NopCloser(r.Body) // survives an attempt in which nothing was read; the server closes it
	}
	// The transport may send a request again by itself when an idle connection breaks; that counts as sent.
	var sent atomic.Bool
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{WroteHeaderField: func(string, []string) { sent.Store(true) }}))
	for attempt := 0; ; attempt++ {
		res, err := x.process.transport.RoundTrip(r)
		if _, unsent := errors.AsType[*dialError](err); !unsent || sent.Load() || r.Context().Err() != nil || attempt == 3 {
			return res, err
		}
		if x.pick(x.pool) {
			continue
		}
		x.failed = true
		if x.stable == nil || x.stable.pool == x.pool || !x.pick(x.stable.pool) {
			return res, err
		}
	}
}

var bufferPool = make(chan []byte, 64)

type buffers struct{}

func (buffers) Get() []byte {
	select {
	case b := <-bufferPool:
		return b
	default:
		return make([]byte, 32<<10)
	}
}

func (buffers) Put(b []byte) {
	select {
	case bufferPool <- b:
	default:
	}
}
