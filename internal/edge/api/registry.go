package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/artifact"
	"weir/internal/base/fault"
)

// RegistryRepository is a repository of the registry and what it takes.
type RegistryRepository struct {
	Name      string    `json:"name"`
	Manifests int       `json:"manifests"`
	Tags      int       `json:"tags"`
	Releases  int       `json:"releases"`
	Bytes     int64     `json:"bytes"`
	Quota     int64     `json:"quota" doc:"Bytes it may take; 0 is no limit."`
	OwnQuota  bool      `json:"own_quota" doc:"Whether the quota was set for this repository."`
	Holds     int       `json:"holds"`
	Damaged   int       `json:"damaged" doc:"Manifests with damaged bytes."`
	Changed   time.Time `json:"changed"`
}

// RegistryManifest is a manifest with what retention says of it.
type RegistryManifest struct {
	Digest    string    `json:"digest"`
	MediaType string    `json:"media_type"`
	Kind      string    `json:"kind,omitempty" doc:"Artifact type."`
	Size      int64     `json:"size" doc:"Of the manifest and of the blobs that it names."`
	Pushed    time.Time `json:"pushed"`
	Tags      []string  `json:"tags"`
	Release   string    `json:"release,omitempty"`
	Subject   string    `json:"subject,omitempty" doc:"What it refers to."`
	Keep      bool      `json:"keep"`
	Why       []string  `json:"why" doc:"Every reason to keep it, or the rules by which it goes."`
	With      string    `json:"with,omitempty" doc:"The manifest with which it stays or goes."`
	Hold      string    `json:"hold,omitempty" doc:"Why somebody holds it."`
	Damaged   []string  `json:"damaged,omitempty" doc:"Digests of its damaged bytes."`
}

// RegistryRemoved is a manifest that retention removes.
type RegistryRemoved struct {
	Repository string   `json:"repository"`
	Digest     string   `json:"digest"`
	Kind       string   `json:"kind,omitempty"`
	Tags       []string `json:"tags"`
	Release    string   `json:"release,omitempty"`
	Size       int64    `json:"size"`
	Why        string   `json:"why"`
	With       string   `json:"with,omitempty"`
}

// RegistryGarbage is what retention no longer keeps.
type RegistryGarbage struct {
	DryRun  bool              `json:"dry_run" doc:"Whether it is still there: nothing was removed."`
	Kept    int               `json:"kept" doc:"Manifests that stay."`
	Gone    []RegistryRemoved `json:"gone"`
	Changed []RegistryRemoved `json:"changed,omitempty" doc:"Were wanted again before they could go."`
	Blobs   int               `json:"blobs" doc:"Blobs that no manifest has named for a day."`
	Bytes   int64             `json:"bytes" doc:"Of those blobs."`
}

// RegistryDamage is stored bytes that are not what they were.
type RegistryDamage struct {
	Digest       string                `json:"digest"`
	Why          string                `json:"why"`
	Found        time.Time             `json:"found"`
	Images       []RegistryDamageImage `json:"images"`
	Environments []string              `json:"environments" doc:"Where one of the images runs or could run again."`
}

// RegistryDamageImage is what has damaged bytes.
type RegistryDamageImage struct {
	Repository string   `json:"repository"`
	Digest     string   `json:"digest"`
	Tags       []string `json:"tags"`
	Release    string   `json:"release,omitempty"`
}

// RegistryScrub is how far the reading of all stored bytes is.
type RegistryScrub struct {
	Running  bool                  `json:"running"`
	Started  time.Time             `json:"started,omitzero"`
	Checked  int64                 `json:"checked"`
	Bytes    int64                 `json:"bytes"`
	Total    int64                 `json:"total" doc:"Blobs there are now."`
	Finished time.Time             `json:"finished,omitzero" doc:"When the last whole reading ended."`
	Last     artifact.ScrubSummary `json:"last" doc:"What it found."`
	Asked    time.Time             `json:"asked,omitzero" doc:"When somebody last asked for one."`
	Damage   []RegistryDamage      `json:"damage"`
}

