package deploy

import (
	"maps"
	"slices"
	"time"

	"weir/internal/base/fault"
	"weir/internal/catalog"
)

// Spec is everything that is needed to run a release in an environment, without asking anybody again. It is
// fixed when the release first goes there, so that a rollback brings back configuration as well as bytes.
type Spec struct {
	ReleaseID ReleaseID         `json:"release_id"`
	Version   string            `json:"version"`
	Revision  string            `json:"revision,omitempty"`
	Image     string            `json:"image"`  // repository in the registry
	Digest    string            `json:"digest"` // of its manifest
	Env       map[string]string `json:"env,omitempty"`
	Workload  Workload          `json:"workload"`
}

// Workload is how a release runs.
type Workload struct {
	Kind     string        `json:"kind"` // http
	Command  []string      `json:"command,omitempty"`
	Port     int           `json:"port"`
	Ready    string        `json:"ready"`
	Live     string        `json:"live,omitempty"`
	Drain    time.Duration `json:"drain"`
	Replicas int           `json:"replicas"`
	Memory   int64         `json:"memory,omitempty"`
	CPU      float64       `json:"cpu,omitempty"`     // processors
	Network  string        `json:"network,omitempty"` // egress, none; empty is egress
}

// Slot is a release in a role, with its share of the requests.
type Slot struct {
	Role     Role `json:"role"`
	Replicas int  `json:"replicas"`
	Weight   int  `json:"weight"` // in 1/10000; those of an environment add up to 10000
	Release  Spec `json:"release"`
}

// whole is the weight of all requests.
const whole = 10000

// specOf resolves how a release runs in an environment. Processes and configuration are those that the
// release's own revision declares, which is what people approve; what the trunk declares later is for later
// releases.
func specOf(r Release, s catalog.Declared, environment string) (Spec, error) {
	env, ok := s.Environments[environment]
	if !ok {
		return Spec{}, fault.New(fault.NotFound, "The weir.yaml of %s %s has no environment %s; it was declared later. A newer release can go there.", r.Service, r.Version, environment)
	}
	if len(r.Artifacts) == 0 {
		return Spec{}, fault.New(fault.Invalid, "The release %s of %s has no artifact to run.", r.Version, s.Name)
	}
	image, digest := splitImage(r.Artifacts[0].Image, r.Artifacts[0].Digest)
	spec := Spec{ReleaseID: r.ID, Version: r.Version, Revision: r.Revision, Image: image, Digest: digest, Env: maps.Clone(env.Config)}
	for _, name := range slices.Sorted(maps.Keys(s.Run)) {
		w := s.Run[name]
		if w.Kind != "" && w.Kind != "http" {
			continue
		}
		cpu, err := w.Resources.Processors()
		if err != nil {
			return Spec{}, fault.New(fault.Invalid, "%s of %s: %s.", name, s.Name, err)
		}
		spec.Workload = Workload{
			Kind: "http", Command: w.Command, Port: w.Port, Ready: w.Ready, Live: w.Live,
			Drain: time.Duration(w.Drain), Replicas: max(w.Replicas, 1), Memory: int64(w.Resources.Memory), CPU: cpu, Network: w.Network,
		}
		return spec, nil
	}
	return Spec{}, fault.New(fault.Invalid, "%s %s declares no process of kind http under run: in weir.yaml, so there is nothing to deploy to %s.", r.Service, r.Version, environment)
}

// splitImage takes the digest off an image's name.
func splitImage(image, digest string) (string, string) {
	for i := range image {
		if image[i] == '@' {
			return image[:i], digest
		}
	}
	return image, digest
}

// all sends every request to one release.
func all(s Spec) []Slot {
	return []Slot{{Role: Stable, Replicas: s.Workload.Replicas, Weight: whole, Release: s}}
}

// split gives the canary its share, a fresh baseline of the stable release the same, and the rest to what
// runs. Canary and baseline have the same number of processes, so that nothing but the release differs.
func split(from, to Spec, share float64) []Slot {
	c := int(share*whole + .5)
	return []Slot{
		{Role: Stable, Replicas: from.Workload.Replicas, Weight: whole - 2*c, Release: from},
		{Role: Canary, Replicas: to.Workload.Replicas, Weight: c, Release: to},
		{Role: Baseline, Replicas: to.Workload.Replicas, Weight: c, Release: from},
	}
}

// Plan is how a rollout moves requests, taken from the environment's strategy when it starts.
type Plan struct {
	Strategy Strategy      `json:"strategy"`
	Steps    []float64     `json:"steps,omitempty"` // shares of a canary before all of it; each at most one half
	Bake     time.Duration `json:"bake,omitempty"`
	Detect   float64       `json:"detect,omitempty"` // error rate that a step must have been able to notice
}

// Strategy is how requests move.
type Strategy string

const (
	First   Strategy = "first"   // nothing ran before: all at once, after health
	Rolling Strategy = "rolling" // healthy new processes, then all at once
	Steps   Strategy = "canary"  // a growing share, compared with a baseline
	Direct  Strategy = "direct"  // back to a release that ran before
)

// planOf reads an environment's strategy. first means that nothing runs there.
func planOf(env catalog.Environment, first bool) Plan {
	c := env.Strategy.Canary
	switch {
	case first:
		return Plan{Strategy: First}
	case c == nil:
		return Plan{Strategy: Rolling}
	}
	p := Plan{Strategy: Steps, Bake: time.Duration(c.Bake), Detect: float64(c.Detect)}
	if p.Detect == 0 {
		p.Detect = 0.05
	}
	for _, s := range c.Steps {
		// Above one half no baseline of the same size is left, and the comparison would lose its guarantee.
		share := min(float64(s), .5)
		if float64(s) < 1 && (len(p.Steps) == 0 || share > p.Steps[len(p.Steps)-1]) {
			p.Steps = append(p.Steps, share)
		}
	}
	if len(p.Steps) == 0 {
		p.Steps = []float64{.5}
	}
	return p
}
