package pipeline

import (
	"context"
	"slices"
	"strings"
	"time"

	"weir/internal/base/fault"
)

// Agent is a machine that runs jobs for this server.
type Agent struct {
	Name      string    `json:"name"`
	Labels    []string  `json:"labels"`
	Slots     int       `json:"slots"`
	Version   string    `json:"version"`
	Connected bool      `json:"connected"`
	Draining  bool      `json:"draining,omitempty"` // it takes no new jobs
	Running   int       `json:"running"`
	Seen      time.Time `json:"seen"`
}

// Fits reports whether a machine with labels may run a job that asks for wanted. Case does not matter.
func Fits(labels, wanted []string) bool {
	for _, w := range wanted {
		if !slices.ContainsFunc(labels, func(l string) bool { return strings.EqualFold(l, w) }) {
			return false
		}
	}
	return true
}

// Agents is what people ask about agents.
type Agents interface {
	Agents(ctx context.Context) ([]Agent, error)
	// Forget removes an agent that is not connected.
	Forget(ctx context.Context, name string) error
}

// ListAgents lists the agents that have ever connected.
func (s *Service) ListAgents(ctx context.Context) ([]Agent, error) {
	if err := s.may(ctx, "run:read"); err != nil {
		return nil, err
	}
	if s.Agents == nil {
		return nil, nil
	}
	return s.Agents.Agents(ctx)
}

// ForgetAgent removes an agent from the list. Its token is another matter: disable its account.
func (s *Service) ForgetAgent(ctx context.Context, name string) error {
	if err := s.may(ctx, "agent:manage"); err != nil {
		return err
	}
	if s.Agents == nil {
		return fault.New(fault.NotFound, "There is no agent %s.", name)
	}
	return s.Agents.Forget(ctx, name)
}
