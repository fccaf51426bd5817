// Package agentd is the protocol that remote runners speak, under /agent/v1/: a stream (or polls) over which an agent is told what
// to run, and requests for everything that a job needs of the server. It checks who asks and moves bytes; what they mean is
// decided behind Pool.
//
//	POST stream            the agent's greeting; the answer is one frame a line, without end
//	POST poll              the same, one frame an answer
//	POST beat              the agent lives; the answer is a frame
//	POST jobs/KEY/checkout, action          GET|PUT jobs/KEY/artifact, cache      GET jobs/KEY/artifacts, image, blob
//	PUT  jobs/KEY/output, log, result
//
// Refusals are {"kind": ..., "sentence": ...}. unavailable means: try again.
package agentd

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

// Pool is what knows which agents there are and what they shall do.
type Pool interface {
	Connect(ctx context.Context, agent string, hello []byte) (Session, error)
	Beat(ctx context.Context, agent string, hello []byte) (frame []byte, err error)
	// Job returns an attempt that the agent's instance has: NotFound if it has it no longer, Unavailable if that is not known yet.
	Job(agent, instance, key string) (Attempt, error)
}

// Session is one connection.
type Session interface {
	// Next returns the next frame, at the latest when a sign of life is due.
	Next(ctx context.Context) ([]byte, error)
	Close()
}

// Attempt is what an agent may ask for a job.
type Attempt interface {
	Checkout(ctx context.Context, spec []byte) (revision string, archive io.ReadCloser, err error)
	Action(ctx context.Context, repository, revision string) (io.ReadCloser, error)
	Upload(ctx context.Context, name string, overwrite bool, r io.Reader) error
	Artifacts(ctx context.Context) ([]string, error)
	Download(ctx context.Context, name string) (io.ReadCloser, error)
	SaveCache(ctx context.Context, key string, r io.Reader) error
	FindCache(ctx context.Context, key string, prefixes []string) (found string, r io.ReadCloser, err error)
	Manifest(ctx context.Context, repository, reference string) (mediaType string, raw []byte, err error)
	Blob(ctx context.Context, repository, digest string) (io.ReadCloser, error)
	Output(ctx context.Context, described []byte, r io.Reader) error
	Log(ctx context.Context, offset int64, lines []byte) (end int64, err error)
	Finish(ctx context.Context, result []byte) error
}

// Config of the handler.
type Config struct {
	Pool Pool
	// Authenticate says whose token it is.
	Authenticate func(ctx context.Context, token string) (identity.Actor, error)
}

const (
	maxHello  = 1 << 20
	maxLog    = 4 << 20
	maxResult = 64 << 20
	maxBody   = 16 << 30 // an archive
)

// New returns the handler for /agent/v1/.
func New(c Config) http.Handler {
	mux := http.NewServeMux()
	h := &handler{c}
	mux.HandleFunc("POST /agent/v1/stream", h.as(h.stream))
	mux.HandleFunc("POST /agent/v1/poll", h.as(h.poll))
	mux.HandleFunc("POST /agent/v1/beat", h.as(h.beat))
	for route, do := range map[string]func(http.ResponseWriter, *http.Request, Attempt) error{
		"POST checkout": checkout, "POST action": action, "PUT artifact": upload, "GET artifact": download, "GET artifacts": artifacts, "GET image": image, "GET blob": imageBlob,
		"PUT cache": saveCache, "GET cache": findCache, "PUT output": output, "PUT log": appendLog, "PUT result": result,
	} {
		method, op, _ := strings.Cut(route, " ")
		mux.HandleFunc(method+" /agent/v1/jobs/{key}/"+op, h.as(func(w http.ResponseWriter, r *http.Request, agent string) error {
			a, err := c.Pool.Job(agent, r.Header.Get("Weir-Instance"), r.PathValue("key"))
			if err != nil {
				return err
			}
			return do(w, r, a)
		}))
	}
	return mux
}

type handler struct{ Config }

