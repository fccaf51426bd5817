package identity

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/cedar-policy/cedar-go"

	"weir/internal/base/fault"
)

// Roles. What each may do stands in roles.cedar.
const (
	Admin      = "admin"
	Maintainer = "maintainer"
	Developer  = "developer"
	Approver   = "approver"
	Auditor    = "auditor"
)

// Checkout is what a runner may do in a job's name before any of the job's code runs. No person holds it.
const Checkout = "checkout"

// Roles lists all roles.
var Roles = []string{Admin, Maintainer, Developer, Approver, Auditor}

//go:embed roles.cedar
var rolesCedar []byte

var policies = func() *cedar.PolicySet {
	set, err := cedar.NewPolicySetFromBytes("roles.cedar", rolesCedar)
	if err != nil {
		panic(err) // The file is compiled in and tested.
	}
	return set
}()

// Check asks whether the actor of ctx may do action in an organisation, and
// returns a Denied fault if not. Default deny: an action that no policy names
// is refused to everybody.
func Check(ctx context.Context, action, org string) error {
	return CheckOwn(ctx, action, org, "")
}

// CheckOwn is Check for something that a person made: owner is their id.
func CheckOwn(ctx context.Context, action, org, owner string) error {
	a := From(ctx)
	if a.Kind == Robot {
		return nil // A part of this process; what it does was decided before.
	}
	principal := cedar.NewEntityUID("Actor", cedar.String(a.ID))
	resource := cedar.NewEntityUID("Org", cedar.String(org))
	parents := make([]cedar.EntityUID, 0, len(a.Roles))
	for _, r := range a.Roles {
		parents = append(parents, cedar.NewEntityUID("Role", cedar.String(r)))
	}
	entities := cedar.EntityMap{
		principal: {UID: principal, Parents: cedar.NewEntityUIDSet(parents...),
			Attributes: cedar.NewRecord(cedar.RecordMap{"kind": cedar.String(a.Kind)})},
		resource: {UID: resource},
	}
	decision, diag := cedar.Authorize(policies, entities, cedar.Request{
		Principal: principal,
		Action:    cedar.NewEntityUID("Action", cedar.String(action)),
		Resource:  resource,
		Context:   cedar.NewRecord(cedar.RecordMap{"own": cedar.Boolean(owner != "" && owner == a.ID)}),
	})
	if decision == cedar.Allow {
		return nil
	}
	if len(diag.Errors) > 0 {
		return fmt.Errorf("authorize %s: %v", action, diag.Errors)
	}
	if a.Kind == Nobody {
		return fault.New(fault.Denied, "You are not signed in. Sign in, or send a token, to do this (%s).", action)
	}
	if a.Kind == Job {
		return fault.New(fault.Denied, "The token of this job does not open this (%s): its permissions are %s. Give the job what it needs under permissions: in its workflow; a change's jobs only read.", action, permissionsOf(a))
	}
	return fault.New(fault.Denied, "%s may not do this: %s is not among the permissions of %s. An admin can grant a role that has it.", a.Name, action, rolesOf(a))
}

// Within refuses a job whatever is not in its own repository. Everybody else is asked by Check alone.
func Within(ctx context.Context, repositoryID string) error {
	a := From(ctx)
	if a.Kind != Job || a.Repository != "" && a.Repository == repositoryID {
		return nil
	}
	return fault.New(fault.Denied, "The token of a job opens the job's own repository alone. For another one, give the job a token of its own as a secret.")
}

func permissionsOf(a Actor) string {
	if len(a.Roles) == 0 {
		return "none"
	}
	return strings.Join(a.Roles, ", ")
}

func rolesOf(a Actor) string {
	if len(a.Roles) == 0 {
		return "an account without roles"
	}
	s := "the role " + a.Roles[0]
	for _, r := range a.Roles[1:] {
		s += ", " + r
	}
	return s
}
