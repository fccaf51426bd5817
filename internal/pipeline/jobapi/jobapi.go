// Package jobapi is what a job finds at ACTIONS_RESULTS_URL: GitHub's cache service (v2) and artifact service (v4), so that its
// official clients, and every action that is built on them, work unchanged.
//
// It is served inside the job's sandbox by whoever runs the job, in front of the job's runner.Host: so it works without a network,
// on agents as on the server, and can do nothing that the host does not let this job do. Messages are Twirp with JSON. Bytes go to
// and come from URLs that carry a signature and look like Azure's blob store: a PUT, or blocks and a list of blocks; ranges.
//
// Artifacts are kept as Weir keeps them, so that built-in steps and clients see each other's: a client's zip becomes a tar, and the
// other way round. Cache entries are kept as the client made them, apart from those of the built-in step.
package jobapi

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"weir/internal/base/fault"
	"weir/internal/pipeline/runner"
)

// API answers one job. Close removes what it has staged.
type API struct {
	host  runner.Host
	dir   string // for bytes on their way; not visible in the sandbox
	job   string
	run   string
	key   []byte
	token string

	registry http.Handler // nil if the job has none
	server   *way         // nil if there is no server behind the job

	mu      sync.Mutex
	uploads map[string]*upload // by id
	files   map[string]string  // staged downloads: id to path
	created map[string]time.Time
}

const (
	lifetime   = 2 * time.Hour // of a signed URL
	maxMessage = 1 << 20
	maxUpload  = 10 << 30
	maxBlocks  = 50_000
	maxOpen    = 1000 // uploads and downloads of one job
)

// New returns the API of a job. dir does not exist yet, and nobody else uses it.
func New(h runner.Host, run, job, dir string) (*API, error) {
	a := &API{host: h, dir: dir, run: run, job: job, key: make([]byte, 32), uploads: map[string]*upload{}, files: map[string]string{}, created: map[string]time.Time{}}
	if _, err := rand.Read(a.key); err != nil {
		return nil, err
	}
	a.token = a.jwt()
	return a, nil
}

// WithRegistry lets the job reach Weir's registry through this API.
func (a *API) WithRegistry(r runner.Registry) *API {
	a.registry = registry(r)
	return a
}

// Close removes what is staged.
func (a *API) Close() error { return os.RemoveAll(a.dir) }

// Env is what clients look for, given the URL under which the API is served.
func (a *API) Env(url string) map[string]string {
	env := map[string]string{"ACTIONS_RESULTS_URL": url + "/", "ACTIONS_RUNTIME_URL": url + "/", "ACTIONS_CACHE_URL": url + "/", "ACTIONS_RUNTIME_TOKEN": a.token, "ACTIONS_CACHE_SERVICE_V2": "true"}
	if a.server != nil {
		env["GITHUB_API_URL"] = url + "/api/v1"
	}
	if a.registry != nil {
		env["WEIR_REGISTRY"] = strings.TrimPrefix(strings.TrimPrefix(url, "http://"), "https://")
	}
	return env
}

// jwt is a token in the form that clients take apart: they read from it which run and job they belong to.
func (a *API) jwt() string {
	part := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	now := time.Now()
	text := part(map[string]string{"alg": "HS256", "typ": "JWT"}) + "." +
		part(map[string]any{"scp": "Actions.Results:" + a.run + ":" + a.job, "iat": now.Unix(), "exp": now.Add(24 * time.Hour).Unix(), "iss": "weir"})
	return text + "." + base64.RawURLEncoding.EncodeToString(a.mac("token", text))
}

func (a *API) mac(parts ...string) []byte {
	m := hmac.New(sha256.New, a.key)
	for _, p := range parts {
		fmt.Fprintf(m, "%d:%s", len(p), p)
	}
	return m.Sum(nil)
}

// sign makes a URL for an id. verb is "w" or "r".
func (a *API) sign(r *http.Request, verb, id string) string {
	until := strconv.FormatInt(time.Now().Add(lifetime).Unix(), 10)
	q := url.Values{"se": {until}, "sp": {verb}, "sig": {hex.EncodeToString(a.mac(verb, id, until))}}
	return "http://" + r.Host + "/blobs/weir/" + id + "?" + q.Encode()
}

