package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/base/fault"
	"weir/internal/guard/identity"
	"weir/internal/guard/secret"
	"weir/internal/pipeline"
)

// Setting is a secret, whose value is never shown, or a variable.
type Setting struct {
	Name        string    `json:"name"`
	Repository  string    `json:"repository,omitempty" doc:"Empty: all repositories."`
	Environment string    `json:"environment,omitempty" doc:"Empty: all environments."`
	Value       string    `json:"value,omitempty"`
	Version     int       `json:"version"`
	By          string    `json:"by"`
	Time        time.Time `json:"time"`
}

func (s *server) settings(a huma.API) {
	route(a, "POST", "/repositories/{name}/runs", "start-run", "Start a run of a workflow that has on: workflow_dispatch", func(ctx context.Context, in *struct {
		Named
		Body struct {
			Workflow string            `json:"workflow" doc:"Path or name of the file."`
			Ref      string            `json:"ref,omitempty" doc:"A tag; empty: the trunk."`
			Inputs   map[string]string `json:"inputs,omitempty"`
		}
	}) (Run, error) {
		r, err := s.Pipeline.Start(ctx, pipeline.StartRequest{Repository: in.Name, Workflow: in.Body.Workflow, Ref: in.Body.Ref, Inputs: in.Body.Inputs, By: identity.From(ctx).Name})
		if err != nil {
			return Run{}, err
		}
		return runOf(r), nil
	})
	route(a, "POST", "/runs/{run}/approvals", "approve-run", "Let a run's jobs into an environment, or refuse", func(ctx context.Context, in *struct {
		RunRef
		Body struct {
			Environment string `json:"environment"`
			Verdict     string `json:"verdict" enum:"approve,reject"`
			Reason      string `json:"reason,omitempty"`
		}
	}) (none, error) {
		return none{true}, s.Pipeline.Approve(ctx, pipeline.RunID(in.Run), in.Body.Environment, in.Body.Verdict, in.Body.Reason, identity.From(ctx).Name)
	})
	for _, k := range []struct {
		kind        secret.Kind
		path, plain string
	}{{secret.Secret, "/secrets", "secret"}, {secret.Variable, "/variables", "variable"}} {
		s.setting(a, k.kind, k.path, k.plain)
	}
}

func (s *server) setting(a huma.API, kind secret.Kind, path, noun string) {
	type place struct {
		Repository  string `query:"repository"`
		Environment string `query:"environment"`
	}
	where := func(ctx context.Context, p place) (secret.Place, error) {
		if s.Secrets == nil {
			return secret.Place{}, fault.New(fault.Unavailable, "This server keeps no secrets.")
		}
		if p.Repository == "" {
			return secret.Place{Environment: p.Environment}, nil
		}
		r, err := s.Catalog.Repository(ctx, p.Repository)
		return secret.Place{RepositoryID: r.ID, Environment: p.Environment}, err
	}
	route(a, "GET", path, "list-"+noun+"s", "List what runs are given as "+noun+"s", func(ctx context.Context, in *struct{ place }) ([]Setting, error) {
		p, err := where(ctx, in.place)
		if err != nil {
			return nil, err
		}
		items, err := s.Secrets.List(ctx, kind, p.RepositoryID)
		out := make([]Setting, 0, len(items))
		for _, i := range items {
			out = append(out, Setting{i.Name, in.Repository, i.Environment, i.Value, i.Version, i.By, i.Time})
		}
		return out, err
	})
	route(a, "PUT", path+"/{setting}", "set-"+noun, "Set a "+noun, func(ctx context.Context, in *struct {
		place
		Setting string `path:"setting"`
		Body    struct {
			Value string `json:"value"`
		}
	}) (none, error) {
		p, err := where(ctx, in.place)
		if err != nil {
			return none{}, err
		}
		return none{true}, s.Secrets.Set(ctx, kind, p, in.Setting, in.Body.Value)
	})
	route(a, "DELETE", path+"/{setting}", "delete-"+noun, "Delete a "+noun, func(ctx context.Context, in *struct {
		place
		Setting string `path:"setting"`
	}) (none, error) {
		p, err := where(ctx, in.place)
		if err != nil {
			return none{}, err
		}
		return none{true}, s.Secrets.Delete(ctx, kind, p, in.Setting)
	})
}
