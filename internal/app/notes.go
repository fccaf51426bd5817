package app

import (
	"context"

	"weir/internal/artifact"
	"weir/internal/artifact/version"
	"weir/internal/base/fault"
	"weir/internal/edge/api"
	"weir/internal/edge/web"
)

// notes are what releases bring, from the commits between two artifacts and the changes that landed them.
type notes struct{ s *System }

func (n notes) Notes(ctx context.Context, id string) (api.ReleaseNotes, error) {
	a, err := n.s.artifact.Get(ctx, artifact.ID(id))
	if err != nil {
		return api.ReleaseNotes{}, err
	}
	out := api.ReleaseNotes{Service: a.Service, Version: a.Version, Groups: []api.NoteGroup{}}
	from := ""
	before, err := n.s.artifact.Before(ctx, a)
	switch {
	case err == nil:
		b, err := n.s.artifact.Get(ctx, before)
		if err != nil {
			return out, err
		}
		out.From, from = b.Version, b.Revision
	case !fault.Is(err, fault.NotFound):
		return out, err
	}
	log, err := commits{n.s.source, n.s.git}.Log(ctx, a.RepositoryID, from, a.Revision)
	if err != nil {
		return out, err
	}
	changes := map[string]string{}
	for i := range log[:min(len(log), 500)] {
		l, err := n.s.source.LandingOf(ctx, a.RepositoryID, log[i].Revision)
		if fault.Is(err, fault.NotFound) {
			continue // it landed with a later commit of the same change
		}
		if err != nil {
			return out, err
		}
		changes[log[i].Revision] = l.ChangeID
		if len(l.People) > 0 {
			log[i].Author = l.People[0]
		}
	}
	made := version.NotesOf(log)
	for i := range made.Groups {
		g := api.NoteGroup{Title: made.Groups[i].Title}
		for j := range made.Groups[i].Changes {
			made.Groups[i].Changes[j].Change = changes[made.Groups[i].Changes[j].Revision]
			g.Changes = append(g.Changes, noteChange(made.Groups[i].Changes[j]))
		}
		out.Groups = append(out.Groups, g)
	}
	out.Authors, out.Issues, out.Text = made.Authors, made.Issues, made.Markdown(a.Service+" "+a.Version)
	return out, nil
}

func noteChange(n version.Note) api.NoteChange {
	return api.NoteChange{Scope: n.Scope, Text: n.Text, Revision: n.Revision, Author: n.Author, Change: n.Change, Issues: n.Issues}
}

// page is the notes as their page shows them.
func (n notes) page(ctx context.Context, id string) (web.ReleaseNotes, error) {
	a, err := n.s.artifact.Get(ctx, artifact.ID(id))
	if err != nil {
		return web.ReleaseNotes{}, err
	}
	got, err := n.Notes(ctx, string(a.ID))
	if err != nil {
		return web.ReleaseNotes{}, err
	}
	out := web.ReleaseNotes{ArtifactID: string(a.ID), Service: a.Service, Version: a.Version, Tag: a.Tag, Digest: a.Digest, From: got.From, Authors: got.Authors, Issues: got.Issues, Markdown: got.Text}
	if got.From != "" {
		before, err := n.s.artifact.Before(ctx, a)
		if err != nil {
			return out, err
		}
		out.FromID = string(before)
	}
	for _, g := range got.Groups {
		w := web.NoteGroup{Title: g.Title}
		for _, c := range g.Changes {
			w.Changes = append(w.Changes, web.Note{Scope: c.Scope, Text: c.Text, Revision: c.Revision, Author: c.Author, Change: c.Change, Issues: c.Issues})
		}
		out.Groups = append(out.Groups, w)
	}
	return out, nil
}
