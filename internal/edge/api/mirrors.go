package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/base/fault"
)

// Mirrors keeps copies of repositories whose actions and workflows runs may use.
type Mirrors interface {
	AddMirror(ctx context.Context, name, from string) (Mirror, error)
	ListMirrors(ctx context.Context) ([]Mirror, error)
	RemoveMirror(ctx context.Context, name string) error
}

// Mirror is a copy of a repository.
type Mirror struct {
	Name    string            `json:"name"`
	URL     string            `json:"url"`
	Size    int64             `json:"size"`
	Refs    map[string]string `json:"refs" doc:"Branches and tags, with the commit that they had when they were fetched."`
	Fetched time.Time         `json:"fetched"`
	By      string            `json:"by"`
}

func (s *server) mirrors(a huma.API) {
	kept := func() error {
		if s.Mirrors == nil {
			return fault.New(fault.Unavailable, "This server keeps no mirrors.")
		}
		return nil
	}
	route(a, "GET", "/mirrors", "list-mirrors", "List the mirrors of other repositories", func(ctx context.Context, _ *struct{}) ([]Mirror, error) {
		if err := kept(); err != nil {
			return nil, err
		}
		return s.Mirrors.ListMirrors(ctx)
	})
	route(a, "POST", "/mirrors", "add-mirror", "Fetch a repository for its actions and workflows, or fetch one again", func(ctx context.Context, in *struct {
		Body struct {
			Name string `json:"name,omitempty" doc:"owner/name; from the URL if absent."`
			From string `json:"from,omitempty" doc:"URL, or absolute path on the server; absent to fetch again."`
		}
	}) (Mirror, error) {
		if err := kept(); err != nil {
			return Mirror{}, err
		}
		return s.Mirrors.AddMirror(ctx, in.Body.Name, in.Body.From)
	})
	route(a, "DELETE", "/mirrors/{owner}/{name}", "remove-mirror", "Forget a mirror", func(ctx context.Context, in *struct {
		Owner string `path:"owner"`
		Name  string `path:"name"`
	}) (none, error) {
		if err := kept(); err != nil {
			return none{}, err
		}
		return none{true}, s.Mirrors.RemoveMirror(ctx, in.Owner+"/"+in.Name)
	})
}
