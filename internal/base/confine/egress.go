package confine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// egress is the way out of a sandbox: an HTTP proxy that listens inside and dials outside. Every
// destination is resolved here and the address that was judged is the one that is dialled, so that no
// name can turn into this machine between the two.
//
// Behind another proxy (HTTPS_PROXY of this process) the name is handed on, because such proxies decide by
// name; it was still refused here if it resolved to this machine.
type egress struct {
	server  *http.Server
	address string
	allow   func(hostport string) error
	wg      sync.WaitGroup
}

func (s *Sandbox) startEgress() error {
	l, err := s.Listen(0)
	if err != nil {
		return fmt.Errorf("start the way out: %w", err)
	}
	e := &egress{address: l.Addr().String(), allow: s.spec.OnEgress}
	direct := &http.Transport{DialContext: e.dial, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second}
	chained := &http.Transport{Proxy: upstream, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.Header.Del("Proxy-Authorization") },
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if via, _ := upstream(r); via != nil {
				return chained.RoundTrip(r)
			}
			return direct.RoundTrip(r)
		}),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { refuse(w, err) },
		ErrorLog:     slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	e.server = &http.Server{
		ReadHeaderTimeout: 30 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s.spec.Serve != nil && r.Method != http.MethodConnect && r.URL.Host == "" {
				s.spec.Serve.ServeHTTP(w, r)
				return
			}
			if s.spec.Network != Egress || s.spec.Unconfined {
				http.Error(w, "this job has no network", http.StatusForbidden)
				return
			}
			if r.Method == http.MethodConnect {
				e.connect(w, r)
				return
			}
			if r.URL.Scheme != "http" || r.URL.Host == "" {
				http.Error(w, "this is the way out of a sandbox: send absolute http:// addresses or CONNECT", http.StatusBadRequest)
				return
			}
			if err := e.judge(r.Context(), hostport(r.URL)); err != nil {
				refuse(w, err)
				return
			}
			forward.ServeHTTP(w, r)
		}),
	}
	e.wg.Go(func() { e.server.Serve(l) })
	s.out = e
	return nil
}

func (e *egress) close() {
	e.server.Close()
	e.wg.Wait()
}

func (e *egress) env() []string {
	at := "http://" + e.address
	return []string{
		"HTTP_PROXY=" + at, "http_proxy=" + at, "HTTPS_PROXY=" + at, "https_proxy=" + at,
		"NO_PROXY=127.0.0.1,localhost,::1", "no_proxy=127.0.0.1,localhost,::1",
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func hostport(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), "80")
}

// upstream is the proxy that this process itself is told to use.
func upstream(r *http.Request) (*url.URL, error) { return http.ProxyFromEnvironment(r) }

func refuse(w http.ResponseWriter, err error) {
	code := http.StatusBadGateway
	if _, ok := errors.AsType[*Refused](err); ok {
		code = http.StatusForbidden
	}
	http.Error(w, err.Error(), code)
}

// Refused says that a destination is not to be reached from a sandbox.
type Refused struct{ To, Why string }

func (r *Refused) Error() string {
	return fmt.Sprintf("a sandboxed program may not reach %s: %s", r.To, r.Why)
}

func (e *egress) connect(w http.ResponseWriter, r *http.Request) {
	to := r.Host
	if _, _, err := net.SplitHostPort(to); err != nil {
		http.Error(w, "CONNECT needs host:port", http.StatusBadRequest)
		return
	}
	if err := e.judge(r.Context(), to); err != nil {
		refuse(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 30*time.Second)
	out, err := e.tunnel(ctx, to)
	cancel()
	if err != nil {
		refuse(w, err)
		return
	}
	defer out.Close()
	in, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer in.Close()
	if _, err := io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(out, buffered)
		if c, ok := out.(interface{ CloseWrite() error }); ok {
			c.CloseWrite()
		} else {
			out.Close()
		}
	}()
	io.Copy(in, out)
	in.Close()
	<-done
}

