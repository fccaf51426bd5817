package local

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"weir/internal/base/confine"
	"weir/internal/base/oci"
	"weir/internal/pipeline"
	"weir/internal/pipeline/container"
	"weir/internal/pipeline/expr"
)

// contained is everything that a process in a container gets: what its image says, and what every process of the job does, with the
// job's folder where it is in there.
func (j *job) contained(p *place, box *confine.Sandbox, fr *frame, id string, env map[string]string) []string {
	all := map[string]string{"PATH": systemPath, "HOME": inside + "/home"}
	for _, kv := range p.env {
		k, v, _ := strings.Cut(kv, "=")
		all[k] = v
	}
	all["HOME"] = inside + "/home"
	if p == j.main && len(j.path) > 0 {
		all["PATH"] = strings.Join(append(slices.Clone(j.path), all["PATH"]), ":")
	}
	maps.Copy(all, j.common(box, fr))
	j.overlay(all, fr, id, env)
	if j.main == nil { // a step in a container of a job on the machine
		delete(all, "RUNNER_TOOL_CACHE")
		all["RUNNER_TEMP"] = inside + "/temp"
		for k, v := range all {
			if rest, ok := under(j.dir, v); ok {
				all[k] = path.Join(inside, rest)
			}
		}
	}
	return listed(all)
}

// imageOf is the name of the image that a sandbox is made of, "" for the machine.
func (j *job) imageOf(box *confine.Sandbox) string {
	switch {
	case j.main != nil && j.main.box == box:
		return j.main.image.Name
	case j.beside != nil && j.beside.box == box:
		return j.beside.image.Name
	}
	return ""
}

// there reports whether the job's folder has a file.
func (j *job) there(rel string) bool {
	_, err := j.root.Stat(rel)
	return err == nil
}

// image runs a step that is a container: uses: docker://IMAGE.
func (j *job) image(ctx context.Context, p *pipeline.StepPlan, image string, fr *frame, number int, env map[string]string, c *expr.Object, outputs map[string]string) error {
	with, err := j.inputs(p.With, fr, c)
	if err != nil {
		return err
	}
	all := merge(env)
	for k, v := range with {
		if k != "args" && k != "entrypoint" {
			all[inputName(k)] = v
		}
	}
	var args []string
	if text := with["args"]; text != "" {
		if args, err = container.Split(text); err != nil {
			return failure("its args: " + err.Error())
		}
	}
	img, err := j.containers().ready(ctx, image, "step "+p.Uses)
	if err != nil {
		return err
	}
	return j.inContainer(ctx, fr, img, with["entrypoint"], args, number, all, outputs, nil)
}

func inputName(input string) string {
	return "INPUT_" + strings.ReplaceAll(strings.ToUpper(input), " ", "_")
}

// docker runs an action whose runs.using is docker.
func (j *job) docker(ctx context.Context, p *pipeline.StepPlan, def *definition, fr *frame, values map[string]string, number int, outputs map[string]string) error {
	c := j.contexts(fr, nil)
	env, err := j.fill(texts(def.Runs.Env), fr, c)
	if err != nil {
		return failure("the action's env could not be computed: " + err.Error())
	}
	for k, v := range values {
		env[inputName(k)] = v
	}
	var args []string
	for _, a := range def.Runs.Args {
		v, err := expr.Interpolate(a.text(), j.expressions(fr, c))
		if err != nil {
			return failure("the action's args could not be computed: " + err.Error())
		}
		args = append(args, v)
	}
	if _, err := confine.Runtime(); err != nil {
		return err
	}
	var img oci.Image
	if image, ok := strings.CutPrefix(def.Runs.Image, "docker://"); ok {
		img, err = j.containers().ready(ctx, image, "action "+p.Uses)
	} else {
		img, err = j.built(ctx, p.Uses, fr.folder, orElse(def.Runs.Image, "Dockerfile"))
	}
	if err != nil {
		return err
	}
	state := map[string]string{}
	run := func(ctx context.Context, entrypoint string, args []string, number int) error {
		all := merge(env)
		for k, v := range state {
			all["STATE_"+k] = v
		}
		return j.inContainer(ctx, fr, img, entrypoint, args, number, all, outputs, state)
	}
	if def.Runs.PreEntrypoint != "" {
		ok, err := expr.Condition(orElse(def.Runs.PreIf, "always()"), j.expressions(fr, c))
		if err != nil {
			return failure("its pre-if: could not be evaluated: " + err.Error())
		}
		if ok {
			if err := run(ctx, def.Runs.PreEntrypoint, []string{}, number); err != nil {
				return err
			}
		}
	}
	if def.Runs.PostEntrypoint != "" { // also when the action fails
		j.post = append(j.post, post{name: j.name(p, &j.top), condition: orElse(def.Runs.PostIf, "always()"),
			do: func(ctx context.Context) error {
				return run(ctx, def.Runs.PostEntrypoint, []string{}, len(j.steps)+1)
			}})
	}
	return run(ctx, orElse(values["entrypoint"], def.Runs.Entrypoint), args, number)
}

// ready is an image for a step.
func (g *group) ready(ctx context.Context, image, use string) (oci.Image, error) {
	if _, err := confine.Runtime(); err != nil {
		return oci.Image{}, err
	}
	return g.pull(ctx, image, use)
}

// inContainer runs one program in a container that is made for it and removed after it. It sees the job's folder, and the services.
func (j *job) inContainer(ctx context.Context, fr *frame, img oci.Image, entrypoint string, args []string, number int, env, outputs, state map[string]string) error {
	argv, err := commandOf(img, entrypoint, args)
	if err != nil {
		return err
	}
	hosts := map[string]string{}
	for _, s := range j.group.services {
		hosts[s.id] = fmt.Sprintf("127.0.0.%d", s.addr[3])
	}
	at, err := j.placeOf("the step's container", "step", img, &pipeline.Container{}, container.Options{}, hosts)
	if err != nil {
		return err
	}
	if _, err := j.sandbox(ctx); err != nil { // for the job API
		return err
	}
	if err := j.openPlace(ctx, at); err != nil {
		return err
	}
	j.beside = at
	defer func() { _ = at.box.Close(); j.beside = nil }()
	if err := j.group.connect(at.box); err != nil {
		return err
	}
	return j.process(ctx, fr, process{id: j.next(), number: number, argv: argv, dir: inside + "/workspace", env: env, at: at}, outputs, state)
}
