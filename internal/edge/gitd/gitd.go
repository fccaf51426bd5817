// Package gitd speaks git over HTTP: smart protocol only, by the real git. A
// push is judged by the pre-receive hook, which is this binary again and asks
// the server over a unix socket; see hook.go.
package gitd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"weir/internal/base/fault"
	"weir/internal/catalog"
	"weir/internal/guard/identity"
	"weir/internal/source"
)

// Repositories is the cache of bare repositories.
type Repositories interface {
	Read(ctx context.Context, repositoryID string, fn func(dir string) error) error
	Write(ctx context.Context, repositoryID string, fn func(dir string) error) error
	StorePack(ctx context.Context, objects string) (*source.Pack, error)
	Quarantined(ctx context.Context, repositoryID, objects string) context.Context
	Env(more ...string) []string
}

// Config is what the handler needs.
type Config struct {
	Source       *source.Service
	Catalog      *catalog.Catalog
	Repositories Repositories
	// Authenticate returns who holds a token.
	Authenticate func(ctx context.Context, token string) (identity.Actor, error)
	// Room refuses, with a sentence, when the disk is nearly full.
	Room func() error
	// MaxPush bounds the objects of one push, in bytes.
	MaxPush int64
	// HooksDir holds the pre-receive hook, Socket is where it reports.
	HooksDir, Socket string
}

// Handler serves /git/NAME.git/.
type Handler struct {
	Config
	pending pending
}

// New returns the handler.
func New(c Config) *Handler { return &Handler{Config: c, pending: pending{pushes: map[string]*push{}}} }

var (
	pathRe     = regexp.MustCompile(`^/git/([a-z0-9-]{1,40})\.git/(info/refs|git-upload-pack|git-receive-pack)$`)
	protocolRe = regexp.MustCompile(`^version=[0-2]$`)
)

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := pathRe.FindStringSubmatch(r.URL.Path)
	if m == nil {
		http.Error(w, "There is nothing at this address. Clone http://HOST/git/REPOSITORY.git with the smart protocol.", http.StatusNotFound)
		return
	}
	service := strings.TrimPrefix(m[2], "git-")
	advertise := m[2] == "info/refs"
	if advertise {
		service = strings.TrimPrefix(r.URL.Query().Get("service"), "git-")
	}
	if service != "upload-pack" && service != "receive-pack" || advertise != (r.Method == http.MethodGet) {
		http.Error(w, "Only the smart HTTP protocol is spoken here. Use a current git.", http.StatusForbidden)
		return
	}
	ctx, err := h.actor(r)
	if err != nil {
		w.Header().Set("WWW-Authenticate", `Basic realm="Weir: any user name, a token as password"`)
		http.Error(w, fault.Sentence(err), http.StatusUnauthorized)
		return
	}
	action := "repository.pull"
	if service == "receive-pack" {
		action = "repository.push"
	}
	if err := identity.Check(ctx, action, "default"); err != nil {
		refuse(w, service, advertise, err)
		return
	}
	repo, err := h.Catalog.Repository(ctx, m[1])
	if err == nil || fault.Is(err, fault.NotFound) { // a job learns of no other repository whether it is there
		if werr := identity.Within(ctx, repo.ID); werr != nil {
			err = werr
		}
	}
	if err == nil && service == "receive-pack" {
		err = h.Room()
	}
	if err != nil {
		refuse(w, service, advertise, err)
		return
	}
	w.Header().Set("Cache-Control", "no-cache")
	switch {
	case advertise:
		err = h.advertise(ctx, w, r, repo, service)
	case service == "upload-pack":
		// Not under the lock: git reads beside a push well, and somebody who
		// fetches slowly must hold up nobody.
		var in io.Reader
		if in, err = body(r); err != nil {
			refuse(w, service, false, err)
			return
		}
		var dir string
		if dir, err = h.dir(ctx, repo); err == nil {
			err = h.serve(ctx, w, r, io.LimitReader(in, h.MaxPush), dir, service, nil)
		}
	default:
		err = h.receive(ctx, w, r, repo)
	}
	if err != nil && ctx.Err() == nil {
		slog.WarnContext(ctx, "git request failed", "repository", repo.ID, "service", service, "error", err)
	}
}

// actor reads the token that git sends as a password.
func (h *Handler) actor(r *http.Request) (context.Context, error) {
	_, token, ok := r.BasicAuth()
	if !ok {
		return nil, fault.New(fault.Denied, "Sign in with a token: any user name, the token as password.")
	}
	a, err := h.Authenticate(r.Context(), token)
	if err != nil {
		return nil, err
	}
	return identity.With(r.Context(), a), nil
}

