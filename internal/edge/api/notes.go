package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/base/fault"
)

// ReleaseNotes say what an artifact brings that the one before it has not.
type ReleaseNotes struct {
	Service string      `json:"service"`
	Version string      `json:"version"`
	From    string      `json:"from,omitempty" doc:"Version of the artifact before it; empty if it is the first."`
	Groups  []NoteGroup `json:"groups"`
	Authors []string    `json:"authors"`
	Issues  []string    `json:"issues"`
	Text    string      `json:"text" doc:"All of it as Markdown."`
}

// NoteGroup is changes of one kind.
type NoteGroup struct {
	Title   string       `json:"title"`
	Changes []NoteChange `json:"changes"`
}

// NoteChange is one commit.
type NoteChange struct {
	Scope    string   `json:"scope,omitempty"`
	Text     string   `json:"text"`
	Revision string   `json:"revision"`
	Author   string   `json:"author"`
	Change   string   `json:"change,omitempty"`
	Issues   []string `json:"issues,omitempty"`
}

// Noter writes release notes.
type Noter interface {
	Notes(ctx context.Context, artifactID string) (ReleaseNotes, error)
}

func (s *server) notes(a huma.API) {
	route(a, "GET", "/artifacts/{id}/notes", "release-notes", "What an artifact brings that the one before it has not: changes by kind, authors, issues", func(ctx context.Context, in *struct {
		ID string `path:"id"`
	}) (ReleaseNotes, error) {
		if s.Notes == nil {
			return ReleaseNotes{}, fault.New(fault.Unavailable, "This server writes no release notes.")
		}
		return s.Notes.Notes(ctx, in.ID)
	})
}
