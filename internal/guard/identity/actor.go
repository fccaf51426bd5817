// Package identity says who: people, and the parts of Weir that act by
// themselves; the tokens and sessions they prove it with; the roles they hold;
// and, by Cedar policies, what a role may do.
//
// A person is created by an admin, never by registering. The first admin signs
// in with a one-time link that `weir serve` prints.
package identity

import "context"

// Kinds of actors.
const (
	User   = "user"
	Robot  = "system" // a part of Weir that acts by itself
	Job    = "job"
	Host   = "host"
	Agent  = "agent" // a machine that runs jobs
	Nobody = "anonymous"
)

// Actor is who does something. Roles hold role names.
type Actor struct {
	ID    string   `json:"id"`
	Name  string   `json:"name"`
	Kind  string   `json:"kind"`
	Roles []string `json:"roles,omitempty"`
	// Repository is the id of the only one that a job may touch; "" for everybody else.
	Repository string `json:"repository,omitempty"`
}

// Anonymous is who has not said who they are.
var Anonymous = Actor{ID: "anonymous", Name: "anonymous", Kind: Nobody}

// System is a part of Weir acting by itself, such as "pipeline".
func System(part string) Actor {
	return Actor{ID: "system_" + part, Name: "weir/" + part, Kind: Robot}
}

type key struct{}

// With returns a context that carries who acts.
func With(ctx context.Context, a Actor) context.Context { return context.WithValue(ctx, key{}, a) }

// From returns who acts, Anonymous if nobody said.
func From(ctx context.Context) Actor {
	if a, ok := ctx.Value(key{}).(Actor); ok {
		return a
	}
	return Anonymous
}
