package app

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// load is an open-loop client at a fixed rate: requests start on time, however
// long earlier ones take, half of them on new connections, so that what a slow
// or broken server does to its users is counted in full.
type load struct {
	url  string
	rate int // requests a second

	mu       sync.Mutex
	versions map[string]*counts // by the version that answered; "" is no answer
	first    map[string]time.Time
	last     map[string]time.Time
	wg       sync.WaitGroup
	sent     atomic.Int64
}

type counts struct {
	Requests int64 `json:"requests"`
	Failed   int64 `json:"failed"` // no answer, or 500 and above
}

// versionHeader is how the example says which release answered.
const versionHeader = "Checkout-Version"

func newLoad(url string, rate int) *load {
	return &load{url: url, rate: rate, versions: map[string]*counts{}, first: map[string]time.Time{}, last: map[string]time.Time{}}
}

// run sends until ctx ends, and waits for the answers.
func (l *load) run(ctx context.Context) {
	keep := &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute}}
	fresh := &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	started := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		due := started.Add(time.Duration(n) * time.Second / time.Duration(l.rate))
		if wait := time.Until(due); wait > 0 {
			select {
			case <-ctx.Done():
				continue
			case <-time.After(wait):
			}
		}
		client := keep
		if n%2 == 1 {
			client = fresh
		}
		l.wg.Go(func() { l.one(context.WithoutCancel(ctx), client, n) })
	}
	l.wg.Wait()
	keep.CloseIdleConnections()
}

const cartBody = `{"lines":[{"sku":"TEA","quantity":2},{"sku":"HONEY","quantity":1}]}`

func (l *load) one(ctx context.Context, client *http.Client, n int) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url+"/price?sku=TEA", nil)
	if n%4 == 0 {
		req, err = http.NewRequestWithContext(ctx, http.MethodPost, l.url+"/checkout", strings.NewReader(cartBody))
	}
	if err != nil {
		return
	}
	l.sent.Add(1)
	version, failed := "", true
	if res, err := client.Do(req); err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		version, failed = res.Header.Get(versionHeader), err != nil || res.StatusCode >= 500
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.versions[version]
	if c == nil {
		c = &counts{}
		l.versions[version], l.first[version] = c, time.Now()
	}
	c.Requests++
	l.last[version] = time.Now()
	if failed {
		c.Failed++
	}
}

// seen returns what a version answered, and when it first did.
func (l *load) seen(version string) (counts, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.versions[version]; c != nil {
		return *c, l.first[version]
	}
	return counts{}, time.Time{}
}

// lastOf is when a version answered last.
func (l *load) lastOf(version string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last[version]
}

// failedBut counts failures of everything but one version.
func (l *load) failedBut(version string) (failed, requests int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for v, c := range l.versions {
		requests += c.Requests
		if v != version {
			failed += c.Failed
		}
	}
	return failed, requests
}
