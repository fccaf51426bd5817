package web

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/a-h/templ"

	"weir/internal/base/fault"
	"weir/internal/base/id"
	"weir/internal/guard/identity"
)

// policyHeader is exact: a test compares it. Nothing inline, nothing from elsewhere.
const policyHeader = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Config is what the pages are built of.
type Config struct {
	Data Data
	URL  string // under which people reach the server; https makes cookies Secure
	Name string // of the instance, on the sign-in page; the host of URL if empty
	Log  *slog.Logger
	// Pulse is how often a live page looks by itself; a second if zero.
	Pulse time.Duration
}

// Site serves the pages.
type Site struct {
	data   Data
	url    *url.URL
	name   string
	log    *slog.Logger
	pulse  time.Duration
	assets assets
}

// New returns the handler of every page: "/", "/runs/...", "/rollouts/...",
// "/changes/...", "/artifacts/...", "/audit", "/services", "/jump", "/signin",
// "/signout", "/theme" and "/assets/...".
func New(c Config) http.Handler {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" {
		u = &url.URL{Scheme: "http", Host: "localhost"}
	}
	s := &Site{data: c.Data, url: u, name: c.Name, log: c.Log, pulse: c.Pulse, assets: loadAssets()}
	if s.name == "" {
		s.name = u.Host
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.pulse == 0 {
		s.pulse = time.Second
	}
	return s.secure(s.routes())
}

func (s *Site) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /assets/", s.assets)
	mux.HandleFunc("GET /signin", s.signInPage)
	mux.HandleFunc("POST /signin", s.signIn)
	mux.HandleFunc("POST /signout", s.signOut)
	mux.HandleFunc("POST /theme", s.switchTheme)
	for pattern, page := range map[string]pageFunc{
		"/{$}":                  s.overview,
		"/runs":                 s.runs,
		"/runs/{id}":            s.run,
		"/tests/{key}":          s.test,
		"/rollouts":             s.rollouts,
		"/rollouts/{id}":        s.rollout,
		"/changes":              s.changes,
		"/changes/{id}":         s.change,
		"/artifacts":            s.artifacts,
		"/artifacts/{id}":       s.artifact,
		"/artifacts/{id}/notes": s.notes,
		"/audit":                s.audit,
		"/jump":                 s.jump,
	} {
		mux.Handle("GET "+pattern, s.private(s.show(page)))
	}
	for pattern, page := range map[string]pageFunc{"/live": s.overview, "/runs/live": s.runs, "/runs/{id}/live": s.run, "/rollouts/{id}/live": s.rollout, "/changes/{id}/live": s.change} {
		mux.Handle("GET "+pattern, s.private(s.stream(page)))
	}
	mux.Handle("GET /runs/{id}/log/{job}/{attempt}", s.private(http.HandlerFunc(s.rawLog)))
	mux.Handle("GET /runs/{id}/log/{job}/{attempt}/lines", s.private(http.HandlerFunc(s.logLines)))
	mux.Handle("GET /runs/{id}/log/{job}/{attempt}/search", s.private(http.HandlerFunc(s.logSearch)))
	mux.Handle("GET /runs/{id}/artifacts/{name}", s.private(http.HandlerFunc(s.artifactFile)))
	mux.Handle("GET /artifacts/{id}/notes.md", s.private(http.HandlerFunc(s.notesFile)))
	mux.Handle("GET /artifacts/{id}/sbom.json", s.private(http.HandlerFunc(s.sbom)))
	mux.Handle("GET /runs/{id}/log/{job}/{attempt}/live", s.private(http.HandlerFunc(s.liveLog)))
	mux.HandleFunc("GET /services", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/#matrix", http.StatusSeeOther) })
	s.actions(mux)
	return mux
}

// secure sets the headers of every answer and refuses what another origin posts.
func (s *Site) secure(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	_ = origin.AddTrustedOrigin(s.url.Scheme + "://" + s.url.Host)
	refuse := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.problem(w, r, http.StatusForbidden, "This request came from another site and was refused. Nothing was changed. Open the page here and try again.")
	})
	origin.SetDenyHandler(refuse)
	guarded := origin.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policyHeader)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if r.Method == http.MethodPost {
			// Every browser says where a form comes from. What does not is no browser, and has the API.
			if r.Header.Get("Origin") == "" && r.Header.Get("Sec-Fetch-Site") == "" {
				refuse(w, r)
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
		}
		if !strings.HasPrefix(r.URL.Path, "/assets/") {
			h.Set("Cache-Control", "no-store")
		}
		guarded.ServeHTTP(w, r)
	})
}

// page is what a request shows: the whole of it, and the parts that live.
type page struct {
	title  string
	body   templ.Component
	crumbs []Link
	nav    string // which entry is current
	// live parts by element id; nothing lives if empty
	parts  []part
	topics []string
	path   string // of the stream, "" if nothing lives
	over   bool   // nothing will change any more
	slow   bool   // costs much to look at: between wake-ups, look seldom
}

// part is an element that is replaced when it changes.
type part struct {
	id   string
	body templ.Component
}

type pageFunc func(r *http.Request) (page, error)

// show renders a page as a whole.
func (s *Site) show(f pageFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.render(w, r, f, http.StatusOK, "") })
}

// render writes a page, with the sentence of a refused action if there is one.
func (s *Site) render(w http.ResponseWriter, r *http.Request, f pageFunc, status int, refused string) {
	p, err := f(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ctx := r.Context()
	shell, err := s.data.Shell(ctx)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	f2 := frame{page: p, shell: shell, who: identity.From(ctx), theme: theme(r), assets: s.assets, now: time.Now().UTC(), refused: refused, back: r.URL.RequestURI()}
	s.write(w, r, status, layout(f2))
}

func (s *Site) write(w http.ResponseWriter, r *http.Request, status int, c templ.Component) {
	var buf bytes.Buffer
	if err := c.Render(r.Context(), &buf); err != nil {
		s.log.ErrorContext(r.Context(), "page not rendered", "path", r.URL.Path, "error", err)
		http.Error(w, "The page could not be rendered.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes())
}

// fail turns an error into a page that says what happened and what to do.
func (s *Site) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	s.problem(w, r, statusOf(err), s.sentence(r.Context(), err))
}

// sentence is what a person reads of an error. An error of our own is named by
// a reference that stands in the log.
func (s *Site) sentence(ctx context.Context, err error) string {
	if fault.KindOf(err) != "" {
		return fault.Sentence(err)
	}
	ref := id.New("error")
	s.log.ErrorContext(ctx, "request failed", "reference", ref, "error", err)
	return "Weir made a mistake; nothing was changed. The server's log has the details under " + ref + "."
}

func (s *Site) problem(w http.ResponseWriter, r *http.Request, status int, sentence string) {
	title := map[int]string{http.StatusNotFound: "Not found", http.StatusForbidden: "Not allowed", http.StatusServiceUnavailable: "Not available now"}[status]
	if title == "" {
		title = "This did not work"
	}
	shell := Shell{}
	who := identity.From(r.Context())
	if who.Kind != identity.Nobody {
		if sh, err := s.data.Shell(r.Context()); err == nil {
			shell = sh
		}
	}
	p := page{title: title, body: problemPage(title, sentence), crumbs: []Link{{Text: title}}}
	s.write(w, r, status, layout(frame{page: p, shell: shell, who: who, theme: theme(r), assets: s.assets, now: time.Now().UTC(), back: "/"}))
}

func statusOf(err error) int {
	switch fault.KindOf(err) {
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.Invalid:
		return http.StatusUnprocessableEntity
	case fault.Denied:
		return http.StatusForbidden
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
