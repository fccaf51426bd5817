package identity_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/base/fault"
	"weir/internal/guard/identity"
)

func TestJobTokenSaysWhoseItIsAndCannotBeMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "job.key")
	keys, err := identity.OpenJobTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	claim := identity.JobClaim{RunID: "run_1", JobID: "job_1", Attempt: 2, Expires: now.Add(time.Hour)}
	token := keys.Issue(claim)
	again, err := identity.OpenJobTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Read(token, now); err != nil || got != claim {
		t.Errorf("Read() = %+v, %v; want %+v", got, err, claim)
	}
	if _, err := keys.Read(token, now.Add(time.Hour)); !fault.Is(err, fault.Denied) || !strings.Contains(fault.Sentence(err), "has expired") {
		t.Errorf("expired: %v", err)
	}
	other, err := identity.OpenJobTokens(filepath.Join(t.TempDir(), "job.key"))
	if err != nil {
		t.Fatal(err)
	}
	body, mac, _ := strings.Cut(token, ".")
	forged := other.Issue(identity.JobClaim{RunID: "run_1", JobID: "job_9", Attempt: 1, Expires: now.Add(time.Hour)})
	forgedBody, _, _ := strings.Cut(forged, ".")
	for what, bad := range map[string]string{"other server": forged, "changed claim": forgedBody + "." + mac, "no mac": body, "empty mac": body + ".", "not one": "weir_x", "cut": token[:len(token)-2]} {
		if _, err := keys.Read(bad, now); !fault.Is(err, fault.Denied) || !strings.Contains(fault.Sentence(err), "not a token of a job of this server") {
			t.Errorf("%s: %v; want refused", what, err)
		}
	}
	if _, err := (identity.JobTokens{}).Read(identity.JobTokens{}.Issue(claim), now); err == nil {
		t.Error("a token without a key was taken")
	}
}

func job(repository string, g identity.Grants) context.Context {
	return identity.With(context.Background(), identity.Actor{ID: "job_1#1", Name: "job/build", Kind: identity.Job, Roles: g.Roles(), Repository: repository})
}

func TestJobDoesWhatItsPermissionsSayAndNoMore(t *testing.T) {
	all := []string{"repository.read", "repository.pull", "repository.push", "change.read", "change.open", "change.review", "change.land", "change.abandon", "run.read", "run.cancel", "run.rerun", "run.start",
		"release.approve", "rollout.promote", "rollout.rollback", "secret.read", "secret.write", "token.create", "ledger.read", "user.read", "registry.push", "registry.pull", "mirror.write", "agent.work"}
	write := identity.Grants{"contents": "write", "packages": "write", "pull-requests": "write", "actions": "write", "checks": "read", "statuses": "read", "metadata": "read"}
	for _, c := range []struct {
		name string
		g    identity.Grants
		may  []string
	}{
		{"nothing said", identity.DefaultGrants, []string{"repository.read", "repository.pull"}},
		{"none", identity.Grants{"metadata": "read"}, nil},
		{"everything", write, []string{"repository.read", "repository.pull", "repository.push", "change.read", "change.open", "run.read", "run.cancel", "run.rerun", "run.start"}},
		{"everything, of a change", write.ReadOnly(), []string{"repository.read", "repository.pull", "change.read", "run.read"}},
		{"checks", identity.Grants{"checks": "read"}, []string{"repository.read", "change.read"}},
	} {
		ctx := job("repo_1", c.g)
		for _, action := range all {
			err := identity.Check(ctx, action, "default")
			if want := slices.Contains(c.may, action); (err == nil) != want {
				t.Errorf("%s: %s: %v; want allowed %v", c.name, action, err, want)
			} else if err != nil && (!fault.Is(err, fault.Denied) || !strings.Contains(fault.Sentence(err), "The token of this job does not open this ("+action+"): its permissions are ")) {
				t.Errorf("%s: %s: %v", c.name, action, err)
			}
		}
	}
}

func TestRolesOfAJobMeanNothingToAPerson(t *testing.T) {
	ctx := identity.With(context.Background(), identity.Actor{ID: "user_1", Name: "eve", Kind: identity.User, Roles: []string{"contents:write"}})
	if err := identity.Check(ctx, "repository.push", "default"); err == nil {
		t.Error("a person pushed with a role of jobs")
	}
	if err := identity.Check(job("repo_1", identity.Grants{"x": "read"}), "repository.pull", "default"); err == nil {
		t.Error("a job pulled without permission")
	}
}

func TestJobStaysInItsRepository(t *testing.T) {
	person := identity.With(context.Background(), identity.Actor{ID: "user_1", Kind: identity.User})
	for _, c := range []struct {
		ctx  context.Context
		at   string
		want bool
	}{{job("repo_1", nil), "repo_1", true}, {job("repo_1", nil), "repo_2", false}, {job("", nil), "", false}, {job("repo_1", nil), "", false}, {person, "repo_2", true}} {
		if err := identity.Within(c.ctx, c.at); (err == nil) != c.want {
			t.Errorf("Within(%v, %q) = %v; want allowed %v", identity.From(c.ctx), c.at, err, c.want)
		} else if err != nil && !strings.Contains(fault.Sentence(err), "opens the job's own repository alone") {
			t.Error(err)
		}
	}
}
