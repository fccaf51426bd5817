package live

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"weir/internal/artifact"
	"weir/internal/deploy"
	"weir/internal/edge/web"
	"weir/internal/pipeline"
)

// maxHits bounds what Find returns.
const maxHits = 40

// Find implements web.Data: among the newest of each kind, whatever has the words
// in its id, name, version, revision or title.
func (d *Data) Find(ctx context.Context, words string) ([]web.Hit, error) {
	words = strings.ToLower(strings.TrimSpace(words))
	var hits []web.Hit
	has := func(in ...string) bool {
		for _, s := range in {
			if strings.Contains(strings.ToLower(s), words) {
				return len(hits) < maxHits
			}
		}
		return false
	}
	services, err := d.Catalog.Services(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range services {
		if has(s.ID, s.Name) {
			hits = append(hits, web.Hit{Kind: "service", Title: s.Name, Note: "service", Href: "/#matrix"})
		}
	}
	changes, err := d.Source.List(ctx, "", "")
	if err != nil {
		return nil, err
	}
	for _, c := range changes {
		if has(c.ID, c.Title, c.Branch, c.Revision, "#"+strconv.FormatInt(c.Number, 10)) {
			hits = append(hits, web.Hit{Kind: "change", Title: fmt.Sprintf("#%d %s", c.Number, c.Title), Note: "change by " + c.Author + ", " + c.State, Href: "/changes/" + c.ID})
		}
	}
	rollouts, err := d.Deploy.Rollouts(ctx, deploy.Filter{Limit: 100})
	if err != nil {
		return nil, err
	}
	for _, r := range rollouts {
		if label := tag(r.Version, r.Revision); has(string(r.ID), r.Service+" "+label, r.Digest) {
			hits = append(hits, web.Hit{Kind: "rollout", Title: fmt.Sprintf("%s %s to %s", r.Service, label, r.Environment), Note: "rollout, " + strings.ToLower(rolloutState(r).Word), Href: "/rollouts/" + string(r.ID)})
		}
	}
	artifacts, err := d.Config.Artifact.List(ctx, artifact.Filter{Limit: 100})
	if err != nil {
		return nil, err
	}
	for _, a := range artifacts {
		if has(string(a.ID), a.Service+" "+a.Tag, a.Digest, a.Revision) {
			hits = append(hits, web.Hit{Kind: "artifact", Title: a.Service + " " + a.Tag, Note: "artifact", Href: "/artifacts/" + string(a.ID)})
		}
	}
	runs, err := d.Pipeline.List(ctx, pipeline.Filter{Limit: 100})
	if err != nil {
		return nil, err
	}
	for _, r := range runs {
		if has(string(r.ID), r.Title, r.Revision, r.Workflow) {
			hits = append(hits, web.Hit{Kind: "run", Title: runRow(r).Title, Note: "run of " + r.Workflow + ", " + string(r.State), Href: "/runs/" + string(r.ID)})
		}
	}
	return hits, nil
}
