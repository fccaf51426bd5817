// Package ocid speaks the OCI distribution protocol (1.1): it decodes a
// request, asks whether the actor may, calls the registry, and encodes the
// answer. docker, podman, skopeo, crane, oras and cosign are its clients.
package ocid

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

// Registry is what the protocol needs from the artifact layer.
type Registry interface {
	Blob(ctx context.Context, repository, digest string) (artifact.Descriptor, error)
	Want(ctx context.Context, repository, digest string) (artifact.Descriptor, error)
	OpenBlob(ctx context.Context, repository, digest string) (io.ReadSeekCloser, artifact.Descriptor, error)
	DeleteBlob(ctx context.Context, repository, digest string) error
	Mount(ctx context.Context, repository, from, digest string) (bool, error)
	PutBlob(ctx context.Context, repository, digest string, body io.Reader) (artifact.Descriptor, error)

	StartUpload(ctx context.Context, repository string) (artifact.Upload, error)
	Upload(ctx context.Context, repository, id string) (artifact.Upload, error)
	Append(ctx context.Context, repository, id string, offset int64, body io.Reader) (artifact.Upload, error)
	Finish(ctx context.Context, repository, id, digest string) (artifact.Descriptor, error)
	Cancel(ctx context.Context, repository, id string) error

	Manifest(ctx context.Context, repository, reference string) (artifact.Manifest, error)
	PutManifest(ctx context.Context, repository, reference, mediaType string, raw []byte, tags ...string) (artifact.Manifest, error)
	DeleteManifest(ctx context.Context, repository, reference string) error
	Tags(ctx context.Context, repository, last string, n int) (tags []string, more bool, err error)
	ReferrersPage(ctx context.Context, repository, digest, artifactType, from string) (list []artifact.Descriptor, next string, err error)
	MaxManifest() int64
}

// Access is a kind of request on a repository.
type Access = artifact.Access

// Config wires the handler.
type Config struct {
	Registry Registry
	// Authenticate tells who asks. No credentials give the zero actor or
	// identity.Anonymous, and no error; wrong ones give an error.
	Authenticate func(*http.Request) (identity.Actor, error)
	// Authorize refuses with an error; the actor is in ctx.
	Authorize func(ctx context.Context, access Access, repository string) error
	// AnonymousPull lets requests without credentials read everything.
	AnonymousPull bool
}

type handler struct{ Config }

// New returns the handler for "/v2/" and below.
func New(c Config) http.Handler { return handler{c} }

var route = regexp.MustCompile(`^/v2/(.+)/(blobs|manifests|tags|referrers)/(.*)$`)

func (h handler) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	actor, err := h.Authenticate(q)
	if err != nil {
		h.challenge(w, q, fault.Sentence(err))
		return
	}
	if actor.ID == "" {
		actor = identity.Anonymous
	}
	q = q.WithContext(identity.With(q.Context(), actor))
	if q.URL.Path == "/v2/" || q.URL.Path == "/v2" {
		if actor.Kind == identity.Nobody && !h.AnonymousPull {
			h.challenge(w, q, "sign in with a token as the password")
			return
		}
		answer(w, http.StatusOK, struct{}{})
		return
	}
	repository, kind, rest := parse(q.URL.Path)
	if kind == "" {
		refuse(w, q, artifact.Refuse(artifact.Unsupported, fault.NotFound, "there is nothing at this address; a registry answers below /v2/<repository>/blobs, manifests, tags and referrers"))
		return
	}
	if !artifact.ValidRepository(repository) {
		refuse(w, q, artifact.Refuse(artifact.NameInvalid, fault.Invalid, "%q cannot name a repository; use lower-case letters, digits, dots, dashes and slashes", repository))
		return
	}
	if !h.may(w, q, access(q.Method, kind), repository) {
		return
	}
	switch kind {
	case "uploads":
		h.uploads(w, q, repository, rest)
	case "blobs":
		h.blobs(w, q, repository, rest)
	case "manifests":
		h.manifests(w, q, repository, rest)
	case "tags":
		h.tags(w, q, repository, rest)
	case "referrers":
		h.referrers(w, q, repository, rest)
	}
}

// parse splits a path into repository, kind and the rest.
func parse(path string) (repository, kind, rest string) {
	if at := strings.Index(path, "/blobs/uploads/"); at > len("/v2/")-1 && strings.HasPrefix(path, "/v2/") {
		return path[len("/v2/"):at], "uploads", path[at+len("/blobs/uploads/"):]
	}
	m := route.FindStringSubmatch(path)
	if m == nil {
		return "", "", ""
	}
	return m[1], m[2], m[3]
}