// tunnel is a connection to a destination that was judged, directly or through the upstream proxy.
func (e *egress) tunnel(ctx context.Context, to string) (net.Conn, error) {
	via, err := upstream(&http.Request{URL: &url.URL{Scheme: "https", Host: to}})
	if err != nil || via == nil {
		return e.dial(ctx, "tcp", to)
	}
	at := via.Host
	if via.Port() == "" {
		at = net.JoinHostPort(via.Hostname(), "80")
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: to}, Host: to, Header: http.Header{}}
	if u := via.User; u != nil {
		pw, _ := u.Password()
		r := &http.Request{Header: http.Header{}}
		r.SetBasicAuth(u.Username(), pw)
		req.Header.Set("Proxy-Authorization", r.Header.Get("Authorization"))
	}
	if d, ok := ctx.Deadline(); ok {
		c.SetDeadline(d)
	}
	if err := req.Write(c); err != nil {
		c.Close()
		return nil, err
	}
	// The answer's head is read byte by byte: what follows it belongs to the tunnel.
	head, err := readHead(c)
	if err != nil {
		c.Close()
		return nil, err
	}
	if status, _, _ := strings.Cut(head, "\r\n"); !strings.Contains(status+" ", " 200 ") {
		c.Close()
		return nil, fmt.Errorf("upstream proxy %s answered %q for %s", via.Host, status, to)
	}
	c.SetDeadline(time.Time{})
	return c, nil
}

func readHead(r io.Reader) (string, error) {
	var head []byte
	one := make([]byte, 1)
	for len(head) < 16<<10 {
		if _, err := io.ReadFull(r, one); err != nil {
			return "", err
		}
		head = append(head, one[0])
		if strings.HasSuffix(string(head), "\r\n\r\n") {
			return string(head), nil
		}
	}
	return "", errors.New("the upstream proxy's answer is too long")
}

// judge refuses a destination by its name or by any address it resolves to, and tells the observer of the rest.
func (e *egress) judge(ctx context.Context, to string) error {
	host, _, err := net.SplitHostPort(to)
	if err != nil {
		return &Refused{to, "that is not host:port"}
	}
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	self, _ := os.Hostname()
	if name == "localhost" || strings.HasSuffix(name, ".localhost") || (self != "" && name == strings.ToLower(self)) {
		return &Refused{to, "it is this machine"}
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if why := forbidden(addr, ownAddresses()); why != "" {
			return &Refused{to, why}
		}
	} else if addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); err == nil {
		own := ownAddresses()
		for _, a := range addrs {
			if why := forbidden(a, own); why != "" {
				return &Refused{to, "it resolves to " + a.Unmap().String() + ", and " + why}
			}
		}
	}
	if e.allow != nil {
		if err := e.allow(to); err != nil {
			return &Refused{to, err.Error()}
		}
	}
	return nil
}

// dial resolves, judges again and connects to the judged address.
func (e *egress) dial(ctx context.Context, network, to string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(to)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{a}
	} else if addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, err
	}
	own := ownAddresses()
	var last error = &net.DNSError{Err: "no addresses", Name: host}
	for _, a := range addrs {
		if why := forbidden(a, own); why != "" {
			return nil, &Refused{to, why}
		}
		c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(a.Unmap().String(), port))
		if err == nil {
			return c, nil
		}
		last = err
	}
	return nil, last
}

func ownAddresses() map[netip.Addr]bool {
	own := map[netip.Addr]bool{}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				own[ip.Unmap()] = true
			}
		}
	}
	return own
}

var (
	thisNet = netip.MustParsePrefix("0.0.0.0/8")
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	sixto4  = netip.MustParsePrefix("2002::/16")
	compat  = netip.MustParsePrefix("::/96")
)

// forbidden says why an address is out of bounds, or nothing.
func forbidden(a netip.Addr, own map[netip.Addr]bool) string {
	a = a.WithZone("").Unmap()
	if a.Is6() { // addresses that carry an IPv4 address in them mean that one
		b := a.As16()
		switch {
		case nat64.Contains(a):
			return forbidden(netip.AddrFrom4([4]byte(b[12:16])), own)
		case sixto4.Contains(a):
			return forbidden(netip.AddrFrom4([4]byte(b[2:6])), own)
		case compat.Contains(a) && !a.IsLoopback() && !a.IsUnspecified():
			return forbidden(netip.AddrFrom4([4]byte(b[12:16])), own)
		}
	}
	switch {
	case a.IsUnspecified(), thisNet.Contains(a), a.IsLoopback():
		return "it is this machine's loopback"
	case a.IsLinkLocalUnicast(), a.IsLinkLocalMulticast(), a.IsInterfaceLocalMulticast():
		return "link-local addresses belong to the machine and its cloud"
	case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "it is not one machine's address"
	case own[a]:
		return "it is this machine's own address"
	}
	return ""
}
