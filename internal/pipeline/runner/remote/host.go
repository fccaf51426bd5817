package remote

import (
	"archive/tar"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/runner"
	"weir/internal/source"
)

// host is the server as a job on an agent sees it. What goes up or comes down is spooled in a file, so that a server that restarts
// meanwhile costs time and nothing else.
type host struct {
	client *Client
	key    Key
	dir    string // for spools
	near   Near
	job    runner.Job
}

// Near clones from a copy on this machine that it brings up to date from a remote. An error that is no fault is about the copy.
type Near interface {
	Clone(ctx context.Context, repositoryID string, from source.Remote, c source.Clone, dir string) (revision string, err error)
}

var _ runner.Host = (*host)(nil)

func (h *host) path(op string) string { return "jobs/" + url.PathEscape(string(h.key)) + "/" + op }

// fetch reads a whole answer into a file.
func (h *host) fetch(ctx context.Context, method, op string, q url.Values, body []byte, look func(*http.Response)) (io.ReadCloser, error) {
	var file string
	var open func() (io.ReadCloser, error)
	if body != nil {
		open = bytesBody(body)
	}
	err := h.client.patient(ctx, method, h.path(op), q, open, func(res *http.Response) (err error) {
		if look != nil {
			look(res)
		}
		file, err = spool(h.dir, res.Body)
		return err
	})
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	return removing{f}, nil
}

func (h *host) send(ctx context.Context, op string, q url.Values, r io.Reader) error {
	file, err := spool(h.dir, r)
	if err != nil {
		return err
	}
	defer os.Remove(file)
	return h.client.patient(ctx, http.MethodPut, h.path(op), q, fileBody(file), nil)
}

// Checkout implements runner.Host.
func (h *host) Checkout(ctx context.Context, c runner.Checkout, dir string) (revision string, err error) {
	if h.near != nil && h.job.Registry.Token != "" {
		revision, err := h.nearby(ctx, c, dir)
		if err == nil || fault.KindOf(err) != "" || ctx.Err() != nil {
			return revision, err
		}
		slog.WarnContext(ctx, "checkout does not come from the copy on this machine; the server sends all of it", "repository", h.job.Repository, "error", err)
		if err := empty(dir); err != nil {
			return "", err
		}
	}
	spec, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	r, err := h.fetch(ctx, http.MethodPost, "checkout", nil, spec, func(res *http.Response) { revision = res.Header.Get("Weir-Revision") })
	if err != nil {
		return "", err
	}
	defer r.Close()
	return revision, unpack(r, dir)
}

// nearby checks out from the copy on this machine.
func (h *host) nearby(ctx context.Context, c runner.Checkout, dir string) (string, error) {
	ref, _ := h.job.GitHub["ref"].(string)
	public, _ := h.job.GitHub["server_url"].(string)
	at := "/git/" + h.job.Repository + ".git"
	from := source.Remote{URL: strings.TrimSuffix(h.client.URL, "/") + at, Header: "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("job:"+h.job.Registry.Token))}
	return h.near.Clone(ctx, h.job.RepositoryID, from, source.Clone{Revision: h.job.Revision, RunRef: ref, Ref: c.Ref, Depth: c.Depth, Tags: c.Tags,
		Filter: c.Filter, Sparse: c.Sparse, Cone: c.Cone, Origin: strings.TrimSuffix(public, "/") + at}, dir)
}

// empty removes what is in a folder.
func empty(dir string) error {
	found, err := os.ReadDir(dir)
	for _, d := range found {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, d.Name())))
	}
	return err
}

// Action implements runner.Host.
func (h *host) Action(ctx context.Context, repository, revision, dir string) error {
	r, err := h.fetch(ctx, http.MethodPost, "action", url.Values{"repository": {repository}, "revision": {revision}}, nil, nil)
	if err != nil {
		return err
	}
	defer r.Close()
	return unpack(r, dir)
}

// Upload implements runner.Host.
func (h *host) Upload(ctx context.Context, name string, overwrite bool, r io.Reader) error {
	return h.send(ctx, "artifact", url.Values{"name": {name}, "overwrite": {fmt.Sprint(overwrite)}}, r)
}

// Artifacts implements runner.Host.
func (h *host) Artifacts(ctx context.Context) (names []string, err error) {
	err = h.client.patient(ctx, http.MethodGet, h.path("artifacts"), nil, nil, func(res *http.Response) error {
		return json.NewDecoder(res.Body).Decode(&names)
	})
	return names, err
}

// Download implements runner.Host.
func (h *host) Download(ctx context.Context, name string) (io.ReadCloser, error) {
	return h.fetch(ctx, http.MethodGet, "artifact", url.Values{"name": {name}}, nil, nil)
}

// SaveCache implements runner.Host.
func (h *host) SaveCache(ctx context.Context, key string, r io.Reader) error {
	return h.send(ctx, "cache", url.Values{"key": {key}}, r)
}

// FindCache implements runner.Host.
func (h *host) FindCache(ctx context.Context, key string, prefixes []string) (found string, r io.ReadCloser, err error) {
	r, err = h.fetch(ctx, http.MethodGet, "cache", url.Values{"key": {key}, "prefix": prefixes}, nil, func(res *http.Response) { found = res.Header.Get("Weir-Cache-Key") })
	if found == "" && err == nil {
		r.Close()
		r = nil
	}
	return found, r, err
}

// Output implements runner.Host.
func (h *host) Output(ctx context.Context, o pipeline.Output, r io.Reader) error {
	described, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return h.send(ctx, "output", url.Values{"described": {string(described)}}, r)
}

// unpack writes a tar of the server into an empty folder. Nothing of it can lead out.
func unpack(r io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		name := path.Clean(h.Name)
		if !filepath.IsLocal(name) {
			return fault.New(fault.Invalid, "The archive holds %q, which leads out of its folder.", h.Name)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o700)
		case tar.TypeSymlink:
			err = root.Symlink(h.Linkname, name)
		case tar.TypeReg:
			err = unpackFile(root, name, fs.FileMode(h.Mode)&0o777|0o600, t)
		}
		if err != nil {
			return fmt.Errorf("unpack %s: %w", name, err)
		}
	}
}

func unpackFile(root *os.Root, name string, mode fs.FileMode, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
