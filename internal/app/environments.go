package app

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/catalog"
	"weir/internal/guard/approval"
	"weir/internal/guard/identity"
	"weir/internal/guard/policy"
	"weir/internal/pipeline"
	"weir/internal/source"
)

// environments lets jobs into environments by the rules of the trunk's weir.yaml: whoever must agree to a release entering an
// environment must agree to a job that does.
type environments struct{ s *System }

// rules are the approvals that services of a repository ask for in an environment, each once, as the revision trunk declares them.
func (e environments) rules(ctx context.Context, repositoryID, environment string) (trunk string, _ []catalog.Approvals, err error) {
	trunk, file, err := e.s.catalog.Trunk(ctx, repositoryID)
	if err != nil {
		return trunk, nil, err
	}
	var out []catalog.Approvals
	for _, s := range file.Services {
		for name, env := range s.Environments {
			if strings.EqualFold(name, environment) && env.Approvals.Count > 0 && !slices.Contains(out, env.Approvals) {
				out = append(out, env.Approvals)
			}
		}
	}
	return trunk, out, nil
}

// entry is what an approval of a job is bound to: this run of this revision, and this environment.
func entry(r *pipeline.Run, environment string) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("weir job entry 1\x00"+string(r.ID)+"\x00"+r.Revision+"\x00"+strings.ToLower(environment))))
}

// Entry implements pipeline.Environments: policy decides, and the answer with everything that it depends on is kept.
func (e environments) Entry(ctx context.Context, r *pipeline.Run, environment string) (*pipeline.Hold, error) {
	facts, err := e.facts(ctx, r, environment)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(facts)
	if err != nil {
		return nil, err
	}
	ctx = identity.With(ctx, identity.System("pipeline")) // whoever looks at what a job waits for decides nothing
	d, err := e.s.policy.Decide(ctx, policy.Input{Action: policy.ActionEnter, Subject: string(r.ID), Facts: raw})
	if err != nil || d.Allow {
		return nil, err
	}
	return holdOf(d.Blocks()[0], r.ID, environment), nil
}

// holdOf says of a rule that keeps a job out what it waits for, and who can end that.
func holdOf(b policy.RuleResult, run pipeline.RunID, environment string) *pipeline.Hold {
	h := &pipeline.Hold{For: b.Message, Who: strings.Join(b.Who, ", ")}
	if b.Rule == "environment.entry" {
		h.For, h.Who = strings.Join(b.Missing, ", "), h.Who+fmt.Sprintf(": weir runs approve %s --environment %s", run, environment)
	}
	return h
}

// facts are what the gate of a job looks at.
func (e environments) facts(ctx context.Context, r *pipeline.Run, environment string) (policy.Enter, error) {
	f := policy.Enter{Repository: r.Repository, Workflow: r.Workflow, Run: string(r.ID), Revision: r.Revision, Environment: strings.ToLower(environment), Entry: entry(r, environment)}
	trunk, rules, err := e.rules(ctx, r.RepositoryID, environment)
	if err != nil {
		return f, err
	}
	f.RulesFrom = trunk
	if len(rules) == 0 {
		return f, nil
	}
	for _, rule := range rules {
		eligible, err := e.s.accounts.Approvers(ctx, rule.Group)
		if err != nil {
			return f, err
		}
		f.Needs = append(f.Needs, policy.Consent{Count: rule.Count, Group: rule.Group, Eligible: eligible})
	}
	if f.Approvals, err = e.s.approval.For(ctx, f.Entry, f.Environment); err != nil {
		return f, err
	}
	f.Authors, err = e.authors(ctx, r)
	return f, err
}

// Agree implements pipeline.Environments.
func (e environments) Agree(ctx context.Context, r *pipeline.Run, environment, verdict, reason string) error {
	_, rules, err := e.rules(ctx, r.RepositoryID, environment)
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
