package local

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"weir/internal/base/fault"
	"weir/internal/pipeline"
	"weir/internal/pipeline/expr"
)

// maxDepth is how deep actions may use actions.
const maxDepth = 10

// use runs an action that is not built in: of the repository (./folder), or of another one (owner/name/folder@revision).
func (j *job) use(ctx context.Context, p *pipeline.StepPlan, fr *frame, number int, env map[string]string, c *expr.Object, outputs map[string]string) error {
	if fr.depth >= maxDepth {
		return failure(fmt.Sprintf("uses: %s is the %dth action inside of another; no more than %d are run", p.Uses, fr.depth+1, maxDepth))
	}
	if image, ok := strings.CutPrefix(p.Uses, "docker://"); ok {
		return j.image(ctx, p, image, fr, number, env, c, outputs)
	}
	def, inner, values, err := j.load(ctx, p, fr, env, c)
	if err != nil {
		return err
	}
	switch kind := strings.ToLower(def.Runs.Using); {
	case kind == "composite":
		return j.composite(ctx, def, inner, number, outputs)
	case strings.HasPrefix(kind, "node"):
		return j.javascript(ctx, p, def, inner, values, number, outputs, false)
	case kind == "docker":
		return j.docker(ctx, p, def, inner, values, number, outputs)
	default:
		return failure(fmt.Sprintf("uses: %s says runs.using: %s, which is not known; composite, node20 and node24 are", p.Uses, def.Runs.Using))
	}
}

// load reads an action and what its step gives to it.
func (j *job) load(ctx context.Context, p *pipeline.StepPlan, fr *frame, env map[string]string, c *expr.Object) (*definition, *frame, map[string]string, error) {
	folder, err := j.fetchAction(ctx, p.Uses)
	if err != nil {
		return nil, nil, nil, err
	}
	def, err := j.definition(p.Uses, folder)
	if err != nil {
		return nil, nil, nil, err
	}
	given, err := j.inputs(p.With, fr, c)
	if err != nil {
		return nil, nil, nil, err
	}
	inner := &frame{outcomes: expr.NewObject(), action: j.seen(folder), folder: folder, depth: fr.depth + 1}
	values, err := j.actionInputs(def, given, inner)
	if err != nil {
		return nil, nil, nil, err
	}
	inner.inputs = expr.NewObject()
	for _, k := range slices.Sorted(maps.Keys(values)) {
		inner.inputs.Set(k, values[k])
	}
	inner.env = merge(fr.env, env)
	return def, inner, values, nil
}

// fetchAction makes the files of an action visible in the job's folder, and says where.
func (j *job) fetchAction(ctx context.Context, uses string) (string, error) {
	if rest, ok := strings.CutPrefix(uses, "./"); ok {
		return below("workspace", rest)
	}
	name, revision, ok := strings.Cut(uses, "@")
	parts := strings.SplitN(name, "/", 3)
	if !ok || len(parts) < 2 {
		return "", failure(fmt.Sprintf("uses: %s is no action. Write ./folder of this repository, or owner/name[/folder]@revision", uses))
	}
	repository, sub := parts[0]+"/"+parts[1], ""
	if len(parts) == 3 {
		sub = parts[2]
	}
	place := path.Join("actions", fmt.Sprintf("%d", len(j.fetched)+1))
	if at, ok := j.fetched[repository+"@"+revision]; ok {
		place = at
	} else {
		stage := j.dir + ".action"
		if err := os.Mkdir(stage, 0o700); err != nil {
			return "", fmt.Errorf("stage action: %w", err)
		}
		defer remove(stage)
		if err := j.host.Action(ctx, repository, revision, stage); err != nil {
			if fault.KindOf(err) != "" {
				return "", failure(fault.Sentence(err))
			}
			return "", fmt.Errorf("fetch action %s: %w", uses, err)
		}
		if err := j.root.MkdirAll("actions", 0o700); err != nil {
			return "", failure(fmt.Sprintf("a step before it has blocked the folder of actions: %v", err))
		}
		dir, err := j.root.Open("actions")
		if err != nil {
			return "", failure(fmt.Sprintf("a step before it has blocked the folder of actions: %v", err))
		}
		defer dir.Close()
		if err := unix.Renameat(unix.AT_FDCWD, stage, int(dir.Fd()), path.Base(place)); err != nil {
			return "", failure(fmt.Sprintf("the action %s cannot be moved into the job: %v", uses, err))
		}
		j.fetched[repository+"@"+revision] = place
	}
	return below(place, sub)
}