// as finds out which agent asks and turns errors into answers.
func (h *handler) as(do func(w http.ResponseWriter, r *http.Request, agent string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := func() error {
			token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if !ok {
				return fault.New(fault.Denied, "An agent needs a token: weir agent token NAME.")
			}
			who, err := h.Authenticate(r.Context(), token)
			if err != nil {
				return err
			}
			ctx := identity.With(r.Context(), who)
			if err := identity.Check(ctx, "agent.work", "default"); err != nil {
				return err
			}
			return do(w, r.WithContext(ctx), who.Name)
		}()
		if err != nil && r.Context().Err() == nil {
			refuse(w, r, err)
		}
	}
}

func refuse(w http.ResponseWriter, r *http.Request, err error) {
	kind := fault.KindOf(err)
	status := map[fault.Kind]int{fault.NotFound: http.StatusNotFound, fault.Conflict: http.StatusConflict, fault.Invalid: http.StatusUnprocessableEntity,
		fault.Denied: http.StatusForbidden, fault.Unavailable: http.StatusServiceUnavailable}[kind]
	sentence := fault.Sentence(err)
	if kind == "" {
		slog.ErrorContext(r.Context(), "request of an agent failed", "path", r.URL.Path, "error", err)
		// The agent tries again: most such errors are a database that is away for a moment.
		kind, status, sentence = fault.Unavailable, http.StatusServiceUnavailable, "The server could not do this; its log has the details."
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"kind": string(kind), "sentence": sentence})
}

func body(r *http.Request, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, fault.New(fault.Unavailable, "The request ended early.")
	}
	if int64(len(b)) > limit {
		return nil, fault.New(fault.Invalid, "The request has more than %d bytes.", limit)
	}
	return b, nil
}

func (h *handler) stream(w http.ResponseWriter, r *http.Request, agent string) error {
	hello, err := body(r, maxHello)
	if err != nil {
		return err
	}
	s, err := h.Pool.Connect(r.Context(), agent, hello)
	if err != nil {
		return err
	}
	defer s.Close()
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("X-Accel-Buffering", "no")
	for {
		frame, err := s.Next(r.Context())
		if err != nil {
			return nil // the head is out; the agent comes back
		}
		_ = rc.SetWriteDeadline(time.Now().Add(30 * time.Second))
		if _, err := w.Write(append(frame, '\n')); err != nil {
			return nil
		}
		if rc.Flush() != nil {
			return nil
		}
	}
}

func (h *handler) poll(w http.ResponseWriter, r *http.Request, agent string) error {
	hello, err := body(r, maxHello)
	if err != nil {
		return err
	}
	s, err := h.Pool.Connect(r.Context(), agent, hello)
	if err != nil {
		return err
	}
	defer s.Close()
	frame, err := s.Next(r.Context())
	if err == nil && wait(hello, frame) {
		frame, err = s.Next(r.Context())
	}
	if err != nil {
		return err
	}
	_, _ = w.Write(append(frame, '\n'))
	return nil
}

// wait reports whether a first frame tells nothing new, so that a poll had better wait for the next.
func wait(hello, frame []byte) bool {
	var h struct {
		Have []string `json:"have"`
	}
	var f struct {
		Ready bool `json:"ready"`
		Want  []struct {
			Cancel bool            `json:"cancel"`
			Job    json.RawMessage `json:"job"`
		} `json:"want"`
	}
	if json.Unmarshal(hello, &h) != nil || json.Unmarshal(frame, &f) != nil {
		return false
	}
	for _, w := range f.Want {
		if w.Cancel || w.Job != nil {
			return false
		}
	}
	return len(f.Want) == len(h.Have)
}

func (h *handler) beat(w http.ResponseWriter, r *http.Request, agent string) error {
	hello, err := body(r, maxHello)
	if err != nil {
		return err
	}
	frame, err := h.Pool.Beat(r.Context(), agent, hello)
	if err != nil {
		return err
	}
	_, _ = w.Write(append(frame, '\n'))
	return nil
}

