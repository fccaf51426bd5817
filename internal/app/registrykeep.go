package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"weir/internal/artifact"
	"weir/internal/artifact/registry"
	"weir/internal/base/blob"
	smallblob "weir/internal/base/blob/small"
	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/catalog"
	"weir/internal/deploy"
	"weir/internal/guard/identity"
)

// RegistryKeepConf is how long the registry holds what.
type RegistryKeepConf struct {
	Releases int `yaml:"releases" doc:"Newest releases of each repository that are kept. A service's artifact.keep may ask for more, never for less." default:"10"`
	Days     int `yaml:"days" doc:"Days that a release is kept. A service's artifact.keep may ask for more." default:"90"`
	Tagged   int `yaml:"tagged_days" doc:"Days that other tagged manifests are kept after their tag was set. For ever, if 0." default:"0"`
	Untagged int `yaml:"untagged_days" doc:"Days that manifests without a tag are kept after they were pushed." default:"7"`
}

func (c RegistryKeepConf) check() error {
	if c.Releases < 1 || c.Releases > 100_000 {
		return fault.New(fault.Invalid, "registry.keep.releases must be from 1 to 100000, not %d.", c.Releases)
	}
	for name, days := range map[string]int{"days": c.Days, "tagged_days": c.Tagged, "untagged_days": c.Untagged} {
		least := 1
		if name == "tagged_days" {
			least = 0
		}
		if days < least || days > 36_500 {
			return fault.New(fault.Invalid, "registry.keep.%s must be from %d to 36500, not %d.", name, least, days)
		}
	}
	return nil
}

const oneDay = 24 * time.Hour

func (s *System) registryKeeper() *registry.Keeper {
	rules := s.Config.Registry.access()
	return &registry.Keeper{
		Registry: s.registry, Pins: s.registryPins, Rule: s.registryRule, Authorize: authorize, Ledger: s.artifactLedger, Holder: s.data.holder(),
		ScrubRate: int64(s.Config.Registry.ScrubRate), ScrubEach: time.Duration(s.Config.Registry.ScrubDays) * oneDay,
		Readable: func(ctx context.Context, repository string) bool {
			who, err := s.asker(ctx, len(rules.Rules) > 0)
			return err == nil && rules.Decide(ctx, who, artifact.Pull, repository) == nil
		},
	}
}

func (s *System) artifactLedger(ctx context.Context, tx *db.Tx, e artifact.Entry) error {
	return s.append(ctx, tx, e.Actor, e.Action, e.Subject, e.Data)
}

// registryRule is how long a repository of the registry keeps what: the server's rule, or longer if the service whose images it has
// asks for that on its trunk. A service that is declared no longer is kept as one that asks for nothing.
func (s *System) registryRule(ctx context.Context, repository string) (artifact.KeepRule, error) {
	c := s.Config.Registry.Keep
	rule := artifact.KeepRule{Releases: c.Releases, Age: time.Duration(c.Days) * oneDay, Tagged: time.Duration(c.Tagged) * oneDay, Untagged: time.Duration(c.Untagged) * oneDay}
	services, err := s.catalog.Services(ctx)
	if err != nil {
		return rule, err
	}
	for _, ref := range services {
		repo, err := s.catalog.Repository(ctx, ref.RepositoryID)
		if err != nil {
			return rule, err
		}
		if name, err := artifact.RegistryName(repo.Name, ref.Name); err != nil || name != repository {
			continue
		}
		keep := catalog.Keep{AtLeastReleases: 10, AtLeastDays: 400}
		declared, err := s.catalog.Declared(ctx, ref.ID)
		switch {
		case err == nil:
			keep = declared.Artifact.Keep
		case !fault.Is(err, fault.NotFound):
			return rule, err
		}
		rule.Releases, rule.Age = max(rule.Releases, keep.AtLeastReleases), max(rule.Age, time.Duration(keep.AtLeastDays)*oneDay)
	}
	return rule, nil
}

// registryPins is what environments need: what runs, what is on its way, and what each could go back to.
func (s *System) registryPins(ctx context.Context) ([]artifact.Pin, error) {
	ctx = identity.With(ctx, identity.System("registry"))
	environments, err := s.deployRows.Environments(ctx, "default")
	if err != nil {
		return nil, err
	}
	var pins []artifact.Pin
	for _, e := range environments {
		pins = append(pins, pinsOf(e)...)
		if e.Rollout != "" {
			r, err := s.deployRows.Rollout(ctx, e.Rollout)
			if err != nil {
				return nil, err
			}
			pins = append(pins, pin(r.To, "a rollout brings it into %s of %s", e))
			if r.From != nil {
				pins = append(pins, pin(*r.From, "a rollout replaces it in %s of %s", e))
			}
		}
	}
	for before := ""; ; {
		waiting, err := s.deployRows.Promotions(ctx, deploy.Filter{Live: true, Before: before, Limit: 500})
		if err != nil || len(waiting) == 0 {
			return pins, err
		}
		for _, p := range waiting {
			before = string(p.ID)
			r, err := s.deployRows.Release(ctx, p.ReleaseID)
			if err != nil {
				return nil, err
			}
			for _, a := range r.Artifacts {
				if image, digest, ok := splitImage(a.Image); ok {
					pins = append(pins, artifact.Pin{Repository: image, Digest: digest, Where: p.Environment, Why: fmt.Sprintf("it waits to enter %s of %s", p.Environment, p.Service)})
				}
			}
		}
	}
}

func pinsOf(e deploy.Environment) []artifact.Pin {
	var pins []artifact.Pin
	for _, slot := range e.Slots {
		pins = append(pins, pin(slot.Release, "it runs in %s of %s", e))
	}
	for _, r := range e.Ran {
		if _, bad := e.Bad[r.Spec.Digest]; !bad {
			pins = append(pins, pin(r.Spec, "%s of %s can go back to it", e))
		}
	}
	return pins
}

func pin(s deploy.Spec, why string, e deploy.Environment) artifact.Pin {
	return artifact.Pin{Repository: s.Image, Digest: s.Digest, Where: e.Environment, Why: fmt.Sprintf(why, e.Environment, e.Service)}
}

// splitImage takes "repository@digest" apart.
func splitImage(image string) (repository, digest string, ok bool) {
	repository, digest, ok = strings.Cut(image, "@")
	return repository, digest, ok
}

// artifactBytes is the blob store of the artifact layer, whose many small blobs are in the database.
func (s *System) artifactBytes(ctx context.Context) (blob.Store, error) {
	large, err := s.blobs(ctx, "artifact")
	if err != nil {
		return nil, err
	}
	return smallblob.Open(ctx, s.db, large)
}
