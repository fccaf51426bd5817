package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"weir/internal/base/fault"
)

// Client speaks to a server as one agent.
type Client struct {
	URL      string // of the server
	Token    string
	Instance string
	HTTP     *http.Client // nil: the default one
}

// refusal is the body of an answer that is no success, as package agentd writes it.
type refusal struct {
	Kind     string `json:"kind"`
	Sentence string `json:"sentence"`
}

func (c *Client) http() *http.Client {
	if c.HTTP != nil {
		return c.HTTP
	}
	return http.DefaultClient
}

// call makes one request. A refusal of the server is a fault with its sentence.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	u := strings.TrimSuffix(c.URL, "/") + "/agent/v1/" + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	req.Header.Set("Weir-Instance", c.Instance)
	res, err := c.http().Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode < 300 {
		return res, nil
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	var r refusal
	if json.Unmarshal(b, &r) == nil && r.Kind != "" {
		return nil, fault.New(fault.Kind(r.Kind), "%s", r.Sentence)
	}
	if res.StatusCode == http.StatusBadGateway || res.StatusCode == http.StatusServiceUnavailable || res.StatusCode == http.StatusGatewayTimeout {
		return nil, fault.New(fault.Unavailable, "The server answered %s.", res.Status)
	}
	return nil, fmt.Errorf("%s %s: the server answered %s: %s", method, path, res.Status, bytes.TrimSpace(b))
}

// again reports whether a failed request is worth another try: the server was away, or does not know yet.
func again(err error) bool {
	if fault.KindOf(err) != "" {
		return fault.Is(err, fault.Unavailable)
	}
	var u *url.Error
	return errors.As(err, &u) || errors.Is(err, io.ErrUnexpectedEOF)
}

// patient makes a request, and again while the server is away, until ctx ends. body opens what is sent, each time anew.
func (c *Client) patient(ctx context.Context, method, path string, query url.Values, body func() (io.ReadCloser, error), take func(*http.Response) error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 3*time.Second) {
		err := c.once(ctx, method, path, query, body, take)
		if err == nil || !again(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

func (c *Client) once(ctx context.Context, method, path string, query url.Values, body func() (io.ReadCloser, error), take func(*http.Response) error) error {
	var r io.Reader
	if body != nil {
		rc, err := body()
		if err != nil {
			return err
		}
		defer rc.Close()
		r = rc
	}
	res, err := c.call(ctx, method, path, query, r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if take == nil {
		return nil
	}
	return take(res)
}

func bytesBody(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// spool keeps a stream in a file, so that it can be sent more than once, or read after the server went away.
func spool(dir string, r io.Reader) (path string, err error) {
	f, err := os.CreateTemp(dir, "spool-")
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, r)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

func fileBody(path string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return os.Open(path) }
}

// removing is a file that is gone once it is closed.
type removing struct{ *os.File }

// Close implements io.Closer.
func (r removing) Close() error { return errors.Join(r.File.Close(), os.Remove(r.Name())) }

func offsetOf(res *http.Response) (int64, error) {
	return strconv.ParseInt(res.Header.Get("Weir-Offset"), 10, 64)
}