// send streams an archive. If it breaks the connection does, so that the other side does not take a part for the whole.
func send(w http.ResponseWriter, archive io.ReadCloser) error {
	defer archive.Close()
	w.Header().Set("Content-Type", "application/x-tar")
	if _, err := io.Copy(w, archive); err != nil {
		slog.Warn("archive for an agent not sent", "error", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

func checkout(w http.ResponseWriter, r *http.Request, a Attempt) error {
	spec, err := body(r, maxHello)
	if err != nil {
		return err
	}
	revision, archive, err := a.Checkout(r.Context(), spec)
	if err != nil {
		return err
	}
	w.Header().Set("Weir-Revision", revision)
	return send(w, archive)
}

func action(w http.ResponseWriter, r *http.Request, a Attempt) error {
	archive, err := a.Action(r.Context(), r.URL.Query().Get("repository"), r.URL.Query().Get("revision"))
	if err != nil {
		return err
	}
	return send(w, archive)
}

func large(w http.ResponseWriter, r *http.Request) io.Reader {
	return http.MaxBytesReader(w, r.Body, maxBody)
}

func cut(err error) error {
	var limit *http.MaxBytesError
	switch {
	case errors.As(err, &limit):
		return fault.New(fault.Invalid, "An archive may have %d bytes.", limit.Limit)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fault.New(fault.Unavailable, "The upload ended early.")
	}
	return err
}

func upload(w http.ResponseWriter, r *http.Request, a Attempt) error {
	q := r.URL.Query()
	return cut(a.Upload(r.Context(), q.Get("name"), q.Get("overwrite") == "true", large(w, r)))
}

func artifacts(w http.ResponseWriter, r *http.Request, a Attempt) error {
	names, err := a.Artifacts(r.Context())
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(names)
}

func download(w http.ResponseWriter, r *http.Request, a Attempt) error {
	archive, err := a.Download(r.Context(), r.URL.Query().Get("name"))
	if err != nil {
		return err
	}
	return send(w, archive)
}

func image(w http.ResponseWriter, r *http.Request, a Attempt) error {
	q := r.URL.Query()
	kind, raw, err := a.Manifest(r.Context(), q.Get("repository"), q.Get("reference"))
	if err != nil {
		return err
	}
	w.Header().Set("Weir-Media-Type", kind)
	_, err = w.Write(raw)
	return err
}

func imageBlob(w http.ResponseWriter, r *http.Request, a Attempt) error {
	q := r.URL.Query()
	blob, err := a.Blob(r.Context(), q.Get("repository"), q.Get("digest"))
	if err != nil {
		return err
	}
	return send(w, blob)
}

func saveCache(w http.ResponseWriter, r *http.Request, a Attempt) error {
	return cut(a.SaveCache(r.Context(), r.URL.Query().Get("key"), large(w, r)))
}

func findCache(w http.ResponseWriter, r *http.Request, a Attempt) error {
	q := r.URL.Query()
	found, archive, err := a.FindCache(r.Context(), q.Get("key"), q["prefix"])
	if err != nil || found == "" {
		return err
	}
	w.Header().Set("Weir-Cache-Key", found)
	return send(w, archive)
}

func output(w http.ResponseWriter, r *http.Request, a Attempt) error {
	return cut(a.Output(r.Context(), []byte(r.URL.Query().Get("described")), large(w, r)))
}

func appendLog(w http.ResponseWriter, r *http.Request, a Attempt) error {
	lines, err := body(r, maxLog)
	if err != nil {
		return err
	}
	offset, err := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
	if err != nil || offset < 0 {
		return fault.New(fault.Invalid, "The offset of a part of a log must be a number.")
	}
	end, err := a.Log(r.Context(), offset, lines)
	if err != nil {
		return err
	}
	w.Header().Set("Weir-Offset", strconv.FormatInt(end, 10))
	return nil
}

func result(_ http.ResponseWriter, r *http.Request, a Attempt) error {
	b, err := body(r, maxResult)
	if err != nil {
		return err
	}
	return a.Finish(r.Context(), b)
}
