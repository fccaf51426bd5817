package api

import (
	"context"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/artifact"
)

// Component is one thing that an image is made of.
type Component struct {
	Kind    string `json:"kind" doc:"library or file"`
	Name    string `json:"name" doc:"Module path, or path in the image."`
	Version string `json:"version,omitempty"`
	PURL    string `json:"purl,omitempty"`
	Hash    string `json:"hash,omitempty" doc:"sha256 of a file in hex, or Go's h1: sum of a module."`
	Licence string `json:"licence,omitempty" doc:"SPDX expression, or what the component says of itself."`
}

// ComponentChange is a component that differs between two artifacts.
type ComponentChange struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	From string `json:"from,omitempty" doc:"Version or hash; empty if it was added."`
	To   string `json:"to,omitempty" doc:"Version or hash; empty if it was removed."`
}

// ComponentUse is an artifact that contains a component.
type ComponentUse struct {
	Component
	Artifact string    `json:"artifact"`
	Service  string    `json:"service"`
	Tag      string    `json:"tag"`
	Digest   string    `json:"digest"`
	Admitted time.Time `json:"admitted"`
	Runs     []string  `json:"runs_in" doc:"Environments that run the artifact now."`
}

func (s *server) components(a huma.API) {
	route(a, "GET", "/components", "find-components", "Which artifacts contain a component, by their signed SBOMs, and where they run", func(ctx context.Context, in *struct {
		Query   string `query:"q" doc:"A part of the name."`
		Version string `query:"version" doc:"Exactly this version."`
	}) ([]ComponentUse, error) {
		uses, err := s.Artifact.Uses(ctx, artifact.ComponentQuery{Name: in.Query, Version: in.Version, Limit: 5000})
		if err != nil {
			return nil, err
		}
		runs, err := s.running(ctx)
		if err != nil {
			return nil, err
		}
		out := []ComponentUse{}
		for _, u := range uses {
			out = append(out, componentUse(u, runs))
		}
		return out, nil
	})
	route(a, "GET", "/artifacts/{id}/components", "list-components", "What an artifact is made of, from its signed SBOM", func(ctx context.Context, in *struct {
		ID    string `path:"id"`
		Query string `query:"q" doc:"Only those with this text in the name."`
	}) ([]Component, error) {
		_, all, err := s.Artifact.Components(ctx, artifact.ID(in.ID))
		out := []Component{}
		for _, c := range all {
			if strings.Contains(strings.ToLower(c.Name), strings.ToLower(in.Query)) {
				out = append(out, Component(c))
			}
		}
		return out, err
	})
	route(a, "GET", "/artifacts/{id}/changes", "compare-components", "How what an artifact is made of differs from another one", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		From string `query:"from" doc:"The other artifact: id, tag, digest or repository@digest. The one before it, if absent."`
	}) ([]ComponentChange, error) {
		x, after, err := s.Artifact.Components(ctx, artifact.ID(in.ID))
		if err != nil {
			return nil, err
		}
		from := artifact.ID(in.From)
		if from == "" {
			if from, err = s.Artifact.Before(ctx, x); err != nil {
				return nil, err
			}
		}
		_, before, err := s.Artifact.Components(ctx, from)
		out := []ComponentChange{}
		for _, c := range artifact.Compare(before, after) {
			out = append(out, ComponentChange(c))
		}
		return out, err
	})
}

// running lists the environments that run an image now, by digest.
func (s *server) running(ctx context.Context) (map[string][]string, error) {
	envs, err := s.Delivery.Environments(ctx)
	runs := map[string][]string{}
	for _, e := range envs {
		if e.Current != "" {
			runs[e.Digest] = append(runs[e.Digest], e.Environment)
		}
	}
	return runs, err
}

func componentUse(u artifact.Use, runs map[string][]string) ComponentUse {
	return ComponentUse{Component(u.Component), string(u.ArtifactID), u.Service, u.Tag, u.Digest, u.Admitted, append([]string{}, runs[u.Digest]...)}
}
