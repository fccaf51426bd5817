package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
)

// before runs what actions of mirrors want to have done before the first step, as at GitHub. Actions of the repository itself are not
// there yet; theirs runs right before their main. What fails here fails the job, and its steps are told so.
func (j *job) before(ctx context.Context) error {
	for i := range j.Plan.Steps {
		p := &j.Plan.Steps[i]
		if !mirrored(p.Uses) || ctx.Err() != nil {
			continue
		}
		err := j.pre(ctx, p, i+1)
		var f failure
		switch {
		case err == nil, ctx.Err() != nil:
		case errors.As(err, &f), fault.KindOf(err) != "":
			j.begun[p] = map[string]string{} // it had its turn
			j.fail(fmt.Sprintf("what %s does before the first step: %s", p.Uses, said(err)))
		default:
			return fmt.Errorf("before the steps: %w", err)
		}
	}
	return nil
}

// mirrored reports whether a step is an action of another repository.
func mirrored(uses string) bool {
	return uses != "" && builtins[uses] == nil && strings.Contains(uses, "@") && !strings.HasPrefix(uses, "./") && !strings.HasPrefix(uses, "docker://")
}

func (j *job) pre(ctx context.Context, p *pipeline.StepPlan, number int) error {
	folder, err := j.fetchAction(ctx, p.Uses)
	if err != nil {
		return nil // its step says so, if it runs at all
	}
	def, err := j.definition(p.Uses, folder)
	if err != nil || !strings.HasPrefix(strings.ToLower(def.Runs.Using), "node") || def.Runs.Pre == "" {
		return nil
	}
	env, err := j.fill(p.Env, &j.top, j.contexts(&j.top, nil))
	if err != nil {
		env = map[string]string{}
	}
	c := j.contexts(&j.top, maps.Clone(env))
	def, inner, values, err := j.load(ctx, p, &j.top, env, c)
	if err != nil {
		return err
	}
	j.log.Group("Pre " + j.name(p, &j.top))
	defer j.log.Group("")
	return j.javascript(ctx, p, def, inner, values, number, map[string]string{}, true)
}
