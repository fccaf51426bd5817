package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

// Instance describes the server.
type Instance struct {
	ID       string   `json:"id"`
	Release  string   `json:"release"`
	URL      string   `json:"url"`
	Issuer   string   `json:"issuer"`
	Origin   string   `json:"origin" doc:"Name of the ledger."`
	Versions []string `json:"versions" doc:"API versions that are spoken."`
}

func (s *server) system(a huma.API) {
	route(a, "GET", "/instance", "instance", "What this server is", func(context.Context, *struct{}) (Instance, error) {
		return Instance{s.Instance, s.Release, s.URL, s.Evidence.Issuer(), s.Ledger.Origin(), []string{Version}}, nil
	})
	route(a, "GET", "/trusted-root", "trusted-root", "What a verifier needs to trust this instance's signatures (sigstore trusted_root.json)", func(context.Context, *struct{}) (rawJSON, error) {
		return rawJSON(s.Evidence.TrustedRoot().JSON()), nil
	})
	route(a, "GET", "/me", "me", "Who the token belongs to", func(ctx context.Context, _ *struct{}) (identity.Actor, error) {
		who := identity.From(ctx)
		if who.Kind == identity.Nobody {
			return who, fault.New(fault.Denied, "You are not signed in. Send a token: Authorization: Bearer weir_...")
		}
		return who, nil
	})
}

type newUser struct {
	Body struct {
		Name  string   `json:"name"`
		Email string   `json:"email,omitempty" doc:"As it stands in commits."`
		Roles []string `json:"roles,omitempty"`
		Teams []string `json:"teams,omitempty"`
		Kind  string   `json:"kind,omitempty" enum:"user,host,agent"`
	}
}

type userRoles struct {
	Name string `path:"name"`
	Body struct {
		Roles []string `json:"roles"`
		Teams []string `json:"teams,omitempty"`
	}
}

type newToken struct {
	Body struct {
		User  string `json:"user,omitempty" doc:"Whose token; your own if absent."`
		Name  string `json:"name,omitempty"`
		Hours int    `json:"hours" minimum:"1" maximum:"8784" doc:"How long it lives."`
	}
}

// Token is shown once.
type Token struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

func (s *server) accounts(a huma.API) {
	route(a, "POST", "/users", "create-user", "Create a user", func(ctx context.Context, in *newUser) (identity.Account, error) {
		b := in.Body
		return s.Accounts.Create(ctx, identity.Account{Name: b.Name, Email: b.Email, Roles: b.Roles, Teams: b.Teams, Kind: b.Kind})
	})
	route(a, "GET", "/users", "list-users", "List users", func(ctx context.Context, _ *struct{}) ([]identity.Account, error) {
		return s.Accounts.List(ctx)
	})
	route(a, "PUT", "/users/{name}/roles", "set-roles", "Replace the roles and teams of a user", func(ctx context.Context, in *userRoles) (none, error) {
		return none{true}, s.Accounts.SetRoles(ctx, in.Name, in.Body.Roles, in.Body.Teams)
	})
	route(a, "POST", "/users/{name}/link", "sign-in-link", "Make a one-time sign-in link", func(ctx context.Context, in *struct {
		Name string `path:"name"`
	}) (Token, error) {
		t, err := s.Accounts.Link(ctx, in.Name)
		return Token{s.URL + "/signin?link=" + t, time.Now().Add(30 * time.Minute).UTC()}, err
	})
	route(a, "POST", "/tokens", "create-token", "Make a token", func(ctx context.Context, in *newToken) (Token, error) {
		user := in.Body.User
		if user == "" {
			user = identity.From(ctx).Name
		}
		life := time.Duration(in.Body.Hours) * time.Hour
		t, err := s.Accounts.Token(ctx, user, in.Body.Name, life)
		return Token{t, time.Now().Add(life).UTC()}, err
	})
	route(a, "POST", "/sign-in", "sign-in", "Trade a one-time link for a token that lives 12 hours", func(ctx context.Context, in *struct {
		Body struct {
			Link string `json:"link"`
		}
	}) (Token, error) {
		t, _, err := s.Accounts.SignIn(ctx, in.Body.Link)
		return Token{t, time.Now().Add(12 * time.Hour).UTC()}, err
	})
}
