package app

import (
	"context"

	"weir/internal/artifact"
	"weir/internal/artifact/version"
	"weir/internal/base/fault"
	"weir/internal/edge/api"
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