func (a *API) signed(r *http.Request, verb, id string) bool {
	q := r.URL.Query()
	until, err := strconv.ParseInt(q.Get("se"), 10, 64)
	sig, herr := hex.DecodeString(q.Get("sig"))
	return err == nil && herr == nil && q.Get("sp") == verb && time.Now().Unix() < until && hmac.Equal(sig, a.mac(verb, id, q.Get("se")))
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if id, ok := strings.CutPrefix(r.URL.Path, "/blobs/weir/"); ok {
		a.blob(w, r, id)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/v2/") && a.registry != nil {
		a.registry.ServeHTTP(w, r)
		return
	}
	if a.server.takes(r.URL.Path) {
		a.server.ServeHTTP(w, r)
		return
	}
	method, ok := strings.CutPrefix(r.URL.Path, "/twirp/github.actions.results.api.v1.")
	if !ok {
		twirp(w, http.StatusNotFound, "bad_route", "This job API has the cache service (v2) and the artifact service (v4), and nothing at "+r.URL.Path+".")
		return
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !hmac.Equal([]byte(token), []byte(a.token)) {
		twirp(w, http.StatusUnauthorized, "unauthenticated", "The token is not the one in ACTIONS_RUNTIME_TOKEN of this job.")
		return
	}
	var in message
	if err := json.NewDecoder(io.LimitReader(r.Body, maxMessage)).Decode(&in); err != nil {
		twirp(w, http.StatusBadRequest, "malformed", "The request is not JSON: "+err.Error())
		return
	}
	do := map[string]func(*http.Request, message) (any, error){
		"CacheService/CreateCacheEntry": a.createCache, "CacheService/FinalizeCacheEntryUpload": a.finalizeCache, "CacheService/GetCacheEntryDownloadURL": a.findCache,
		"ArtifactService/CreateArtifact": a.createArtifact, "ArtifactService/FinalizeArtifact": a.finalizeArtifact, "ArtifactService/ListArtifacts": a.listArtifacts,
		"ArtifactService/GetSignedArtifactURL": a.artifactURL,
	}[method]
	if do == nil {
		twirp(w, http.StatusNotFound, "bad_route", "Weir's job API has no "+method+".")
		return
	}
	out, err := do(r, in)
	switch fault.KindOf(err) {
	case fault.NotFound:
		twirp(w, http.StatusNotFound, "not_found", fault.Sentence(err))
	case fault.Conflict:
		twirp(w, http.StatusConflict, "already_exists", fault.Sentence(err))
	case fault.Invalid:
		twirp(w, http.StatusBadRequest, "invalid_argument", fault.Sentence(err))
	case fault.Denied:
		twirp(w, http.StatusForbidden, "permission_denied", fault.Sentence(err))
	case fault.Unavailable:
		twirp(w, http.StatusServiceUnavailable, "unavailable", fault.Sentence(err))
	default:
		if err != nil {
			slog.Error("request of a job failed", "job", a.job, "method", method, "error", err)
			twirp(w, http.StatusInternalServerError, "internal", "The runner could not do this; its log has the details.")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out)
	}
}

func twirp(w http.ResponseWriter, status int, code, msg string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"code": code, "msg": msg})
}

// message is a request. Clients write field names either as the protocol has them or as JavaScript does.
type message map[string]json.RawMessage

func (m message) get(name string, v any) {
	raw, ok := m[name]
	if !ok {
		head, rest, _ := strings.Cut(name, "_")
		for part := range strings.SplitSeq(rest, "_") {
			if part != "" {
				head += strings.ToUpper(part[:1]) + part[1:]
			}
		}
		raw = m[head]
	}
	if len(raw) > 0 {
		_ = json.Unmarshal(raw, v) // what is of another type is as good as absent
	}
}

func (m message) text(name string) (s string) {
	m.get(name, &s)
	if s == "" { // a wrapped value
		var w struct {
			Value string `json:"value"`
		}
		m.get(name, &w)
		s = w.Value
	}
	return s
}

// number reads a 64-bit number, which JSON has as text.
func (m message) number(name string) int64 {
	var n int64
	if m.get(name, &n); n == 0 {
		n, _ = strconv.ParseInt(m.text(name), 10, 64)
	}
	return n
}

// cacheKey is where an entry is kept: apart from those of the built-in step, and of other versions (paths and compression).
func cacheKey(version, key string) string { return "v2/" + version + "/" + key }

func checkKey(version, key string) error {
	if key == "" || len(key) > 512 || strings.Contains(key, ",") || len(version) > 200 || strings.Contains(version, "/") {
		return fault.New(fault.Invalid, "A cache key has 1 to 512 characters and no comma.")
	}
	return nil
}

func (a *API) createCache(r *http.Request, in message) (any, error) {
	key, version := in.text("key"), in.text("version")
	if err := checkKey(version, key); err != nil {
		return nil, err
	}
	found, body, err := a.host.FindCache(r.Context(), cacheKey(version, key), nil)
	if err != nil {
		return nil, err
	}
	if found != "" {
		body.Close()
	}
	if found == cacheKey(version, key) {
		return map[string]any{"ok": false, "message": "There is an entry with this key already; entries never change."}, nil
	}
	id, err := a.open("cache", cacheKey(version, key))
	if err != nil {
		return nil, err
	}
	return map[string]any{"ok": true, "signed_upload_url": a.sign(r, "w", id)}, nil
}

func (a *API) finalizeCache(r *http.Request, in message) (any, error) {
	key := cacheKey(in.text("version"), in.text("key"))
	u, err := a.take("cache", key)
	if err != nil {
		return nil, err
	}
	defer u.remove()
	if n := in.number("size_bytes"); n != 0 && n != u.size {
		return nil, fault.New(fault.Invalid, "The upload has %d bytes, not %d. Upload it again.", u.size, n)
	}
	f, err := os.Open(u.whole)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := a.host.SaveCache(r.Context(), key, f); err != nil {
		return nil, err
	}
	return map[string]any{"ok": true, "entry_id": strconv.FormatInt(idOf(key), 10)}, nil
}

