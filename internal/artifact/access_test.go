package artifact_test

import (
	"strings"
	"testing"

	"weir/internal/artifact"
	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

func TestAccessIsDecidedByRuleRoleAndJob(t *testing.T) {
	rules := artifact.AccessRules{
		Readable: []string{"base/**"},
		Rules: []artifact.AccessRule{
			{Repositories: []string{"secret/**"}, Pull: []string{"team:crypto", "ann"}, Push: []string{}},
			{Repositories: []string{"**"}, Delete: []string{"role:admin"}},
		},
	}
	person := func(name string, teams []string, roles ...string) artifact.Asker {
		return artifact.Asker{Actor: identity.Actor{ID: "user_" + name, Name: name, Kind: identity.User, Roles: roles}, Teams: teams}
	}
	job := func(landed bool, own ...string) artifact.Asker {
		return artifact.Asker{Actor: identity.Actor{ID: "job_1#1", Name: "job/build", Kind: identity.Job}, Job: &artifact.JobScope{Own: own, Landed: landed}}
	}
	host := artifact.Asker{Actor: identity.Actor{ID: "user_h", Name: "weir-host", Kind: identity.Host}}
	for _, c := range []struct {
		what   string
		who    artifact.Asker
		access artifact.Access
		name   string
		no     string // "" allows
	}{
		{"anybody signed in pulls", person("bob", nil), artifact.Pull, "shop/app", ""},
		{"a developer does not push", person("bob", nil, identity.Developer), artifact.Push, "shop/app", "registry.push is not among the permissions of the role developer"},
		{"a maintainer pushes", person("bob", nil, identity.Maintainer), artifact.Push, "shop/app", ""},
		{"a rule narrows who pulls", person("bob", nil, identity.Maintainer), artifact.Pull, "secret/key", "lets only team:crypto, ann do that"},
		{"a rule names a team", person("bob", []string{"crypto"}), artifact.Pull, "secret/key", ""},
		{"a rule names a person", person("ann", nil), artifact.Pull, "secret/key", ""},
		{"an empty list is nobody", person("ann", nil, identity.Maintainer), artifact.Push, "secret/key", "lets nobody do that"},
		{"a rule narrows deletes to admins", person("bob", nil, identity.Maintainer), artifact.Delete, "shop/app", "lets only role:admin"},
		{"an admin deletes", person("root", nil, identity.Admin), artifact.Delete, "shop/app", ""},
		{"nobody gives release tags", person("root", nil, identity.Admin, identity.Maintainer), artifact.Tag, "shop/app", "given by Weir itself"},
		{"Weir does", artifact.Asker{Actor: identity.System("artifact")}, artifact.Tag, "shop/app", ""},
		{"a host pulls", host, artifact.Pull, "shop/app", ""},
		{"a host does not push", host, artifact.Push, "shop/app", "registry.push is not among"},
		{"a landed job pushes to its own", job(true, "shop/app"), artifact.Push, "shop/app", ""},
		{"and to nothing else", job(true, "shop/app"), artifact.Push, "shop/app2", "only to the repositories of its own services (shop/app), not to shop/app2"},
		{"nor below its own", job(true, "shop/app"), artifact.Push, "shop/app/x", "only to the repositories of its own services"},
		{"it pulls its own", job(true, "shop/app"), artifact.Pull, "shop/app", ""},
		{"and base images", job(true, "shop/app"), artifact.Pull, "base/go/1.26", ""},
		{"not others", job(true, "shop/app"), artifact.Pull, "shop/app2", "a job may pull the images of its own services"},
		{"it deletes nothing", job(true, "shop/app"), artifact.Delete, "shop/app", "may not delete"},
		{"it gives no release tag", job(true, "shop/app"), artifact.Tag, "shop/app", "given by Weir itself"},
		{"the job of a change pushes nothing", job(false, "shop/app"), artifact.Push, "shop/app", "only the run of a landed revision may push"},
		{"it pulls base images", job(false, "shop/app"), artifact.Pull, "base/go", ""},
		{"and nothing else", job(false, "shop/app"), artifact.Pull, "shop/app", "the run of a change may pull only what"},
		{"a job without a scope has nothing", artifact.Asker{Actor: identity.Actor{ID: "x", Name: "x", Kind: identity.Job}}, artifact.Push, "shop/app", "only the run of a landed"},
	} {
		err := rules.Decide(t.Context(), c.who, c.access, c.name)
		if c.no == "" && err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if c.no != "" && (!fault.Is(err, fault.Denied) || !strings.Contains(fault.Sentence(err), c.no)) {
			t.Errorf("%s: %v; want a refusal with %q", c.what, err, c.no)
		}
	}
}

func TestAccessRulesThatMeanNothingAreRefused(t *testing.T) {
	for want, r := range map[string]artifact.AccessRules{
		"names no repositories":           {Rules: []artifact.AccessRule{{Pull: []string{"ann"}}}},
		`lists the role "boss"`:           {Rules: []artifact.AccessRule{{Repositories: []string{"**"}, Push: []string{"role:boss"}}}},
		`lists "group:x"`:                 {Rules: []artifact.AccessRule{{Repositories: []string{"**"}, Push: []string{"group:x"}}}},
		"is not a pattern for":            {Readable: []string{"base/["}},
		`lists ""`:                        {Rules: []artifact.AccessRule{{Repositories: []string{"**"}, Delete: []string{""}}}},
		`"a[" is not a pattern for repos`: {Rules: []artifact.AccessRule{{Repositories: []string{"a["}}}},
	} {
		if err := r.Check(); err == nil || !strings.Contains(fault.Sentence(err), want) {
			t.Errorf("Check() = %v; want %q", err, want)
		}
	}
}

func TestPermissionsOfAJobTakeAway(t *testing.T) {
	asks := func(s artifact.JobScope) artifact.Asker {
		s.Own, s.Landed = []string{"shop/app"}, true
		return artifact.Asker{Actor: identity.Actor{ID: "job_1#1", Name: "job/build", Kind: identity.Job, Repository: "repo_1"}, Job: &s}
	}
	for _, c := range []struct {
		scope artifact.JobScope
		a     artifact.Access
		want  string
	}{
		{artifact.JobScope{}, artifact.Push, ""},
		{artifact.JobScope{NoPush: true}, artifact.Pull, ""},
		{artifact.JobScope{NoPush: true}, artifact.Push, "give it packages: write under permissions: in its workflow"},
		{artifact.JobScope{NoPull: true, NoPush: true}, artifact.Pull, "give it packages: read under permissions: in its workflow"},
	} {
		err := artifact.AccessRules{}.Decide(t.Context(), asks(c.scope), c.a, "shop/app")
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v %s: %v; want %q", c.scope, c.a, err, c.want)
		}
	}
}