func (s *server) registry(a huma.API) {
	named := func(name string) error {
		if name == "" {
			return fault.New(fault.Invalid, "Name a repository: ?repository=shop/checkout.")
		}
		return nil
	}
	route(a, "GET", "/registry/repositories", "list-registry", "List the repositories of the registry and what they take", func(ctx context.Context, _ *struct{}) ([]RegistryRepository, error) {
		all, err := s.Registry.Repositories(ctx)
		out := make([]RegistryRepository, len(all))
		for i, u := range all {
			out[i] = registryRepository(u)
		}
		return out, err
	})
	route(a, "GET", "/registry/contents", "show-registry", "What a repository of the registry holds, and what retention says of each", func(ctx context.Context, in *struct {
		Repository string `query:"repository"`
	}) ([]RegistryManifest, error) {
		all, err := s.Registry.Contents(ctx, in.Repository)
		if err != nil && fault.Is(err, fault.NotFound) && in.Repository == "" {
			err = named("")
		}
		out := make([]RegistryManifest, len(all))
		for i, k := range all {
			out[i] = registryManifest(k)
		}
		return out, err
	})
	type of struct {
		Repository string `json:"repository,omitempty"`
	}
	route(a, "GET", "/registry/garbage", "list-registry-garbage", "What retention would remove from the registry, and why", func(ctx context.Context, in *struct {
		Repository string `query:"repository"`
	}) (RegistryGarbage, error) {
		c, err := s.Registry.Collect(ctx, in.Repository, true)
		return registryGarbage(c), err
	})
	route(a, "POST", "/registry/garbage/remove", "remove-registry-garbage", "Remove what retention does not keep from the registry", func(ctx context.Context, in *struct{ Body of }) (RegistryGarbage, error) {
		c, err := s.Registry.Collect(ctx, in.Body.Repository, false)
		return registryGarbage(c), err
	})
	type hold struct {
		Repository string `json:"repository"`
		Reference  string `json:"reference" doc:"Tag or digest."`
		Reason     string `json:"reason"`
	}
	type held struct {
		Digest string `json:"digest"`
	}
	route(a, "POST", "/registry/holds", "hold-registry", "Keep a manifest whatever the rules say", func(ctx context.Context, in *struct{ Body hold }) (held, error) {
		d, err := s.Registry.Hold(ctx, in.Body.Repository, in.Body.Reference, in.Body.Reason)
		return held{d}, err
	})
	route(a, "POST", "/registry/holds/release", "release-registry-hold", "End a hold", func(ctx context.Context, in *struct{ Body hold }) (held, error) {
		d, err := s.Registry.ReleaseHold(ctx, in.Body.Repository, in.Body.Reference, in.Body.Reason)
		return held{d}, err
	})
	route(a, "POST", "/registry/quotas", "set-registry-quota", "Limit what a repository of the registry may take", func(ctx context.Context, in *struct {
		Body struct {
			Repository string `json:"repository"`
			Bytes      int64  `json:"bytes" doc:"0 gives it the server's default again."`
		}
	}) (RegistryRepository, error) {
		u, err := s.Registry.SetQuota(ctx, in.Body.Repository, in.Body.Bytes)
		return registryRepository(u), err
	})
	route(a, "GET", "/registry/scrub", "get-registry-scrub", "How the reading of all stored bytes goes, and what is damaged", func(ctx context.Context, _ *struct{}) (RegistryScrub, error) {
		st, err := s.Registry.Scrub(ctx, false)
		return registryScrub(st), err
	})
	route(a, "POST", "/registry/scrub", "start-registry-scrub", "Read all stored bytes now", func(ctx context.Context, _ *struct{}) (RegistryScrub, error) {
		st, err := s.Registry.Scrub(ctx, true)
		return registryScrub(st), err
	})
}

func registryRepository(u artifact.RepositoryUse) RegistryRepository {
	return RegistryRepository{Name: u.Name, Manifests: u.Manifests, Tags: u.Tags, Releases: u.Releases, Bytes: u.Bytes, Quota: u.Quota, OwnQuota: u.Own, Holds: u.Holds, Damaged: u.Damaged, Changed: u.Changed}
}

func registryManifest(k artifact.Kept) RegistryManifest {
	m := RegistryManifest{Digest: k.Stored.Digest, MediaType: k.MediaType, Kind: k.Kind, Size: k.Size, Pushed: k.Pushed, Tags: []string{}, Release: k.Release, Subject: k.Subject,
		Keep: k.Keep, Why: k.Why, With: k.With, Hold: k.Hold, Damaged: k.Damaged}
	for _, t := range k.Tags {
		m.Tags = append(m.Tags, t.Name)
	}
	return m
}

func registryGarbage(c artifact.Collected) RegistryGarbage {
	return RegistryGarbage{DryRun: c.Dry, Kept: c.Kept, Gone: registryRemoved(c.Gone), Changed: registryRemoved(c.Changed), Blobs: c.Blobs, Bytes: c.Bytes}
}

func registryRemoved(all []artifact.Removed) []RegistryRemoved {
	out := make([]RegistryRemoved, len(all))
	for i, r := range all {
		out[i] = RegistryRemoved{Repository: r.Repository, Digest: r.Digest, Kind: r.Kind, Tags: append([]string{}, r.Tags...), Release: r.Release, Size: r.Size, Why: r.Why, With: r.With}
	}
	return out
}

func registryScrub(st artifact.ScrubState) RegistryScrub {
	out := RegistryScrub{Running: st.Running, Started: st.Started, Checked: st.Checked, Bytes: st.Bytes, Total: st.Total, Finished: st.Finished, Last: st.Last, Asked: st.Asked, Damage: []RegistryDamage{}}
	for _, d := range st.Damage {
		w := RegistryDamage{Digest: d.Stored, Why: d.Why, Found: d.Found, Images: []RegistryDamageImage{}, Environments: append([]string{}, d.Environments...)}
		for _, i := range d.Images {
			w.Images = append(w.Images, RegistryDamageImage{Repository: i.Repository, Digest: i.Digest, Tags: append([]string{}, i.Tags...), Release: i.Release})
		}
		out.Damage = append(out.Damage, w)
	}
	return out
}