func (a *API) findCache(r *http.Request, in message) (any, error) {
	version, key := in.text("version"), in.text("key")
	if err := checkKey(version, key); err != nil {
		return nil, err
	}
	var restore []string
	in.get("restore_keys", &restore)
	var prefixes []string
	for _, k := range restore[:min(len(restore), 10)] {
		prefixes = append(prefixes, cacheKey(version, k))
	}
	found, body, err := a.host.FindCache(r.Context(), cacheKey(version, key), prefixes)
	if err != nil {
		return nil, err
	}
	if found == "" {
		return map[string]any{"ok": false}, nil
	}
	defer body.Close()
	id, err := a.stage(body, "")
	if err != nil {
		return nil, err
	}
	return map[string]any{"ok": true, "signed_download_url": a.sign(r, "r", id), "matched_key": strings.TrimPrefix(found, cacheKey(version, ""))}, nil
}

// idOf makes a number of a name, small enough for JavaScript.
func idOf(name string) int64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, name)
	return int64(h.Sum64() >> 12)
}

func checkArtifact(name string) error {
	if name == "" || len(name) > 200 || strings.ContainsAny(name, "\":<>|*?\r\n\\/") {
		return fault.New(fault.Invalid, "The artifact name %q is empty or has a character that file names may not have.", name)
	}
	return nil
}

func (a *API) createArtifact(r *http.Request, in message) (any, error) {
	name := in.text("name")
	if err := checkArtifact(name); err != nil {
		return nil, err
	}
	have, err := a.host.Artifacts(r.Context())
	if err != nil {
		return nil, err
	}
	if slices.Contains(have, name) {
		return nil, fault.New(fault.Conflict, "This run has an artifact named %s already. Choose another name.", name)
	}
	id, err := a.open("artifact", name)
	if err != nil {
		return nil, err
	}
	return map[string]any{"ok": true, "signed_upload_url": a.sign(r, "w", id)}, nil
}

func (a *API) finalizeArtifact(r *http.Request, in message) (any, error) {
	name := in.text("name")
	u, err := a.take("artifact", name)
	if err != nil {
		return nil, err
	}
	defer u.remove()
	if n := in.number("size"); n != 0 && n != u.size {
		return nil, fault.New(fault.Invalid, "The upload has %d bytes, not %d. Upload it again.", u.size, n)
	}
	if want := in.text("hash"); want != "" {
		got, err := digest(u.whole)
		if err != nil {
			return nil, err
		}
		if want != "sha256:"+got {
			return nil, fault.New(fault.Invalid, "The upload has the digest sha256:%s, not %s. Upload it again.", got, want)
		}
	}
	archive, err := toTar(u.whole, name)
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	if err := a.host.Upload(r.Context(), name, false, archive); err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.created[name] = time.Now()
	a.mu.Unlock()
	return map[string]any{"ok": true, "artifact_id": strconv.FormatInt(idOf(name), 10)}, nil
}

func (a *API) listArtifacts(r *http.Request, in message) (any, error) {
	names, err := a.host.Artifacts(r.Context())
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	only, id := in.text("name_filter"), in.number("id_filter")
	out := []map[string]any{}
	for _, n := range names {
		if only != "" && n != only || id != 0 && idOf(n) != id {
			continue
		}
		a.mu.Lock()
		created := a.created[n]
		a.mu.Unlock()
		if created.IsZero() {
			created = time.Now()
		}
		out = append(out, map[string]any{"workflow_run_backend_id": a.run, "workflow_job_run_backend_id": a.job, "database_id": strconv.FormatInt(idOf(n), 10),
			"name": n, "size": "0", "created_at": created.UTC().Format(time.RFC3339)})
	}
	return map[string]any{"artifacts": out}, nil
}

func (a *API) artifactURL(r *http.Request, in message) (any, error) {
	name := in.text("name")
	if err := checkArtifact(name); err != nil {
		return nil, err
	}
	body, err := a.host.Download(r.Context(), name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	archive := toZip(body)
	defer archive.Close()
	id, err := a.stage(archive, ".zip")
	if err != nil {
		return nil, err
	}
	return map[string]any{"signed_url": a.sign(r, "r", id)}, nil
}

// stage keeps bytes that a client is about to fetch.
func (a *API) stage(r io.Reader, ending string) (string, error) {
	if err := a.room(); err != nil {
		return "", err
	}
	id := newID() + ending
	path := filepath.Join(a.dir, id)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, r)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(path)
		return "", fmt.Errorf("stage for a job: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.files[id] = path
	return id, nil
}

func (a *API) room() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.files)+len(a.uploads) >= maxOpen {
		return fault.New(fault.Invalid, "A job may have %d transfers of caches and artifacts.", maxOpen)
	}
	return os.MkdirAll(a.dir, 0o700)
}

func newID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}
