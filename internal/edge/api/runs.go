package api

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/guard/identity"
	"weir/internal/pipeline"
)

// Run is one execution of a workflow.
type Run struct {
	ID           string                `json:"id"`
	RepositoryID string                `json:"repository_id"`
	Repository   string                `json:"repository"`
	Workflow     string                `json:"workflow"`
	Name         string                `json:"name"`
	Event        string                `json:"event"`
	Ref          string                `json:"ref"`
	Revision     string                `json:"revision"`
	RulesFrom    string                `json:"rules_from,omitempty" doc:"Revision that the workflow was read from, for a change."`
	Trust        string                `json:"trust"`
	ChangeID     string                `json:"change_id,omitempty"`
	State        string                `json:"state"`
	Reason       string                `json:"reason,omitempty"`
	Attempt      int                   `json:"attempt"`
	Created      time.Time             `json:"created"`
	Started      time.Time             `json:"started,omitzero"`
	Finished     time.Time             `json:"finished,omitzero"`
	Diagnostics  []pipeline.Diagnostic `json:"diagnostics,omitempty"`
	Jobs         []Job                 `json:"jobs,omitempty"`
}

// Job is one job of a run.
type Job struct {
	ID       string            `json:"id"`
	Key      string            `json:"key"`
	Needs    []string          `json:"needs,omitempty"`
	State    string            `json:"state"`
	Reason   string            `json:"reason,omitempty"`
	Outputs  map[string]string `json:"outputs,omitempty"`
	Attempts []Attempt         `json:"attempts"`
}

// Attempt is one try of a job.
type Attempt struct {
	Number      int                   `json:"number"`
	State       string                `json:"state"`
	Reason      string                `json:"reason,omitempty"`
	Confined    bool                  `json:"confined"`
	Network     string                `json:"network"`
	Unenforced  []string              `json:"unenforced,omitempty"`
	Images      []pipeline.Image      `json:"images,omitempty"`
	Caches      []pipeline.CacheUse   `json:"caches,omitempty"`
	Started     time.Time             `json:"started"`
	Finished    time.Time             `json:"finished,omitzero"`
	Steps       []pipeline.Step       `json:"steps,omitempty"`
	Annotations []pipeline.Annotation `json:"annotations,omitempty"`
	Summary     string                `json:"summary,omitempty"`
}

// Wait is what a run waits for.
type Wait struct {
	Run   Run             `json:"run"`
	Waits []pipeline.Wait `json:"waits"`
}

func runOf(r pipeline.Run) Run {
	out := Run{ID: string(r.ID), RepositoryID: r.RepositoryID, Repository: r.Repository, Workflow: r.Workflow, Name: r.Name, Event: r.Event, Ref: r.Ref, Revision: r.Revision,
		Trust: string(r.Trust), ChangeID: r.ChangeID, State: string(r.State), Reason: r.Reason, Attempt: r.Attempt, Created: r.Created, Started: r.Started, Finished: r.Finished, Diagnostics: r.Diagnostics}
	if r.Trust == pipeline.Change {
		out.RulesFrom = r.Base
	}
	for i, j := range r.Jobs {
		w := Job{ID: string(j.ID), Key: j.Key, State: string(j.State), Reason: j.Reason, Outputs: j.Outputs, Attempts: []Attempt{}}
		if i < len(r.Plan.Jobs) {
			w.Needs = r.Plan.Jobs[i].Needs
		}
		for _, a := range j.Attempts {
			w.Attempts = append(w.Attempts, Attempt{a.Number, string(a.State), a.Reason, a.Confined, a.Network, a.Unenforced, a.Images, a.Caches, a.Started, a.Finished, a.Steps, a.Annotations, a.Summary})
		}
		out.Jobs = append(out.Jobs, w)
	}
	return out
}

// RunRef is the path of a run.
type RunRef struct {
	Run string `path:"run"`
}

func (s *server) runs(a huma.API) {
	route(a, "GET", "/runs", "list-runs", "List runs, newest first", func(ctx context.Context, in *struct {
		Repository string `query:"repository"`
		Revision   string `query:"revision"`
		Change     string `query:"change"`
		Before     string `query:"before"`
		Limit      int    `query:"limit" minimum:"0" maximum:"200"`
	}) ([]Run, error) {
		f := pipeline.Filter{Revision: in.Revision, ChangeID: in.Change, Before: pipeline.RunID(in.Before), Limit: in.Limit}
		if in.Repository != "" {
			r, err := s.Catalog.Repository(ctx, in.Repository)
			if err != nil {
				return nil, err
			}
			f.RepositoryID = r.ID
		}
		all, err := s.Pipeline.List(ctx, f)
		out := make([]Run, len(all))
		for i, r := range all {
			out[i] = runOf(r)
		}
		return out, err
	})
	route(a, "GET", "/runs/{run}", "get-run", "A run with jobs, attempts and steps", func(ctx context.Context, in *RunRef) (Run, error) {
		r, err := s.Pipeline.Get(ctx, pipeline.RunID(in.Run))
		return runOf(r), err
	})
	route(a, "GET", "/runs/{run}/why", "why-run", "What a run waits for, since when, and who can release it", func(ctx context.Context, in *RunRef) (Wait, error) {
		r, waits, err := s.Pipeline.Why(ctx, pipeline.RunID(in.Run))
		return Wait{runOf(r), waits}, err
	})
	route(a, "POST", "/runs/{run}/cancel", "cancel-run", "Stop a run", func(ctx context.Context, in *struct {
		RunRef
		Body struct {
			Reason string `json:"reason,omitempty"`
		}
	}) (none, error) {
		return none{true}, s.Pipeline.Cancel(ctx, pipeline.RunID(in.Run), identity.From(ctx).Name, in.Body.Reason)
	})
	route(a, "POST", "/runs/{run}/rerun", "rerun", "Run again what did not succeed", func(ctx context.Context, in *RunRef) (none, error) {
		return none{true}, s.Pipeline.Rerun(ctx, pipeline.RunID(in.Run), identity.From(ctx).Name)
	})
	route(a, "POST", "/lint", "lint", "Check workflow files", func(ctx context.Context, in *struct {
		Body struct {
			Files map[string]string `json:"files"`
		}
	}) ([]pipeline.Diagnostic, error) {
		files := map[string][]byte{}
		for name, text := range in.Body.Files {
			files[name] = []byte(text)
		}
		d, err := s.Pipeline.Lint(ctx, files)
		if d == nil {
			d = []pipeline.Diagnostic{}
		}
		return d, err
	})
}

// log streams what a job wrote from a byte offset, as package logs documents
// it; with follow=true it goes on until the attempt ends.
func (s *server) log(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	attempt, _ := strconv.Atoi(q.Get("attempt"))
	offset, _ := strconv.ParseInt(q.Get("offset"), 10, 64)
	in, err := s.Pipeline.Log(r.Context(), pipeline.RunID(r.PathValue("run")), r.PathValue("job"), attempt, max(offset, 0), q.Get("follow") == "true")
	if err != nil {
		problem(w, r, err)
		return
	}
	defer in.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	out := http.NewResponseController(w)
	buf := make([]byte, 32<<10)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return
			}
			_ = out.Flush()
		}
		if err != nil {
			if err != io.EOF {
				return // The client sees a cut connection, not a complete log.
			}
			return
		}
	}
}
