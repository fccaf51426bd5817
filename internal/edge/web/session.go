package web

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

// A session lives as long as identity says; the cookie may outlive it.
const sessionLife = 30 * 24 * time.Hour

func (s *Site) https() bool { return s.url.Scheme == "https" }

// cookie is bound to this host by its prefix where there is TLS.
func (s *Site) cookie() string {
	if s.https() {
		return "__Host-weir_session"
	}
	return "weir_session"
}

func (s *Site) setSession(w http.ResponseWriter, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{Name: s.cookie(), Value: value, Path: "/", MaxAge: int(life.Seconds()), HttpOnly: true, Secure: s.https(), SameSite: http.SameSiteLaxMode})
}

// private lets in who has a session and sends everybody else to the sign-in page.
func (s *Site) private(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := identity.Anonymous
		if c, err := r.Cookie(s.cookie()); err == nil && c.Value != "" {
			if a, err := s.data.Session(r.Context(), c.Value); err == nil {
				who = a
			} else if fault.KindOf(err) == "" {
				s.fail(w, r, err)
				return
			}
		}
		if who.Kind == identity.Nobody || who.Kind == "" {
			if strings.HasSuffix(r.URL.Path, "/live") {
				http.Error(w, "Sign in to follow this.", http.StatusUnauthorized)
				return
			}
			to := "/signin"
			if r.Method == http.MethodGet && r.URL.RequestURI() != "/" {
				to += "?next=" + url.QueryEscape(r.URL.RequestURI())
			}
			http.Redirect(w, r, to, http.StatusSeeOther)
			return
		}
		next.ServeHTTP(w, r.WithContext(identity.With(r.Context(), who)))
	})
}

// signInPage asks for one click: a link that was only fetched, by a preview or
// a scanner, is not used up.
func (s *Site) signInPage(w http.ResponseWriter, r *http.Request) {
	s.signInForm(w, r, http.StatusOK, r.URL.Query().Get("link"), local(r.URL.Query().Get("next")), "")
}

func (s *Site) signInForm(w http.ResponseWriter, r *http.Request, status int, link, next, refused string) {
	s.write(w, r, status, signIn(gate{name: s.name, link: link, next: next, refused: refused, theme: theme(r), assets: s.assets}))
}

func (s *Site) signIn(w http.ResponseWriter, r *http.Request) {
	link, next := token(r.FormValue("link")), local(r.FormValue("next"))
	if link == "" {
		s.signInForm(w, r, http.StatusUnprocessableEntity, "", next, "Paste the sign-in link that you were given. `weir serve` prints one at its first start; an admin makes more.")
		return
	}
	session, err := s.data.SignIn(r.Context(), link)
	if err != nil {
		s.signInForm(w, r, statusOf(err), "", next, s.sentence(r.Context(), err))
		return
	}
	s.setSession(w, session, sessionLife)
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// token takes what people paste: the whole link or the token in it.
func token(pasted string) string {
	pasted = strings.TrimSpace(pasted)
	if u, err := url.Parse(pasted); err == nil && u.Query().Get("link") != "" {
		return u.Query().Get("link")
	}
	return pasted
}

func (s *Site) signOut(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(s.cookie()); err == nil && c.Value != "" {
		if err := s.data.SignOut(r.Context(), c.Value); err != nil && fault.KindOf(err) == "" {
			s.fail(w, r, err)
			return
		}
	}
	s.setSession(w, "", -time.Second)
	http.Redirect(w, r, "/signin", http.StatusSeeOther)
}

// local keeps a redirect on this site.
func local(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

const themeCookie = "weir_theme"

// theme is the one that the reader chose, or "" for the system's.
func theme(r *http.Request) string {
	if c, err := r.Cookie(themeCookie); err == nil && (c.Value == "dark" || c.Value == "light") {
		return c.Value
	}
	return ""
}

// switchTheme is the theme button without JavaScript.
func (s *Site) switchTheme(w http.ResponseWriter, r *http.Request) {
	to := "dark"
	if theme(r) == "dark" {
		to = "light"
	}
	http.SetCookie(w, &http.Cookie{Name: themeCookie, Value: to, Path: "/", MaxAge: 31536000, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, local(r.FormValue("back")), http.StatusSeeOther)
}
