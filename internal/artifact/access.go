package artifact

import (
	"context"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

// Access is a kind of request on a repository of the registry.
type Access string

// The kinds of access.
const (
	Pull   Access = "pull"
	Push   Access = "push"
	Delete Access = "delete"
	// Tag is giving a release tag: Weir does it when it admits a release, and nobody else.
	Tag Access = "tag"
)

// AccessRule says who may do what in some repositories of the registry. For a kind of access that it lists somebody for, it takes
// the place of what roles give.
type AccessRule struct {
	Repositories []string // patterns: "shop/checkout", "shop/*", "base/**"
	Pull         []string // "ann", "team:payments", "role:developer"
	Push         []string
	Delete       []string
}

func (r AccessRule) lists(a Access) []string {
	return map[Access][]string{Pull: r.Pull, Push: r.Push, Delete: r.Delete}[a]
}

// AccessRules decide about people, hosts and jobs.
type AccessRules struct {
	Rules []AccessRule
	// Readable are the repositories that every job may pull from, whatever it builds: base images and tools.
	Readable []string
}

// JobScope is what a job is about: the repositories of the registry that belong to its services.
type JobScope struct {
	Own    []string
	Landed bool // its revision was reviewed and is on the trunk
	// NoPull and NoPush are what the job's permissions take away from its own code.
	NoPull, NoPush bool
}

// Asker is who asks.
type Asker struct {
	Actor identity.Actor
	Teams []string
	Job   *JobScope // of an actor of the kind job
}

// Decide refuses with a Denied fault.
//
// A job pushes to the repositories of its own services and pulls from them once its revision has landed; before that it pulls what
// every job may. People get what the first rule that speaks of the repository gives them, else what their roles do.
func (r AccessRules) Decide(ctx context.Context, who Asker, a Access, repository string) error {
	if who.Actor.Kind == identity.Robot {
		return nil
	}
	if a == Tag {
		return fault.New(fault.Denied, "release tags such as 1.4.0-ab12cd3 are given by Weir itself when it admits a release; push %s under another tag", repository)
	}
	if who.Actor.Kind == identity.Job {
		return r.job(who, a, repository)
	}
	for _, rule := range r.Rules {
		if list := rule.lists(a); list != nil && matches(rule.Repositories, repository) {
			if who.in(list) {
				return nil
			}
			only := "only " + strings.Join(list, ", ")
			if len(list) == 0 {
				only = "nobody"
			}
			return fault.New(fault.Denied, "%s may not %s %s: the server's registry.access lets %s do that", who.Actor.Name, a, repository, only)
		}
	}
	return identity.Check(identity.With(ctx, who.Actor), "registry."+string(a), "default")
}

func (r AccessRules) job(who Asker, a Access, repository string) error {
	own := who.Job != nil && slices.Contains(who.Job.Own, repository)
	landed := who.Job != nil && who.Job.Landed
	switch {
	case who.Job != nil && a == Pull && who.Job.NoPull:
		return fault.New(fault.Denied, "the permissions of this job do not let it pull images; give it packages: read under permissions: in its workflow")
	case who.Job != nil && a == Push && landed && who.Job.NoPush:
		return fault.New(fault.Denied, "the permissions of this job do not let it push images; give it packages: write under permissions: in its workflow")
	case a == Pull && (matches(r.Readable, repository) || own && landed):
		return nil
	case a == Push && own && landed:
		return nil
	case a == Pull && !landed:
		return fault.New(fault.Denied, "the run of a change may pull only what the server's registry.readable names, not %s", repository)
	case a == Pull:
		return fault.New(fault.Denied, "a job may pull the images of its own services and what the server's registry.readable names, not %s", repository)
	case a == Push && !landed:
		return fault.New(fault.Denied, "only the run of a landed revision may push; this one is of a change")
	case a == Push:
		return fault.New(fault.Denied, "a job may push only to the repositories of its own services (%s), not to %s", strings.Join(who.own(), ", "), repository)
	}
	return fault.New(fault.Denied, "a job may not %s in %s", a, repository)
}

func (w Asker) own() []string {
	if w.Job == nil || len(w.Job.Own) == 0 {
		return []string{"none"}
	}
	return w.Job.Own
}

func (w Asker) in(list []string) bool {
	for _, name := range list {
		if team, ok := strings.CutPrefix(name, "team:"); ok {
			if slices.Contains(w.Teams, team) {
				return true
			}
		} else if role, ok := strings.CutPrefix(name, "role:"); ok {
			if slices.Contains(w.Actor.Roles, role) {
				return true
			}
		} else if name == w.Actor.Name && w.Actor.Kind != identity.Nobody {
			return true
		}
	}
	return false
}

func matches(patterns []string, repository string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := doublestar.Match(p, repository)
		return ok && err == nil
	})
}

// Check refuses rules that can never mean what they say.
func (r AccessRules) Check() error {
	patterns := slices.Clone(r.Readable)
	for _, rule := range r.Rules {
		patterns = append(patterns, rule.Repositories...)
		if len(rule.Repositories) == 0 {
			return fault.New(fault.Invalid, "An entry of registry.access names no repositories. Name some, such as [shop/*] or [\"**\"].")
		}
		for _, name := range slices.Concat(rule.Pull, rule.Push, rule.Delete) {
			kind, rest, found := strings.Cut(name, ":")
			switch {
			case name == "" || found && rest == "" || found && kind != "team" && kind != "role":
				return fault.New(fault.Invalid, "registry.access lists %q. Write the name of a person, team:NAME or role:NAME.", name)
			case kind == "role" && !slices.Contains(identity.Roles, rest):
				return fault.New(fault.Invalid, "registry.access lists the role %q. The roles are %s.", rest, strings.Join(identity.Roles, ", "))
			}
		}
	}
	for _, p := range patterns {
		if !doublestar.ValidatePattern(p) {
			return fault.New(fault.Invalid, "%q is not a pattern for repositories. Write a name, shop/* for those directly below, or shop/** for all below.", p)
		}
	}
	return nil
}