// refuse says no so that git shows the sentence: in the advertisement as an ERR
// packet, elsewhere as plain text.
func refuse(w http.ResponseWriter, service string, advertise bool, err error) {
	if advertise {
		w.Header().Set("Content-Type", "application/x-git-"+service+"-advertisement")
		_, _ = io.WriteString(w, packet("# service=git-"+service+"\n")+"0000"+packet("ERR Weir: "+fault.Sentence(err)))
		return
	}
	status := map[fault.Kind]int{fault.Invalid: http.StatusBadRequest, fault.Denied: http.StatusForbidden, fault.NotFound: http.StatusNotFound, fault.Unavailable: http.StatusInsufficientStorage}[fault.KindOf(err)]
	if status == 0 {
		status = http.StatusInternalServerError
	}
	http.Error(w, fault.Sentence(err), status)
}

func packet(s string) string { return fmt.Sprintf("%04x%s", len(s)+4, s) }

func (h *Handler) advertise(ctx context.Context, w http.ResponseWriter, r *http.Request, repo catalog.Repository, service string) error {
	dir, err := h.dir(ctx, repo)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-git-"+service+"-advertisement")
	_, _ = io.WriteString(w, packet("# service=git-"+service+"\n")+"0000")
	return h.serve(ctx, w, r, nil, dir, service, nil, "--advertise-refs")
}

// dir brings a repository in line and returns its folder.
func (h *Handler) dir(ctx context.Context, repo catalog.Repository) (dir string, err error) {
	err = h.Repositories.Read(ctx, repo.ID, func(d string) error {
		dir = d
		return nil
	})
	return dir, err
}

// receive runs a push alone in its repository, once all of it has arrived: a
// slow sender must not keep the repository from the others.
func (h *Handler) receive(ctx context.Context, w http.ResponseWriter, r *http.Request, repo catalog.Repository) error {
	spool, err := h.spool(w, r)
	if err != nil {
		return err
	}
	if spool == nil {
		return nil // Refused, and told so.
	}
	defer spool.Close()
	token, done := h.pending.add(&push{ctx: ctx, repositoryID: repo.ID})
	defer done()
	return h.Repositories.Write(ctx, repo.ID, func(dir string) error {
		return h.serve(ctx, w, r, spool, dir, "receive-pack", []string{socketVariable + "=" + h.Socket, tokenVariable + "=" + token})
	})
}

// serve lets git answer. Settings are given on its command line and nothing is
// read from the machine's or the repository's own configuration of hooks.
func (h *Handler) serve(ctx context.Context, w http.ResponseWriter, r *http.Request, stdin io.Reader, dir, service string, env []string, extra ...string) error {
	args := []string{
		"-c", "core.hooksPath=" + h.HooksDir, "-c", "safe.directory=" + dir,
		"-c", "transfer.fsckObjects=true", "-c", "receive.unpackLimit=1", "-c", "receive.advertisePushOptions=true",
		"-c", fmt.Sprintf("receive.maxInputSize=%d", h.MaxPush), "-c", "receive.autogc=false", "-c", "gc.auto=0",
		"-c", "core.fsync=committed", "-c", "uploadpack.allowFilter=true", "-c", fmt.Sprintf("uploadpack.allowAnySHA1InWant=%v", slices.Contains(identity.From(ctx).Roles, identity.Checkout)),
		service, "--stateless-rpc",
	}
	cmd := exec.CommandContext(ctx, "git", append(append(args, extra...), dir)...)
	cmd.Env = h.Repositories.Env(env...)
	if p := r.Header.Get("Git-Protocol"); protocolRe.MatchString(p) {
		cmd.Env = append(cmd.Env, "GIT_PROTOCOL="+p)
	}
	cmd.WaitDelay = 2 * time.Second
	if stdin != nil {
		w.Header().Set("Content-Type", "application/x-git-"+service+"-result")
		cmd.Stdin = stdin
	}
	var stderr strings.Builder
	cmd.Stdout, cmd.Stderr = w, &limited{w: &stderr, n: 4 << 10}
	if err := cmd.Run(); err != nil {
		if x, ok := errors.AsType[*exec.ExitError](err); ok && service == "receive-pack" && x.ExitCode() > 0 {
			return nil // A refused push; git has told the client.
		}
		return fmt.Errorf("git %s: %w: %s", service, err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

type limited struct {
	w io.Writer
	n int
}

func (l *limited) Write(p []byte) (int, error) {
	if k := min(l.n, len(p)); k > 0 {
		l.n -= k
		_, _ = l.w.Write(p[:k])
	}
	return len(p), nil
}
