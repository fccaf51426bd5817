// Package api is HTTP and JSON under /api/v1: decode, call one service method,
// encode. It owns the wire types and makes no decision. The same declarations
// give the OpenAPI 3.1 document at /api/v1/openapi.json.
//
// Errors are problem documents (RFC 9457) whose detail is a sentence to act on.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"path"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"weir/internal/artifact"
	"weir/internal/base/fault"
	"weir/internal/base/id"
	"weir/internal/catalog"
	"weir/internal/guard/evidence"
	"weir/internal/guard/identity"
	"weir/internal/guard/ledger"
	"weir/internal/guard/policy"
	"weir/internal/guard/secret"
	"weir/internal/pipeline"
	"weir/internal/source"
)

// Versions of the protocol that this server speaks.
const Version = "v1"

// Config is what the API calls.
type Config struct {
	Release  string // of Weir itself
	Instance string
	URL      string
	Accounts *identity.Accounts
	// Authenticate says who holds a token, jobs included; nil asks Accounts.
	Authenticate func(ctx context.Context, token string) (identity.Actor, error)
	Catalog      *catalog.Catalog
	Source       *source.Service
	LandRules    []policy.Rule // for explaining what a change waits for
	Pipeline     *pipeline.Service
	Secrets      *secret.Store
	Mirrors      Mirrors
	Artifact     *artifact.Service
	Registry     artifact.Custodian
	Evidence     *evidence.Service
	Ledger       *ledger.Log
	Policy       *policy.Policy
	Delivery     Delivery
	// Submissions takes in images that were built elsewhere.
	Submissions Submitter
	Notes       Noter
	// Against holds findings against each limit of their service.
	Against func(ctx context.Context, serviceID string, f artifact.Findings) ([]policy.Against, error)
}

type server struct{ Config }

// New returns the handler for /api/v1/.
func New(c Config) http.Handler {
	mux := http.NewServeMux()
	conf := huma.DefaultConfig("Weir", c.Release)
	conf.Info.Description = "The control point between a commit and production."
	conf.OpenAPIPath = "/api/v1/openapi"
	conf.DocsPath = ""
	conf.SchemasPath = "/api/v1/schemas"
	conf.CreateHooks = nil // No $schema links inside of answers.
	conf.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer", Description: "A token made with `weir token create`."}}
	conf.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	conf.Security = []map[string][]string{{"token": {}}}
	a := humago.New(mux, conf)
	s := &server{c}
	s.system(a)
	s.keys(a)
	s.accounts(a)
	s.repositories(a)
	s.changes(a)
	s.runs(a)
	s.agents(a)
	s.logs(a)
	s.settings(a)
	s.mirrors(a)
	s.tests(a)
	s.garbage(a)
	s.registry(a)
	s.artifacts(a)
	s.components(a)
	s.vulnerabilities(a)
	s.submissions(a)
	s.notes(a)
	s.ledgerRoutes(a)
	s.delivery(a)
	mux.HandleFunc("GET /api/v1/runs/{run}/jobs/{job}/log", s.log)
	mux.HandleFunc("POST /api/v1/vulnerabilities/import", s.importAdvisories)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, r, fault.New(fault.NotFound, "There is nothing at %s. The document at /api/v1/openapi.json lists what there is; this server speaks %s.", r.URL.Path, Version))
	})
	return http.NewCrossOriginProtection().Handler(c.authenticated(s.ofJobs(mux)))
}

// schemaName tells types of the same name apart by their package.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if pkg := path.Base(t.PkgPath()); t.Name() != "" && pkg != "api" && pkg != "." && pkg != "v2" {
		return strings.ToUpper(pkg[:1]) + pkg[1:] + name
	}
	return name
}

type requestKey struct{}

// authenticated finds out who asks, by bearer token. Cookies mean nothing here:
// pages have handlers of their own.
func (c Config) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := id.New("request")
		w.Header().Set("X-Request-Id", request)
		w.Header().Set("Weir-Api-Versions", Version)
		ctx := context.WithValue(r.Context(), requestKey{}, request)
		if want := r.Header.Get("Weir-Api-Version"); want != "" && want != Version {
			problem(w, r.WithContext(ctx), fault.New(fault.Invalid, "This server speaks version %s of the API, not %s. Use a client of its release.", Version, want))
			return
		}
		if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
			authenticate := c.Authenticate
			if authenticate == nil {
				authenticate = c.Accounts.Authenticate
			}
			a, err := authenticate(ctx, token)
			if err != nil {
				w.Header().Set("WWW-Authenticate", "Bearer")
				problemStatus(w, r.WithContext(ctx), http.StatusUnauthorized, err)
				return
			}
			ctx = identity.With(ctx, a)
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// statusOf is the one table from kinds of faults to statuses.
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

// refused turns an error into the problem that huma writes.
func refused(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	status := statusOf(err)
	if status == http.StatusForbidden && identity.From(ctx).Kind == identity.Nobody {
		status = http.StatusUnauthorized
	}
	request, _ := ctx.Value(requestKey{}).(string)
	if fault.KindOf(err) == "" && ctx.Err() == nil {
		slog.ErrorContext(ctx, "request failed", "request", request, "error", err)
	}
	return &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: fault.Sentence(err), Instance: request}
}

func problem(w http.ResponseWriter, r *http.Request, err error) {
	problemStatus(w, r, statusOf(err), err)
}

func problemStatus(w http.ResponseWriter, r *http.Request, status int, err error) {
	request, _ := r.Context().Value(requestKey{}).(string)
	writeProblem(w, status, &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: fault.Sentence(err), Instance: request})
}

// route registers one operation: who may call it is decided by the method that
// it calls, never here.
func route[I, O any](a huma.API, method, path, name, summary string, call func(ctx context.Context, in *I) (O, error)) {
	type answer struct{ Body O }
	op := huma.Operation{OperationID: name, Method: method, Path: "/api/v1" + path, Summary: summary, MaxBodyBytes: 1 << 20}
	huma.Register(a, op, func(ctx context.Context, in *I) (*answer, error) {
		out, err := call(ctx, in)
		if err != nil {
			return nil, refused(ctx, err)
		}
		return &answer{out}, nil
	})
}

// none is the answer of a command that has nothing to tell.
type none struct {
	OK bool `json:"ok"`
}
