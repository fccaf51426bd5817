package jobapi

import (
	"crypto/subtle"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"

	"weir/internal/pipeline/runner"
)

// Server is what a job reaches of the server in its own name, apart from caches, artifacts and images: git of its own repository, and
// what its permissions open of the API. Both decide by the job's token; here is only the way.
type Server struct {
	URL        string // of the server
	Repository string // the job's own
	Token      string // what the job's code holds as github.token
	// Signed lets git go on without a token, because the job has checked out with persist-credentials. The token itself is in no file.
	Signed *atomic.Bool
}

// WithServer lets the job reach the server through this API.
func (a *API) WithServer(s Server) *API {
	to, err := url.Parse(s.URL)
	if err != nil || to.Host == "" || s.Token == "" {
		return a
	}
	a.server = &way{Server: s, to: to}
	if a.registry != nil { // what the job's code asks of the registry is for its own token to answer
		a.registry = registry(runner.Registry{URL: s.URL, Token: s.Token})
	}
	return a
}

type way struct {
	Server
	to *url.URL
}

var gitPath = regexp.MustCompile(`^/(?:git/)?([A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)?)/(info/refs|git-upload-pack|git-receive-pack)$`)

// takes reports whether a request is for the server.
func (s *way) takes(at string) bool {
	return s != nil && path.Clean(at) == at && (strings.HasPrefix(at, "/api/v1/") || gitPath.MatchString(at))
}

// token is the one that a request shows.
func token(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "bearer") || strings.EqualFold(scheme, "token") {
		return strings.TrimSpace(rest)
	}
	return ""
}

func (s *way) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at, git := r.URL.Path, gitPath.FindStringSubmatch(r.URL.Path)
	shown := token(r)
	switch {
	case git != nil && shown == "" && s.Signed != nil && s.Signed.Load():
	case subtle.ConstantTimeCompare([]byte(shown), []byte(s.Token)) == 1:
	case git != nil:
		w.Header().Set("WWW-Authenticate", `Basic realm="Weir: x-access-token and the token of this job"`)
		http.Error(w, "Only the token of this job opens this: user x-access-token, github.token as the password.", http.StatusUnauthorized)
		return
	default:
		twirp(w, http.StatusUnauthorized, "unauthenticated", "Only the token of this job opens this. Send github.token: Authorization: Bearer TOKEN.")
		return
	}
	if git != nil {
		name := git[1]
		for strings.HasSuffix(name, ".git") {
			name = strings.TrimSuffix(name, ".git")
		}
		if !strings.EqualFold(name, s.Repository) {
			http.Error(w, "The token of a job opens the job's own repository alone, "+s.Repository+". For another one, give the job a token of its own as a secret.", http.StatusForbidden)
			return
		}
		at = "/git/" + s.Repository + ".git/" + git[2]
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(s.to)
			p.Out.Host = s.to.Host
			p.Out.URL.Path, p.Out.URL.RawPath = at, ""
			p.Out.Header.Del("Cookie")
			if git != nil {
				p.Out.SetBasicAuth("x-access-token", s.Token)
			} else {
				p.Out.URL.RawPath = r.URL.RawPath
				p.Out.Header.Set("Authorization", "Bearer "+s.Token)
			}
		},
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, q *http.Request, err error) {
			slog.WarnContext(q.Context(), "server of a job", "path", q.URL.Path, "error", err)
			http.Error(w, "The server cannot be reached from where this job runs; try again.", http.StatusBadGateway)
		},
	}
	proxy.ServeHTTP(w, r)
}

// Git is the environment by which git finds the server at the address that people know it by, given where this API is served. With
// signed, also addresses that carry the token lead here.
func (a *API) Git(local string, signed bool) map[string]string {
	if a.server == nil {
		return nil
	}
	s := a.server
	type pair struct{ key, value string }
	public := strings.TrimSuffix(s.URL, "/") + "/"
	pairs := []pair{{"url." + local + "/.insteadOf", public}}
	if here, err := url.Parse(local); err == nil && signed {
		here.User = url.UserPassword("x-access-token", s.Token)
		for _, user := range []*url.Userinfo{here.User, url.User(s.Token)} {
			from := *s.to
			from.User = user
			pairs = append(pairs, pair{"url." + here.String() + "/.insteadOf", strings.TrimSuffix(from.String(), "/") + "/"})
		}
	}
	env := map[string]string{"GIT_CONFIG_COUNT": strconv.Itoa(len(pairs))}
	for i, p := range pairs {
		env["GIT_CONFIG_KEY_"+strconv.Itoa(i)], env["GIT_CONFIG_VALUE_"+strconv.Itoa(i)] = p.key, p.value
	}
	return env
}
