package api

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/catalog"
	"weir/internal/guard/policy"
	"weir/internal/source"
)

// rawJSON is a document that is passed on as it is.
type rawJSON []byte

// MarshalJSON returns the document.
func (r rawJSON) MarshalJSON() ([]byte, error) { return json.RawMessage(r).MarshalJSON() }

// UnmarshalJSON keeps the document, for clients.
func (r *rawJSON) UnmarshalJSON(b []byte) error {
	*r = append((*r)[:0], b...)
	return nil
}

// Schema says that it may be any object.
func (rawJSON) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Type: "object"} }

// Repository is a repository with where it is cloned from.
type Repository struct {
	catalog.Repository
	CloneURL string `json:"clone_url"`
	Head     string `json:"head" doc:"Revision of the trunk, empty before the first push."`
}

// Named is the path of something that has a name.
type Named struct {
	Name string `path:"name"`
}

func (s *server) repository(ctx context.Context, r catalog.Repository) (Repository, error) {
	head, err := s.Source.Head(ctx, r.ID, "main")
	return Repository{r, s.URL + "/git/" + r.Name + ".git", head}, err
}

func (s *server) repositories(a huma.API) {
	route(a, "POST", "/repositories", "create-repository", "Create an empty repository", func(ctx context.Context, in *struct {
		Body struct {
			Name string `json:"name"`
		}
	}) (Repository, error) {
		r, err := s.Catalog.CreateRepository(ctx, in.Body.Name)
		if err != nil {
			return Repository{}, err
		}
		return s.repository(ctx, r)
	})
	route(a, "GET", "/repositories", "list-repositories", "List repositories", func(ctx context.Context, _ *struct{}) ([]Repository, error) {
		all, err := s.Catalog.Repositories(ctx)
		out := make([]Repository, 0, len(all))
		for _, r := range all {
			if err == nil {
				var full Repository
				full, err = s.repository(ctx, r)
				out = append(out, full)
			}
		}
		return out, err
	})
	route(a, "GET", "/repositories/{name}/ref-log", "ref-log", "Every update of a repository's refs, newest first", func(ctx context.Context, in *Named) ([]source.RefUpdate, error) {
		r, err := s.Catalog.Repository(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		return s.Source.RefLog(ctx, r.ID)
	})
	route(a, "GET", "/services", "list-services", "List services", func(ctx context.Context, _ *struct{}) ([]catalog.Ref, error) {
		return s.Catalog.Services(ctx)
	})
}

// Change is a change with what its gate says now.
type Change struct {
	source.Details
	Gate []policy.RuleResult `json:"gate" doc:"What every rule says, were it landed now. Empty once it has ended."`
}

// ChangeRef is the path of a change.
type ChangeRef struct {
	ID string `path:"id"`
}

func (s *server) change(ctx context.Context, changeID string) (Change, error) {
	d, err := s.Source.Get(ctx, changeID)
	if err != nil {
		return Change{}, err
	}
	gate, err := s.Source.Why(ctx, changeID, s.LandRules)
	return Change{d, gate}, err
}

func (s *server) changes(a huma.API) {
	route(a, "POST", "/repositories/{name}/changes", "open-change", "Propose to merge a pushed branch", func(ctx context.Context, in *struct {
		Named
		Body struct {
			Branch string `json:"branch"`
			Title  string `json:"title,omitempty"`
		}
	}) (Change, error) {
		c, err := s.Source.OpenChange(ctx, in.Name, strings.TrimPrefix(in.Body.Branch, "refs/heads/"), in.Body.Title)
		if err != nil {
			return Change{}, err
		}
		return s.change(ctx, c.ID)
	})
	route(a, "GET", "/repositories/{name}/changes/{number}", "find-change", "A change by number", func(ctx context.Context, in *struct {
		Named
		Number int64 `path:"number"`
	}) (Change, error) {
		c, err := s.Source.Find(ctx, in.Name, in.Number)
		if err != nil {
			return Change{}, err
		}
		return s.change(ctx, c.ID)
	})
	route(a, "GET", "/changes", "list-changes", "List changes, newest first", func(ctx context.Context, in *struct {
		Repository string `query:"repository"`
		State      string `query:"state" enum:"open,landed,abandoned"`
	}) ([]source.Change, error) {
		repo := ""
		if in.Repository != "" {
			r, err := s.Catalog.Repository(ctx, in.Repository)
			if err != nil {
				return nil, err
			}
			repo = r.ID
		}
		return s.Source.List(ctx, repo, in.State)
	})
	route(a, "GET", "/changes/{id}", "get-change", "A change with patchsets, reviews, checks and gate", func(ctx context.Context, in *ChangeRef) (Change, error) {
		return s.change(ctx, in.ID)
	})
	route(a, "POST", "/changes/{id}/reviews", "review-change", "Say approve or reject to the newest patchset", func(ctx context.Context, in *struct {
		ChangeRef
		Body struct {
			Verdict string `json:"verdict" enum:"approve,reject"`
			Comment string `json:"comment,omitempty"`
		}
	}) (source.Review, error) {
		return s.Source.Review(ctx, in.ID, in.Body.Verdict, in.Body.Comment)
	})
	route(a, "POST", "/changes/{id}/land", "land-change", "Land a change, if its gate says yes", func(ctx context.Context, in *ChangeRef) (policy.Decision, error) {
		return s.Source.Land(ctx, in.ID)
	})
	route(a, "POST", "/changes/{id}/abandon", "abandon-change", "End a change without landing it", func(ctx context.Context, in *ChangeRef) (none, error) {
		return none{true}, s.Source.Abandon(ctx, in.ID)
	})
}