// actionInputs are what the step gives and the defaults of the rest.
func (j *job) actionInputs(def *definition, given map[string]string, fr *frame) (map[string]string, error) {
	values := map[string]string{}
	c := j.contexts(fr, nil)
	for name, in := range def.Inputs {
		key := strings.ToLower(name)
		if v, ok := given[key]; ok {
			values[key] = v
			continue
		}
		v, err := expr.Interpolate(in.Default.text(), j.expressions(fr, c))
		if err != nil {
			return nil, failure(fmt.Sprintf("the default of the action's input %s could not be computed: %v", name, err))
		}
		if in.Required && v == "" {
			j.log.Say("the action's input %s is required and was not given", name)
		}
		values[key] = v
	}
	for k, v := range given {
		if _, ok := values[k]; !ok {
			j.log.Say("the action has no input %s", k)
			values[k] = v
		}
	}
	return values, nil
}

// composite runs the steps of an action as if they were the job's, with inputs and outputs of their own.
func (j *job) composite(ctx context.Context, def *definition, fr *frame, number int, outputs map[string]string) error {
	var reason string
	for i := range def.Runs.Steps {
		s := def.Runs.Steps[i].plan()
		if name, ok := named(s.Uses); ok {
			s.Uses = name
		} else if to, ok := j.Actions[s.Uses]; ok {
			s.Uses = to
		} else if mirrored(s.Uses) { // the action came to be after the plan
			j.log.Say("uses: %s was not known when the run was planned; what its mirror has now is used, and no provenance names it", s.Uses)
		}
		if s.Uses == "" && s.Shell == "" {
			return failure(fmt.Sprintf("step %d of the action has run: without shell:, which actions must name", i+1))
		}
		o, err := j.try(ctx, &s, fr, number, func() { j.log.Group(j.name(&s, fr)) })
		if o.began {
			j.log.Group("")
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if o.conclusion == pipeline.Failure && !fr.failed {
			fr.failed, reason = true, fmt.Sprintf("step %d of the action (%s): %s", i+1, j.name(&s, fr), o.reason)
		}
	}
	c := j.contexts(fr, nil)
	for name, o := range def.Outputs {
		v, err := expr.Interpolate(o.Value.text(), j.expressions(fr, c))
		if err != nil {
			return failure(fmt.Sprintf("the action's output %s could not be computed: %v", name, err))
		}
		outputs[name] = v
	}
	if fr.failed {
		return failure(reason)
	}
	return nil
}

// javascript runs an action's script under the machine's node: before it what prepares, and after the job's last step what tidies up.
func (j *job) javascript(ctx context.Context, p *pipeline.StepPlan, def *definition, fr *frame, values map[string]string, number int, outputs map[string]string, preOnly bool) error {
	var node []string
	if j.main != nil {
		node = j.main.node()
	} else {
		program, err := j.node(def.Runs.Using)
		if err != nil {
			return err
		}
		node = []string{program}
	}
	env := map[string]string{}
	for k, v := range values {
		env["INPUT_"+strings.ReplaceAll(strings.ToUpper(k), " ", "_")] = v
	}
	state, early := j.begun[p]
	if !early {
		state = map[string]string{}
	}
	run := func(ctx context.Context, file string, number int) error {
		if !filepath.IsLocal(filepath.FromSlash(file)) {
			return failure(fmt.Sprintf("the action names the script %s, which leads out of its folder", file))
		}
		all := merge(env)
		// Clients of caches and artifacts take any other host for a product that has neither.
		all["GITHUB_SERVER_URL"] = ""
		for k, v := range state {
			all["STATE_"+k] = v
		}
		return j.process(ctx, fr, process{id: j.next(), number: number, argv: append(slices.Clone(node), path.Join(fr.action, file)), dir: j.workspace(), env: all}, outputs, state)
	}
	if def.Runs.Main == "" {
		return failure(fmt.Sprintf("uses: %s is a JavaScript action without runs.main", p.Uses))
	}
	if def.Runs.Pre != "" && !early {
		ok, err := expr.Condition(orElse(def.Runs.PreIf, "always()"), j.expressions(fr, j.contexts(fr, nil)))
		if err != nil {
			return failure("its pre-if: could not be evaluated: " + err.Error())
		}
		if ok {
			if err := run(ctx, def.Runs.Pre, number); err != nil {
				return err
			}
		}
	}
	if preOnly {
		j.begun[p] = state
		return nil
	}
	if def.Runs.Post != "" { // also when main fails
		j.post = append(j.post, post{name: j.name(p, &j.top), condition: orElse(def.Runs.PostIf, "always()"),
			do: func(ctx context.Context) error { return run(ctx, def.Runs.Post, len(j.steps)+1) }})
	}
	return run(ctx, def.Runs.Main, number)
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func merge(layers ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, l := range layers {
		for k, v := range l {
			out[k] = v
		}
	}
	return out
}