// access is what a request needs. An upload is the business of who may push, also to look at it or to give it up.
func access(method, kind string) Access {
	switch {
	case kind == "uploads":
		return artifact.Push
	case method == http.MethodGet || method == http.MethodHead:
		return artifact.Pull
	case method == http.MethodDelete:
		return artifact.Delete
	}
	return artifact.Push
}

// may answers a request that it does not let through.
func (h handler) may(w http.ResponseWriter, q *http.Request, a Access, repository string) bool {
	err := h.allowed(q.Context(), a, repository)
	if err == nil {
		return true
	}
	if identity.From(q.Context()).Kind == identity.Nobody {
		h.challenge(w, q, "sign in with a token as the password to "+string(a)+" "+repository)
		return false
	}
	refuse(w, q, err)
	return false
}

func (h handler) allowed(ctx context.Context, a Access, repository string) error {
	if identity.From(ctx).Kind == identity.Nobody {
		if a == artifact.Pull && h.AnonymousPull {
			return nil
		}
		return artifact.Refuse(artifact.Unauthorized, fault.Denied, "sign in first")
	}
	return h.Authorize(ctx, a, repository)
}

// challenge asks for Basic credentials, which every client can give: any name,
// and a token as the password. A bearer token is taken as well.
func (h handler) challenge(w http.ResponseWriter, _ *http.Request, sentence string) {
	w.Header().Set("WWW-Authenticate", `Basic realm="weir"`)
	fail(w, http.StatusUnauthorized, artifact.Unauthorized, sentence)
}

