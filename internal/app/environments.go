package app

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"weir/internal/base/fault"
	"weir/internal/catalog"
	"weir/internal/guard/approval"
	"weir/internal/guard/policy"
	"weir/internal/pipeline"
	"weir/internal/source"
)

// environments lets jobs into environments by the rules of the trunk's weir.yaml: whoever must agree to a release entering an
// environment must agree to a job that does.
type environments struct{ s *System }

// rules are the approvals that services of a repository ask for in an environment, each once.
func (e environments) rules(ctx context.Context, repositoryID, environment string) ([]catalog.Approvals, error) {
	_, file, err := e.s.catalog.Trunk(ctx, repositoryID)
	if err != nil {
		return nil, err
	}
	var out []catalog.Approvals
	for _, s := range file.Services {
		for name, env := range s.Environments {
			if strings.EqualFold(name, environment) && env.Approvals.Count > 0 && !slices.Contains(out, env.Approvals) {
				out = append(out, env.Approvals)
			}
		}
	}
	return out, nil
}

// entry is what an approval of a job is bound to: this run of this revision, and this environment.
func entry(r *pipeline.Run, environment string) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("weir job entry 1\x00"+string(r.ID)+"\x00"+r.Revision+"\x00"+strings.ToLower(environment))))
}

// Entry implements pipeline.Environments.
func (e environments) Entry(ctx context.Context, r *pipeline.Run, environment string) (*pipeline.Hold, error) {
	rules, err := e.rules(ctx, r.RepositoryID, environment)
	if err != nil || len(rules) == 0 {
		return nil, err
	}
	given, err := e.s.approval.For(ctx, entry(r, environment), strings.ToLower(environment))
	if err != nil {
		return nil, err
	}
	authors, err := e.authors(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, rule := range rules {
		eligible, err := e.s.accounts.Approvers(ctx, rule.Group)
		if err != nil {
			return nil, err
		}
		can := slices.DeleteFunc(slices.Clone(eligible), func(name string) bool { return slices.Contains(authors, name) })
		var by []string
		for _, a := range given {
			if valid(a, can) && !slices.Contains(by, a.By) {
				by = append(by, a.By)
			}
		}
		if len(by) < rule.Count {
			can = slices.DeleteFunc(can, func(name string) bool { return slices.Contains(by, name) })
			who := strings.Join(can, ", ")
			if who == "" {
				who = "nobody yet: an admin can add people"
			}
			group := ""
			if rule.Group != "" {
				group = " of " + rule.Group
			}
			return &pipeline.Hold{For: fmt.Sprintf("%d of %d approvals%s to enter %s", rule.Count-len(by), rule.Count, group, environment),
				Who: who + fmt.Sprintf(": weir runs approve %s --environment %s", r.ID, environment)}, nil
		}
	}
	return nil, nil
}

func valid(a policy.Approval, eligible []string) bool {
	return slices.Contains(eligible, a.By) && (a.Expires.IsZero() || time.Now().Before(a.Expires))
}

// Agree implements pipeline.Environments.
func (e environments) Agree(ctx context.Context, r *pipeline.Run, environment, verdict, reason string) error {
	rules, err := e.rules(ctx, r.RepositoryID, environment)
	if err != nil {
		return err
	}
	if len(rules) == 0 {
		return fault.New(fault.Conflict, "Nobody needs to agree before a job enters %s.", environment)
	}
	var eligible []string
	for _, rule := range rules {
		names, err := e.s.accounts.Approvers(ctx, rule.Group)
		if err != nil {
			return err
		}
		eligible = append(eligible, names...)
	}
	authors, err := e.authors(ctx, r)
	if err != nil {
		return err
	}
	_, err = e.s.approval.Give(ctx, approval.Request{ReleaseID: string(r.ID), Version: "run " + string(r.ID), Digest: entry(r, environment), Environment: strings.ToLower(environment),
		Authors: authors, Eligible: eligible, Verdict: verdict, Reason: reason})
	return err
}

// authors are the people whose approval of a run does not count: who started it, and who wrote what it brings.
func (e environments) authors(ctx context.Context, r *pipeline.Run) ([]string, error) {
	out := []string{r.Actor}
	if !source.ValidRevision(r.Base) || strings.Trim(r.Base, "0") == "" {
		return out, nil
	}
	names, err := e.s.source.Authors(ctx, r.RepositoryID, r.Base, r.Revision)
	return append(out, names...), err
}
