package live

import (
	"bytes"
	"context"
	"fmt"

	"weir/internal/base/fault"
	"weir/internal/edge/web"
	"weir/internal/guard/identity"
	"weir/internal/pipeline"
	"weir/internal/source"
)

// maxDiff is how many bytes of a diff a page asks for.
const maxDiff = 256 << 10

// Changes implements web.Data.
func (d *Data) Changes(ctx context.Context, state string) ([]web.ChangeRow, error) {
	if state == "all" {
		state = ""
	}
	all, err := d.Source.List(ctx, "", state)
	if err != nil {
		return nil, err
	}
	names, err := d.repositoryNames(ctx)
	if err != nil {
		return nil, err
	}
	rows := make([]web.ChangeRow, len(all))
	for i, c := range all {
		rows[i] = changeRow(c, names)
	}
	return rows, nil
}

func (d *Data) repositoryNames(ctx context.Context) (map[string]string, error) {
	all, err := d.Catalog.Repositories(ctx)
	names := map[string]string{}
	for _, r := range all {
		names[r.ID] = r.Name
	}
	return names, err
}

func changeRow(c source.Change, names map[string]string) web.ChangeRow {
	state := web.Status{Kind: "wait", Word: "Open"}
	switch c.State {
	case source.Landed:
		state = web.Status{Kind: "ok", Word: "Landed"}
	case source.Abandoned:
		state = web.Status{Kind: "skip", Word: "Abandoned"}
	}
	return web.ChangeRow{ID: c.ID, Repository: names[c.RepositoryID], Title: c.Title, Number: c.Number, State: state, Author: c.Author, Branch: c.Branch, Target: c.Target, Revision: c.Revision, Created: c.Created}
}

// Change implements web.Data.
func (d *Data) Change(ctx context.Context, id string) (web.Change, error) {
	got, err := d.Source.Get(ctx, id)
	if err != nil {
		return web.Change{}, err
	}
	c := got.Change
	d.repositories.Store(id, c.RepositoryID)
	names, err := d.repositoryNames(ctx)
	if err != nil {
		return web.Change{}, err
	}
	v := web.Change{ChangeRow: changeRow(c, names), Open: c.State == source.Open, Patchset: c.Patchset}
	for _, k := range got.Checks {
		check := web.Check{Name: k.Name, State: stateOf(pipeline.State(k.State)), Summary: k.Summary}
		if k.RunID != "" {
			check.Href = "/runs/" + k.RunID
		}
		v.Checks = append(v.Checks, check)
	}
	for _, r := range got.Reviews {
		state := web.Status{Kind: "ok", Word: "Approved"}
		if r.Verdict != "approve" {
			state = web.Status{Kind: "bad", Word: "Rejected"}
		}
		v.Reviews = append(v.Reviews, web.Review{By: r.By, Comment: r.Comment, State: state, Current: r.Revision == c.Revision, At: r.Time})
	}
	if v.Open {
		if err := d.gate(ctx, c, &v); err != nil {
			return v, err
		}
	}
	d.history(ctx, c, &v)
	return v, nil
}

// gate says what stops a change and what the reader can do about it.
func (d *Data) gate(ctx context.Context, c source.Change, v *web.Change) error {
	results, err := d.Source.Why(ctx, c.ID, d.LandRules)
	if err != nil {
		if fault.KindOf(err) == "" {
			return err
		}
		v.Why = fault.Sentence(err)
		return nil
	}
	v.Rules = rulesOf(results)
	blocks := 0
	for _, r := range results {
		if !r.Allow {
			blocks++
		}
	}
	v.CanReview = may(ctx, "change.review")
	switch {
	case blocks == 1:
		v.Why = "One rule blocks it; see below."
		v.State = web.Status{Kind: "block", Word: "Blocked by 1 rule"}
	case blocks > 1:
		v.Why = fmt.Sprintf("%d rules block it; see below.", blocks)
		v.State = web.Status{Kind: "block", Word: fmt.Sprintf("Blocked by %d rules", blocks)}
	case !may(ctx, "change.land"):
		v.Why = identity.From(ctx).Name + " may not land changes; a developer or a maintainer may."
		v.State = web.Status{Kind: "ok", Word: "Ready to land"}
	default:
		v.CanLand = true
		v.State = web.Status{Kind: "ok", Word: "Ready to land"}
	}
	return nil
}

// history adds commits and diff. A page without them is still a page, so what
// cannot be read is left out.
func (d *Data) history(ctx context.Context, c source.Change, v *web.Change) {
	if d.Git == nil || c.Base == "" {
		return
	}
	if log, err := d.Git.Log(ctx, c.RepositoryID, c.Base, c.Revision, 50); err == nil {
		for _, k := range log {
			v.Commits = append(v.Commits, web.Commit{Revision: k.Revision, Subject: k.Subject, Author: k.Author, At: k.Time})
		}
	}
	var b bytes.Buffer
	if err := d.Git.Diff(ctx, c.RepositoryID, c.Base, c.Revision, &b, maxDiff); err == nil || b.Len() > 0 {
		v.Diff, v.DiffCut = b.String(), b.Len() >= maxDiff
	}
}
