package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/base/fault"
	"weir/internal/guard/identity"
	"weir/internal/pipeline"
)

type newAgent struct {
	Body struct {
		Name  string `json:"name" doc:"Of the agent. One process uses it at a time."`
		Hours int    `json:"hours,omitempty" minimum:"1" maximum:"8784" default:"8760" doc:"How long the token lives."`
	}
}

func (s *server) agents(a huma.API) {
	route(a, "GET", "/agents", "list-agents", "List the machines that run jobs", func(ctx context.Context, _ *struct{}) ([]pipeline.Agent, error) {
		return s.Pipeline.ListAgents(ctx)
	})
	route(a, "POST", "/agents", "create-agent-token", "Make a token with which a machine runs jobs; it is shown once", func(ctx context.Context, in *newAgent) (Token, error) {
		_, err := s.Accounts.Create(ctx, identity.Account{Name: in.Body.Name, Kind: identity.Agent})
		if fault.Is(err, fault.Conflict) { // a new token for an agent that there is already
			old, ferr := s.Accounts.Find(ctx, in.Body.Name)
			if ferr != nil {
				return Token{}, ferr
			}
			if old.Kind != identity.Agent {
				return Token{}, fault.New(fault.Conflict, "%s is the name of a %s. Choose another name for the agent.", in.Body.Name, old.Kind)
			}
			err = nil
		}
		if err != nil {
			return Token{}, err
		}
		life := time.Duration(in.Body.Hours) * time.Hour
		t, err := s.Accounts.Token(ctx, in.Body.Name, "agent", life)
		return Token{t, time.Now().Add(life).UTC()}, err
	})
	route(a, "DELETE", "/agents/{name}", "forget-agent", "Remove a machine that is not connected from the list, so that no job waits for it", func(ctx context.Context, in *Named) (none, error) {
		return none{true}, s.Pipeline.ForgetAgent(ctx, in.Name)
	})
}
