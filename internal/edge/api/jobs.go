package api

import (
	"context"
	"net/http"

	"weir/internal/base/fault"
	"weir/internal/guard/identity"
	"weir/internal/pipeline"
)

// ofJobs lets through what the token of a job opens: what is about the job's own repository, of the operations that are listed here.
// What the job's permissions are is asked by the method that is called, as for everybody. An operation that is not listed is refused,
// so that a new one is not open to jobs by itself.
func (s *server) ofJobs(next http.Handler) http.Handler {
	open := http.NewServeMux()
	handle := func(pattern string, repository func(ctx context.Context, r *http.Request) (string, error)) {
		open.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			at, err := repository(r.Context(), r)
			if fault.Is(err, fault.NotFound) { // whether it is there is nothing that a job learns
				at, err = "", nil
			}
			if err == nil {
				err = identity.Within(r.Context(), at)
			}
			if err != nil {
				problem(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	named := func(ctx context.Context, r *http.Request) (string, error) {
		repo, err := s.Catalog.Repository(ctx, r.PathValue("name"))
		return repo.ID, err
	}
	ofRun := func(ctx context.Context, r *http.Request) (string, error) {
		run, err := s.Pipeline.Get(ctx, pipeline.RunID(r.PathValue("run")))
		return run.RepositoryID, err
	}
	ofChange := func(ctx context.Context, r *http.Request) (string, error) {
		c, err := s.Source.Get(ctx, r.PathValue("id"))
		return c.Change.RepositoryID, err
	}
	// A list is of the job's own repository, whether it says so or not.
	listed := func(ctx context.Context, r *http.Request) (string, error) {
		q, own := r.URL.Query(), identity.From(ctx).Repository
		at := own
		if name := q.Get("repository"); name != "" {
			repo, err := s.Catalog.Repository(ctx, name)
			if err != nil {
				return "", err
			}
			at = repo.ID
		}
		q.Set("repository", own)
		r.URL.RawQuery = q.Encode()
		return at, nil
	}
	nothing := func(ctx context.Context, _ *http.Request) (string, error) { return identity.From(ctx).Repository, nil }
	for _, at := range []struct {
		patterns   []string
		repository func(context.Context, *http.Request) (string, error)
	}{
		{[]string{"GET /api/v1/me", "GET /api/v1/instance"}, nothing},
		{[]string{"GET /api/v1/repositories/{name}/ref-log", "POST /api/v1/repositories/{name}/changes", "GET /api/v1/repositories/{name}/changes/{number}", "POST /api/v1/repositories/{name}/runs"}, named},
		{[]string{"GET /api/v1/changes", "GET /api/v1/runs"}, listed},
		{[]string{"GET /api/v1/changes/{id}"}, ofChange},
		{[]string{"GET /api/v1/runs/{run}", "GET /api/v1/runs/{run}/why", "GET /api/v1/runs/{run}/tests", "GET /api/v1/runs/{run}/jobs/{job}/log", "GET /api/v1/runs/{run}/jobs/{job}/log/outline",
			"GET /api/v1/runs/{run}/jobs/{job}/log/lines", "GET /api/v1/runs/{run}/jobs/{job}/log/search", "POST /api/v1/runs/{run}/cancel", "POST /api/v1/runs/{run}/rerun"}, ofRun},
	} {
		for _, p := range at.patterns {
			handle(p, at.repository)
		}
	}
	open.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, r, fault.New(fault.Denied, "The token of a job does not open %s %s, whatever its permissions. It opens runs, changes, logs and test results of its own repository; for more, give the job a token of its own as a secret.", r.Method, r.URL.Path))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if identity.From(r.Context()).Kind == identity.Job {
			open.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