func (h handler) blobs(w http.ResponseWriter, q *http.Request, repository, digest string) {
	switch q.Method {
	case http.MethodHead:
		d, err := h.Registry.Want(q.Context(), repository, digest)
		if err != nil {
			refuse(w, q, err)
			return
		}
		blobHeaders(w, d)
		w.Header().Set("Accept-Ranges", "bytes")
		w.Header().Set("Content-Length", strconv.FormatInt(d.Size, 10))
	case http.MethodGet:
		rc, d, err := h.Registry.OpenBlob(q.Context(), repository, digest)
		if err != nil {
			refuse(w, q, err)
			return
		}
		defer rc.Close()
		blobHeaders(w, d)
		http.ServeContent(w, q, "", time.Time{}, rc)
	case http.MethodDelete:
		if err := h.Registry.DeleteBlob(q.Context(), repository, digest); err != nil {
			refuse(w, q, err)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	default:
		wrongMethod(w, q)
	}
}

func blobHeaders(w http.ResponseWriter, d artifact.Descriptor) {
	w.Header().Set("Docker-Content-Digest", d.Digest)
	w.Header().Set("Content-Type", d.MediaType)
	w.Header().Set("Etag", `"`+d.Digest+`"`)
	w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
}

func (h handler) uploads(w http.ResponseWriter, q *http.Request, repository, id string) {
	if id == "" {
		if q.Method != http.MethodPost {
			wrongMethod(w, q)
			return
		}
		h.startUpload(w, q, repository)
		return
	}
	switch q.Method {
	case http.MethodGet, http.MethodHead:
		u, err := h.Registry.Upload(q.Context(), repository, id)
		if err != nil {
			refuse(w, q, err)
			return
		}
		progress(w, u, http.StatusNoContent)
	case http.MethodDelete:
		if err := h.Registry.Cancel(q.Context(), repository, id); err != nil {
			refuse(w, q, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPatch, http.MethodPut:
		h.appendUpload(w, q, repository, id)
	default:
		wrongMethod(w, q)
	}
}

// startUpload mounts a blob, takes a whole one, or opens an upload.
func (h handler) startUpload(w http.ResponseWriter, q *http.Request, repository string) {
	v := q.URL.Query()
	if digest, from := v.Get("mount"), v.Get("from"); digest != "" {
		if !artifact.ValidDigest(digest) {
			refuse(w, q, artifact.Refuse(artifact.DigestInvalid, fault.Invalid, "%q is not a digest", digest))
			return
		}
		// Who may not read the other repository gets the answer of one without
		// the blob, and so learns nothing.
		if artifact.ValidRepository(from) && h.allowed(q.Context(), artifact.Pull, from) == nil {
			mounted, err := h.Registry.Mount(q.Context(), repository, from, digest)
			if err != nil {
				refuse(w, q, err)
				return
			}
			if mounted {
				created(w, repository, "blobs", digest)
				return
			}
		}
	}
	if digest := v.Get("digest"); digest != "" {
		d, err := h.Registry.PutBlob(q.Context(), repository, digest, q.Body)
		if err != nil {
			refuse(w, q, err)
			return
		}
		created(w, repository, "blobs", d.Digest)
		return
	}
	u, err := h.Registry.StartUpload(q.Context(), repository)
	if err != nil {
		refuse(w, q, err)
		return
	}
	progress(w, u, http.StatusAccepted)
}

// appendUpload takes a piece, and with PUT the end.
func (h handler) appendUpload(w http.ResponseWriter, q *http.Request, repository, id string) {
	offset, length, ok := piece(q.Header.Get("Content-Range"))
	if !ok || length >= 0 && q.ContentLength >= 0 && q.ContentLength != length {
		refuse(w, q, artifact.Refuse(artifact.BlobUploadInvalid, fault.Invalid, "the Content-Range %.60q is not FIRST-LAST of a piece as long as the body", q.Header.Get("Content-Range")))
		return
	}
	body := io.Reader(q.Body)
	if length >= 0 {
		body = &exactly{r: q.Body, left: length}
	}
	u, err := h.Registry.Append(q.Context(), repository, id, offset, body)
	if errors.Is(err, artifact.ErrOutOfOrder) {
		progressHeaders(w, u)
		fail(w, http.StatusRequestedRangeNotSatisfiable, artifact.BlobUploadInvalid, fault.Sentence(artifact.ErrOutOfOrder))
		return
	}
	if err != nil {
		refuse(w, q, err)
		return
	}
	if q.Method == http.MethodPatch {
		progress(w, u, http.StatusAccepted)
		return
	}
	d, err := h.Registry.Finish(q.Context(), repository, id, q.URL.Query().Get("digest"))
	if err != nil {
		refuse(w, q, err)
		return
	}
	created(w, repository, "blobs", d.Digest)
}

// piece is where a body belongs and how long it is; -1 and -1 if the client does not say.
func piece(contentRange string) (offset, length int64, ok bool) {
	if contentRange == "" {
		return -1, -1, true
	}
	from, to, found := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(contentRange, "bytes="), "bytes "), "-")
	to, _, _ = strings.Cut(to, "/")
	a, err1 := strconv.ParseInt(from, 10, 64)
	b, err2 := strconv.ParseInt(to, 10, 64)
	if !found || err1 != nil || err2 != nil || a < 0 || b < a-1 || b-a > 1<<50 {
		return 0, 0, false
	}
	return a, b - a + 1, true
}

// exactly is a body that must be as long as was said.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.left -= int64(n)
	if e.left < 0 || errors.Is(err, io.EOF) && e.left > 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func (h handler) manifests(w http.ResponseWriter, q *http.Request, repository, reference string) {
	switch q.Method {
	case http.MethodGet, http.MethodHead:
		m, err := h.Registry.Manifest(q.Context(), repository, reference)
		if err != nil {
			refuse(w, q, err)
			return
		}
		w.Header().Set("Content-Type", m.MediaType)
		w.Header().Set("Docker-Content-Digest", m.Digest)
		w.Header().Set("Etag", `"`+m.Digest+`"`)
		w.Header().Set("Content-Length", strconv.Itoa(len(m.Raw)))
		if q.Method == http.MethodGet {
			_, _ = w.Write(m.Raw)
		}
	case http.MethodPut:
		h.putManifest(w, q, repository, reference)
	case http.MethodDelete:
		if err := h.Registry.DeleteManifest(q.Context(), repository, reference); err != nil {
			refuse(w, q, err)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	default:
		wrongMethod(w, q)
	}
}

func (h handler) putManifest(w http.ResponseWriter, q *http.Request, repository, reference string) {
	raw, err := io.ReadAll(io.LimitReader(q.Body, h.Registry.MaxManifest()+1))
	if err != nil {
		refuse(w, q, artifact.Refuse(artifact.ManifestInvalid, fault.Invalid, "the manifest broke off before its end; send it again"))
		return
	}
	tags := q.URL.Query()["tag"]
	if slices.ContainsFunc(append(tags, reference), artifact.IsReleaseTag) && !h.may(w, q, artifact.Tag, repository) {
		return
	}
	m, err := h.Registry.PutManifest(q.Context(), repository, reference, q.Header.Get("Content-Type"), raw, tags...)
	if err != nil {
		refuse(w, q, err)
		return
	}
	if m.Subject != "" {
		w.Header().Set("Oci-Subject", m.Subject)
	}
	for _, t := range tags {
		w.Header().Add("Oci-Tag", t)
	}
	created(w, repository, "manifests", m.Digest)
}

func (h handler) tags(w http.ResponseWriter, q *http.Request, repository, rest string) {
	if rest != "list" || q.Method != http.MethodGet {
		wrongMethod(w, q)
		return
	}
	n := -1
	if s := q.URL.Query().Get("n"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 0 {
			refuse(w, q, artifact.Refuse(artifact.Unsupported, fault.Invalid, "n=%q is not a number of tags", s))
			return
		}
	}
	tags, more, err := h.Registry.Tags(q.Context(), repository, q.URL.Query().Get("last"), n)
	if err != nil {
		refuse(w, q, err)
		return
	}
	if more && n > 0 {
		next := url.Values{"n": {strconv.Itoa(n)}, "last": {tags[n-1]}}
		w.Header().Set("Link", "</v2/"+repository+"/tags/list?"+next.Encode()+`>; rel="next"`)
	}
	if tags == nil {
		tags = []string{}
	}
	answer(w, http.StatusOK, map[string]any{"name": repository, "tags": tags})
}

func (h handler) referrers(w http.ResponseWriter, q *http.Request, repository, digest string) {
	if q.Method != http.MethodGet {
		wrongMethod(w, q)
		return
	}
	kind := q.URL.Query().Get("artifactType")
	list, next, err := h.Registry.ReferrersPage(q.Context(), repository, digest, kind, q.URL.Query().Get("from"))
	if err != nil {
		refuse(w, q, err)
		return
	}
	if next != "" {
		on := url.Values{"from": {next}}
		if kind != "" {
			on.Set("artifactType", kind)
		}
		w.Header().Set("Link", "</v2/"+repository+"/referrers/"+digest+"?"+on.Encode()+`>; rel="next"`)
	}
	if kind != "" {
		w.Header().Set("Oci-Filters-Applied", "artifactType")
	}
	w.Header().Set("Content-Type", artifact.MediaIndex)
	answer(w, http.StatusOK, map[string]any{"schemaVersion": 2, "mediaType": artifact.MediaIndex, "manifests": list})
}

func created(w http.ResponseWriter, repository, kind, digest string) {
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Location", "/v2/"+repository+"/"+kind+"/"+digest)
	w.WriteHeader(http.StatusCreated)
}

func progress(w http.ResponseWriter, u artifact.Upload, status int) {
	progressHeaders(w, u)
	w.WriteHeader(status)
}

func progressHeaders(w http.ResponseWriter, u artifact.Upload) {
	w.Header().Set("Location", "/v2/"+u.Repository+"/blobs/uploads/"+u.ID)
	w.Header().Set("Docker-Upload-Uuid", u.ID)
	w.Header().Set("Range", "0-"+strconv.FormatInt(max(u.Size-1, 0), 10))
}

func wrongMethod(w http.ResponseWriter, q *http.Request) {
	fail(w, http.StatusMethodNotAllowed, artifact.Unsupported, q.Method+" is not possible here")
}

// statuses is where the protocol wants another status than the fault's kind.
var statuses = map[artifact.Code]int{
	artifact.SizeInvalid:  http.StatusRequestEntityTooLarge,
	artifact.Unauthorized: http.StatusUnauthorized,
}

var kinds = map[fault.Kind]int{
	fault.NotFound: http.StatusNotFound, fault.Conflict: http.StatusConflict, fault.Invalid: http.StatusBadRequest,
	fault.Denied: http.StatusForbidden, fault.Unavailable: http.StatusServiceUnavailable,
}

func refuse(w http.ResponseWriter, q *http.Request, err error) {
	code, kind := artifact.CodeOf(err), fault.KindOf(err)
	status := statuses[code]
	if status == 0 {
		status = kinds[kind]
	}
	if status == 0 {
		status = http.StatusInternalServerError
		slog.ErrorContext(q.Context(), "registry request failed", "method", q.Method, "path", q.URL.Path, "error", err)
	}
	switch {
	case code != "":
	case kind == fault.Denied:
		code = artifact.Denied
	case kind == fault.NotFound:
		code = artifact.NameUnknown
	default:
		code = "UNKNOWN"
	}
	fail(w, status, code, fault.Sentence(err))
}

func fail(w http.ResponseWriter, status int, code artifact.Code, sentence string) {
	answer(w, status, map[string]any{"errors": []any{map[string]string{"code": string(code), "message": sentence}}})
}

func answer(w http.ResponseWriter, status int, body any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
